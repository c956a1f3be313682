"""What stages hand on: the engine's own keys, secrets, large values, failures, sessions, promised files."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lane_walks import Walked, lane_for, pipeline, walked

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events.times import now
from kilroy_engine.execution.preparing.inputs import MASK
from kilroy_engine.execution.preparing.resume import read_earlier, resumption_of
from kilroy_engine.execution.visiting.performer import Performer
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import Handler
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.rundir.ending.archive import write_archive
from kilroy_engine.rundir.files.artifacts import LIMIT_BYTES
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.run_config import run_config
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.artifact import read_artifact_reference
from kilroy_engine.traversal.outcome import Outcome, success
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import RunState, Visit

SECRET = "s3cret-value"


def reports(updates: str) -> str:
    """A command that leaves a success with these context updates as its own status."""
    text = json.dumps({"status": "success"})[:-1] + f', "context_updates": {updates}}}'
    return f"cat > $KILROY_STAGE_LOGS_DIR/status.json <<'EOF'\\n{text}\\nEOF".replace('"', '\\"')


def context_of(walk: Walked) -> dict[str, object]:
    return dict(load_checkpoint(walk.lane.directory).state.context)


def test_a_stage_cannot_overwrite_what_the_engine_says_of_the_run(tmp_path: Path) -> None:
    """Goal, inputs, path and counters are the engine's; a warning names the keys, everything else is taken."""
    updates = '{"graph.goal": "other", "inputs": "x", "internal.retry_count.a": 7, "base_sha": "", "mine": 1}'
    graph = pipeline(f'goal=ship a [tool_command="{reports(updates)}"] start -> a -> done')
    walk = walked(tmp_path / "r1", graph, inputs={"topic": "bees"})
    context = context_of(walk)

    assert walk.finish.status == "success"
    assert (context["graph.goal"], context["inputs"], context["mine"]) == ("ship", {"topic": "bees"}, 1)
    assert walk.warnings == [
        "a: context_updates may not set graph.goal, inputs, internal.retry_count.a: the engine's own keys; ignored"
    ]


@pytest.mark.parametrize("updates", ['["tests_passed"]', '"all good"', "7"])
def test_context_updates_of_a_wrong_type_are_told(tmp_path: Path, updates: str) -> None:
    """Such a status.json counts for nothing, as in Kilroy; but somebody has to hear of it."""
    graph = pipeline(f'a [tool_command="{reports(updates)}"] start -> a -> done')
    walk = walked(tmp_path / "r1", graph)

    (warning,) = walk.warnings
    assert str(warning).startswith("a: its status.json is ignored: ")
    assert "context_updates: " in str(warning)
    assert walk.finish.status == "success"


def test_a_handlers_values_without_a_json_form_fail_its_stage(tmp_path: Path) -> None:
    """The run goes on to say so; it does not break off at the next checkpoint."""

    class Sloppy(HandlerRegistry):
        def resolve(self, node: Node) -> Handler:
            return lambda request: success("done", when=object())  # type: ignore[arg-type]

    graph = pipeline('a [tool_command="true"] start -> a  a -> done [condition="outcome=success"]')
    outcome = Performer(replace(lane_for(tmp_path / "r1", graph), handlers=Sloppy()))(Visit("a", 1), RunState("r1"))
    assert (outcome.status, outcome.failure_class) == ("fail", "deterministic")
    assert outcome.failure_reason.startswith("context_updates cannot be saved: object has no JSON form")


def test_a_secret_that_a_tool_prints_goes_no_further_than_its_log(tmp_path: Path) -> None:
    """Context, status, checkpoint, dossier and artifacts hold the mask; the stage's own output stays as it was written."""
    large = "head -c 150000 /dev/zero | tr '\\\\0' x"
    command = (
        f'printf \'{{\\"status\\":\\"success\\",\\"context_updates\\":{{\\"big\\":\\"%s%s\\"}}}}\' '
        f"$KILROY_INPUT_TOKEN $({large}) > $KILROY_STAGE_LOGS_DIR/status.json; echo token $KILROY_INPUT_TOKEN"
    )
    graph = pipeline(
        f'a [tool_command="{command}"] b [tool_command="echo $KILROY_INPUT_TOKEN >&2; exit 3"] '
        'start -> a -> b  b -> done [condition="outcome=fail"]'
    )
    walk = walked(tmp_path / "r1", graph, inputs={"token": "env:TOKEN"}, environ={"TOKEN": SECRET})
    context, run = context_of(walk), walk.lane.directory

    assert walk.finish.status == "success"
    assert context["tool_stdout"] == ""
    big = read_artifact_reference(context["big"])  # type: ignore[arg-type]
    assert big is not None
    assert Path(big.path).read_text().startswith(f"{MASK}xxx")
    holding = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file() and SECRET in path.read_text()}
    assert holding == {"a/stdout.log", "b/stderr.log"}


