"""What a run came to, ours and a recorded one of Kilroy's, what is rewritten before the two are compared, where they differ.

Each recorded run is carried out by the in-process orchestrator; some are carried out on real Prefect too.

Every rewrite holds for all runs alike, and its topic is the row of ``docs/reference/conformance.md`` that declares it.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kilroy_engine.events import OWN_EVENTS
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph
from kilroy_engine.settings.options import Options

GOLDEN = Path(__file__).parent / "data" / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
NO_GIT, DIRTY, PUSHED, STOPPED = "02b-linear3-nogit", "14a-git-dirty-tree", "14d-git-push", "10e-stop"
GIVEN, MISSING = "20a-inputs-given", "20b-inputs-missing"
OWN_FINAL_KEYS = ("flow_run_id", "start")
ATTEMPTS = ("stage_attempt_start", "stage_attempt_end")

Event = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """What a run came to, in the words of the run directory. ``stages`` holds each ``status.json``."""

    graph: Graph
    exit_code: int
    status: str
    reason: str
    final_keys: frozenset[str]
    completed: tuple[str, ...]
    retries: dict[str, int]
    stages: dict[str, dict[str, str]]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Rewrite:
    """A declared difference that no comparison should stumble over. ``ours`` and ``kilroys`` take it out of an account."""

    topic: str
    ours: Callable[[Account], Account] = lambda account: account
    kilroys: Callable[[Account], Account] = lambda account: account


def source_of(case: str) -> str:
    """The case's pipeline with Kilroy's default of three retries, which ours has to be told.

    What is stopped in its sleep sleeps longer, so that a busy machine comes in time.
    """
    text = (GOLDEN / case / "graph.dot").read_text(encoding="utf-8")
    return text.replace("{", "{\n  graph [default_max_retries=3]", 1).replace("sleep 20;", "sleep 300;")


def recorded(case: str) -> dict[str, Any]:
    """The record of Kilroy's run."""
    return json.loads((GOLDEN / case / "recorded.json").read_text(encoding="utf-8"))


def kilroys_account(case: str) -> Account:
    """What Kilroy's run came to."""
    record = recorded(case)
    final = record["final"]
    return Account(
        graph=parse_dot(source_of(case)),
        exit_code=record["exit_code"],
        status=final["status"],
        reason=final.get("failure_reason", ""),
        final_keys=frozenset(record["final_keys"]),
        completed=tuple(record["completed_nodes"]),
        retries=record["node_retries"],
        stages=record["node_status"],
        events=tuple(record["events"]),
    )


def our_account(case: str, run: Path, exit_code: int) -> Account:
    """What our run of the case left on disk, as far as the records of Kilroy's runs tell it too."""

    def load(path: Path) -> dict[str, Any]:
        return json.loads(path.read_text(encoding="utf-8"))

    final, checkpoint = load(run / "final.json"), load(run / "checkpoint.json")
    lines = (run / "progress.ndjson").read_text(encoding="utf-8").splitlines()
    graph = parse_dot(source_of(case))
    told = [path for path in sorted(run.glob("*/status.json")) if path.parent.name in graph.nodes]
    return Account(
        graph=graph,
        exit_code=exit_code,
        status=final["status"],
        reason=final.get("failure_reason", ""),
        final_keys=frozenset(final),
        completed=tuple(checkpoint["completed_nodes"]),
        retries=checkpoint["node_retries"],
        stages={path.parent.name: _kept(load(path), _RECORDED_STATUS_KEYS) for path in told},
        events=tuple(_kept(json.loads(line), _RECORDED_FIELDS) for line in lines),
    )


def _kept(record: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key in keys and value != ""}


_RECORDED_FIELDS = frozenset(key for case in CASES for event in recorded(case)["events"] for key in event)
_RECORDED_STATUS_KEYS = frozenset(key for case in CASES for stage in recorded(case)["node_status"].values() for key in stage)


def rewritten(ours: Account, kilroys: Account) -> tuple[Account, Account]:
    """Both accounts without the declared differences."""
    for rewrite in REWRITES:
        ours, kilroys = rewrite.ours(ours), rewrite.kilroys(kilroys)
    return _in_order(ours), _in_order(kilroys)


