"""Concurrency limits on tags, with a real server: they hold, they hang nothing, and where there are none nobody asks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_process import Request, answers
from real_prefect import Prefect, ended, events, eventually
from relay import AWAY, relaying

from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.process_groups import end_process_groups

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
HEAD = "start [shape=Mdiamond] exit [shape=Msquare] node [shape=parallelogram]"
ALONE = "mkdir FOLDER && sleep 0.1 && rmdir FOLDER"
"""Fails where another stage is at it, in whichever run."""
CHILD = f'digraph child {{ {HEAD} k [tool_command="$ALONE"] start -> k k -> exit [condition="outcome=success"] }}'
NESTED = f"""digraph nested {{ {HEAD} graph [model_stylesheet="* {{ llm_model: opus; }}"]
  p [shape=component] j [shape=tripleoctagon] q [shape=component] r [shape=tripleoctagon]
  a [tool_command="$ALONE"] b [tool_command="$ALONE"] c [tool_command="$ALONE"] d [tool_command="$ALONE"]
  child [shape=folder, dot_file="CHILD"] agent [shape=box, prompt="look"] after [shape=box, prompt="look again"]
  manager [shape=house, stack.child_dotfile="CHILD", manager.poll_interval=1s]
  start -> p  p -> a -> j  p -> q  q -> b -> r  q -> c -> r  r -> d -> j  p -> child -> j  p -> agent -> j
  p -> manager -> j
  j -> after  after -> exit [condition="outcome=success"] }}"""
UNTAGGED = {"start", "exit", "p", "q", "child", "manager", "p: a", "p: q", "p: child", "p: agent", "p: manager", "q: b", "q: c"}
OURS = ("handler:tool", "handler:codergen", "handler:parallel", "handler:parallel.fan_in", "handler:pipeline", "model:opus")
ALL = (*OURS, "handler:stack.manager_loop", "handler:start", "handler:exit", "branch", "nightly")


@pytest.fixture
def limit(prefect: Prefect) -> Iterator[Callable[..., None]]:
    """Makes a limit on a tag, as ``prefect concurrency-limit create`` does; all go at the end."""
    made: list[str] = []

    def make(tag: str, slots: int = 1) -> None:
        prefect.post("/concurrency_limits/", tag=tag, concurrency_limit=slots)
        made.append(tag)

    yield make
    for tag in made:
        prefect.ask("DELETE", f"/concurrency_limits/tag/{tag}")


def take(prefect: Prefect, tag: str) -> str:
    """Takes a slot of the limit on ``tag`` for ten minutes; the lease."""
    content = {"names": [f"tag:{tag}"], "slots": 1, "mode": "concurrency", "lease_duration": 600}
    return prefect.post("/v2/concurrency_limits/increment-with-lease", **content)["lease_id"]


def give_back(prefect: Prefect, lease: str) -> None:
    prefect.post("/v2/concurrency_limits/decrement-with-lease", lease_id=lease)


def taken(prefect: Prefect, tag: str) -> int:
    return prefect.get(f"/v2/concurrency_limits/tag:{tag}")["active_slots"]


def nested(folder: Path) -> str:
    alone = ALONE.replace("FOLDER", str(folder / "alone"))
    (folder / "child.dot").write_text(CHILD.replace("$ALONE", alone))
    return NESTED.replace("CHILD", str(folder / "child.dot")).replace("$ALONE", alone)


def request(folder: Path, name: str, graph: str, **options: Any) -> Request:
    plain = {"logs_root": str(folder / name), "workspace": "plain", "agent": "simulate"}
    return Request(name=name, graph=graph, options={**plain, **options})


IN_TAGS = """
import sys
from prefect import tags
sys.path.insert(0, sys.argv[1])
import engine_process
with tags("nightly"):
    engine_process._main()
