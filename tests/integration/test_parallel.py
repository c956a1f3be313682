"""Fan-outs through the whole engine: real tools, real worktrees, a real server. One process carries out all the runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Prefect, events
from engine_process import Answer, Request, answers

HEAD = "node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "


def two(a: str, b: str, *, fan: str = "join_policy=wait_all", join: str = "merge=winner", begin: str = "start -> p") -> str:
    """start -> p -> {a, b} -> j -> exit, with these commands."""
    return f"""digraph two {{ {HEAD} p [shape=component, {fan}] j [shape=tripleoctagon, {join}]
      a [tool_command="{a}"] b [tool_command="{b}"]
      {begin} p -> a -> j p -> b -> j  j -> exit [condition="outcome=success"] }}"""


NESTED = f"""digraph nested {{ {HEAD} p [shape=component] j [shape=tripleoctagon] q [shape=component] r [shape=tripleoctagon]
  first [tool_command="echo kept > before.txt"]
  a1 [tool_command="echo one > a.txt; mkdir -p build; echo lib > build/lib"]
  a2 [tool_command="cat a.txt build/lib before.txt; test ! -e c.txt"]
  c1 [tool_command="echo c1 > c.txt"]  c2 [tool_command="echo c2 > c.txt"]  c3 [tool_command="cat c.txt"]
  start -> first -> p  p -> a1 -> a2 -> j  p -> q  q -> c1 -> r  q -> c2 -> r  r -> c3 -> j
  j -> exit [condition="outcome=success"] }}"""

SAME_NAMES = rf"""digraph same {{ {HEAD} o [shape=component] oj [shape=tripleoctagon, merge=all]
  s1 [shape=folder, dot_file="inner.dot"]  s2 [shape=folder, dot_file="inner.dot"]
  start -> o  o -> s1 -> oj  o -> s2 -> oj  oj -> p [condition="outcome=success"]
  p [shape=component] j [shape=tripleoctagon]  a [tool_command="echo > a.txt"]  b [tool_command="echo > b.txt"]
  p -> a -> j  p -> b -> j  j -> lap [condition="outcome=success"]
  lap [tool_command="test -e lap || {{ touch lap
       printf '{{\"status\": \"fail\", \"failure_reason\": \"connection reset\"}}' > $KILROY_STAGE_LOGS_DIR/status.json
       exit 1; }}"]
  lap -> exit [condition="outcome=success"]
  lap -> p [condition="outcome=fail && context.failure_class=transient_infra", loop_restart=true] }}"""
INNER = f"""digraph inner {{ {HEAD} p [shape=component] j [shape=tripleoctagon]
  a [tool_command="sleep 0.3; pwd > a-$$.txt"]  b [tool_command="sleep 0.3; pwd > b-$$.txt"]
  start -> p  p -> a -> j  p -> b -> j  j -> exit [condition="outcome=success"] }}"""
"""In each of two branches a child pipeline with a fan-out p; then a fan-out p of the run itself, and again in a restart."""

SLOW = "echo $$ > $KILROY_LOGS_ROOT/pid; sleep 300"
OTHER_AT_WORK = "until ls $KILROY_LOGS_ROOT/../*/pid; do sleep 0.1; done"
ALONE = "mkdir $KILROY_LOGS_ROOT/../one; sleep 0.2; rmdir $KILROY_LOGS_ROOT/../one"
FIRST = """first [tool_command="echo x > before.txt; echo y > left.txt"] start -> first -> p"""
RUNS = {
    "both_fail": two("exit 1", "exit 1"),
    "nested": NESTED,
    "same_names": SAME_NAMES,
    "first_success": two(f"{OTHER_AT_WORK}; echo won > won.txt", SLOW, fan="join_policy=first_success"),
    "fail_fast": two(f"{OTHER_AT_WORK}; exit 3", SLOW, fan="error_policy=fail_fast"),
    "one_at_a_time": two(ALONE, ALONE, fan="max_parallel=1"),
    "merge_all": two("echo a > a.txt", "echo b > b.txt", join="merge=all"),
    "told_in_tracked_files": two(
        "cat .kilroy/TASK.md > told-a", "cat .kilroy/TASK.md > told-b; git add -A; git commit -qm all", join="merge=all"
    ),
    "conflict": two("echo a > same.txt", "echo b > same.txt", join="merge=all"),
    "plain": two("echo a > a.txt; rm before.txt", "echo b > b.txt", begin=FIRST),
    "shared": two("echo a > a.txt", "echo b > b.txt", fan="branch_workspace=shared"),
    "quorum": two("true", "exit 1", fan="join_policy=quorum, quorum_fraction=1.0"),
}
WITHOUT_GIT = ("both_fail", "plain", "shared", "quorum", "first_success", "one_at_a_time")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a git repository that has one commit and ignores ``build``."""
    folder = tmp_path_factory.mktemp("parallel")
    repository = folder / "repository"
    repository.mkdir()
    (repository / ".gitignore").write_text("build/\n")
    (repository / "inner.dot").write_text(INNER)
    (repository / ".kilroy").mkdir()
    (repository / ".kilroy" / "TASK.md").write_text("the repository's\n")
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


