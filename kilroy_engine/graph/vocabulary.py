"""The attributes that the engine reads: their owners, what values they take, and the other names they go by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Owner(StrEnum):
    """What an attribute belongs to."""

    GRAPH = "graph"
    NODE = "node"
    EDGE = "edge"


class Kind(StrEnum):
    """What values an attribute takes."""

    TEXT = "text"
    INTEGER = "a whole number"
    COUNT = "a whole number from 0 up"
    POSITIVE = "a whole number from 1 up"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    DURATION = "a duration such as 30s, 15m or 2h"


class Fidelity(StrEnum):
    """How much of the run before it an agent is given (Spec 5.4)."""

    FULL = "full"
    TRUNCATE = "truncate"
    COMPACT = "compact"
    SUMMARY_LOW = "summary:low"
    SUMMARY_MEDIUM = "summary:medium"
    SUMMARY_HIGH = "summary:high"


NODE_ATTRIBUTES: Mapping[str, Kind] = {
    # Spec 2.6
    "label": Kind.TEXT,
    "shape": Kind.TEXT,
    "type": Kind.TEXT,
    "prompt": Kind.TEXT,
    "max_retries": Kind.COUNT,
    "goal_gate": Kind.BOOLEAN,
    "retry_target": Kind.TEXT,
    "fallback_retry_target": Kind.TEXT,
    "fidelity": Kind.TEXT,
    "thread_id": Kind.TEXT,
    "class": Kind.TEXT,
    "timeout": Kind.DURATION,
    "llm_model": Kind.TEXT,
    "llm_provider": Kind.TEXT,
    "reasoning_effort": Kind.TEXT,
    "auto_status": Kind.BOOLEAN,
    "allow_partial": Kind.BOOLEAN,
    # Spec 4: handlers
    "tool_command": Kind.TEXT,
    "join_policy": Kind.TEXT,
    "error_policy": Kind.TEXT,
    "max_parallel": Kind.POSITIVE,
    "human.default_choice": Kind.TEXT,
    "manager.poll_interval": Kind.DURATION,
    "manager.max_cycles": Kind.POSITIVE,
    "manager.stop_condition": Kind.TEXT,
    "manager.actions": Kind.TEXT,
    "stack.child_dotfile": Kind.TEXT,
    "stack.child_autostart": Kind.BOOLEAN,
    "tool_hooks.pre": Kind.TEXT,
    "tool_hooks.post": Kind.TEXT,
    # Kilroy
    "prompt_file": Kind.TEXT,
    "outputs": Kind.TEXT,
    "inputs": Kind.TEXT,
    "max_node_visits": Kind.POSITIVE,
    "max_tokens": Kind.POSITIVE,
    "max_agent_turns": Kind.POSITIVE,
    "agent_tool": Kind.TEXT,
    "agent_mode": Kind.TEXT,
    "question": Kind.TEXT,
    "k": Kind.POSITIVE,
    "quorum_fraction": Kind.NUMBER,
    "concurrent_id": Kind.TEXT,
    "escalation_models": Kind.TEXT,
    "collect_browser_artifacts": Kind.BOOLEAN,
    "retry.backoff.initial_delay_ms": Kind.COUNT,
    "retry.backoff.backoff_factor": Kind.NUMBER,
    "retry.backoff.max_delay_ms": Kind.COUNT,
    "retry.backoff.jitter": Kind.BOOLEAN,
    "loop_id": Kind.TEXT,
    "loop_count": Kind.COUNT,
    "loop_max": Kind.COUNT,
    "loop_until_file": Kind.TEXT,
    "loop_until_file_contains": Kind.TEXT,
    "loop_while_outcome": Kind.TEXT,
    # ours
    "retry_policy": Kind.TEXT,
    "human.timeout": Kind.DURATION,
    "human.suspend": Kind.BOOLEAN,
    "merge": Kind.TEXT,
    "branch_workspace": Kind.TEXT,
    "branch_copy_max_bytes": Kind.COUNT,
    "dot_file": Kind.TEXT,
    "ref": Kind.TEXT,
}
"""Attributes of nodes. Others are kept, for handlers of the pipeline's own and for Graphviz."""

PARAMETER_PREFIX = "param."
"""Attributes ``param.<name>`` of a call node are the arguments of the call; their names are the callee's."""

EDGE_ATTRIBUTES: Mapping[str, Kind] = {
    "label": Kind.TEXT,
    "condition": Kind.TEXT,
    "weight": Kind.INTEGER,
    "fidelity": Kind.TEXT,
    "thread_id": Kind.TEXT,
    "loop_restart": Kind.BOOLEAN,
}
"""Attributes of edges (Spec 2.7)."""

