"""Where runs are, and their ids."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.errors import InvalidInput
from kilroy_engine.rundir.files.layout import RunDirectory, check_run_id, flow_run_id_of, run_id_of, runs_root


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"HOME": "/home/u"}, "/home/u/.local/state/kilroy/attractor/runs"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "/state"}, "/state/kilroy/attractor/runs"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": " "}, "/home/u/.local/state/kilroy/attractor/runs"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "/state", "KILROY_RUNS_ROOT": "/runs"}, "/runs"),
    ],
)
def test_runs_are_in_the_state_folder_unless_said_otherwise(environ: dict[str, str], root: str) -> None:
    """KILROY_RUNS_ROOT, then XDG_STATE_HOME, then ~/.local/state (Kilroy: run ids and directories)."""
    assert runs_root(environ) == Path(root)


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory stays the same when a process changes its folder."""
    monkeypatch.chdir(tmp_path)
    assert runs_root({"XDG_STATE_HOME": "state"}) == tmp_path / "state/kilroy/attractor/runs"


def test_a_known_uuid_has_its_known_ulid() -> None:
    """Crockford base 32, most significant digit first; the pair is from the ULID specification's layout of 128 bits."""
    assert run_id_of("ffffffff-ffff-ffff-ffff-ffffffffffff") == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    assert run_id_of(UUID(int=0)) == "0" * 26
    assert run_id_of(UUID(int=32)) == "0" * 24 + "10"


@given(st.uuids())
def test_run_id_and_flow_run_id_lead_to_each_other(flow_run_id: UUID) -> None:
    """26 characters that are a valid run id, and back without loss, in either case."""
    run_id = run_id_of(str(flow_run_id))
    assert check_run_id(run_id) == run_id
    assert flow_run_id_of(run_id) == flow_run_id_of(run_id.lower()) == flow_run_id


@pytest.mark.parametrize("run_id", ["nightly", "U" * 26, "8" + "0" * 25, "", "0" * 27])
def test_an_id_of_its_own_leads_to_no_flow_run(run_id: str) -> None:
    """Too long, too short, not in the alphabet, or more than 128 bits."""
    with pytest.raises(InvalidInput, match="ULID"):
        flow_run_id_of(run_id)


@pytest.mark.parametrize("run_id", ["", "-a", "_a", "a/b", "a.b", "a b", "ü", "a" * 129, "a\n"])
def test_a_run_id_that_could_leave_its_folder_is_refused(run_id: str) -> None:
    """Kilroy's pattern; the message shows it."""
    with pytest.raises(InvalidInput, match=r"\{0,127\}"):
        check_run_id(run_id)


def test_a_stage_folder_cannot_lie_outside_the_run() -> None:
    """Node ids are checked when the graph is; the layout does not rely on it."""
    run = RunDirectory(Path("/runs/r1"))
    assert run.stage("review-2.b") == Path("/runs/r1/review-2.b")
    for node_id in ("..", ".", "a/b", "", ".git"):
        with pytest.raises(InvalidInput):
            run.stage(node_id)


def test_only_the_latest_restart_gets_the_end_too(tmp_path: Path) -> None:
    """As in Kilroy: the current attempt's directory and the run directory, in that order; numbers are compared as numbers."""
    run = RunDirectory(tmp_path)
    assert run.ending_directories() == (run,)
    for name in ("restart-2", "restart-10", "restart-x"):
        (tmp_path / name).mkdir()
    assert run.ending_directories() == (run.restart(10), run)
