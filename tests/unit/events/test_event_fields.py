"""The events' names and fields, held against Kilroy's catalogue and against recorded runs."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path

import pytest

from kilroy_engine import events
from kilroy_engine.events import CATALOG, OWN_EVENTS, Event, field_names, to_line

GOLDEN = sorted((Path(__file__).parents[2] / "data" / "golden").glob("*/recorded.json"))
ALL = {kind.event: kind for kinds in CATALOG.values() for kind in kinds}

# Kilroy's catalogue (commit b55fb0f): event, its fields; a trailing ? where the field may be missing.
KILROY = """
warning message
setup_command_start index command
setup_command_ok index command stdout warning?
setup_command_failed index command error stdout stderr
git_push_start remote branch
git_push_ok remote branch
git_push_failed remote branch error
stall_watchdog_timeout stall_timeout_ms idle_ms
run_completed status start+
run_failed status reason? start+
stage_attempt_start node_id attempt max
stage_attempt_end node_id attempt max status failure_reason
output_contract_violated node_id attempt failure_reason
escalation_model_switch node_id attempt from_provider from_model to_provider to_model escalation_idx failure_class
retry_decision node_id attempt max_retries will_retry reason
stage_retry_sleep node_id attempt delay_ms retries max_retry
stage_retry_blocked node_id attempt max status failure_reason failure_class max_retry
failure_dossier_updated failed_node_id failure_class path
deterministic_failure_cycle_check node_id signature signature_count signature_limit failure_class failure_reason
deterministic_failure_cycle_breaker node_id signature signature_count signature_limit
stuck_cycle_breaker node_id visit_count visit_limit subgraph?
edge_condition_evaluated node_id edge_to condition matched
edge_selected from_node to_node label condition hop_source selection_method candidates_evaluated conditions_matched
no_matching_fail_edge_fallback node_id retry_target failure_reason
loop_iteration loop_id iteration begin_node end_node
loop_terminated loop_id iterations end_node
loop_restart_blocked target_node node_id failure_class failure_reason
loop_restart_signature target_node node_id signature signature_count signature_limit failure_reason failure_class \
 restart_count current_logs_root
loop_restart_circuit_breaker target_node node_id signature signature_count signature_limit
loop_restart restart_count target_node new_logs_root retry_budget_reset persist_keys
branch_progress branch_key branch_logs_root branch_event branch_node_id? branch_status? branch_failure_reason? branch_attempt? \
 branch_max? branch_from_node? branch_to_node? warning?
branch_heartbeat branch_key branch_logs_root branch_last_event branch_last_event_at branch_idle_ms
branch_stale_warning branch_key branch_logs_root branch_last_event branch_last_event_at branch_idle_ms stale_threshold_ms
early_termination node_id reason received total success_so_far fail_so_far
fan_in_ignored_files_warning node_id winner_key warning
fan_in_copy_warning node_id winner_key warning
subgraph_canceled_exit node_id last_node_id failure_reason
subgraph_structural_failure_abort node_id failure_class failure_reason
subgraph_deterministic_failure_cycle_check node_id signature signature_count signature_limit failure_class failure_reason
subgraph_deterministic_failure_cycle_breaker node_id signature signature_count signature_limit
llm_tool_call_start node_id backend tool_name call_id
llm_tool_call_end node_id backend tool_name call_id is_error?
llm_turn_end node_id backend text_length tool_call_count
status_contract node_id status_path status_fallback_path
status_ingestion_decision node_id source copied diagnostic?
provider_selected node_id provider model backend source
stage_heartbeat node_id elapsed_s since_last_output_s stdout_bytes? stderr_bytes? event_count?
llm_retry node_id provider model attempt max delay_ms error retryable
tmux_session_start node_id tool session
tmux_session_complete node_id tool session exit_code output_len wait_error
manager_loop_cycle node_id cycle max_cycles
input_materialization_started scope source_roots target_root node_id?
input_materialization_progress scope resolved_file_count discovered_refs node_id?
input_materialization_completed scope resolved_file_count unresolved_inferred_ref node_id?
input_materialization_warning scope warning node_id?
input_materialization_error scope failure_reason message unmatched_include_patterns? node_id?
"""
# The engine's own events (run directory, "Added").
OWN = """
run_started flow_run_id graph_name goal
run_resumed start from_node previous_status
checkpoint_saved node_id git_commit_sha
goal_gate_retry gate target
manager_loop_steered node_id cycle path
human_gate_opened node_id visit question choices timeout_s? answer_url?
human_gate_answered node_id visit choice by waited_s
human_gate_timeout node_id visit waited_s default_choice?
artifact node_id name path
llm_usage node_id provider model input_tokens output_tokens cached_input_tokens? cost_usd?
budget_warning scope unit spent limit node_id?
budget_exhausted scope unit spent limit node_id?
cancel_requested source
"""


def table(text: str) -> dict[str, list[str]]:
    rows = [line.split() for line in text.strip().replace("\\\n", "").splitlines()]
    return {name: fields for name, *fields in rows}


def described(kind: type[Event]) -> list[str]:
    """The event's fields in the notation of the tables."""
    hints = typing.get_type_hints(kind)
    return [f"{name}{'?' if _may_be_none(hints[name]) else ''}" for name in field_names(kind)]


def _may_be_none(hint: object) -> bool:
    return types.NoneType in typing.get_args(hint)


@pytest.mark.parametrize(
    ("name", "fields"), sorted((table(KILROY) | table(OWN)).items()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_event_has_exactly_the_fields_of_the_contract(name: str, fields: list[str]) -> None:
    """Names, and which fields may be missing, are Kilroy's to the letter; ``+`` marks a field that the engine adds."""
    assert sorted(described(ALL[name])) == sorted(field.rstrip("+") for field in fields)


def test_no_event_is_outside_the_contract() -> None:
    """Every event class is listed in one of the two tables."""
    assert set(ALL) == set(table(KILROY)) | set(table(OWN))
    assert set(table(OWN)) == OWN_EVENTS


def test_every_event_class_is_in_the_catalogue() -> None:
    """A new event cannot be forgotten in the reference page."""
    classes = {c for c in vars(events).values() if isinstance(c, type) and issubclass(c, Event) and c is not Event}
    assert classes == set(ALL.values())


@pytest.mark.parametrize("recorded", GOLDEN, ids=lambda path: path.parent.name)
def test_recorded_events_fit_the_classes(recorded: Path) -> None:
    """Each event of a recorded Kilroy run has a class with at least its fields, of the same types."""
    for event in json.loads(recorded.read_bytes())["events"]:
        if event["event"] == "implicit_fan_out":
            continue  # the engine chooses one edge instead
        kind = ALL[event.pop("event")]
        hints = typing.get_type_hints(kind)
        for field, value in event.items():
            allowed = typing.get_args(hints[field]) if typing.get_origin(hints[field]) else (hints[field],)
            assert value in allowed or type(value) in allowed, (kind.event, field, value)


def test_a_field_that_is_none_is_left_out() -> None:
    """``reason`` and other optional keys are absent, not null."""
    line = json.loads(to_line(events.RunFailed(status="fail", start=1), "r1"))
    assert "reason" not in line
    assert line["status"] == "fail"


def test_every_field_and_event_is_documented() -> None:
    """Each class has a docstring and each field a description for the reference page."""
    for kind in ALL.values():
        assert kind.__doc__, kind
        assert "(" not in kind.__doc__.splitlines()[0][:20], kind
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            assert typing.get_origin(hints[field.name]) is typing.Annotated, (kind, field.name)
