"""One call of an agent program, from its start to what came of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.agents.running.environment import agent_environment
from kilroy_engine.agents.running.judge import Limits, Seen, judged
from kilroy_engine.agents.running.prices import cost_usd
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.records import write_invocation, write_result
from kilroy_engine.agents.running.reports import (
    Closed,
    Report,
    Retried,
    Said,
    SessionBegan,
    SessionTotals,
    Tokens,
    ToolDenied,
    ToolEnded,
    ToolStarted,
    Trouble,
    TurnEnded,
    Used,
)
from kilroy_engine.agents.running.session import Session, read_session
from kilroy_engine.errors import PermanentStageError, SessionLost
from kilroy_engine.events import (
    LlmRetry,
    LlmToolCallEnd,
    LlmToolCallStart,
    LlmTurnEnd,
    LlmUsage,
    ProviderSelected,
    StageHeartbeat,
    WarningGiven,
)
from kilroy_engine.processes.command import PARSED_LINE_LIMIT, Beat, Command, CommandEnd, Heartbeat, run_command
from kilroy_engine.rundir.files.regular import read_part
from kilroy_engine.rundir.stages.process_groups import end_marked

STDERR_BYTES = 4000
"""So much of the end of standard error is looked at for the reason of a failure."""
SAID_LENGTH = 4000
"""Characters of a line that go to the logs that people read; the stage's files have the whole line."""
_LEFT_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class ProgramAgent:
    """An agent that is a program: an :class:`~kilroy_engine.agents.base.Agent` made of its adapter."""

    program: Program

    def run(self, request: AgentRequest, /) -> AgentResult:
        session = read_session(request.session, self.program.name, request.node.id)
        with _private_folder(request.node.id) as private:
            return _Call(self.program, request, session, private).carry_out()