"""
"""``engine_process``, whose runs are called inside tags of the caller."""


@pytest.mark.versions
def test_limits_of_one_hold_and_hang_nothing(prefect: Prefect, tmp_path: Path, limit: Callable[..., None]) -> None:
    """Two runs at once, each with a fan-out in a fan-out, a child pipeline and a manager in branches, inside a tag of the
    caller's, and a limit of 1 on every tag there is: both succeed, no two of their tools are at work at the same time."""
    for tag in ALL:
        limit(tag)
    graph = nested(tmp_path)

    def run(name: str) -> None:
        asked = json.dumps(request(tmp_path, name, graph).__dict__)
        command = [sys.executable, "-c", IN_TAGS, str(Path(__file__).parent)]
        done = subprocess.run(
            command, input=asked, cwd=tmp_path, env=prefect.environment, capture_output=True, text=True, timeout=200, check=True
        )
        assert json.loads(done.stdout)["exit_code"] == 0, done.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ("one", "two")))
    assert {tag: taken(prefect, tag) for tag in ALL} == dict.fromkeys(ALL, 0)
    shown = {name: tags_shown(prefect, tmp_path / name) for name in ("one", "two")}
    tool, agent = ["handler:tool", "nightly"], ["handler:codergen", "model:opus", "nightly"]
    for name, tags in shown.items():
        results = json.loads((tmp_path / name / "p" / "parallel_results.json").read_bytes())
        assert [result["outcome"]["status"] for result in results] == ["success"] * 5
        assert [name for name in UNTAGGED if tags[name]] == []
        assert [tags[name] for name in "abcd"] == [tool] * 4
        assert (tags["agent"], tags["after"]) == (agent, agent)
        assert tags["j"] == tags["r"] == ["handler:parallel.fan_in", "nightly"]


def tags_shown(prefect: Prefect, run: Path) -> dict[str, list[str]]:
    """Tags of the run's task runs by their names, as the UI shows them and filters by them, once all are recorded."""
    flow_run_id = json.loads((run / "manifest.json").read_text())["flow_run_id"]

    def recorded() -> dict[str, list[str]] | None:
        found = prefect.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run_id]}})
        done = {task["name"]: sorted(task["tags"]) for task in found if task["state_type"] == "COMPLETED"}
        return done if done.keys() >= {*UNTAGGED, *"abcdjr", "agent", "after"} else None

    return eventually(recorded, within_s=30, what="every task run")


TICKS = f"""digraph ticks {{ {HEAD} tick [tool_command="echo >> TICKS; sleep 0.2; test -e ENOUGH && touch enough; true",
  loop_max=1000, loop_until_file=enough] start -> tick  tick -> exit [condition="outcome=success"] }}"""


def test_a_limit_made_while_a_run_is_at_work_counts_within_a_minute(
    prefect: Prefect, tmp_path: Path, limit: Callable[..., None]
) -> None:
    """A limit of one, its slot taken by somebody else: no stage of the run begins any more, until the slot is given back."""
    ticks, enough = tmp_path / "ticks", tmp_path / "enough"
    graph = TICKS.replace("TICKS", str(ticks)).replace("ENOUGH", str(enough))
    with run_command(prefect, tmp_path, graph, "--stall-timeout", "4s") as process:
        eventually(ticks.exists, what="a stage")
        limit("handler:tool")
        lease = take(prefect, "handler:tool")
        made = time.monotonic()
        eventually(lambda: is_still(ticks, for_s=6), within_s=60, what="a run that waits")
        assert time.monotonic() - made < 60
        assert process.poll() is None, "the wait for a slot is no stall"
        before = ticks.stat().st_size
        give_back(prefect, lease)
        eventually(lambda: ticks.stat().st_size > before, within_s=30, what="the next stage")
        enough.touch()
        assert process.wait(timeout=60) == 0


