"""How a call of an agent program ended: a failure, or nothing to say, and then the stage's status file decides."""

from __future__ import annotations

from dataclasses import dataclass

from kilroy_engine.agents.running.failures import class_of, retry_after_s
from kilroy_engine.agents.running.reports import Closed, Trouble
from kilroy_engine.processes.command import CommandEnd, Ending
from kilroy_engine.processes.go_text import duration_text, exit_text
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, failure

REASON_LENGTH = 600
"""Characters of a provider's words that a failure reason holds; the stage's logs have all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a call may take, and that it may be silent."""

    total_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call came to. ``closed`` is None where the program said no last word, ``trouble`` the last error that it told."""

    end: CommandEnd
    closed: Closed | None
    trouble: Trouble | None
    output_tokens: int
    stderr: str = ""


def judged(agent: str, seen: Seen, limits: Limits, stop_reason: str) -> Outcome | None:
    """The failure that the call came to, None for a success.

    A success needs all of: nobody stopped the program, exit code 0, a closing event, and that it says success. Each was seen
    to be missing alone. ``stop_reason`` is why the run stops, for a call that was stopped with it.
    """
    match seen.end.ending:
        case Ending.CANCELED:
            return failure(stop_reason, failure_class=FailureClass.CANCELED)
        case Ending.TIMED_OUT:
            return failure(f"{agent} timed out after {duration_text(limits.total_s)}").with_updates(timed_out=True)
        case Ending.IDLE:
            reason = f"{agent} timed out: nothing was heard of it for {duration_text(limits.idle_s)}"
            return failure(reason, failure_class=FailureClass.TRANSIENT_INFRA).with_updates(timed_out=True)
        case Ending.EXITED:
            return _failure_at_the_end(agent, seen)


def _failure_at_the_end(agent: str, seen: Seen) -> Outcome | None:
    code, closed = seen.end.exit_code, seen.closed
    if closed is not None and closed.trouble is not None:
        return _of(agent, closed.trouble)
    if code != 0:
        return _of(agent, seen.trouble or Trouble(seen.stderr.strip() or f"it said nothing ({exit_text(code)})"))
    if closed is None:
        reason = f"{agent} ended with exit code 0 but without its closing event, so nobody knows whether it was done"
        return failure(reason, failure_class=FailureClass.TRANSIENT_INFRA)
    if not closed.response.strip() and seen.output_tokens == 0:
        return failure(f"{agent} gave an empty answer, the model wrote nothing", failure_class=FailureClass.TRANSIENT_INFRA)
    return None


def _of(agent: str, trouble: Trouble) -> Outcome:
    """The failure for ``trouble``. Where the provider says when to come back, the next attempt waits until then."""
    kind = class_of(trouble)
    text = " ".join(trouble.message.split())
    shown = text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}…"
    status = f" (HTTP {trouble.http_status})" if trouble.http_status and str(trouble.http_status) not in shown else ""
    outcome = failure(f"{agent}: {trouble.limit or shown}{status}", failure_class=kind)
    if kind is FailureClass.TRANSIENT_INFRA:
        return outcome.with_updates(retry_after_s=retry_after_s(trouble.message))
    return outcome
