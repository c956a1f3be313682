"""One call of an agent program: real processes, among them hostile ones."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from polling import eventually

from kilroy_engine.agents.base import AgentLimits, AgentRequest, AgentResult
from kilroy_engine.agents.claude import Claude
from kilroy_engine.agents.command import CommandAgent
from kilroy_engine.agents.running.call import ProgramAgent
from kilroy_engine.errors import PermanentStageError, SessionLost, StopKind
from kilroy_engine.events import Event, LlmToolCallEnd, LlmUsage, StageHeartbeat
from kilroy_engine.graph.model import Node, Position
from kilroy_engine.stopping import Cancellation

RECORDED = Path(__file__).parents[3] / "data" / "agents"


@dataclass
class Stage:
    """A stage to call an agent in, and what that tells and says."""

    folder: Path
    cancellation: Cancellation = field(default_factory=Cancellation)
    events: list[Event] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def run(self, script: str, **changes: object) -> AgentResult:
        """Calls a shell script as an agent of the kind ``command``."""
        file = self.folder / "agent.sh"
        file.write_text(script)
        return ProgramAgent(CommandAgent(f"bash {file} {{model}}")).run(self.request(**changes))

    def request(self, **changes: object) -> AgentRequest:
        environment = {**os.environ, "KILROY_STAGE_LOGS_DIR": str(self.stage_dir), "CANARY": "canary-7b1c"}
        given: dict[str, object] = {"environment": environment, "timeout_s": 60.0, "cancellation": self.cancellation, **changes}
        return AgentRequest(
            Node("plan", Position(1, 1)),
            "Plan it: ünïcode.",
            self.stage_dir,
            self.folder,
            tell=self.events.append,
            output=lambda stream, line: self.lines.append(line),
            **given,  # type: ignore[arg-type]
        )

    @property
    def stage_dir(self) -> Path:
        folder = self.folder / "stage"
        folder.mkdir(exist_ok=True)
        return folder


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage in a folder of its own."""
    return Stage(tmp_path)


def processes_of(stage: Stage) -> list[psutil.Process]:
    """Live processes that the stage's agent has started, wherever they went."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KILROY_STAGE_LOGS_DIR") == str(stage.stage_dir) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_the_prompt_comes_by_standard_input_and_what_is_printed_is_the_response(stage: Stage) -> None:
    """The prompt is in no argument, so no process list shows it, and no length is too much."""
    result = stage.run('cat; echo "model $1"', model="some-model")
    assert (result.response, result.outcome) == ("Plan it: ünïcode.model some-model", None)
    invocation = json.loads((stage.stage_dir / "cli_invocation.json").read_text())
    assert (invocation["prompt_mode"], invocation["prompt_bytes"]) == ("stdin", len("Plan it: ünïcode.".encode()))
    assert "Plan it" not in json.dumps(invocation["argv"])


def test_blank_lines_of_a_response_stay(stage: Stage) -> None:
    """Paragraphs and code are what they were."""
    assert stage.run(r"printf '# Title\n\npara one\n\npara two\n'").response == "# Title\n\npara one\n\npara two"


def test_an_agent_gets_what_is_on_the_list_and_a_temporary_folder_of_its_own(stage: Stage) -> None:
    """A variable that is on no list does not reach the model's tools; the folder is gone afterwards."""
    result = stage.run('echo "$CANARY|$KILROY_STAGE_LOGS_DIR|$TMPDIR"; touch "$TMPDIR/left"')
    canary, logs, private = result.response.split("|")
    assert (canary, logs) == ("", str(stage.stage_dir))
    assert not Path(private).exists()
    assert "canary-7b1c" not in "".join(file.read_text(errors="replace") for file in stage.stage_dir.iterdir())


def test_a_variable_that_the_settings_name_is_let_through(stage: Stage) -> None:
    """For agents whose provider is not known here."""
    assert stage.run('echo "$CANARY"', variables=("CANARY",)).response == "canary-7b1c"


def test_a_program_that_is_not_there_is_named(stage: Stage) -> None:
    """No second attempt will help."""
    with pytest.raises(PermanentStageError, match="cannot run command: no-such-agent is not installed or not on PATH"):
        ProgramAgent(CommandAgent("no-such-agent --yes")).run(stage.request())


def test_a_failing_agent_is_a_failure_in_its_own_words(stage: Stage) -> None:
    """The class follows from the words: a rate limit may pass."""
    outcome = stage.run("echo 'error: 429 too many requests, retry after 7 s' >&2; exit 3").outcome
    assert outcome is not None
    assert (outcome.failure_class, outcome.retry_after_s) == ("transient_infra", 7.0)
    assert "429 too many requests" in outcome.failure_reason