@contextmanager
def run_command(prefect: Prefect, folder: Path, graph: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """``kilroy run`` at work, its run directory is ``<folder>/run``."""
    (folder / "graph.dot").write_text(graph, encoding="utf-8")
    command = [*KILROY, "run", "graph.dot", "--no-git", "--logs-root", str(folder / "run"), *options]
    with subprocess.Popen(command, cwd=folder, env=prefect.environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def is_still(file: Path, *, for_s: float) -> bool:
    """Whether the file does not grow for so long."""
    size, ends = file.stat().st_size, time.monotonic() + for_s
    while time.monotonic() < ends:
        time.sleep(0.2)
        if file.stat().st_size != size:
            return False
    return True


ONE = f'digraph one {{ {HEAD} a [tool_command="echo done"] start -> a a -> exit [condition="outcome=success"] }}'
BRANCHES = f"""digraph branches {{ {HEAD} p [shape=component] j [shape=tripleoctagon]
  a [tool_command=true] b [tool_command=true]
  start -> p  p -> a -> j  p -> b -> j  j -> exit [condition="outcome=success"] }}"""


def warned(run: Path) -> list[str]:
    return [event["message"] for event in events(run) if event["event"] == "warning"]


@pytest.mark.parametrize(("end", "graph"), [("stop", BRANCHES), ("deadline", ONE)], ids=["stop", "deadline"])
def test_the_wait_for_a_slot_ends_with_the_run(
    prefect: Prefect, tmp_path: Path, limit: Callable[..., None], end: str, graph: str
) -> None:
    """A stop and a deadline cancel a run whose stages wait, in order and within seconds; they have never begun."""
    limit("handler:tool")
    take(prefect, "handler:tool")
    run = tmp_path / "run"
    deadline = ("--run-timeout", "6s") if end == "deadline" else ()
    with run_command(prefect, tmp_path, graph, *deadline) as process:
        eventually(lambda: waits(prefect, run), what="a stage that waits")
        if end == "stop":
            subprocess.run([*KILROY, "stop", str(run)], env=prefect.environment, stdout=subprocess.DEVNULL, check=True)
        began = time.monotonic()
        assert process.wait(timeout=40) == 130
        assert time.monotonic() - began < 20
    reason = "canceled: by kilroy stop" if end == "stop" else "canceled: run deadline of 6s"
    assert ended(run)["failure_reason"] == reason
    assert not [event for event in events(run) if event["event"] == "stage_attempt_start" and event["node_id"] in "ab"]
    assert taken(prefect, "handler:tool") == 1, "the one that somebody else has"


def waits(prefect: Prefect, run: Path) -> bool:
    """Whether Prefect's log of the run says that a stage waits."""
    if not (run / "manifest.json").exists():
        return False
    flow_run_id = json.loads((run / "manifest.json").read_text())["flow_run_id"]
    logs = prefect.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}})
    return any(line["message"] == "waits for a slot of the concurrency limit tag:handler:tool: all are taken" for line in logs)


def test_nobody_asks_for_slots_of_limits_that_do_not_exist(prefect: Prefect, tmp_path: Path) -> None:
    """A run without limits, a caller's tag included: not one request for a slot, one look at the limits."""
    with relaying(prefect.api_url) as relay:
        asked = json.dumps(request(tmp_path, "none", nested(tmp_path)).__dict__)
        command = [sys.executable, "-c", IN_TAGS, str(Path(__file__).parent)]
        environment = {**prefect.environment, "PREFECT_API_URL": relay.api_url}
        subprocess.run(command, input=asked, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, text=True, check=True)
        ended(tmp_path / "none")
    about_limits = [question for question in relay.asked if "concurrency_limits" in question]
    assert set(about_limits) == {"POST /api/v2/concurrency_limits/filter"}
    assert len(about_limits) <= 3, "one look, another one 20 s later"


def test_a_server_in_trouble_fails_no_stage_that_wants_a_slot(
    prefect: Prefect, tmp_path: Path, limit: Callable[..., None]
) -> None:
    """It is busy, broken and away for the first three questions: the stage waits and works all the same."""
    limit("handler:tool")
    with relaying(prefect.api_url) as relay:
        relay.refused_path, relay.refusals = "/increment-with-lease", [503, 500, AWAY]
        environment = {**prefect.environment, "PREFECT_API_URL": relay.api_url}
        (answer,) = answers([request(tmp_path, "run", ONE)], environment=environment, folder=tmp_path, within_s=90)
    assert answer.exit_code == 0
    assert relay.refusals == []
    assert relay.asked.count("POST /api/v2/concurrency_limits/increment-with-lease") >= 4  # a busy machine adds troubles
    assert taken(prefect, "handler:tool") == 0


@pytest.mark.parametrize("command", ["echo done", pytest.param("sleep 5", marks=pytest.mark.slow)])
def test_a_server_that_takes_no_labels_yet_holds_up_no_run(prefect: Prefect, tmp_path: Path, command: str) -> None:
    """It refuses the flow run's labels twice, as a busy one does: the run goes on, and the labels are there in the end, also
    where the run is over before the next try."""
    with relaying(prefect.api_url) as relay:
        relay.refused_path, relay.refusals = "/labels", [500, AWAY]
        environment = {**prefect.environment, "PREFECT_API_URL": relay.api_url}
        asked = request(tmp_path, "run", ONE.replace("echo done", command))
        (answer,) = answers([asked], environment=environment, folder=tmp_path, within_s=90)
    assert (answer.exit_code, relay.refusals) == (0, [])
    flow_run = prefect.flow_run(json.loads((tmp_path / "run" / "manifest.json").read_text())["flow_run_id"])
    assert flow_run["labels"]["kilroy.run_directory"] == str(tmp_path / "run")