@contextmanager
def _private_folder(node: str) -> Generator[Path]:
    """A folder for one call: the program's ``TMPDIR``, and files that it is to read. Nothing of it stays."""
    path = Path(tempfile.mkdtemp(prefix=f"kilroy-agent-{node[:32]}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Call:
    """The state of one call: what the program has said so far."""

    def __init__(self, program: Program, request: AgentRequest, session: Session, private: Path) -> None:
        self._program = program
        self._request = request
        self._session = session
        self._private = private
        self._transcript = program.transcript()
        self._limits = Limits(request.timeout_s or request.limits.total_s, request.limits.idle_s)
        self._name = session.name
        self._used = Tokens()
        self._told_usd = 0.0
        self._price_unknown = False
        self._totals = session
        self._denied: list[str] = []
        self._trouble: Trouble | None = None
        self._closed: Closed | None = None

    def carry_out(self) -> AgentResult:
        request, program = self._request, self._program
        node = request.node.id
        request.tell(
            ProviderSelected(
                node_id=node, provider=program.provider, model=request.model, backend="cli", source=request.chosen_by
            )
        )
        end = self._run()
        stderr = read_part(request.stage_dir / "stderr.log", STDERR_BYTES, end=True).decode(errors="replace")
        last = self._transcript.end(end.exit_code, stderr)
        if last is not None:
            self._take(last)
        used: dict[str, str] = {"backend": "cli", "mode": program.name, "model": request.model, "provider": program.provider}
        write_result(request.stage_dir, duration_s=end.duration_s, exit_code=end.exit_code, used=dict(used))
        self._require_session()
        if self._denied:
            tools = ", ".join(dict.fromkeys(self._denied))
            request.tell(WarningGiven(message=f"{node}: {program.name} was not allowed to use {tools}"))
        seen = Seen(end, self._closed, self._trouble, self._used.output, stderr)
        outcome = judged(program.name, seen, self._limits, request.cancellation.reason)
        response = self._closed.response if self._closed else ""
        return AgentResult(response, outcome=outcome, session=self._kept() if request.thread else "")

    def _run(self) -> CommandEnd:
        request, program = self._request, self._program
        invocation = program.invocation(request, self._session, self._private)
        environment = agent_environment(
            request.environment, provider=program.variables, more=request.variables, private_tmp=self._private
        )
        environment |= invocation.environment
        prompt = self._private / "prompt.md"
        prompt.write_text(request.prompt, encoding="utf-8", errors="replace")
        write_invocation(
            request.stage_dir,
            provider=program.provider,
            model=request.model,
            argv=tuple("<hidden>" if argument in invocation.hidden else argument for argument in invocation.argv),
            work_dir=request.work_dir,
            prompt=request.prompt,
            variables=tuple(environment),
        )
        command = Command(
            invocation.argv,
            request.work_dir,
            environment,
            request.stage_dir,
            self._limits.total_s,
            grace_s=program.grace_s,
            idle_timeout_s=self._limits.idle_s,
            stop_signal=program.stop_signal,
            stdin=prompt,
            line_limit=PARSED_LINE_LIMIT,
            blank_lines=True,
        )
        try:
            return run_command(
                command,
                cancellation=request.cancellation,
                output=self._hear,
                heartbeat=Heartbeat(request.limits.heartbeat_s, self._beat),
            )
        except (OSError, ValueError) as error:
            raise PermanentStageError(f"cannot run {program.name}: {_said_by(error)}", node=request.node.id) from error
        finally:
            # A tool may start a server for later stages; what an agent leaves behind nobody has asked for.
            end_marked("KILROY_STAGE_LOGS_DIR", str(request.stage_dir), grace_s=_LEFT_GRACE_S)

    def _hear(self, stream: str, line: str) -> None:
        """Takes a line of the program's. Logs get what it says in words; its JSON is in the stage's files."""
        if stream != "stdout":
            if line:
                self._request.output(stream, line)
            return
        for report in self._transcript.read(line):
            self._take(report)

    def _beat(self, beat: Beat) -> None:
        self._request.tell(
            StageHeartbeat(
                node_id=self._request.node.id,
                elapsed_s=int(beat.elapsed_s),
                since_last_output_s=int(beat.silent_s),
                stdout_bytes=beat.stdout_bytes,
                stderr_bytes=beat.stderr_bytes,
            )
        )

    def _take(self, report: Report) -> None:  # noqa: C901 - one case for each kind of report
        node, tell = self._request.node.id, self._request.tell
        match report:
            case Said(text):
                self._say(text)
            case SessionBegan(session):
                self._name = session
            case ToolStarted(call_id, tool, about):
                tell(LlmToolCallStart(node_id=node, backend="cli", tool_name=tool, call_id=call_id))
                self._say(f"> {tool} {about}".rstrip())
            case ToolEnded(call_id, tool, failed, about):
                tell(
                    LlmToolCallEnd(
                        node_id=node, backend="cli", tool_name=tool, call_id=call_id, is_error=True if failed else None
                    )
                )
                if failed:
                    self._say(f"< {tool} failed: {about}".rstrip(": "))
            case ToolDenied(tool):
                self._denied.append(tool)
            case TurnEnded(text_length, tool_calls):
                tell(LlmTurnEnd(node_id=node, backend="cli", text_length=text_length, tool_call_count=tool_calls))
            case Used(tokens, model):
                self._use(tokens, model or self._request.model)
            case SessionTotals():
                self._settle_totals(report)
            case Retried():
                self._retried(report)
            case Trouble():
                self._trouble = report
                self._say(report.message)
            case Closed():
                self._closed = report

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            if line.strip():
                self._request.output("stdout", line if len(line) <= SAID_LENGTH else f"{line[:SAID_LENGTH]}…")

    def _use(self, tokens: Tokens, model: str, own_figure: float | None = None) -> None:
        self._used += tokens
        provider = self._program.provider
        cost = own_figure if own_figure is not None else cost_usd(provider, model, tokens)
        self._told_usd += cost or 0.0
        self._price_unknown |= cost is None and bool(tokens)
        self._request.tell(
            LlmUsage(
                node_id=self._request.node.id,
                provider=provider,
                model=model,
                input_tokens=tokens.input,
                output_tokens=tokens.output,
                cached_input_tokens=tokens.cached_input or None,
                cost_usd=cost,
            )
        )

    def _settle_totals(self, totals: SessionTotals) -> None:
        """The program's totals of the conversation: what they have beyond the last task's and what was told since is told now.

        Its own figure of the cost counts where nobody else knows the price of a model that was used.
        """
        before = self._session
        rest = totals.tokens.beyond(before.tokens + self._used) if totals.tokens is not None else Tokens()
        if rest:
            self._use(rest, self._request.model)
        if totals.cost_usd is not None and self._price_unknown:
            missing = totals.cost_usd - before.cost_usd - self._told_usd
            if missing > 0:
                self._use(Tokens(), self._request.model, missing)
        self._totals = Session(
            before.agent,
            self._name,
            totals.tokens if totals.tokens is not None else before.tokens,
            totals.cost_usd if totals.cost_usd is not None else before.cost_usd,
        )

    def _retried(self, report: Retried) -> None:
        self._request.tell(
            LlmRetry(
                node_id=self._request.node.id,
                provider=self._program.provider,
                model=self._request.model,
                attempt=report.attempt,
                max=report.maximum,
                delay_ms=report.delay_ms,
                error=report.error,
            )
        )
        self._say(f"{self._program.name} tries again: {report.error}")

    def _require_session(self) -> None:
        """Raises:
        SessionLost: The program does not know the session that it was asked to go on with.
        """
        trouble = (self._closed.trouble if self._closed else None) or self._trouble
        if self._session.name and trouble is not None and trouble.lost:
            raise SessionLost(f"{self._program.name}: {trouble.message}", node=self._request.node.id)

    def _kept(self) -> str:
        totals = self._totals
        return Session(self._program.name, self._name, totals.tokens, totals.cost_usd).to_text()


def _said_by(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} is {error.strerror}"
    return str(error)