def final(base: Path, name: str) -> dict[str, Any]:
    return json.loads((base / name / "final.json").read_bytes())


def results(base: Path, name: str, fan_out: str = "p") -> dict[str, dict[str, Any]]:
    listed = json.loads((base / name / fan_out / "parallel_results.json").read_bytes())
    return {result["branch_key"]: result for result in listed}


def git(base: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=base / "repository", capture_output=True, text=True, check=True).stdout


def test_a_fan_out_whose_branches_both_fail_ends_as_failed(done: Mapping[str, Answer], base: Path) -> None:
    """Both branches exit 1 and are joined: run_failed with fail, last and alone, after a final.json that says the same."""
    stream = events(base / "both_fail")
    ends = [event for event in stream if event["event"] in ("run_completed", "run_failed")]
    assert done["both_fail"].exit_code == 1
    assert ends == [stream[-1]]
    assert (ends[0]["event"], ends[0]["status"]) == ("run_failed", "fail")
    assert final(base, "both_fail")["status"] == "fail"
    assert final(base, "both_fail")["failure_reason"] == ends[0]["reason"]
    assert "all parallel branches failed" in ends[0]["reason"]
    assert {key: r["outcome"]["failure_reason"] for key, r in results(base, "both_fail").items()} == {
        "a": "exit status 1",
        "b": "exit status 1",
    }


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


def test_every_fan_out_of_a_run_has_git_branches_of_its_own(done: Mapping[str, Answer], base: Path) -> None:
    """Fan-outs of the same name in child pipelines, in branches and in restarts: the branch that a record names holds the
    commit that it names, also of those that have not won."""
    assert done["same_names"].exit_code == 0
    records = [json.loads(path.read_bytes()) for path in (base / "same_names").rglob("result.json")]
    assert len(records) == 2 + 2 * 2 + 2 + 2
    names = [record["branch_name"] for record in records]
    assert len(set(names)) == len(names)
    assert git(base, "rev-parse", *names).split() == [record["head_sha"] for record in records]
    for record in records:
        listed = git(base, "diff", "--name-only", f"{record['head_sha']}~", record["head_sha"]).split()
        assert len(listed) <= 1, "a branch has committed what another one made"


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


@pytest.mark.parametrize(("name", "key"), [("first_success", "b"), ("fail_fast", "b")])
def test_the_losers_are_stopped_with_their_processes(done: Mapping[str, Answer], base: Path, name: str, key: str) -> None:
    """Once the answer is certain, the branches still at work end within seconds, and nothing of them lives on."""
    loser = results(base, name)[key]
    pid = int((Path(loser["logs_root"]) / "pid").read_text())
    early = [event for event in events(base / name) if event["event"] == "early_termination"]
    assert done[name].took_s < 60
    assert [(e["node_id"], e["received"], e["total"]) for e in early] == [("p", 1, 2)]
    assert loser["outcome"]["status"] == "fail"
    assert loser["outcome"]["meta"]["failure_class"] == "canceled"
    assert not Path(f"/proc/{pid}").exists()


