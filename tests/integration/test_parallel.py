"""Fan-outs on real Prefect: branches as task runs. What branches do with files and policies, the unit tests of fan-outs hold.

One process carries out all the runs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_process import Answer, Request, answers
from real_prefect import Prefect, events

HEAD = "node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "


def two(a: str, b: str, *, fan: str) -> str:
    """start -> p -> {a, b} -> j -> exit, with these commands."""
    return f"""digraph two {{ {HEAD} p [shape=component, {fan}] j [shape=tripleoctagon]
      a [tool_command="{a}"] b [tool_command="{b}"]
      start -> p  p -> a -> j p -> b -> j  j -> exit [condition="outcome=success"] }}"""


NESTED = f"""digraph nested {{ {HEAD} p [shape=component] j [shape=tripleoctagon] q [shape=component] r [shape=tripleoctagon]
  first [tool_command="echo kept > before.txt"]
  a1 [tool_command="echo one > a.txt; mkdir -p build; echo lib > build/lib"]
  a2 [tool_command="cat a.txt build/lib before.txt; test ! -e c.txt"]
  c1 [tool_command="echo c1 > c.txt"]  c2 [tool_command="echo c2 > c.txt"]  c3 [tool_command="cat c.txt"]
  start -> first -> p  p -> a1 -> a2 -> j  p -> q  q -> c1 -> r  q -> c2 -> r  r -> c3 -> j
  j -> exit [condition="outcome=success"] }}"""

SLOW = "echo $$ > $KILROY_LOGS_ROOT/pid; sleep 300"
OTHER_AT_WORK = "until ls $KILROY_LOGS_ROOT/../*/pid; do sleep 0.1; done"
RUNS = {
    "nested": NESTED,
    "first_success": two(f"{OTHER_AT_WORK}; echo won > won.txt", SLOW, fan="join_policy=first_success"),
}
WITHOUT_GIT = ("first_success",)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a git repository that has one commit and ignores ``build``."""
    folder = tmp_path_factory.mktemp("parallel")
    repository = folder / "repository"
    repository.mkdir()
    (repository / ".gitignore").write_text("build/\n")
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message=one")):
        subprocess.run(["git", *arguments], cwd=repository, env={**os.environ, **IDENTITY}, check=True)
    return folder


IDENTITY = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def done(prefect: Prefect, base: Path) -> Mapping[str, Answer]:
    """All runs of this page, each in ``<base>/<name>``."""
    requests = [
        Request(
            name=name,
            graph=graph,
            repo="" if name in WITHOUT_GIT else str(base / "repository"),
            options={
                "logs_root": str(base / name),
                "workspace": "plain" if name in WITHOUT_GIT else "git",
                "run_id": name.replace("_", "-"),
            },
        )
        for name, graph in RUNS.items()
    ]
    found = answers(requests, environment=prefect.environment, folder=base, within_s=240)
    return {answer.name: answer for answer in found}


def results(base: Path, name: str, fan_out: str = "p") -> dict[str, dict[str, Any]]:
    listed = json.loads((base / name / fan_out / "parallel_results.json").read_bytes())
    return {result["branch_key"]: result for result in listed}


def git(base: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=base / "repository", capture_output=True, text=True, check=True).stdout


def test_nested_branches_have_worktrees_and_git_branches_of_their_own(done: Mapping[str, Answer], base: Path) -> None:
    """Each branch begins at the fan-out's commit with the ignored files, sees nothing of its siblings, and the run's branch
    is fast-forwarded to the winner (Kilroy); the worktrees go with the run's, the branches stay."""
    assert done["nested"].exit_code == 0
    subjects = git(base, "log", "--format=%s", "attractor/run/nested").splitlines()
    stages = [subject.removeprefix("attractor(nested): ") for subject in reversed(subjects)]
    assert stages == ["one", *(f"{n} (success)" for n in ("start", "first", "p", "a1", "a2", "j", "exit"))]
    found = results(base, "nested")
    assert {key: result["completed_nodes"] for key, result in found.items()} == {"a1": ["a1", "a2"], "q": ["q", "r", "c3"]}
    assert git(base, "show", f"{found['q']['head_sha']}:c.txt") == "c1\n"
    assert git(base, "branch", "--list", "--format=%(refname:short)", "attractor/run/parallel/nested/*").split() == [
        "attractor/run/parallel/nested/p.pass1.q.q/pass1/c1",
        "attractor/run/parallel/nested/p.pass1.q.q/pass1/c2",
        "attractor/run/parallel/nested/p/pass1/a1",
        "attractor/run/parallel/nested/p/pass1/q",
    ]
    assert not list((base / "nested").rglob("worktree"))


def test_prefect_groups_the_task_runs_of_a_branch(done: Mapping[str, Answer], base: Path, prefect: Prefect) -> None:
    """In Prefect's run graph a branch lies inside the fan-out's task run and its stages, linked in order, inside the branch."""
    manifest = json.loads((base / "nested" / "manifest.json").read_bytes())
    shown = dict(prefect.get(f"/flow_runs/{manifest['flow_run_id']}/graph-v2")["nodes"])
    labels = {node_id: node["label"] for node_id, node in shown.items()}
    inside = {node["label"]: [labels[outer["id"]] for outer in node["encapsulating"]] for node in shown.values()}
    before = {node["label"]: {labels[parent["id"]] for parent in node["parents"]} for node in shown.values()}
    assert inside["p: a1"] == inside["p: q"] == ["p"]
    assert inside["a1"] == inside["a2"] == ["p: a1"]
    assert inside["q"] == ["p: q"]
    assert inside["q: c1"] == ["q"]
    assert inside["c1"] == ["q: c1"]
    assert before["a2"] == {"a1"}
    assert before["c3"] == {"r"}
    assert before["j"] == {"p"}
    assert max(len(parents) for parents in before.values()) == 1


def test_the_losers_are_stopped_with_their_processes(done: Mapping[str, Answer], base: Path) -> None:
    """Once the answer is certain, the branches still at work end within seconds, and nothing of them lives on."""
    loser = results(base, "first_success")["b"]
    pid = int((Path(loser["logs_root"]) / "pid").read_text())
    early = [event for event in events(base / "first_success") if event["event"] == "early_termination"]
    assert done["first_success"].took_s < 60
    assert [(e["node_id"], e["received"], e["total"]) for e in early] == [("p", 1, 2)]
    assert loser["outcome"]["status"] == "fail"
    assert loser["outcome"]["meta"]["failure_class"] == "canceled"
    assert not Path(f"/proc/{pid}").exists()


def test_a_branch_has_a_stream_of_its_own_and_tells_the_run(done: Mapping[str, Answer], base: Path) -> None:
    """What a branch does is whole in its own directory, and in the run's stream as branch_progress in Kilroy's order."""
    own = [event["event"] for event in events(base / "nested" / "parallel" / "p" / "pass1" / "01-a1")]
    told = [e for e in events(base / "nested") if e["event"] == "branch_progress" and e["branch_key"] == "a1"]
    steps = [event["branch_event"] for event in told]
    assert steps[:3] == ["branch_setup_start", "branch_setup_ready", "branch_subgraph_start"]
    assert steps[-1] == "branch_subgraph_done"
    assert steps[3:-1] == own
    assert [e["branch_node_id"] for e in told if e["branch_event"] == "stage_attempt_end"] == ["a1", "a2"]
