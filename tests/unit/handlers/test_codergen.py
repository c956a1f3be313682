"""Agent nodes: the prompt, the status contract, the verdict. The agents are fakes that do real work in real folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.errors import PermanentStageError, SessionLost
from kilroy_engine.events import Event, LlmUsage, StatusContract, StatusIngestionDecision, WarningGiven
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.codergen import CodergenHandler
from kilroy_engine.processes.stage_status import ingest_status, status_contract, with_stage_status
from kilroy_engine.rundir.stages.stage_files import read_status
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.fidelity import Carried
from kilroy_engine.traversal.outcome import Outcome, failure

Requests = Callable[..., StageRequest]


@dataclass
class FakeAgent:
    """Does ``work`` and answers ``result``; remembers what it was asked."""

    work: Callable[[AgentRequest], object] = lambda _: None
    result: AgentResult = field(default_factory=lambda: AgentResult("All done."))
    asked: list[AgentRequest] = field(default_factory=list[AgentRequest])

    def run(self, request: AgentRequest, /) -> AgentResult:
        self.asked.append(request)
        self.work(request)
        return self.result


def run(agent: FakeAgent | SimulatedAgent | None, request: StageRequest) -> Outcome:
    """The handler with this agent for every node, and the verdict that the stage has left."""
    answered = CodergenHandler(lambda _: agent)(request)
    return with_stage_status(answered, read_status(request.stage_dir).outcome)


def writes_status(content: str, variable: str = "KILROY_STAGE_STATUS_PATH") -> Callable[[AgentRequest], object]:
    """An agent's work: to write its verdict where the variable says."""

    def work(request: AgentRequest) -> None:
        target = Path(request.environment[variable])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)

    return work


def test_a_node_without_an_agent_fails_and_says_what_to_do(request_for: Requests) -> None:
    """Never a silent success."""
    outcome = run(None, request_for("a [prompt=Build]"))

    assert (outcome.status, outcome.failure_class) == ("fail", FailureClass.DETERMINISTIC)
    assert outcome.failure_reason.startswith('no agent is configured for node "a"; name one in the settings')


def test_a_simulated_run_needs_no_agent(request_for: Requests) -> None:
    """Spec 4.5's answer; the notes say that nobody worked."""
    request = request_for("a [prompt=Build]", settings=RunSettings(simulate=True))
    outcome = run(None, request)

    assert (outcome.status, outcome.notes) == ("success", "simulated: no agent has worked on a")
    assert outcome.context_updates["last_response"] == "[Simulated] Response for stage: a"
    assert (request.stage_dir / "response.md").read_text() == "[Simulated] Response for stage: a"


class TestPrompt:
    """What the agent is told (Kilroy: prompt assembly)."""

    def test_the_task_comes_last_below_the_contract(self, request_for: Requests) -> None:
        """And ``prompt.md`` is what was sent."""
        agent = FakeAgent()
        request = request_for('a [prompt="  Build it.  "]')
        run(agent, request)
        prompt = agent.asked[0].prompt

        assert (request.stage_dir / "prompt.md").read_text() == prompt
        assert prompt.endswith("\n\nBuild it.")
        blocks = ("WORKTREE CONTEXT", "STATUS CONTRACT", "THE RUN SO FAR", "Build it.")
        assert [prompt.index(block) for block in blocks] == sorted(prompt.index(block) for block in blocks)
        assert f"$KILROY_STAGE_STATUS_PATH = {request.work_dir}/status.json" in prompt
        assert f"$KILROY_STAGE_STATUS_FALLBACK_PATH = {request.work_dir}/.ai/runs/R1/status.json" in prompt
        assert str(request.work_dir) in prompt
        assert "FAILURE DOSSIER" not in prompt
        assert "INPUT FILES" not in prompt

    def test_a_node_without_a_prompt_is_told_its_label(self, request_for: Requests) -> None:
        """Spec 4.5."""
        agent = FakeAgent()
        run(agent, request_for('a [label="Write the tests"]'))

        assert agent.asked[0].prompt.endswith("\n\nWrite the tests")

    def test_an_earlier_failure_is_told_at_the_top(self, request_for: Requests) -> None:
        """Where to read about it: in the work folder, and the copy in the run directory."""
        agent = FakeAgent()
        context = {
            "context.failure_dossier.path": ".ai/runs/R1/failure_dossier.json",
            "context.failure_dossier.logs_path": "/runs/R1/failure_dossier.json",
        }
        run(agent, request_for("a [prompt=Fix]", context=context))

        assert agent.asked[0].prompt.startswith("FAILURE DOSSIER\n")
        assert ".ai/runs/R1/failure_dossier.json" in agent.asked[0].prompt
        assert "/runs/R1/failure_dossier.json" in agent.asked[0].prompt

    def test_a_manifest_of_inputs_is_told(self, request_for: Requests) -> None:
        """Only where the stage has one."""
        agent = FakeAgent()
        request = request_for("a [prompt=Fix]", environment={"KILROY_INPUTS_MANIFEST_PATH": "/runs/R1/a/inputs_manifest.json"})
        run(agent, request)

        assert "$KILROY_INPUTS_MANIFEST_PATH = /runs/R1/a/inputs_manifest.json" in agent.asked[0].prompt


