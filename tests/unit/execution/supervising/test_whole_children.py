"""Child pipelines through whole runs: nodes of shape folder and house, their end, and where a resume goes on."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from in_process import InProcess
from whole_runs import SLEEPS, Place, Ran

from kilroy_engine.errors import InvalidInput, StopKind
from kilroy_engine.execution.ports import Identity
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.settings.options import Options

FOLDER, HOUSE = "shape=folder, dot_file=child.dot", "shape=house, stack.child_dotfile=child.dot"
CHILD = "boss/child"
RESTARTING_PARENT = r"""digraph parent {
  start [shape=Mdiamond]
  say   [shape=parallelogram, tool_command="cd $KILROY_STAGE_LOGS_DIR
           printf '{\"status\": \"success\", \"context_updates\": {\"topic\": \"bees\"}}' > status.json"]
  boss  [shape=folder, dot_file="child.dot"]
  last  [shape=parallelogram, tool_command="sh .kilroy/package/scripts/last.sh"]
  done  [shape=Msquare]
  start -> say -> boss
  boss -> last [condition="outcome=success"]
  last -> done [condition="outcome=success"]
}
"""
RESTARTING_CHILD = r"""digraph child {
  start [shape=Mdiamond]
  check [shape=parallelogram, tool_command="echo check >> TRACE/side; test -e TRACE/again || {
           touch TRACE/again
           printf '{\"status\": \"fail\", \"failure_reason\": \"connection reset\"}' > $KILROY_STAGE_LOGS_DIR/status.json
           exit 1; }"]
  done  [shape=Msquare]
  start -> check
  check -> done [condition="outcome=success && context.topic=bees"]
  check -> check [condition="outcome=fail && context.failure_class=transient_infra", loop_restart=true]
}
"""


def write_child(place: Place, two: str = "true", name: str = "child.dot") -> Path:
    """A child of two stages; both say in ``side`` that they were executed."""
    side = place.folder / "side"
    return place.write(
        name,
        f'one [tool_command="echo one >> {side}; echo 1 > one.txt"] two [tool_command="echo two >> {side}; {two}"] '
        'start -> one -> two  two -> done [condition="outcome=success"]',
    )


def around(boss: str) -> str:
    """start -> boss -> last -> done; ``last`` reads what the child has left."""
    last = 'last [tool_command="cat one.txt"] boss -> last [condition="outcome=success"] last -> done'
    return f"boss [{boss}] start -> boss {last}"


def executed(place: Place) -> list[str]:
    return (place.folder / "side").read_text(encoding="utf-8").split()


def child_of(ran: Ran, within: str = CHILD) -> Ran:
    """The child's own directory and end."""
    run = RunDirectory(ran.run.path / within)
    final = ran.final.find(run)
    assert final is not None
    return Ran(run, final, ran.orchestrator)


def pids_left(ran: Ran) -> list[int]:
    pids = [json.loads(path.read_text())["pid"] for path in ran.run.path.rglob("process-*.json")]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


class TestAChildAtWork:
    """A run of its own in the place of work of the run around it."""

    @pytest.mark.parametrize("boss", [FOLDER, f"{HOUSE}, manager.poll_interval=100ms"], ids=["folder", "house"])
    def test_a_child_has_a_directory_a_flow_run_and_an_end_of_its_own(self, git_place: Place, boss: str) -> None:
        """Its stages have commits on the run's branch; its facts are in the context; its end comes before the run's."""
        write_child(git_place)
        ran = git_place.runs(around(boss), run_id="r1")
        child = child_of(ran)

        assert (ran.end, child.end) == (("success", ""), ("success", ""))
        assert child.completed == ("start", "one", "two", "done")
        assert ran.file("last/stdout.log") == "1\n"
        assert (ran.context["stack.child.outcome"], ran.context["stack.child.status"]) == ("success", "completed")
        assert [str(run.flow_run_id) for run in ran.orchestrator.flow_runs] == [
            ran.final.flow_run_id,
            child.final.flow_run_id,
        ]
        subjects = git_place.git("log", "--reverse", "--format=%s", "attractor/run/r1").splitlines()[1:]
        stages = [subject.partition(": ")[2].partition(" ")[0] for subject in subjects]
        assert stages == ["start", "start", "one", "two", "done", "boss", "last", "done"]

    def test_a_failed_child_fails_its_node_in_its_words(self, place: Place) -> None:
        """The run goes on by the node's fail edge."""
        write_child(place, two="exit 4")
        ran = place.runs(f'boss [{FOLDER}] start -> boss  boss -> done [condition="outcome=fail"]')

        assert ran.end == ("success", "")
        assert child_of(ran).final.status == "fail"
        assert ran.outcomes["boss"].failure_reason.startswith("child pipeline failed: ")
        assert "exit status 4" in ran.outcomes["boss"].failure_reason

    def test_a_file_that_is_not_there_is_the_nodes_failure(self, place: Place) -> None:
        """The child's file may be made by a stage before, so nothing refuses the run."""
        ran = place.runs(f'boss [{FOLDER}] start -> boss  boss -> done [condition="outcome=fail"]')

        assert ran.outcomes["boss"].failure_reason.startswith("child pipeline failed: there is no file child.dot (looked in ")

    def test_a_file_that_a_stage_made_is_found_in_the_work_folder(self, place: Place) -> None:
        """Behind the pipeline's own folder."""
        child = "digraph g { start [shape=Mdiamond] done [shape=Msquare] start -> done }"
        ran = place.runs(f"make [tool_command=\"echo '{child}' > child.dot\"] boss [{FOLDER}] start -> make -> boss -> done")

        assert ran.end == ("success", "")
        assert child_of(ran).completed == ("start", "done")

    def test_a_child_knows_the_context_and_the_inputs_of_the_run_around_it(self, place: Place) -> None:
        """What it sets itself stays its own."""
        place.write("child.dot", 'one [tool_command="echo $KILROY_INPUT_TOPIC"] start -> one -> done')
        ran = place.runs(f'inputs="topic" boss [{FOLDER}] start -> boss -> done', inputs={"topic": "bees"})

        assert ran.file(f"{CHILD}/one/stdout.log") == "bees\n"
        assert "tool.output" in child_of(ran).context
        assert "bees" in str(child_of(ran).context["inputs"])

    def test_a_child_restarts_in_its_own_directory(self, place: Place) -> None:
        """By ``loop_restart``, with what it had of the run around it at first; what is seen of it counts all its lives. The
        workflow package that the run unpacked stays for the stages after it."""
        package, trace = place.folder / "package", place.folder / "trace"
        (package / "scripts").mkdir(parents=True)
        trace.mkdir()
        (package / "workflow.toml").write_text('name = "restarting"\n', encoding="utf-8")
        (package / "scripts" / "last.sh").write_text(f"echo last >> {trace}/side\n", encoding="utf-8")
        (package / "graph.dot").write_text(RESTARTING_PARENT, encoding="utf-8")
        (package / "child.dot").write_text(RESTARTING_CHILD.replace("TRACE", str(trace)), encoding="utf-8")
        ran = place.carry_out(str(package), None, {}, logs_root=str(place.run.path))

        assert (ran.end, child_of(ran).end) == (("success", ""), ("success", ""))
        assert json.loads(ran.file(f"{CHILD}/restart-1/final.json"))["status"] == "success"
        assert (trace / "side").read_text().split() == ["check", "check", "last"]
        assert not (ran.run.path / "restart-1").exists()
        facts = ran.outcomes["boss"].context_updates
        assert (facts["stack.child.completed_count"], facts["stack.child.failed_count"]) == (4, 1)
        assert facts["stack.child.current_node"] == "done"


class TestStops:
    """A child does not outlive its node, and its node does not outlive the run."""

    @pytest.mark.parametrize(
        ("boss", "expected"),
        [
            ('manager.poll_interval=100ms, manager.stop_condition="stack.child.current_node=two"', ("success", "")),
            ("manager.poll_interval=150ms, manager.max_cycles=2", ("fail", "manager loop max cycles exceeded (2)")),
            ("timeout=900ms", ("fail", "child pipeline timed out after 900ms")),
        ],
        ids=["stop condition", "cycles", "timeout"],
    )
    def test_a_manager_that_has_seen_enough_ends_its_child(self, place: Place, boss: str, expected: tuple[str, str]) -> None:
        """The child's end says by whom it was canceled; no process of it is left."""
        write_child(place, two=SLEEPS)
        ran = place.runs(f"boss [{HOUSE}, {boss}] start -> boss -> done")
        outcome = ran.outcomes["boss"]

        assert (outcome.status, outcome.failure_reason) == expected
        assert child_of(ran).end == ("canceled", "canceled: by its manager")
        assert outcome.context_updates["stack.child.status"] == "canceled"
        assert pids_left(ran) == []

    def test_a_stop_of_the_run_is_the_childs_too(self, place: Place) -> None:
        """Both are canceled for the same reason, and the child's end is there before the run's."""
        write_child(place, two=SLEEPS)
        place.meanwhile(place.says("two", CHILD), lambda: request_cancel(place.run, StopKind.PERSON, "by kilroy stop"))
        ran = place.runs(around(HOUSE))

        assert ran.end == child_of(ran).end == ("canceled", "canceled: by kilroy stop")
        assert pids_left(ran) == []

    def test_a_cancel_of_the_child_alone_fails_its_node(self, place: Place) -> None:
        """On its own page in Prefect: the run around it goes on."""
        write_child(place, two=SLEEPS)

        class ChildCanceled(InProcess):
            def is_canceled(self, identity: Identity) -> bool:
                return self.canceled.is_set() and identity == self.flow_runs[-1]

        prefect = ChildCanceled()
        place.meanwhile(place.says("two", CHILD), prefect.canceled.set)
        ran = place.runs(f'boss [{FOLDER}] start -> boss  boss -> done [condition="outcome=fail"]', orchestrator=prefect)

        assert ran.end == ("success", "")
        assert ran.outcomes["boss"].failure_reason == "child pipeline failed: canceled: in the Prefect UI or API"


class TestResume:
    """A resume of the run goes on inside the child."""

    def test_it_goes_on_at_the_stage_that_failed(self, git_place: Place) -> None:
        """Finished stages of the child are not run again, and its work is still in the worktree."""
        go = git_place.folder / "go"
        write_child(git_place, two=f"test -e {go}")
        assert git_place.runs(around(FOLDER)).final.status == "fail"
        go.touch()
        ran = git_place.resumes()

        assert ran.end == ("success", "")
        assert executed(git_place) == ["one", "two", "two"]
        assert ran.file("last/stdout.log") == "1\n"
        assert (child_of(ran).final.status, child_of(ran).final.start) == ("success", 2)

    def test_it_goes_on_at_the_stage_that_was_stopped(self, place: Place) -> None:
        """Deep inside too: a child in a child, each with its own end for each start."""
        go = place.folder / "go"
        write_child(place, two=f"test -e {go} || {{ {SLEEPS}; }}", name="inner.dot")
        place.write("child.dot", "boss [shape=house, stack.child_dotfile=inner.dot] start -> boss -> done")
        inner = f"{CHILD}/boss/child"
        place.meanwhile(place.says("two", inner), lambda: request_cancel(place.run, StopKind.PERSON, "by hand"))
        stopped = place.runs(around(FOLDER))
        assert [child_of(stopped, within).final.status for within in (CHILD, inner)] == ["canceled", "canceled"]
        go.touch()
        ran = place.resumes()

        assert ran.end == ("success", "")
        assert executed(place) == ["one", "two", "two"]
        assert [child_of(ran, within).final.start for within in (CHILD, inner)] == [2, 2]

    def test_a_child_whose_file_has_changed_begins_anew(self, place: Place) -> None:
        """With a warning, because work is done twice."""
        write_child(place, two="exit 1")
        place.runs(around(FOLDER))
        write_child(place, two="true")
        ran = place.resumes()

        assert ran.end == ("success", "")
        assert executed(place) == ["one", "two", "one", "two"]
        assert [event["message"] for event in ran.events("warning") if "has changed, so it begins anew" in event["message"]]

    def test_a_child_alone_cannot_be_resumed(self, place: Place) -> None:
        """Only the run around it knows where both are."""
        write_child(place, two="exit 1")
        place.runs(around(FOLDER))
        options = Options(resume_from=str(place.run.path / CHILD))

        with pytest.raises(InvalidInput, match="is the child pipeline of node boss"):
            prepare_run(RunParameters("", options=options), environ={}, base=place.folder)


def test_a_manager_steers_its_childs_agents(place: Place) -> None:
    """``steer.md`` in the child's directory is what the manager says after each step; prompts begin with it."""
    place.write("child.dot", 'slow [tool_command="sleep 0.5"] think [shape=box, prompt=Think] start -> slow -> think -> done')
    ran = place.runs(
        f'boss [{HOUSE}, prompt="Keep it small.", manager.poll_interval=100ms, manager.actions=steer] start -> boss -> done',
        agent="simulate",
    )

    assert ran.end == ("success", "")
    assert {event["path"] for event in ran.events("manager_loop_steered")} == {str(ran.run.path / CHILD / "steer.md")}
    assert "GUIDANCE" in ran.file(f"{CHILD}/think/prompt.md")
