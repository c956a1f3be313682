"""Fan-outs through whole runs: what each branch works in, when branches are stopped, what comes of their work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess
from whole_runs import SLEEPS, Place, Ran

from kilroy_engine.errors import StopKind
from kilroy_engine.execution.ports import BranchAtWork, BranchEnd, BranchRunner, Performed, VisitAtWork
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.stages.branches import BranchRecord


def two(a: str, b: str, *, fan: str = "join_policy=wait_all", join: str = "merge=winner", after: str = "") -> str:
    """start -> p -> {a, b} -> j -> done, with these commands."""
    return (
        f'p [shape=component, {fan}] j [shape=tripleoctagon, {join}] a [tool_command="{a}"] b [tool_command="{b}"] '
        f'start -> p  p -> a -> j  p -> b -> j  j -> {after}done [condition="outcome=success"] '
    )


def results(ran: Ran, fan_out: str = "p") -> dict[str, dict[str, Any]]:
    return {result["branch_key"]: result for result in json.loads(ran.file(f"{fan_out}/parallel_results.json"))}


def pids_in(directory: str) -> list[int]:
    """Processes of the branch in this directory that live."""
    recorded = [json.loads(path.read_text())["pid"] for path in Path(directory).rglob("process-*.json")]
    return [pid for pid in recorded if Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z"]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class TestWorkOfBranches:
    """Where branches work, and what the fan-in makes of that."""

    def test_with_a_repository_each_has_a_worktree_and_the_winners_comes_over(self, git_place: Place) -> None:
        """The run's branch goes on from the winner's commit; the other's stays on a git branch of its own."""
        ran = git_place.runs(two("echo a > a.txt; test ! -e b.txt", "echo b > b.txt"), run_id="r1")

        assert ran.end == ("success", "")
        assert git_place.git("show", "attractor/run/r1:a.txt") == "a\n"
        assert "b.txt" not in git_place.git("ls-tree", "--name-only", "attractor/run/r1")
        assert git_place.git("show", "attractor/run/parallel/r1/p/pass1/b:b.txt") == "b\n"
        assert ran.context["parallel.fan_in.best_id"] == "a"

    def test_without_one_each_works_in_a_copy_of_the_folder(self, place: Place) -> None:
        """The folder becomes what the winner's copy is, deletions included."""
        first = 'first [tool_command="echo x > before.txt; echo y > left.txt"] start -> first -> p '
        statements = two("echo a > a.txt; rm before.txt", "echo b > b.txt").replace("start -> p ", first)
        ran = place.runs(statements)

        assert ran.end == ("success", "")
        assert {entry.name for entry in ran.run.worktree.iterdir()} == {".kilroy", "a.txt", "left.txt"}
        loser = Path(results(ran)["b"]["worktree_dir"])
        assert {entry.name for entry in loser.iterdir()} == {".kilroy", "b.txt", "before.txt", "left.txt"}

    def test_a_shared_workspace_is_one_for_all(self, place: Place) -> None:
        """Nothing is copied: what each leaves is where the run goes on."""
        ran = place.runs(two("echo a > a.txt", "echo b > b.txt", fan="branch_workspace=shared"))

        assert ran.end == ("success", "")
        assert {"a.txt", "b.txt"} <= {entry.name for entry in ran.run.worktree.iterdir()}
        assert {result["worktree_dir"] for result in results(ran).values()} == {str(ran.run.worktree)}

    def test_merge_all_brings_everybodys_work_together(self, git_place: Place) -> None:
        """In the order of the keys."""
        ran = git_place.runs(two("echo a > a.txt", "echo b > b.txt", join="merge=all"), run_id="r1")

        assert ran.end == ("success", "")
        assert ran.context["parallel.fan_in.merged"] == ["a", "b"]
        assert {"a.txt", "b.txt"} <= set(git_place.git("ls-tree", "--name-only", "attractor/run/r1").split())

    def test_files_of_ours_that_the_repository_tracks_bring_no_conflict(self, git_place: Place) -> None:
        """Each stage is told its task in .kilroy/TASK.md. No commit holds that, whoever makes it."""
        assert git_place.repo is not None
        (git_place.repo / ".kilroy").mkdir()
        (git_place.repo / ".kilroy" / "TASK.md").write_text("the repository's\n", encoding="utf-8")
        git_place.git("add", "--all")
        git_place.git("-c", "user.name=Test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=two")
        told = "cat .kilroy/TASK.md > told-{}"
        a, b = told.format("a"), f"{told.format('b')}; git add -A; git -c user.name=T -c user.email=t@localhost commit -qm all"
        ran = git_place.runs(two(a, b, join="merge=all"), run_id="r1")

        assert ran.end == ("success", "")
        assert git_place.git("show", "attractor/run/r1:.kilroy/TASK.md") == "the repository's\n"
        texts = [git_place.git("show", f"attractor/run/r1:told-{key}").split()[:3] for key in "ab"]
        assert texts == [["#", "Task:", "a"], ["#", "Task:", "b"]]

    def test_a_conflict_merges_nothing_and_names_the_files(self, git_place: Place) -> None:
        """The branches stay, to be merged by hand."""
        ran = git_place.runs(two("echo a > same.txt", "echo b > same.txt", join="merge=all"), run_id="r1")

        assert ran.final.status == "fail"
        assert "merge conflict: branch b changes same.txt" in ran.final.failure_reason
        assert "same.txt" not in git_place.git("ls-tree", "--name-only", "attractor/run/r1")
        assert git_place.git("show", "attractor/run/parallel/r1/p/pass1/b:same.txt") == "b\n"

    def test_a_fan_out_in_a_branch_has_branches_of_its_own(self, git_place: Place) -> None:
        """Two levels: each begins at its fan-out's commit and sees nothing of its siblings."""
        ran = git_place.runs(
            "p [shape=component] j [shape=tripleoctagon] q [shape=component] r [shape=tripleoctagon] "
            'a1 [tool_command="echo one > a.txt"] a2 [tool_command="cat a.txt; test ! -e c.txt"] '
            'c1 [tool_command="echo c1 > c.txt"] c2 [tool_command="echo c2 > c.txt"] c3 [tool_command="cat c.txt"] '
            "start -> p  p -> a1 -> a2 -> j  p -> q  q -> c1 -> r  q -> c2 -> r  r -> c3 -> j "
            'j -> done [condition="outcome=success"]',
            run_id="r1",
        )

        assert ran.end == ("success", "")
        found = results(ran)
        assert {key: result["completed_nodes"] for key, result in found.items()} == {"a1": ["a1", "a2"], "q": ["q", "r", "c3"]}
        assert git_place.git("show", f"{found['q']['head_sha']}:c.txt") == "c1\n"
        listed = git_place.git("branch", "--list", "--format=%(refname:short)", "attractor/run/parallel/r1/*").split()
        assert [name.removeprefix("attractor/run/parallel/r1/") for name in listed] == [
            "p.pass1.q.q/pass1/c1",
            "p.pass1.q.q/pass1/c2",
            "p/pass1/a1",
            "p/pass1/q",
        ]

    def test_a_branch_tells_the_run_what_it_does(self, place: Place) -> None:
        """Whole in its own stream; in the run's as ``branch_progress``, framed by set-up and end."""
        ran = place.runs(two("true", "true"))
        own = [event["event"] for event in ran.events(within="parallel/p/pass1/01-a")]
        told = [e["branch_event"] for e in ran.events("branch_progress") if e["branch_key"] == "a"]

        assert told[:3] == ["branch_setup_start", "branch_setup_ready", "branch_subgraph_start"]
        assert told[3:-1] == own
        assert told[-1] == "branch_subgraph_done"


