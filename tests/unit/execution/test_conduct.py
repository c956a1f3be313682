"""Whole runs from the first event to the terminal line: their path, their restarts, and where a resume goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from in_process import InProcess
from whole_runs import Place

from kilroy_engine.errors import CheckpointMismatch, RunAlreadyFinished
from kilroy_engine.execution.ports import Performed, VisitAtWork

ENDS = ("run_completed", "run_failed")
LAP = (
    'work [tool_command="echo w >> work; basename $KILROY_LOGS_ROOT"] '
    'check [tool_command="test $(wc -l < work) -ge 3 || { '
    r"printf '{\"status\": \"fail\", \"failure_reason\": \"connection reset\"}' > $KILROY_STAGE_LOGS_DIR/status.json; "
    'exit 1; }"] start -> work -> check  check -> done [condition="outcome=success"] '
    'check -> work [condition="outcome=fail && context.failure_class=transient_infra", loop_restart=true] '
)
MENDED = (
    'first [tool_command="echo first >> ../../side"] work [tool_command="echo work >> ../../side; test -e ../../fixed"] '
    'last [tool_command="echo last >> ../../side"] start -> first -> work  work -> last [condition="outcome=success"] '
    "last -> done"
)


def stages(events: list[dict[str, object]]) -> list[object]:
    return [event["node_id"] for event in events if event["event"] == "stage_attempt_start"]


def test_a_run_goes_from_its_first_event_to_one_terminal_line(place: Place) -> None:
    """Every visit is the orchestrator's; what a stage leaves is there for the next one."""
    ran = place.runs('a [tool_command="echo 1 > one.txt"] b [tool_command="cat one.txt"] start -> a -> b -> done')

    assert ran.end == ("success", "")
    assert ran.completed == ("start", "a", "b", "done")
    assert ran.orchestrator.performed == ["start", "a", "b", "done"]
    assert ran.file("b/stdout.log") == "1\n"
    events = ran.events()
    assert events[0]["event"] == "run_started"
    assert [event["event"] for event in events if event["event"] in ENDS] == [events[-1]["event"]] == ["run_completed"]
    assert (ran.run.path / "run.tgz").exists()


def test_a_git_run_has_a_commit_for_each_stage(git_place: Place) -> None:
    """On the run's own branch; the repository's folder stays as it was."""
    ran = git_place.runs('a [tool_command="echo 1 > one.txt"] start -> a -> done', run_id="r1")

    subjects = git_place.git("log", "--reverse", "--format=%s", "attractor/run/r1").splitlines()
    assert subjects == ["one", *(f"attractor(r1): {name} (success)" for name in ("start", "a", "done"))]
    assert git_place.git("rev-parse", "attractor/run/r1").strip() == ran.final.final_git_commit_sha
    assert git_place.git("show", "attractor/run/r1:one.txt") == "1\n"
    assert not (git_place.repo / "one.txt").exists()  # type: ignore[operator]


def test_the_last_failure_is_the_runs_reason(place: Place) -> None:
    """Where nothing leads on from a failed stage."""
    ran = place.runs('a [tool_command="exit 3"] start -> a  a -> done [condition="outcome=success"]')

    assert ran.final.status == "fail"
    assert "exit status 3" in ran.final.failure_reason
    assert ran.events()[-1]["reason"] == ran.final.failure_reason


class TestRestarts:
    """``loop_restart``: the walk begins again, each time in a directory of its own and in the same place of work."""

    def test_each_restart_has_a_directory_of_its_own(self, place: Place) -> None:
        """Visits are named after it; the run directory and the last restart have the same end, once."""
        ran = place.runs(LAP)

        assert ran.end == ("success", "")
        assert stages(ran.events()) == ["start", "work", "check"]
        assert stages(ran.events(within="restart-1")) == ["work", "check"]
        assert stages(ran.events(within="restart-2")) == ["work", "check", "done"]
        assert ran.file("restart-2/work/stdout.log") == "restart-2\n"
        assert ran.orchestrator.performed[-3:] == [f"{name} (restart 2)" for name in ("work", "check", "done")]
        assert json.loads(ran.file("restart-2/final.json")) == json.loads(ran.file("final.json"))
        assert not (ran.run.path / "restart-1" / "final.json").exists()
        assert [event["event"] for event in ran.events(*ENDS)] == ["run_completed"]

    def test_a_resume_goes_on_in_the_restart_that_was_left(self, place: Place) -> None:
        """A signal came in ``restart-1``: the stages before are not visited again, and no third directory is made."""
        interrupting = _Interrupts("check (restart 1)")
        with pytest.raises(KeyboardInterrupt):
            place.runs(LAP, orchestrator=interrupting)
        ran = place.resumes()

        assert ran.end == ("success", "")
        assert ran.orchestrator.performed[0].startswith("check (restart 1")
        assert sorted(path.name for path in ran.run.path.glob("restart-*")) == ["restart-1", "restart-2"]

    def test_too_many_restarts_fail_the_run(self, place: Place) -> None:
        """``max_restarts`` of the graph."""
        ran = place.runs(f"max_restarts=1 {LAP}")

        assert ran.final.status == "fail"
        assert ran.final.failure_reason.startswith("loop_restart limit exceeded")