def test_the_policy_decides_about_the_run(done: Mapping[str, Answer], base: Path) -> None:
    """An unmet quorum fails the fan-out, and with it the run (Kilroy goes on); first_success and wait_all go on."""
    assert done["quorum"].exit_code == 1
    assert "quorum: only 1/2 succeeded (need 2, fraction=1.00)" in final(base, "quorum")["failure_reason"]
    assert done["first_success"].exit_code == 0
    assert done["fail_fast"].exit_code == 1


def test_no_more_than_max_parallel_branches_work_at_a_time(done: Mapping[str, Answer], base: Path) -> None:
    """With one at a time, a folder that each makes and removes is never there twice."""
    assert done["one_at_a_time"].exit_code == 0
    assert {r["outcome"]["status"] for r in results(base, "one_at_a_time").values()} == {"success"}


def test_merge_all_brings_every_branch_together_or_names_the_files(done: Mapping[str, Answer], base: Path) -> None:
    """merge=all merges in the order of the keys; a conflict names the files, merges nothing and leaves the branches."""
    assert done["merge_all"].exit_code == 0
    listed = git(base, "ls-tree", "--name-only", "attractor/run/merge-all").split()
    assert {"a.txt", "b.txt"} <= set(listed)
    assert done["conflict"].exit_code == 1
    assert "same.txt" in final(base, "conflict")["failure_reason"]
    assert "same.txt" not in git(base, "ls-tree", "--name-only", "attractor/run/conflict").split()
    for key, text in (("a", "a\n"), ("b", "b\n")):
        assert git(base, "show", f"attractor/run/parallel/conflict/p/pass1/{key}:same.txt") == text


def test_files_of_ours_that_the_repository_tracks_bring_no_conflict(done: Mapping[str, Answer], base: Path) -> None:
    """Each stage is told its task in .kilroy/TASK.md. No commit holds that, whoever makes it."""
    assert final(base, "told_in_tracked_files")["status"] == "success"
    branch = "attractor/run/told-in-tracked-files"
    assert git(base, "show", f"{branch}:.kilroy/TASK.md") == "the repository's\n"
    assert [git(base, "show", f"{branch}:told-{key}").split()[:3] for key in "ab"] == [["#", "Task:", "a"], ["#", "Task:", "b"]]


def test_without_a_repository_each_branch_works_in_a_copy(done: Mapping[str, Answer], base: Path) -> None:
    """The run's folder becomes what the winner's copy is, deletions included; the loser's work stays in its own copy."""
    assert done["plain"].exit_code == 0
    folder = base / "plain" / "worktree"
    assert {entry.name for entry in folder.iterdir()} == {".kilroy", "a.txt", "left.txt"}
    loser = Path(results(base, "plain")["b"]["worktree_dir"])
    assert {entry.name for entry in loser.iterdir()} == {".kilroy", "b.txt", "before.txt", "left.txt"}
    shared = base / "shared" / "worktree"
    assert {"a.txt", "b.txt"} <= {entry.name for entry in shared.iterdir()}


def test_a_branch_has_a_stream_of_its_own_and_tells_the_run(done: Mapping[str, Answer], base: Path) -> None:
    """What a branch does is whole in its own directory, and in the run's stream as branch_progress in Kilroy's order."""
    own = [event["event"] for event in events(base / "nested" / "parallel" / "p" / "pass1" / "01-a1")]
    told = [e for e in events(base / "nested") if e["event"] == "branch_progress" and e["branch_key"] == "a1"]
    steps = [event["branch_event"] for event in told]
    assert steps[:3] == ["branch_setup_start", "branch_setup_ready", "branch_subgraph_start"]
    assert steps[-1] == "branch_subgraph_done"
    assert steps[3:-1] == own
    assert [e["branch_node_id"] for e in told if e["branch_event"] == "stage_attempt_end"] == ["a1", "a2"]