class TestPolicies:
    """When a fan-out is sure of its outcome, and what becomes of the branches that are still at work."""

    @pytest.mark.parametrize(
        ("fan", "a", "status", "reason"),
        [
            ("join_policy=first_success", "true", "success", 'first_success: branch "a" succeeded'),
            ("join_policy=k_of_n, k=1", "true", "success", "k_of_n: reached k=1 successes"),
            ("error_policy=fail_fast", "exit 3", "fail", 'fail_fast: branch "a" failed'),
        ],
    )
    def test_a_sure_answer_stops_the_others(self, place: Place, fan: str, a: str, status: str, reason: str) -> None:
        """Their processes are gone, they failed as canceled, and the run's stream says why."""
        other_at_work = "until grep work $KILROY_LOGS_ROOT/../02-b/b/stdout.log; do sleep 0.05; done"
        ran = place.runs(two(f"{other_at_work}; {a}", SLEEPS, fan=fan))
        loser = results(ran)["b"]

        assert ran.final.status == status
        (early,) = ran.events("early_termination")
        assert (early["node_id"], early["reason"], early["received"], early["total"]) == ("p", reason, 1, 2)
        assert loser["outcome"]["failure_reason"] == f"canceled: {reason}"
        assert pids_in(loser["logs_root"]) == []

    @pytest.mark.parametrize(
        ("fan", "reason"),
        [
            ("join_policy=k_of_n, k=2", "k_of_n: only 1/2 succeeded (need k=2)"),
            ("join_policy=quorum, quorum_fraction=1.0", "quorum: only 1/2 succeeded (need 2, fraction=1.00)"),
        ],
    )
    def test_an_answer_that_does_not_come_fails_the_fan_out(self, place: Place, fan: str, reason: str) -> None:
        """All branches have answered by then."""
        ran = place.runs(two("true", "exit 1", fan=fan))

        assert ran.final.status == "fail"
        assert reason in ran.final.failure_reason
        assert ran.events("early_termination") == []

    def test_branches_that_all_fail_fail_the_run(self, place: Place) -> None:
        """wait_all goes on to the fan-in, which has nobody to choose."""
        ran = place.runs(two("exit 1", "exit 2"))

        assert ran.final.status == "fail"
        assert "all parallel branches failed" in ran.final.failure_reason
        reasons = [result["outcome"]["failure_reason"] for result in results(ran).values()]
        assert reasons == ["exit status 1", "exit status 2"]

    def test_no_more_than_max_parallel_are_at_work(self, place: Place) -> None:
        """A folder that each makes and removes is never there twice."""
        alone = "mkdir $KILROY_LOGS_ROOT/../one; sleep 0.1; rmdir $KILROY_LOGS_ROOT/../one"
        ran = place.runs(two(alone, alone, fan="max_parallel=1"))

        assert ran.end == ("success", "")
        assert {result["outcome"]["status"] for result in results(ran).values()} == {"success"}


