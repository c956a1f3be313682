"""Events of a run as lines for people.

One narrator follows one stream, because a line such as "fail after 2.3 s" needs the time of an earlier event. Events that only
programs need (conditions looked at, checkpoints, heartbeats of branches) give no line; an unknown event is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Event = Mapping[str, Any]

_SILENT = frozenset(
    {
        "branch_heartbeat",
        "checkpoint_saved",
        "deterministic_failure_cycle_check",
        "edge_condition_evaluated",
        "failure_dossier_updated",
        "git_push_start",
        "input_materialization_completed",
        "input_materialization_progress",
        "input_materialization_started",
        "llm_text_delta",
        "loop_restart_signature",
        "setup_command_start",
        "stage_retry_blocked",
        "status_contract",
        "status_ingestion_decision",
    }
)
_ENVELOPE = frozenset({"event", "id", "run_id", "ts"})


@dataclass
class Narrator:
    """Turns the events of one stream into text, oldest first."""

    _started: dict[str, datetime] = field(default_factory=dict[str, datetime])

    def line(self, event: Event) -> str | None:
        """``12:30:01  build: success (2.3 s)``; None for an event that says nothing to a person."""
        text = self.text(event)
        return None if text is None else f"{local_time(event)}  {text}"

    def text(self, event: Event) -> str | None:
        """The same without the time."""
        name = str(event.get("event", ""))
        if name in _SILENT:
            return None
        match name:
            case "stage_attempt_start":
                return self._stage_started(event)
            case "stage_attempt_end":
                return self._stage_ended(event)
            case "retry_decision" if event.get("will_retry") or event.get("attempt") == 1:
                return None  # the sleep that follows, or the end of the only attempt, says it
            case "edge_selected" if event.get("selection_method") == "only_edge" and not event.get("condition"):
                return None  # no choice was made
            case _:
                return _DESCRIPTIONS[name](event) if name in _DESCRIPTIONS else _unknown(event)

    def _stage_started(self, event: Event) -> str:
        moment = moment_of(event)
        if moment:
            self._started[str(event.get("node_id"))] = moment
        attempts = f" (attempt {event.get('attempt')} of {event.get('max')})" if _number(event, "attempt") > 1 else ""
        return f"{event.get('node_id')}: started{attempts}"

    def _stage_ended(self, event: Event) -> str:
        began, ended = self._started.get(str(event.get("node_id"))), moment_of(event)
        took = f" ({duration((ended - began).total_seconds())})" if began and ended else ""
        return f"{event.get('node_id')}: {event.get('status')}{took}{_because(event, 'failure_reason')}"


def moment_of(event: Event) -> datetime | None:
    """The event's time; None where it has none that can be read."""
    try:
        return datetime.fromisoformat(str(event["ts"]))
    except (KeyError, ValueError):
        return None


def local_time(event: Event) -> str:
    """``HH:MM:SS`` in the local time zone."""
    moment = moment_of(event)
    return moment.astimezone().strftime("%H:%M:%S") if moment else "--:--:--"