class _Interrupts(InProcess):
    """A termination signal arrives when the visit of this name begins, once the stage's directory is there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        if visit.name == self.name:
            raise KeyboardInterrupt
        return super().perform(visit, after)


class TestResume:
    """Another start of a run: it goes on where the one before has ended."""

    def test_a_failed_run_goes_on_at_the_failed_stage(self, place: Place) -> None:
        """Finished stages are not run again; the end of the start before is kept."""
        assert place.runs(MENDED).final.status == "fail"
        (place.folder / "fixed").touch()
        ran = place.resumes()

        assert (ran.final.status, ran.final.start) == ("success", 2)
        assert (place.folder / "side").read_text().split() == ["first", "work", "work", "last"]
        assert ran.orchestrator.performed == ["work (visit 2)", "last", "done"]
        (resumed,) = ran.events("run_resumed")
        assert (resumed["from_node"], resumed["previous_status"]) == ("work", "fail")
        assert json.loads(ran.file("final.start-1.json"))["status"] == "fail"
        assert [event["start"] for event in ran.events(*ENDS)] == [1, 2]

    def test_an_interrupted_run_goes_on_at_the_stage_that_was_at_work(self, git_place: Place) -> None:
        """Its worktree is put back to the last commit first: the interrupted stage finds nothing of its own."""
        statements = 'a [tool_command="echo a > a.txt"] b [tool_command="cat a.txt; test ! -e half"] start -> a -> b -> done'
        with pytest.raises(KeyboardInterrupt):
            git_place.runs(statements, orchestrator=_Interrupts("b"))
        (git_place.run.worktree / "half").write_text("half\n", encoding="utf-8")
        ran = git_place.resumes()

        assert ran.end == ("success", "")
        assert ran.orchestrator.performed == ["b", "done"]
        assert ran.events(*ENDS)[0]["reason"].startswith("crashed: ")

    def test_a_run_that_has_succeeded_is_refused(self, place: Place) -> None:
        """Nothing is left to go on with, and nothing changes."""
        place.runs('a [tool_command="true"] start -> a -> done')
        before = (place.run.path / "final.json").read_bytes()

        with pytest.raises(RunAlreadyFinished):
            place.resumes()
        assert (place.run.path / "final.json").read_bytes() == before

    def test_a_changed_pipeline_is_refused_unless_forced(self, place: Place) -> None:
        """Refused with the difference, and nothing is touched; with ``force`` the new one goes on, and the old one is kept."""
        place.runs(MENDED)
        old = place.run.graph_dot.read_text()
        changed = place.write("changed.dot", MENDED.replace("test -e ../../fixed", "true"))
        before = {path: path.read_bytes() for path in place.run.path.rglob("*") if path.is_file()}

        with pytest.raises(CheckpointMismatch, match="--force") as refused:
            place.resumes(str(changed))
        assert "\n-digraph g" in str(refused.value)
        assert "\n+digraph g" in str(refused.value)
        assert {path: path.read_bytes() for path in place.run.path.rglob("*") if path.is_file()} == before

        ran = place.resumes(str(changed), force=True)
        assert (ran.final.status, ran.final.start) == ("success", 2)
        assert (place.folder / "side").read_text().split() == ["first", "work", "work", "last"]
        assert ran.run.graph_dot.read_text() == changed.read_text()
        assert ran.run.graph_of_start(1).read_text() == old