class TestStops:
    """A stop that comes into a fan-out, and the resume after it."""

    def test_a_cancel_stops_every_branch_and_none_has_answered(self, place: Place) -> None:
        """They are to be gone on with: a branch that was stopped with the run has no result."""
        at_work = [place.says("a", "parallel/p/pass1/01-a"), place.says("b", "parallel/p/pass1/02-b")]
        place.meanwhile(
            lambda: all(works() for works in at_work), lambda: request_cancel(place.run, StopKind.PERSON, "by kilroy stop")
        )
        ran = place.runs(two(SLEEPS, SLEEPS))

        assert ran.end == ("canceled", "canceled: by kilroy stop")
        assert list(ran.run.path.rglob("result.json")) == []
        assert pids_in(str(ran.run.path)) == []

    def test_a_resume_runs_only_the_branches_that_have_not_answered(self, git_place: Place) -> None:
        """What a finished branch came to is on record, its work on its git branch; the other goes on from its checkpoint."""
        side, go = git_place.folder / "side", git_place.folder / "go"
        b = f"echo b >> {side}; cat b1.txt; test -e {go} || {{ {SLEEPS}; }}"
        statements = two(f"echo a >> {side}; echo a > a.txt", b).replace(
            "p -> b -> j", f'p -> b1 -> b -> j  b1 [tool_command="echo b1 >> {side}; echo b1 > b1.txt"]'
        )
        branches = git_place.run.path / "parallel" / "p" / "pass1"
        works = git_place.says("b", "parallel/p/pass1/02-b1")
        git_place.meanwhile(
            lambda: works() and (branches / "01-a" / "result.json").exists(),
            lambda: request_cancel(git_place.run, StopKind.PERSON, "by hand"),
        )
        assert git_place.runs(statements, run_id="r1").final.status == "canceled"
        go.touch()
        ran = git_place.resumes()

        assert ran.end == ("success", "")
        assert sorted(side.read_text().split()) == ["a", "b", "b", "b1"]
        assert sorted(path.name for path in (ran.run.path / "parallel" / "p").iterdir()) == ["pass1"]
        assert {key: result["completed_nodes"] for key, result in results(ran).items()} == {"a": ["a"], "b1": ["b1", "b"]}

    @pytest.mark.timeout(60)
    def test_a_signal_in_the_run_ends_the_branches_before_it_goes_on(self, place: Place) -> None:
        """Whoever waits for their threads would otherwise wait for ever."""

        class Signaled(InProcess):
            @contextmanager
            def branches(self, size: int) -> Generator[BranchRunner]:
                with super().branches(size) as runner:
                    yield _Interrupting(runner)

        with pytest.raises(KeyboardInterrupt):
            place.runs(two(SLEEPS, SLEEPS), orchestrator=Signaled())
        assert pids_in(str(place.run.path)) == []

    def test_a_branch_that_could_not_even_write_has_failed(self, place: Place) -> None:
        """Its own run's end says why; the fan-out goes on with the others."""

        class Breaks(InProcess):
            def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
                if visit.node.id == "b":
                    raise OSError(28, "No space left on device")
                return super().perform(visit, after)

        ran = place.runs(two("true", "true"), orchestrator=Breaks())

        assert ran.end == ("success", "")
        assert results(ran)["b"]["error"] == "[Errno 28] No space left on device"
        assert BranchRecord.find(type(ran.run)(Path(results(ran)["b"]["logs_root"]))) is None