def test_a_daemon_that_left_session_and_group_is_ended_with_the_agent(stage: Stage) -> None:
    """A tool may start servers for later stages; what an agent leaves nobody has asked for."""
    stage.run("setsid bash -c 'trap \"\" TERM; sleep 300' >/dev/null 2>&1 & sleep 0.3; echo done")
    assert processes_of(stage) == []


def test_an_agent_that_ignores_the_polite_signal_is_gone_within_its_grace(stage: Stage) -> None:
    """SIGKILL follows, for its children too; the run's reason is the stage's."""
    stopping = threading.Timer(0.4, lambda: stage.cancellation.request(StopKind.PERSON, "by kilroy stop"))
    stopping.start()
    outcome = stage.run("trap '' TERM INT; (trap '' TERM INT; sleep 300) & sleep 300").outcome
    assert outcome is not None
    assert (outcome.failure_class, outcome.failure_reason) == ("canceled", "canceled: by kilroy stop")
    assert processes_of(stage) == []


def test_an_agent_that_says_nothing_for_too_long_is_ended(stage: Stage) -> None:
    """A limit of the engine's own: programs were seen to wait for a network for ever."""
    outcome = stage.run("echo hello; sleep 300", limits=AgentLimits(idle_s=0.5)).outcome
    assert outcome is not None
    assert (outcome.failure_class, outcome.timed_out) == ("transient_infra", True)
    assert "nothing was heard of it for" in outcome.failure_reason


def test_an_agent_at_work_gives_signs_of_life(stage: Stage) -> None:
    """Kilroy: stage_heartbeat with the bytes so far."""
    stage.run("echo hello; sleep 0.5", limits=AgentLimits(heartbeat_s=0.1))
    beats = [event for event in stage.events if isinstance(event, StageHeartbeat)]
    assert len(beats) >= 2
    assert (beats[-1].node_id, beats[-1].stdout_bytes, beats[-1].stderr_bytes) == ("plan", 6, 0)


def test_invalid_utf8_and_a_line_of_five_megabytes_pass(stage: Stage) -> None:
    """Both go to the logs as they are; the response is cut at the front."""
    result = stage.run(r"printf 'a\xff\xfeb\n'; head -c 5000000 /dev/zero | tr '\0' x; echo; echo end")
    assert result.response.endswith("end")
    assert len(result.response) <= 1 << 20
    assert (stage.stage_dir / "stdout.log").stat().st_size == 5_000_000 + 6 + 4
    assert max(map(len, stage.lines)) < 5000  # of the log that people read


@pytest.mark.slow
def test_two_hundred_megabytes_cost_no_memory(stage: Stage) -> None:
    """What is kept of them is bounded."""
    before = psutil.Process().memory_info().rss
    result = stage.run("yes 'a line of output that says nothing at all' | head -c 200000000; echo end")
    assert result.response.endswith("end")
    assert psutil.Process().memory_info().rss - before < 150e6


def test_what_was_used_is_told_while_the_agent_works(stage: Stage) -> None:
    """The program prints its first answers and then hangs: their usage is known before its end, each answer's once."""
    lines = (RECORDED / "claude" / "write-partial.ndjson").read_text().splitlines()
    until = next(number for number, line in enumerate(lines) if '"tool_result"' in line)
    played = stage.folder / "claude"
    played.write_text("#!/bin/bash\ncat >/dev/null\ncat <<'EOF'\n" + "\n".join(lines[:until]) + "\nEOF\nsleep 300\n")
    played.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stage.folder}:{os.environ['PATH']}", "KILROY_STAGE_LOGS_DIR": str(stage.stage_dir)}
    working = threading.Thread(target=lambda: ProgramAgent(Claude()).run(stage.request(environment=environment)))
    working.start()
    used = eventually(lambda: [event for event in stage.events if isinstance(event, LlmUsage)], within_s=20)
    stage.cancellation.request(StopKind.PERSON, "by kilroy stop")
    working.join(20)
    assert [(event.provider, event.model, event.input_tokens, event.output_tokens) for event in used] == [
        ("anthropic", "claude-sonnet-4-5", 1400, used[0].output_tokens)
    ]
    assert used[0].cost_usd
    assert not [event for event in stage.events if isinstance(event, LlmToolCallEnd)]
    assert processes_of(stage) == []


def test_another_agents_session_is_lost(stage: Stage) -> None:
    """The stage begins a new one: a conversation cannot be carried over."""
    other = json.dumps({"agent": "codex", "name": "x", "tokens": {"input": 1, "output": 1, "cached_input": 0}, "cost_usd": 0})
    with pytest.raises(SessionLost, match="belongs to the agent codex"):
        stage.run("true", thread="t", session=other)


def test_the_signal_of_a_stop_is_the_programs(stage: Stage) -> None:
    """claude ends its own commands when it is interrupted, and not when it is terminated."""
    assert Claude.stop_signal is signal.SIGINT