class TestLargeValues:
    """Spec 5.5: what is over 100 KB is a file; the context holds a reference."""

    SPEC = "größer " * 20_000

    def test_a_large_value_becomes_a_file(self, tmp_path: Path) -> None:
        """Told by the event ``artifact``; a value that just fits stays; checkpoint and status hold the reference."""
        script = tmp_path / "make.py"
        script.write_text(
            "import json, os, pathlib\n"
            f"updates = dict(fits='f' * {LIMIT_BYTES}, big='b' * {LIMIT_BYTES + 1}, list=list(range(1, 30_001)))\n"
            "status = json.dumps(dict(status='success', context_updates=updates))\n"
            "pathlib.Path(os.environ['KILROY_STAGE_LOGS_DIR'], 'status.json').write_text(status)\n"
        )
        graph = pipeline(f'a [tool_command="python3 {script}"] start -> a -> done')
        walk = walked(tmp_path / "r1", graph)
        context, run = context_of(walk), walk.lane.directory

        assert context["fits"] == "f" * LIMIT_BYTES
        big, listed = (read_artifact_reference(context[key]) for key in ("big", "list"))  # type: ignore[arg-type]
        assert big is not None
        assert listed is not None
        assert Path(big.path).read_text() == "b" * (LIMIT_BYTES + 1)
        assert json.loads(Path(listed.path).read_bytes()) == list(range(1, 30_001))
        assert [(event["node_id"], event["name"], event["path"]) for event in walk.events("artifact")] == [
            ("a", "big", "artifacts/a@1.big.txt"),
            ("a", "list", "artifacts/a@1.list.json"),
        ]
        assert json.loads(walk.file("a/status.json"))["context_updates"]["big"] == big.as_json()
        assert run.checkpoint.stat().st_size < 4 * LIMIT_BYTES
        assert write_archive(run, limit_s=60)
        with tarfile.open(run.archive) as archive:
            assert {"artifacts/a@1.big.txt", "artifacts/a@1.list.json"} <= set(archive.getnames())

    def test_a_large_value_of_a_restart_stays_beside_the_runs_own(self, tmp_path: Path) -> None:
        """One place, whatever directory the walk is in: a value that outlives a restart is not replaced by a later one."""
        script = tmp_path / "make.py"
        script.write_text(
            "import json, os, pathlib\n"
            f"status = json.dumps(dict(status='success', context_updates=dict(big='b' * {LIMIT_BYTES + 1})))\n"
            "pathlib.Path(os.environ['KILROY_STAGE_LOGS_DIR'], 'status.json').write_text(status)\n"
        )
        graph = pipeline(f'a [tool_command="python3 {script}"] start -> a -> done')
        lane = lane_for(tmp_path / "r1", graph)
        restart = lane.base.restart(1)
        restart.path.mkdir()
        state = RunState("r1")
        outcomes = [Performer(at)(Visit("a", 1), state) for at in (lane, replace(lane, directory=restart))]
        first, second = (read_artifact_reference(outcome.context_updates["big"]) for outcome in outcomes)
        lane.progress.close()

        assert first is not None
        assert second is not None
        assert Path(first.path) == lane.base.artifacts / "a@1.big.txt"
        assert Path(second.path) == lane.base.artifacts / "restart-1" / "a@1.big.txt"

    def test_a_large_input_reaches_commands_as_the_path_of_its_file(self, tmp_path: Path) -> None:
        """Its value would keep every command from starting: an environment variable has at most 128 KB."""
        graph = pipeline(
            'inputs="spec, topic" a [tool_command="wc -c < $KILROY_INPUT_SPEC; echo $KILROY_INPUT_TOPIC"] start -> a -> done'
        )
        walk = walked(tmp_path / "r1", graph, inputs={"spec": self.SPEC, "topic": "bees"})
        context = context_of(walk)

        assert context["tool_stdout"] == f"{len(self.SPEC.encode())}\nbees"
        assert read_artifact_reference(context["input.spec"]) == read_artifact_reference(context["inputs"]["spec"])  # type: ignore[arg-type,index,call-overload]
        assert [(event["node_id"], event["name"]) for event in walk.events("artifact")] == [("", "spec")]

    def test_a_resume_finds_large_values_and_misses_lost_ones(self, tmp_path: Path) -> None:
        """The checkpoint holds the reference; a file that is gone refuses the resume, with its name."""
        text = "digraph g { inputs=spec start [shape=Mdiamond] done [shape=Msquare] start -> done }"
        walk = walked(tmp_path / "r1", pipeline("inputs=spec start -> done"), inputs={"spec": self.SPEC})
        run = walk.lane.directory
        run.graph_dot.write_text(text)
        write_json(run.run_config, run_config(RunSettings(), repo_path=None, inputs={"spec": self.SPEC}))
        Manifest(run_id="r1", graph_name="g", started_at=now(), worktree=str(run.worktree), inputs={"spec": self.SPEC}).write(
            run
        )
        earlier, graph = read_earlier(run.path), pipeline("inputs=spec start -> done")
        state = resumption_of(earlier, graph, {"spec": self.SPEC}).state
        reference = read_artifact_reference(state.context["input.spec"])
        assert reference is not None

        Path(reference.path).unlink()
        with pytest.raises(CorruptRecord, match=r"artifacts/input\.spec\.txt, which is not there"):
            resumption_of(earlier, graph, {"spec": self.SPEC})