class TestRequest:
    """What the agent is handed besides the prompt."""

    def test_the_agent_gets_the_stages_place_limits_and_environment(self, request_for: Requests) -> None:
        """And the two variables of the status contract, which tools do not get."""
        agent = FakeAgent()
        request = request_for('a [prompt=Fix, timeout="15m"]')
        run(agent, request)
        asked = agent.asked[0]

        assert (asked.node.id, asked.stage_dir, asked.work_dir) == ("a", request.stage_dir, request.work_dir)
        assert asked.timeout_s == 900
        assert asked.cancellation is request.cancellation
        assert asked.environment["KILROY_STAGE_STATUS_PATH"] == f"{request.work_dir}/status.json"
        assert asked.environment["KILROY_NODE_ID"] == "a"
        assert "KILROY_STAGE_STATUS_PATH" not in request.environment

    def test_a_verdict_of_an_earlier_stage_is_removed_first(self, request_for: Requests) -> None:
        """It must not pass for this stage's."""
        request = request_for("a [prompt=Fix]")
        (request.work_dir / "status.json").write_text('{"status":"success"}')
        outcome = run(FakeAgent(), request)

        assert outcome.status == "fail"
        assert not (request.work_dir / "status.json").exists()


class TestThread:
    """Under full fidelity an agent goes on with the session of its thread (Spec 5.4)."""

    def test_a_stage_that_goes_on_with_a_session_is_told_nothing_of_the_run_again(self, request_for: Requests) -> None:
        """The session knows it (Kilroy: ``full`` has no preamble); thread and session reach the agent."""
        agent = FakeAgent()
        run(agent, request_for("a [prompt=Fix]", carried=Carried(Fidelity.FULL, "impl", "s-1")))

        assert (agent.asked[0].thread, agent.asked[0].session) == ("impl", "s-1")
        assert "THE RUN SO FAR" not in agent.asked[0].prompt

    def test_the_first_stage_of_a_thread_is_told(self, request_for: Requests) -> None:
        """A new session knows nothing of the run."""
        agent = FakeAgent()
        run(agent, request_for("a [prompt=Fix]", carried=Carried(Fidelity.FULL, "impl")))

        assert (agent.asked[0].thread, agent.asked[0].session) == ("impl", "")
        assert "THE RUN SO FAR" in agent.asked[0].prompt

    def test_a_lost_session_is_begun_anew_and_told(self, request_for: Requests) -> None:
        """The agent is asked again with what a new session has to know; the loss is reported, and the new session kept."""

        def forgets(request: AgentRequest) -> None:
            if request.session:
                raise SessionLost("no conversation s-1 here", node="a")

        agent = FakeAgent(forgets, AgentResult("ok", session="s-2"))
        told: list[Event] = []
        carried = Carried(Fidelity.FULL, "impl", "s-1")
        request = request_for("a [prompt=Fix, auto_status=true]", carried=carried, tell=told.append)
        outcome = run(agent, request)

        assert [(asked.thread, asked.session) for asked in agent.asked] == [("impl", "s-1"), ("impl", "")]
        assert "THE RUN SO FAR" in agent.asked[1].prompt
        assert (request.stage_dir / "prompt.md").read_text() == agent.asked[1].prompt
        assert (outcome.status, outcome.session) == ("success", "s-2")
        assert told[1] == WarningGiven(message="a: began a new session: no conversation s-1 here")