GRAPH_ATTRIBUTES: Mapping[str, Kind] = {
    # Spec 2.5
    "goal": Kind.TEXT,
    "label": Kind.TEXT,
    "model_stylesheet": Kind.TEXT,
    "default_max_retries": Kind.COUNT,
    "retry_target": Kind.TEXT,
    "fallback_retry_target": Kind.TEXT,
    "default_fidelity": Kind.TEXT,
    "tool_hooks.pre": Kind.TEXT,
    "tool_hooks.post": Kind.TEXT,
    "stack.child_dotfile": Kind.TEXT,
    # Spec 8.5
    "llm_model": Kind.TEXT,
    "llm_provider": Kind.TEXT,
    "reasoning_effort": Kind.TEXT,
    "max_tokens": Kind.POSITIVE,
    # Kilroy
    "inputs": Kind.TEXT,
    "outputs": Kind.TEXT,
    "thread_id": Kind.TEXT,
    "context_fidelity_default": Kind.TEXT,
    "context_thread_default": Kind.TEXT,
    "max_node_visits": Kind.POSITIVE,
    "max_restarts": Kind.COUNT,
    "loop_restart_signature_limit": Kind.POSITIVE,
    "loop_restart_persist_keys": Kind.TEXT,
    "retries_before_escalation": Kind.COUNT,
    "provenance_version": Kind.TEXT,
    "retry.backoff.initial_delay_ms": Kind.COUNT,
    "retry.backoff.backoff_factor": Kind.NUMBER,
    "retry.backoff.max_delay_ms": Kind.COUNT,
    "retry.backoff.jitter": Kind.BOOLEAN,
    # ours
    "retry_policy": Kind.TEXT,
}
"""Attributes of the whole pipeline."""

ATTRIBUTES: Mapping[Owner, Mapping[str, Kind]] = {
    Owner.GRAPH: GRAPH_ATTRIBUTES,
    Owner.NODE: NODE_ATTRIBUTES,
    Owner.EDGE: EDGE_ATTRIBUTES,
}

_MODEL_ALIASES = {"model": "llm_model", "provider": "llm_provider"}

ALIASES: Mapping[Owner, Mapping[str, str]] = {
    Owner.GRAPH: {
        "default_max_retry": "default_max_retries",
        "stack.child_workflow": "stack.child_dotfile",
        **_MODEL_ALIASES,
    },
    Owner.NODE: {
        "llm_prompt": "prompt",
        "script": "tool_command",
        "node_type": "type",
        "handler": "type",
        "stack.child_workflow": "stack.child_dotfile",
        **_MODEL_ALIASES,
    },
    Owner.EDGE: {},
}
"""Other names, resolved when the text is read; ``Attribute.written_as`` keeps the name that was written."""

STYLE_ALIASES: Mapping[str, str] = _MODEL_ALIASES
STYLE_PROPERTIES: tuple[str, ...] = ("llm_model", "llm_provider", "reasoning_effort", "max_tokens")
"""Properties of a model stylesheet (Spec 8.4; ``max_tokens`` is Kilroy's)."""

MISTAKEN: Mapping[Owner, Mapping[str, str]] = {
    Owner.GRAPH: {"max_visits": "max_node_visits", "default_max_visits": "max_node_visits", "stylesheet": "model_stylesheet"},
    Owner.NODE: {
        "command": "tool_command",
        "cmd": "tool_command",
        "retries": "max_retries",
        "max_retry": "max_retries",
        "max_visits": "max_node_visits",
        "default_choice": "human.default_choice",
        "classes": "class",
    },
    Owner.EDGE: {"when": "condition", "if": "condition", "guard": "condition"},
}
"""Names that other engines or a slip of memory give to attributes of ours; nothing reads them."""

FIDELITY_MODES: tuple[str, ...] = tuple(Fidelity)
RETRY_POLICIES: tuple[str, ...] = ("none", "standard", "aggressive", "linear", "patient")
JOIN_POLICIES: tuple[str, ...] = ("wait_all", "first_success", "k_of_n", "quorum")
MANAGER_ACTIONS: tuple[str, ...] = ("observe", "wait", "steer")
ERROR_POLICIES: tuple[str, ...] = ("continue", "fail_fast", "ignore")
EFFORTS: tuple[str, ...] = ("low", "medium", "high")
