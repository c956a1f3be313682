"""The event of a run's end: what it says, and what it costs when nobody takes it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed
from starts import open_start

from kilroy_engine.events import RunStarted
from kilroy_engine.events.times import now
from kilroy_engine.orchestration.ending import hooks
from kilroy_engine.orchestration.flows.attractor import attractor
from kilroy_engine.orchestration.page.prefect_events import end_event
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion, FinalOutcome, Manifest
from kilroy_engine.rundir.stream.reader import read_run
from kilroy_engine.traversal.outcome import FinalStatus

MANIFEST = Manifest(
    run_id="r1", graph_name="demo", started_at=now(), logs_root="/runs/r1", run_branch="b", labels={"team": "blue"}
)


def final(status: FinalStatus, reason: str = "", start: int = 1) -> FinalOutcome:
    return FinalOutcome(
        timestamp=now(),
        status=status,
        run_id="r1",
        failure_reason=reason,
        flow_run_id="f",
        final_git_commit_sha="c0ffee",
        start=start,
    )


@pytest.fixture(params=["refuses", "is silent"])
def unreachable_api(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of an API that refuses connections, or takes them and never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


@pytest.mark.parametrize(
    ("status", "reason", "name", "crashed"),
    [
        (FinalStatus.SUCCESS, "", "kilroy.run.completed", "false"),
        (FinalStatus.FAIL, "exit status 3", "kilroy.run.failed", "false"),
        (FinalStatus.FAIL, "crashed: Flow run process exited", "kilroy.run.failed", "true"),
        (FinalStatus.CANCELED, "canceled: by kilroy stop", "kilroy.run.canceled", "false"),
    ],
)
def test_each_end_has_its_event(status: FinalStatus, reason: str, name: str, crashed: str) -> None:
    """Name by status; what automations match on is a label of the resource, what they hand on is in the payload."""
    ended = final(status, reason, start=2).model_copy(update={"crashed": crashed == "true"})
    event = end_event(MANIFEST, ended, [])
    assert event.event == name
    assert event.resource.root == {
        "prefect.resource.id": "kilroy.run.r1",
        "prefect.resource.name": "r1",
        "kilroy.graph": "demo",
        "kilroy.start": "2",
        "kilroy.status": status.value,
        "kilroy.crashed": crashed,
        "kilroy.label.team": "blue",
    }
    assert event.payload["status"] == status.value
    assert event.payload["reason"] == reason
    assert event.payload["run_directory"] == "/runs/r1"
    assert event.payload["final_commit"] == "c0ffee"
    assert event.payload["labels"] == {"team": "blue"}


def test_an_event_that_is_sent_twice_is_the_same_event() -> None:
    """The id follows from run and start, so that the server keeps one of two; another start's end is another event."""
    first, again = (end_event(MANIFEST, final(FinalStatus.FAIL, "x"), []) for _ in range(2))
    later = end_event(MANIFEST, final(FinalStatus.FAIL, "x", start=2), [])
    assert first.id == again.id
    assert first.id != later.id


def test_a_server_that_is_away_changes_nothing_about_the_end(
    tmp_path: Path, unreachable_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook has written final.json and the terminal line, and gives up after its time for a request and one retry."""
    monkeypatch.setattr(hooks, "REQUEST_LIMIT_S", 0.3)
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="demo", parameters={"options": {"logs_root": str(tmp_path / "r1")}})
    run = RunDirectory(tmp_path / "r1")
    start = open_start(run, RunStarted(flow_run_id=str(flow_run.id), graph_name="demo", goal=""), run_id="r1")
    MANIFEST.model_copy(update={"flow_run_id": str(flow_run.id)}).write(run)
    Conclusion(status=FinalStatus.SUCCESS).write(run)
    start.close()

    began = time.monotonic()
    with temporary_settings(updates={PREFECT_API_URL: unreachable_api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        hooks.finalize(attractor, flow_run, Completed())

    summary = read_run(run.path)
    assert (summary.status, summary.complete) == ("success", True)
    assert time.monotonic() - began < 10