class TestVerdict:
    """``status.json`` decides; without one the node's ``auto_status`` does (Kilroy: status contract)."""

    def test_the_agents_file_becomes_the_outcome_and_moves_to_the_stage_directory(self, request_for: Requests) -> None:
        """Byte for byte; the work folder keeps nothing of it, so it reaches no commit."""
        content = '{"status":  "success", "notes": "built", "context_updates": {"version": "2"}}'
        told: list[Event] = []
        request = request_for("a [prompt=Fix]", tell=told.append)
        outcome = run(FakeAgent(writes_status(content)), request)

        assert (outcome.status, outcome.notes) == ("success", "built")
        assert outcome.context_updates == {"version": "2", "last_stage": "a", "last_response": "All done."}
        assert (request.stage_dir / "status.json").read_text() == content
        assert not (request.work_dir / "status.json").exists()
        fallback = request.work_dir / ".ai" / "runs" / request.run_id / "status.json"
        places = StatusContract(
            node_id="a", status_path=str(request.work_dir / "status.json"), status_fallback_path=str(fallback)
        )
        assert told == [places, StatusIngestionDecision(node_id="a", source="worktree", copied=True)]

    def test_the_fallback_place_is_read_where_the_first_is_empty(self, request_for: Requests) -> None:
        """Its ingestion says why the first was passed over."""
        told: list[Event] = []
        request = request_for("a [prompt=Fix]", tell=told.append)
        work = writes_status('{"status":"fail","failure_reason":"no"}', "KILROY_STAGE_STATUS_FALLBACK_PATH")
        outcome = run(FakeAgent(work), request)

        assert (outcome.status, outcome.failure_reason) == ("fail", "no")
        passed_over = f"fallback[worktree] missing status artifact: {request.work_dir}/status.json"
        assert told[1:] == [StatusIngestionDecision(node_id="a", source="dot_ai", copied=True, diagnostic=passed_over)]

    def test_an_agents_own_fail_is_marked_as_its_verdict(self, request_for: Requests) -> None:
        """Such a failure is never retried."""
        outcome = run(FakeAgent(writes_status('{"status":"fail","failure_reason":"no"}')), request_for("a [prompt=Fix]"))

        assert outcome.verdict

    def test_no_file_is_a_failure(self, request_for: Requests) -> None:
        """Kilroy's reason, with both places; success on nothing done is what users complain about most."""
        request = request_for("a [prompt=Fix]")
        outcome = run(FakeAgent(), request)

        assert outcome.status == "fail"
        assert outcome.failure_reason == (
            "missing status.json (auto_status=false)"
            f"; fallback[worktree] missing status artifact: {request.work_dir}/status.json"
            f"; fallback[dot_ai] missing status artifact: {request.work_dir}/.ai/runs/R1/status.json"
        )

    def test_auto_status_makes_no_file_a_success(self, request_for: Requests) -> None:
        """Kilroy's notes."""
        outcome = run(FakeAgent(), request_for("a [prompt=Fix, auto_status=true]"))

        assert (outcome.status, outcome.notes) == ("success", "auto-status: handler completed without writing status")

    @pytest.mark.parametrize(
        ("content", "problem"), [("{", "corrupt"), ("", "corrupt"), ('{"hello": 1}', "invalid status payload")]
    )
    def test_a_file_that_is_no_verdict_is_named(self, request_for: Requests, content: str, problem: str) -> None:
        """So that a person finds out why the stage failed."""
        outcome = run(FakeAgent(writes_status(content)), request_for("a [prompt=Fix]"))

        assert outcome.status == "fail"
        assert f"fallback[worktree] {problem}" in outcome.failure_reason

    def test_the_response_is_kept_whole_and_quoted_short(self, request_for: Requests) -> None:
        """Spec 4.5: 200 characters go into the context."""
        request = request_for("a [prompt=Fix, auto_status=true]")
        outcome = run(FakeAgent(result=AgentResult("é" * 1000)), request)

        assert (request.stage_dir / "response.md").read_text() == "é" * 1000
        assert outcome.context_updates == {"last_stage": "a", "last_response": "é" * 200}

    def test_an_agent_that_knows_its_outcome_needs_no_file(self, request_for: Requests) -> None:
        """Failures of the agent itself above all."""
        agent = FakeAgent(result=AgentResult("", outcome=failure("rate limit", failure_class=FailureClass.TRANSIENT_INFRA)))
        request = request_for("a [prompt=Fix]")
        outcome = run(agent, request)

        assert (outcome.status, outcome.failure_reason, outcome.failure_class) == ("fail", "rate limit", "transient_infra")
        assert not (request.stage_dir / "response.md").exists()

    def test_a_canceled_agent_did_not_finish_whatever_it_wrote(self, request_for: Requests) -> None:
        """An early success must not cover the stop."""
        canceled = AgentResult("", outcome=failure("canceled: by kilroy stop", failure_class=FailureClass.CANCELED))
        outcome = run(FakeAgent(writes_status('{"status":"success"}'), canceled), request_for("a [prompt=Fix]"))

        assert (outcome.status, outcome.failure_reason) == ("fail", "canceled: by kilroy stop")

    def test_what_an_agent_tells_is_kept_although_it_raises(self, request_for: Requests) -> None:
        """Usage is on record as soon as it is told: the provider bills a task that fails."""
        told: list[Event] = []
        usage = LlmUsage(node_id="a", model="m1", input_tokens=10, output_tokens=2, cost_usd=0.5)

        def works(request: AgentRequest) -> None:
            request.tell(usage)
            raise PermanentStageError("the key was refused", node="a")

        with pytest.raises(PermanentStageError):
            run(FakeAgent(works), request_for("a [prompt=F]", tell=told.append))
        assert told[1:] == [usage]

    def test_the_session_of_a_task_is_handed_on(self, request_for: Requests) -> None:
        """It comes back in the next task of the thread."""
        agent = FakeAgent(result=AgentResult("ok", session="s-1"))
        assert run(agent, request_for("a [prompt=F, auto_status=true]")).session == "s-1"