def _in_order(account: Account) -> Account:
    """Branches tell their progress whenever they make some; only the order within a branch is a fact."""
    events: list[Event] = []
    for _, group in itertools.groupby(account.events, lambda event: event["event"] == "branch_progress"):
        events += sorted(group, key=lambda event: event.get("branch_key", ""))
    return replace(account, events=tuple(events))


def _without(account: Account, dropped: Callable[[str, str], bool]) -> Account:
    """The account without events of which ``dropped`` says so, by name and node, those of branches included."""

    def stays(event: Event) -> bool:
        if event["event"] == "branch_progress":
            return not dropped(event["branch_event"], event.get("branch_node_id", ""))
        return not dropped(event["event"], event.get("node_id", ""))

    return replace(account, events=tuple(event for event in account.events if stays(event)))


def _without_in_branches(account: Account, name: str) -> Account:
    return replace(account, events=tuple(event for event in account.events if event.get("branch_event") != name))


def _without_exit_attempts(account: Account) -> Account:
    exits = {node.id for node in account.graph.nodes.values() if node.type == "exit"}
    return _without(account, lambda name, node_id: name in ATTEMPTS and node_id in exits)


def _without_attempt_limit_of_start(account: Account) -> Account:
    def shortened(event: Event) -> Event:
        node = account.graph.nodes.get(event.get("node_id", ""))
        at_start = event["event"] in ATTEMPTS and node is not None and node.type == "start"
        return {key: value for key, value in event.items() if key != "max"} if at_start else event

    return replace(account, events=tuple(shortened(event) for event in account.events))


def _without_output_digest(account: Account) -> Account:
    def shortened(event: Event) -> Event:
        return {**event, "signature": event["signature"].partition("|output:")[0]} if "signature" in event else event

    return replace(account, events=tuple(shortened(event) for event in account.events))


def _reasons(change: Callable[[str], str]) -> Callable[[Account], Account]:
    """Changes the reason of the run's end, in ``final.json`` and in the terminal line."""

    def applied(account: Account) -> Account:
        def changed(event: Event) -> Event:
            is_end = event["event"] in ("run_completed", "run_failed") and "reason" in event
            return {**event, "reason": change(event["reason"])} if is_end else event

        return replace(account, reason=change(account.reason), events=tuple(changed(event) for event in account.events))

    return applied


def _bare(reason: str) -> str:
    return re.sub(r"^stage failed with no outgoing fail edge: (.*?) \(at node \w+\).*$", r"\1", reason)


def _without_advice(reason: str) -> str:
    return re.sub(r"^(run aborted: .*); to allow more, raise .*$", r"\1", reason)


def _without_end_after_restart(account: Account) -> Account:
    names = [event["event"] for event in account.events]
    if "loop_restart" not in names:
        return account
    return replace(account, events=account.events[: len(names) - names[::-1].index("loop_restart")])


def _without_breaking_stage(account: Account) -> Account:
    broken = any(event["event"] == "deterministic_failure_cycle_breaker" for event in account.events)
    return replace(account, completed=account.completed[:-1]) if broken else account


REWRITES = (
    Rewrite(
        "input materialization events",
        kilroys=lambda account: _without(account, lambda name, _: name.startswith("input_materialization_")),
    ),
    Rewrite("more events", ours=lambda account: _without(account, lambda name, _: name in OWN_EVENTS)),
    Rewrite("keys of `final.json`", ours=lambda account: replace(account, final_keys=account.final_keys - {*OWN_FINAL_KEYS})),
    Rewrite("exit node", ours=_without_exit_attempts),
    Rewrite("start node", ours=_without_attempt_limit_of_start, kilroys=_without_attempt_limit_of_start),
    Rewrite("failure signature", ours=_without_output_digest),
    Rewrite("reason of a run that ends at a failed stage", ours=_reasons(_bare)),
    Rewrite("breaker messages", ours=_reasons(_without_advice)),
    Rewrite("checkpoint after the breaking failure", ours=_without_breaking_stage),
    Rewrite("terminal line of a run that has restarted", ours=_without_end_after_restart),
    Rewrite(
        "`edge_selected`, `checkpoint_saved` in a branch", ours=lambda account: _without_in_branches(account, "edge_selected")
    ),
    Rewrite("`branch_setup_locked`", kilroys=lambda account: _without_in_branches(account, "branch_setup_locked")),
)
GRAPH_TOPIC = "default retries"
"""The row for what :func:`source_of` does."""