def test_a_limit_of_zero_lets_no_stage_begin_until_it_is_raised(
    prefect: Prefect, tmp_path: Path, limit: Callable[..., None]
) -> None:
    """A team pauses a model that way. The run waits, and goes on with the limit that is set then."""
    limit("handler:tool", 0)
    with run_command(prefect, tmp_path, ONE) as process:
        eventually((tmp_path / "run" / "progress.ndjson").exists, what="a run")
        eventually(lambda: events(tmp_path / "run")[-1]["event"] == "edge_selected", what="a stage that waits")
        prefect.ask("PATCH", "/v2/concurrency_limits/tag:handler:tool", {"limit": 1})
        assert process.wait(timeout=40) == 0


@pytest.mark.slow
def test_the_slot_of_a_killed_run_is_free_again(prefect: Prefect, tmp_path: Path, limit: Callable[..., None]) -> None:
    """Nobody renews its lease, so the server takes it back; the next run waits for that."""
    limit("handler:tool")
    (tmp_path / "killed").mkdir()
    with run_command(prefect, tmp_path / "killed", ONE.replace("echo done", "sleep 300")):
        eventually(lambda: list((tmp_path / "killed").glob("run/a/process-*.json")), what="a tool with the slot")
        assert taken(prefect, "handler:tool") == 1
    end_process_groups(RunDirectory(tmp_path / "killed" / "run"), grace_s=1.0)  # as the reconciler of its machine does
    with run_command(prefect, tmp_path, ONE) as process:
        eventually(lambda: waits(prefect, tmp_path / "run"), what="a stage that waits")
        assert process.wait(timeout=150) == 0


@pytest.mark.slow
def test_a_wait_of_a_minute_is_warned_of(prefect: Prefect, tmp_path: Path, limit: Callable[..., None]) -> None:
    """Once, in the run's stream, where people look who do not look into Prefect."""
    limit("handler:tool")
    lease, run = take(prefect, "handler:tool"), tmp_path / "run"
    with run_command(prefect, tmp_path, ONE) as process:
        eventually(lambda: waits(prefect, run), what="a stage that waits")
        eventually(lambda: warned(run), what="a warning")
        give_back(prefect, lease)
        assert process.wait(timeout=60) == 0
    assert warned(run) == ["a has been waiting for a slot of the concurrency limit tag:handler:tool for 60 s: all are taken"]


ASKING = f"""digraph asking {{ {HEAD} p [shape=component] j [shape=tripleoctagon] node [shape=box, prompt=x]
  a [llm_provider=anthropic] b [llm_model="claude-haiku-4-5"] start -> p  p -> a -> j  p -> b -> j
  j -> exit [condition="outcome=success"] }}"""


def test_a_limit_on_a_provider_holds_for_every_stage_that_uses_its_models(prefect: Prefect, tmp_path: Path) -> None:
    """A global limit ``kilroy-provider-anthropic`` of 1 that somebody else's slot fills: two branches whose models are
    Anthropic's wait, say so and begin one after the other when the slot is given back."""
    name = "kilroy-provider-anthropic"
    prefect.post("/v2/concurrency_limits/", name=name, limit=1, active=True)
    try:
        slot = {"names": [name], "slots": 1, "mode": "concurrency", "lease_duration": 600}
        lease = prefect.post("/v2/concurrency_limits/increment-with-lease", **slot)["lease_id"]
        alone = tmp_path / "agent"
        alone.write_text(f"#!/bin/sh\n{ALONE.replace('FOLDER', str(tmp_path / 'alone')).replace('0.1', '0.5')}\n")
        alone.chmod(0o755)
        options = ("--agent", "command", "--agent-command", str(alone), "--missing-status", "success")
        with run_command(prefect, tmp_path, ASKING, *options) as process:
            eventually(lambda: f"slot of the concurrency limit {name}" in logs_of(prefect, tmp_path / "run"), what="a wait")
            assert not (tmp_path / "alone").exists()
            give_back(prefect, lease)
            assert process.wait(timeout=60) == 0
        results = json.loads((tmp_path / "run" / "p" / "parallel_results.json").read_bytes())
        assert [result["outcome"]["status"] for result in results] == ["success"] * 2
    finally:
        prefect.ask("DELETE", f"/v2/concurrency_limits/{name}")


def logs_of(prefect: Prefect, run: Path) -> str:
    """Everything in Prefect's logs of the run; empty before there is a run."""
    manifest = run / "manifest.json"
    flow_run_id = json.loads(manifest.read_text())["flow_run_id"] if manifest.exists() else ""
    return json.dumps(prefect.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}})) if flow_run_id else ""