class _Interrupting:
    """Submits branches; the signal comes in while the second begins, before anybody has heard that it has."""

    def __init__(self, runner: BranchRunner) -> None:
        self.runner, self.submitted = runner, 0

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        ended = self.runner.submit(branch, answered)
        self.submitted += 1
        if self.submitted == 2:
            raise KeyboardInterrupt
        return ended


def test_every_visit_and_branch_is_the_orchestrators(place: Place) -> None:
    """Branches run side by side: both are at work before one of them is over."""
    meeting = threading.Barrier(2, timeout=30)

    class Meets(InProcess):
        def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
            if visit.node.id in "ab":
                meeting.wait()
            return super().perform(visit, after)

    ran = place.runs(two("true", "true"), orchestrator=Meets())

    assert ran.end == ("success", "")
    assert sorted(ran.orchestrator.performed) == ["a", "b", "done", "j", "p", "start"]


HEAD = "node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "
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


def test_every_fan_out_of_a_run_has_git_branches_of_its_own(git_place: Place) -> None:
    """Fan-outs of the same name in child pipelines, in branches and in restarts: the branch that a record names holds the
    commit that it names, also of those that have not won."""
    (git_place.folder / "inner.dot").write_text(INNER, encoding="utf-8")
    (git_place.folder / "same.dot").write_text(SAME_NAMES, encoding="utf-8")
    logs_root = str(git_place.run.path)
    ran = git_place.carry_out(str(git_place.folder / "same.dot"), None, {}, logs_root=logs_root, run_id="r1")

    assert ran.end == ("success", "")
    records = [json.loads(path.read_bytes()) for path in ran.run.path.rglob("result.json")]
    assert len(records) == 2 + 2 * 2 + 2 + 2
    names = [record["branch_name"] for record in records]
    assert len(set(names)) == len(names)
    assert git_place.git("rev-parse", *names).split() == [record["head_sha"] for record in records]
    for record in records:
        listed = git_place.git("diff", "--name-only", f"{record['head_sha']}~", record["head_sha"]).split()
        assert len(listed) <= 1, "a branch has committed what another one made"