@dataclass(frozen=True)
class Difference:
    """Where a run of ours leaves Kilroy's, after the rewrites: the first event on each side, then our end.

    ``topic`` is the row of the conformance page that says why.
    """

    topic: str
    kilroys: Event
    ours: Event
    exit_code: int
    completed: tuple[str, ...]


def _edge(source: str, target: str, method: str, condition: str = "") -> Event:
    event = {"event": "edge_selected", "from_node": source, "to_node": target, "selection_method": method}
    return event | {"hop_source": "edge_selection"} | ({"condition": condition} if condition else {})


def _failed(reason: str) -> Event:
    return {"event": "run_failed", "status": "fail", "reason": reason}


_BRANCH = {"event": "branch_progress", "branch_key": "x", "branch_event": "branch_setup_start"}
_STOPPED = {"event": "stage_attempt_end", "node_id": "slow", "attempt": 1, "max": 4, "status": "fail"}
DIFFERENCES = {
    "03c-fail-only-success-edge": Difference(
        "no condition holds and no plain edge",
        _edge("a", "exit", "fallback", "outcome=success"),
        _failed("exit status 3"),
        1,
        ("start", "a"),
    ),
    "06b-retry-exhausted": Difference(
        "no condition holds and no plain edge",
        _edge("a", "exit", "fallback", "outcome=success"),
        _failed("exit status 1"),
        1,
        ("start", "a"),
    ),
    "07b-goal-gate-retry-target-node": Difference(
        "`retry_target` of a failed stage",
        _edge("a", "b", "only_edge"),
        {"event": "no_matching_fail_edge_fallback", "node_id": "a", "failure_reason": "exit status 1"},
        0,
        ("start", "w", "a", "w", "a", "b", "exit"),
    ),
    STOPPED: Difference(
        "`kilroy stop`",
        _STOPPED | {"failure_reason": "stopped by signal terminated"},
        _STOPPED | {"failure_reason": "canceled: by kilroy stop"},
        130,
        ("start", "a"),
    ),
    "17c-tool-status-fail-but-exit0": Difference(
        "several unconditional edges", _BRANCH, _edge("a", "x", "lexical_tiebreak"), 0, ("start", "a", "x", "exit")
    ),
    "19a-weights": Difference(
        "several unconditional edges", _BRANCH, _edge("s", "y", "weight"), 0, ("start", "s", "y", "exit")
    ),
}


def require_agreement(case: str, ours: Account) -> None:
    """Exit code, final status and reason, nodes, retries, stage statuses, and every stage and routing event in its order are
    Kilroy's; where a difference is declared, up to the event that it names."""
    ours, kilroys = rewritten(ours, kilroys_account(case))
    declared = DIFFERENCES.get(case)
    if declared is None:
        assert ours.events == kilroys.events
        assert ours == kilroys
        return
    pairs = itertools.zip_longest(ours.events, kilroys.events)
    assert next(pair for pair in pairs if pair[0] != pair[1]) == (declared.ours, declared.kilroys)
    assert (ours.exit_code, ours.completed) == (declared.exit_code, declared.completed)


def parameters_of(case: str, folder: Path) -> RunParameters:
    """What starts the case in ``folder``: its repository is made there, and its run directory will be ``folder / "run"``."""
    repository = _repository(case, folder)
    config = GOLDEN / case / "run.yaml"
    options = Options(
        logs_root=str(folder / "run"),
        workspace="plain" if case == NO_GIT else "git",
        config=str(config) if config.exists() else "",
    )
    inputs = {"name": "Ada"} if case == GIVEN else {}
    return RunParameters(source_of(case), inputs, "" if case == NO_GIT else str(repository), options)


def _repository(case: str, folder: Path) -> Path:
    """A repository with one commit, as the recorded runs had, and whatever the case is about."""
    path = folder / "repository"
    path.mkdir()
    (path / "README.md").write_text("A project.\n", encoding="utf-8")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    commands = [
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*identity, "commit", "--quiet", "--message=one"),
    ]
    if case == PUSHED:
        origin = str(folder / "origin.git")
        commands += [("init", "--quiet", "--bare", origin), ("remote", "add", "origin", origin)]
    for command in commands:
        subprocess.run(["git", *command], cwd=path, check=True)
    if case == DIRTY:
        (path / "README.md").write_text("Changed.\n", encoding="utf-8")
        (path / "a.txt").write_text("never committed\n", encoding="utf-8")
    return path