class TestFailures:
    """The dossier's context keys (Kilroy): later stages find what is known of the latest failure."""

    def test_a_failure_is_described_for_the_stages_after_it(self, tmp_path: Path) -> None:
        """An agent's prompt begins with the way to the dossier, also behind a diamond; the first success empties the keys."""
        graph = pipeline(
            'test [tool_command="exit 3"] way [shape=diamond] fix [shape=box, prompt="Mend it"] after [tool_command="true"] '
            'start -> test -> way  way -> fix [condition="outcome=fail"]  fix -> after -> done'
        )
        walk = walked(tmp_path / "r1", graph, agent=SimulatedAgent())
        run = walk.lane.directory
        state = load_checkpoint(run).state

        assert walk.file("fix/prompt.md").startswith("FAILURE DOSSIER\n")
        assert ".ai/runs/r1/failure_dossier.json" in walk.file("fix/prompt.md")
        told = state.outcomes["test"].context_updates
        assert told["context.failure_dossier.logs_path"] == str(run.dossier)
        assert (told["context.failure_dossier.failed_node"], told["context.failure_dossier.failure_class"]) == (
            "test",
            "deterministic",
        )
        assert told["context.failure_dossier.summary"] == json.loads(run.dossier.read_bytes())["summary"]
        left = {key: value for key, value in state.context.items() if key.startswith("context.failure_dossier.")}
        assert len(left) == 5
        assert set(left.values()) == {""}
        assert [event["failed_node_id"] for event in walk.events("failure_dossier_updated")] == ["test"]