def test_a_file_that_is_still_being_written_is_looked_at_again(request_for: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's last write may come a moment late: it is whole after the second pause (Kilroy: 25 and 50 ms)."""
    request = request_for("a [prompt=Fix]")
    contract = status_contract("R1", request.work_dir)
    contract.primary.write_text('{"status":')
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            contract.primary.write_text('{"status":"success"}')

    monkeypatch.setattr("kilroy_engine.processes.stage_status.time", SimpleNamespace(sleep=pause))
    ingestion = ingest_status(contract, request.stage_dir)

    assert (ingestion.source, ingestion.copied, pauses) == ("worktree", True, [0.025, 0.05])


@pytest.mark.parametrize("where", ["link to a file", "linked folder", "pipe", "folder"])
def test_a_verdict_is_a_plain_file_of_the_work_folder(tmp_path: Path, where: str) -> None:
    """What else is in its place is passed over, and nothing outside of the work folder is read, moved or removed."""
    work, stage, outside = tmp_path / "work", tmp_path / "stage", tmp_path / "outside"
    for folder in (work, stage, outside / "runs" / "r1"):
        folder.mkdir(parents=True)
    verdict = outside / "runs" / "r1" / "status.json"
    verdict.write_text('{"status":"success"}')
    contract = status_contract("r1", work)
    match where:
        case "link to a file":
            contract.primary.symlink_to(verdict)
        case "linked folder":
            (work / ".ai").symlink_to(outside)
        case "pipe":
            os.mkfifo(contract.primary)
        case _:
            contract.primary.mkdir()
    assert not ingest_status(contract, stage).found
    contract.clear()
    assert verdict.read_text() == '{"status":"success"}'