def duration(seconds: float) -> str:
    """``0.42 s``, ``12.3 s``, ``3 m 05 s``, ``2 h 04 m``."""
    if seconds < 10:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def one_line(value: object, limit: int = 400) -> str:
    """Text without newlines, control characters and excess length."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(value)).split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _because(event: Event, key: str) -> str:
    reason = one_line(event.get(key) or "")
    return f": {reason}" if reason else ""


def _number(event: Event, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0


def _times(event: Event, key: str, noun: str) -> str:
    count = _number(event, key)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _unknown(event: Event) -> str:
    fields = (f"{key}={one_line(value, 120)}" for key, value in event.items() if key not in _ENVELOPE)
    return " ".join([str(event.get("event", "?")), *fields])


def _edge(event: Event) -> str:
    why = event.get("condition") or event.get("label") or str(event.get("selection_method") or "").replace("_", " ")
    if event.get("hop_source") == "retry_target":
        why = "retry target"
    return f"{event.get('from_node')} -> {event.get('to_node')}" + (f" [{one_line(why, 120)}]" if why else "")


def _gate_opened(event: Event) -> str:
    offered = event.get("choices")
    choices = ", ".join(_choice(choice) for choice in offered) if isinstance(offered, list) else ""
    answer = f" -- answer at {event['answer_url']}" if event.get("answer_url") else ""
    return f"{event.get('node_id')}: waiting for a person: {one_line(event.get('question') or '')} [{choices}]{answer}"


def _choice(choice: object) -> str:
    return str(choice.get("label") or choice.get("key")) if isinstance(choice, dict) else str(choice)  # type: ignore[reportUnknownMemberType]


def _usage(event: Event) -> str:
    cost = event.get("cost_usd")
    price = f", {cost:.4f} USD" if isinstance(cost, int | float) else ""
    tokens = f"{event.get('input_tokens')} tokens in, {event.get('output_tokens')} out"
    return f"{event.get('node_id')}: {event.get('model')}: {tokens}{price}"


def _branch(event: Event) -> str | None:
    node = event.get("branch_node_id")
    where = f"branch {event.get('branch_key')}" + (f" {node}" if node else "")
    match event.get("branch_event"):
        case "stage_attempt_start":
            return f"{where}: started"
        case "stage_attempt_end" | "branch_subgraph_done":
            return f"{where}: {event.get('branch_status')}{_because(event, 'branch_failure_reason')}"
        case _:
            return None


_DESCRIPTIONS: Mapping[str, Callable[[Event], str | None]] = {
    "run_started": lambda e: f"run {e.get('run_id')} started: {e.get('graph_name')}{_because(e, 'goal')}",
    "run_resumed": lambda e: f"run resumed at {e.get('from_node')} (start {e.get('start')}, was {e.get('previous_status')})",
    "run_completed": lambda e: f"run {e.get('status', 'success')}",
    "run_failed": lambda e: f"run {e.get('status', 'fail')}{_because(e, 'reason')}",
    "warning": lambda e: f"warning: {one_line(e.get('message') or '')}",
    "retry_decision": lambda e: f"{e.get('node_id')}: not tried again after attempt {e.get('attempt')}",
    "stage_retry_sleep": lambda e: (
        f"{e.get('node_id')}: next attempt in {duration(_number(e, 'delay_ms') / 1000)} "
        f"(retry {e.get('retries')} of {e.get('max_retry')})"
    ),
    "stage_heartbeat": lambda e: (
        f"{e.get('node_id')}: still running after {duration(_number(e, 'elapsed_s'))}, "
        f"last output {duration(_number(e, 'since_last_output_s'))} ago"
    ),
    "edge_selected": _edge,
    "no_matching_fail_edge_fallback": lambda e: f"{e.get('node_id')} -> {e.get('retry_target')} [retry target]",
    "goal_gate_retry": lambda e: f"goal gate {e.get('gate')} is not satisfied: back to {e.get('target')}",
    "human_gate_opened": _gate_opened,
    "human_gate_answered": lambda e: f"{e.get('node_id')}: answered {one_line(e.get('choice') or '')} by {e.get('by')}",
    "human_gate_timeout": lambda e: f"{e.get('node_id')}: nobody answered in time",
    "stuck_cycle_breaker": lambda e: (
        f"{e.get('node_id')}: stopped after {e.get('visit_count')} visits (limit {e.get('visit_limit')})"
    ),
    "deterministic_failure_cycle_breaker": lambda e: (
        f"{e.get('node_id')}: stopped, the same failure came {e.get('signature_count')} times "
        f"(limit {e.get('signature_limit')})"
    ),
    "stall_watchdog_timeout": lambda e: f"stalled: nothing happened for {duration(_number(e, 'idle_ms') / 1000)}",
    "output_contract_violated": lambda e: f"{e.get('node_id')}: a declared output is missing{_because(e, 'failure_reason')}",
    "cancel_requested": lambda e: f"cancel requested: {one_line(e.get('source') or '')}",
    "artifact": lambda e: f"{e.get('node_id') or 'input'}: artifact {e.get('name')} ({e.get('path')})",
    "llm_usage": _usage,
    "llm_tool_call_start": lambda e: f"{e.get('node_id')}: agent uses {e.get('tool_name')}",
    "llm_tool_call_end": lambda e: f"{e.get('node_id')}: {e.get('tool_name')} failed" if e.get("is_error") else None,
    "setup_command_ok": lambda e: f"set-up: {one_line(e.get('command') or '', 120)}: ok",
    "setup_command_failed": lambda e: f"set-up: {one_line(e.get('command') or '', 120)}: failed{_because(e, 'error')}",
    "git_push_ok": lambda e: f"pushed {e.get('branch')} to {e.get('remote')}",
    "git_push_failed": lambda e: f"push of {e.get('branch')} to {e.get('remote')} failed{_because(e, 'error')}",
    "branch_progress": _branch,
    "loop_restart": lambda e: f"restart {e.get('restart_count')} at {e.get('target_node')}",
    "loop_restart_blocked": lambda e: (
        f"{e.get('node_id')}: no restart at {e.get('target_node')} after a failure of class {e.get('failure_class')}"
    ),
    "loop_restart_circuit_breaker": lambda e: (
        f"{e.get('node_id')}: no restart at {e.get('target_node')}, the same failure came {e.get('signature_count')} times "
        f"(limit {e.get('signature_limit')})"
    ),
    "loop_iteration": lambda e: f"loop {e.get('loop_id')}: iteration {e.get('iteration')} over, again at {e.get('begin_node')}",
    "loop_terminated": lambda e: f"loop {e.get('loop_id')}: over after {_times(e, 'iterations', 'iteration')}",
    "manager_loop_cycle": lambda e: f"{e.get('node_id')}: cycle {e.get('cycle')} of {e.get('max_cycles')}",
    "manager_loop_steered": lambda e: f"{e.get('node_id')}: steers its child pipeline ({e.get('path')})",
    "tmux_session_start": lambda e: f"{e.get('node_id')}: {e.get('tool')} started in tmux session {e.get('session')}",
    "tmux_session_complete": lambda e: f"{e.get('node_id')}: {e.get('tool')} ended with exit code {e.get('exit_code')}",
}  # fmt: skip