class TestOutputContract:
    """A node's ``outputs``: a success that does not leave them is none (Kilroy: output contracts)."""

    def test_a_missing_output_fails_the_stage_with_all_names(self, tmp_path: Path) -> None:
        """Deterministic whatever the file's name sounds like; an agent's wish for the next edge goes with its success."""

        @dataclass
        class Hasty:
            asked: list[AgentRequest] = field(default_factory=list[AgentRequest])

            def run(self, request: AgentRequest, /) -> AgentResult:
                self.asked.append(request)
                return AgentResult("done", outcome=Outcome("success", preferred_label="next"))

        graph = pipeline(
            'a [shape=box, prompt=x, outputs="timeout.txt, notes/", max_retries=2] b [tool_command="true"] '
            'start -> a  a -> b [label=next]  a -> c [weight=1]  c [tool_command="true"]  b -> done  c -> done'
        )
        agent = Hasty()
        walk = walked(tmp_path / "r1", graph, agent=agent)
        outcome = load_checkpoint(walk.lane.directory).state.outcomes["a"]

        assert (outcome.status, outcome.failure_class) == ("fail", "deterministic")
        assert outcome.failure_reason == "output contract: missing timeout.txt, notes/"
        assert len(agent.asked) == 1
        assert [event["failure_reason"] for event in walk.events("output_contract_violated")] == [outcome.failure_reason]
        assert load_checkpoint(walk.lane.directory).state.completed == ("start", "a", "c", "done")

    def test_the_next_attempt_reads_what_was_missing(self, tmp_path: Path) -> None:
        """FEEDBACK.md with details; a tool is tried again."""
        command = "test -e .kilroy/FEEDBACK.md && cp .kilroy/FEEDBACK.md report.txt; true"
        graph = pipeline(
            f'a [tool_command="{command}", outputs="report.txt", max_retries=1, retry.backoff.initial_delay_ms=1] '
            "start -> a -> done"
        )
        walk = walked(tmp_path / "r1", graph)

        assert walk.finish.status == "success"
        feedback = walk.file("worktree/report.txt")
        assert "## Failure Reason\n\noutput contract: missing report.txt\n" in feedback
        assert f"## Details\n\nNot found in {walk.lane.workspace.path}, where" in feedback


class TestSessions:
    """Threads over a whole walk, with the agent that counts its tasks."""

    GRAPH = (
        "default_fidelity=full node [shape=box] a [prompt=A, thread_id=impl] r [prompt=R, thread_id=review] "
        "b [prompt=B, thread_id=impl] start -> a -> r -> b -> done"
    )

    def test_a_later_stage_of_the_thread_goes_on_with_its_session(self, tmp_path: Path) -> None:
        """The session is in the checkpoint, under its thread; the prompt is the task without the run's story."""
        walk = walked(tmp_path / "r1", pipeline(self.GRAPH), agent=SimulatedAgent())

        assert load_checkpoint(walk.lane.directory).state.sessions == {
            "impl": "simulated:2:impl",
            "review": "simulated:1:review",
        }
        assert ["THE RUN SO FAR" in walk.file(f"{n}/prompt.md") for n in "arb"] == [True, True, False]
        assert walk.warnings == []

    def test_a_resume_tells_the_first_agent_instead_and_goes_on_with_what_it_began(self, tmp_path: Path) -> None:
        """Spec 5.3, over the real checkpoint: summary and a new session for the stage after ``full``."""
        graph = pipeline(self.GRAPH + " c [prompt=C, thread_id=impl] b -> c [weight=1]  c -> done")

        class Stops:
            def run(self, request: AgentRequest, /) -> AgentResult:
                if request.node.id == "b":
                    raise KeyboardInterrupt
                return SimulatedAgent().run(request)

        with pytest.raises(KeyboardInterrupt):
            walked(tmp_path / "r1", graph, agent=Stops())
        run = tmp_path / "r1"
        state, at = resumed_state(graph, load_checkpoint(RunDirectory(run)).state, lambda node_id: 0)
        assert at == "b"
        walk = walked(run, graph, agent=SimulatedAgent(), state=state)

        assert "THE RUN SO FAR" in walk.file("b/prompt.md")
        assert "THE RUN SO FAR" not in walk.file("c/prompt.md")
        assert load_checkpoint(walk.lane.directory).state.sessions["impl"] == "simulated:2:impl"

    def test_a_lost_session_is_a_warning(self, tmp_path: Path) -> None:
        """The stage begins anew, and a person can see that it did."""

        @dataclass
        class Forgetful(SimulatedAgent):
            tasks: int = 0

            def run(self, request: AgentRequest, /) -> AgentResult:
                result = super().run(request)
                return AgentResult(result.response, outcome=result.outcome, session="of another agent")

        walk = walked(tmp_path / "r1", pipeline(self.GRAPH), agent=Forgetful())

        assert walk.finish.status == "success"
        assert walk.warnings == ["b: began a new session: session of another agent is none of thread impl"]
