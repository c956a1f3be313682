"""The table of attributes: their owners, their values, the node types that read them, and their other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kilroy_engine.graph.node_types import (
    AGENT,
    CALL_TYPES,
    FAN_IN,
    HUMAN,
    MANAGER,
    NESTED,
    NODE_TYPES,
    PARALLEL,
    TOOL,
    Model,
)


class AttributeOwner(StrEnum):
    """The part of a pipeline that an attribute is written on."""

    GRAPH = "graph"
    NODE = "node"
    EDGE = "edge"


class ValueKind(StrEnum):
    """The values that an attribute takes, in words for messages."""

    TEXT = "text"
    INTEGER = "a whole number"
    COUNT = "a whole number from 0 up"
    POSITIVE = "a whole number from 1 up"
    NUMBER = "a number"
    AMOUNT = "a number above 0"
    BOOLEAN = "true or false"
    DURATION = "a duration such as 30s, 15m or 2h"


class Fidelity(StrEnum):
    """How much of the earlier run an agent gets to read (Spec 5.4)."""

    FULL = "full"
    TRUNCATE = "truncate"
    COMPACT = "compact"
    SUMMARY_LOW = "summary:low"
    SUMMARY_MEDIUM = "summary:medium"
    SUMMARY_HIGH = "summary:high"


@dataclass(frozen=True, slots=True)
class Meaning:
    """The row of one attribute: the kind of its values, and the node types that read the attribute.

    ``readers`` is None where every type reads the attribute, and empty where nothing reads it: the engine accepts attributes of
    other engines. For an edge's attribute, ``readers`` are types of the node that the edge leaves. For a graph's attribute,
    ``readers`` is None or empty. A plug-in's handler may read any attribute of its nodes.
    """

    kind: ValueKind
    readers: frozenset[str] | None = None

    @property
    def without_effect(self) -> bool:
        """Whether nothing reads the attribute."""
        return self.readers is not None and not self.readers

    def is_read_at(self, type_name: str) -> bool:
        """Whether the attribute has an effect on a node of this type, or on an edge that leaves such a node."""
        return self.readers is None or type_name not in NODE_TYPES or type_name in self.readers


def _read(kind: ValueKind, *types: str) -> Meaning:
    return Meaning(kind, frozenset(types))


def _unread(kind: ValueKind) -> Meaning:
    return Meaning(kind, frozenset())


_TRIED = tuple(row.name for row in NODE_TYPES.values() if not row.runs_once)
"""Types whose failed attempts may be followed by another attempt. Their attempts have a time limit."""
_WITH_AGENT = tuple(row.name for row in NODE_TYPES.values() if row.model is not Model.NEVER)
_ONE_WAY = tuple(name for name in NODE_TYPES if name != PARALLEL)
"""Types whose nodes leave by one edge. A fan-out takes all of its edges, whatever their attributes."""

NODE_ATTRIBUTES: Mapping[str, Meaning] = {
    # Spec 2.6
    "label": Meaning(ValueKind.TEXT),
    "shape": Meaning(ValueKind.TEXT),
    "type": Meaning(ValueKind.TEXT),
    "prompt": _read(ValueKind.TEXT, *_WITH_AGENT, TOOL),
    "max_retries": _read(ValueKind.COUNT, *_TRIED),
    "goal_gate": Meaning(ValueKind.BOOLEAN),
    "retry_target": Meaning(ValueKind.TEXT),
    "fallback_retry_target": Meaning(ValueKind.TEXT),
    "fidelity": _read(ValueKind.TEXT, AGENT),
    "thread_id": _read(ValueKind.TEXT, AGENT),
    "class": Meaning(ValueKind.TEXT),
    "timeout": _read(ValueKind.DURATION, *_TRIED),
    "llm_model": _read(ValueKind.TEXT, *_WITH_AGENT),
    "llm_provider": _read(ValueKind.TEXT, *_WITH_AGENT),
    "reasoning_effort": _read(ValueKind.TEXT, *_WITH_AGENT),
    "auto_status": _read(ValueKind.BOOLEAN, AGENT),
    "allow_partial": _read(ValueKind.BOOLEAN, *_TRIED),
    # Spec 4: handlers
    "tool_command": _read(ValueKind.TEXT, TOOL),
    "join_policy": _read(ValueKind.TEXT, PARALLEL),
    "error_policy": _read(ValueKind.TEXT, PARALLEL),
    "max_parallel": _read(ValueKind.POSITIVE, PARALLEL),
    "human.default_choice": _read(ValueKind.TEXT, HUMAN),
    "manager.poll_interval": _read(ValueKind.DURATION, MANAGER),
    "manager.max_cycles": _read(ValueKind.POSITIVE, MANAGER),
    "manager.stop_condition": _read(ValueKind.TEXT, MANAGER),
    "manager.actions": _read(ValueKind.TEXT, MANAGER),
    "stack.child_dotfile": _read(ValueKind.TEXT, MANAGER),
    "stack.child_autostart": _read(ValueKind.BOOLEAN, MANAGER),
    "tool_hooks.pre": _unread(ValueKind.TEXT),
    "tool_hooks.post": _unread(ValueKind.TEXT),
    # Kilroy
    "prompt_file": _read(ValueKind.TEXT, *_WITH_AGENT, TOOL),
    "outputs": Meaning(ValueKind.TEXT),
    "inputs": _unread(ValueKind.TEXT),
    "max_node_visits": Meaning(ValueKind.POSITIVE),
    "max_tokens": _read(ValueKind.POSITIVE, *_WITH_AGENT),
    "max_agent_turns": _read(ValueKind.POSITIVE, *_WITH_AGENT),
    "agent_tool": _read(ValueKind.TEXT, *_WITH_AGENT),
    "agent_mode": _read(ValueKind.TEXT, AGENT),
    "question": _read(ValueKind.TEXT, HUMAN),
    "k": _read(ValueKind.POSITIVE, PARALLEL),
    "quorum_fraction": _read(ValueKind.NUMBER, PARALLEL),
    "concurrent_id": _unread(ValueKind.TEXT),
    "escalation_models": _read(ValueKind.TEXT, *_WITH_AGENT),
    "collect_browser_artifacts": _unread(ValueKind.BOOLEAN),
    "retry.backoff.initial_delay_ms": _read(ValueKind.COUNT, *_TRIED),
    "retry.backoff.backoff_factor": _read(ValueKind.NUMBER, *_TRIED),
    "retry.backoff.max_delay_ms": _read(ValueKind.COUNT, *_TRIED),
    "retry.backoff.jitter": _read(ValueKind.BOOLEAN, *_TRIED),
    "loop_id": Meaning(ValueKind.TEXT),
    "loop_count": Meaning(ValueKind.COUNT),
    "loop_max": Meaning(ValueKind.COUNT),
    "loop_until_file": Meaning(ValueKind.TEXT),
    "loop_until_file_contains": Meaning(ValueKind.TEXT),
    "loop_while_outcome": Meaning(ValueKind.TEXT),
    # ours
    "retry_policy": _read(ValueKind.TEXT, *_TRIED),
    "missing_status": _read(ValueKind.TEXT, AGENT),
    "budget.max_cost_usd": _read(ValueKind.AMOUNT, *_WITH_AGENT),
    "budget.max_tokens": _read(ValueKind.POSITIVE, *_WITH_AGENT),
    "human.timeout": _read(ValueKind.DURATION, HUMAN),
    "human.suspend": _unread(ValueKind.BOOLEAN),
    "merge": _read(ValueKind.TEXT, FAN_IN),
    "branch_workspace": _read(ValueKind.TEXT, PARALLEL),
    "branch_copy_max_bytes": _read(ValueKind.COUNT, PARALLEL, FAN_IN),
    "dot_file": _read(ValueKind.TEXT, NESTED),
    "ref": _read(ValueKind.TEXT, *CALL_TYPES),
}
"""Attributes of nodes. The graph keeps all other attributes too, for handlers of plug-ins and for Graphviz."""

PARAMETER_PREFIX = "param."
"""Attributes ``param.<name>`` of a call node are the arguments of the call. The callee defines the names."""
PARAMETER = _read(ValueKind.TEXT, *CALL_TYPES)

EDGE_ATTRIBUTES: Mapping[str, Meaning] = {
    "label": Meaning(ValueKind.TEXT),
    "condition": _read(ValueKind.TEXT, *_ONE_WAY),
    "weight": _read(ValueKind.INTEGER, *_ONE_WAY),
    "fidelity": Meaning(ValueKind.TEXT),
    "thread_id": Meaning(ValueKind.TEXT),
    "loop_restart": _read(ValueKind.BOOLEAN, *_ONE_WAY),
}
"""Attributes of edges (Spec 2.7)."""

GRAPH_ATTRIBUTES: Mapping[str, Meaning] = {
    # Spec 2.5
    "goal": Meaning(ValueKind.TEXT),
    "label": Meaning(ValueKind.TEXT),
    "model_stylesheet": Meaning(ValueKind.TEXT),
    "default_max_retries": Meaning(ValueKind.COUNT),
    "retry_target": Meaning(ValueKind.TEXT),
    "fallback_retry_target": Meaning(ValueKind.TEXT),
    "default_fidelity": Meaning(ValueKind.TEXT),
    "tool_hooks.pre": _unread(ValueKind.TEXT),
    "tool_hooks.post": _unread(ValueKind.TEXT),
    "stack.child_dotfile": Meaning(ValueKind.TEXT),
    # Spec 8.5
    "llm_model": Meaning(ValueKind.TEXT),
    "llm_provider": Meaning(ValueKind.TEXT),
    "reasoning_effort": Meaning(ValueKind.TEXT),
    "max_tokens": Meaning(ValueKind.POSITIVE),
    # Kilroy
    "inputs": Meaning(ValueKind.TEXT),
    "outputs": Meaning(ValueKind.TEXT),
    "thread_id": Meaning(ValueKind.TEXT),
    "context_fidelity_default": Meaning(ValueKind.TEXT),
    "context_thread_default": Meaning(ValueKind.TEXT),
    "max_node_visits": Meaning(ValueKind.POSITIVE),
    "max_restarts": Meaning(ValueKind.COUNT),
    "loop_restart_signature_limit": Meaning(ValueKind.POSITIVE),
    "loop_restart_persist_keys": Meaning(ValueKind.TEXT),
    "retries_before_escalation": Meaning(ValueKind.COUNT),
    "provenance_version": _unread(ValueKind.TEXT),
    "retry.backoff.initial_delay_ms": Meaning(ValueKind.COUNT),
    "retry.backoff.backoff_factor": Meaning(ValueKind.NUMBER),
    "retry.backoff.max_delay_ms": Meaning(ValueKind.COUNT),
    "retry.backoff.jitter": Meaning(ValueKind.BOOLEAN),
    # ours
    "retry_policy": Meaning(ValueKind.TEXT),
}
"""Attributes of the whole pipeline."""

ATTRIBUTES: Mapping[AttributeOwner, Mapping[str, Meaning]] = {
    AttributeOwner.GRAPH: GRAPH_ATTRIBUTES,
    AttributeOwner.NODE: NODE_ATTRIBUTES,
    AttributeOwner.EDGE: EDGE_ATTRIBUTES,
}

_MODEL_ALIASES = {"model": "llm_model", "provider": "llm_provider"}

ALIASES: Mapping[AttributeOwner, Mapping[str, str]] = {
    AttributeOwner.GRAPH: {
        "default_max_retry": "default_max_retries",
        "stack.child_workflow": "stack.child_dotfile",
        **_MODEL_ALIASES,
    },
    AttributeOwner.NODE: {
        "llm_prompt": "prompt",
        "script": "tool_command",
        "node_type": "type",
        "handler": "type",
        "stack.child_workflow": "stack.child_dotfile",
        **_MODEL_ALIASES,
    },
    AttributeOwner.EDGE: {},
}
"""Other name -> attribute. The parser resolves other names; ``Attribute.written_as`` keeps the name that was written."""

STYLE_ALIASES: Mapping[str, str] = _MODEL_ALIASES
STYLE_PROPERTIES: tuple[str, ...] = ("llm_model", "llm_provider", "reasoning_effort", "max_tokens")
"""Properties of a model stylesheet (Spec 8.4; ``max_tokens`` is Kilroy's)."""

MISTAKEN: Mapping[AttributeOwner, Mapping[str, str]] = {
    AttributeOwner.GRAPH: {
        "max_visits": "max_node_visits",
        "default_max_visits": "max_node_visits",
        "stylesheet": "model_stylesheet",
    },
    AttributeOwner.NODE: {
        "command": "tool_command",
        "cmd": "tool_command",
        "retries": "max_retries",
        "max_retry": "max_retries",
        "max_visits": "max_node_visits",
        "default_choice": "human.default_choice",
        "classes": "class",
    },
    AttributeOwner.EDGE: {"when": "condition", "if": "condition", "guard": "condition"},
}
"""Wrong name, from another engine or from memory -> the attribute that was probably meant. Nothing reads a wrong name."""

FIDELITY_MODES: tuple[str, ...] = tuple(Fidelity)
RETRY_POLICIES: tuple[str, ...] = ("none", "standard", "aggressive", "linear", "patient")
JOIN_POLICIES: tuple[str, ...] = ("wait_all", "first_success", "k_of_n", "quorum")
MANAGER_ACTIONS: tuple[str, ...] = ("observe", "wait", "steer")
ERROR_POLICIES: tuple[str, ...] = ("continue", "fail_fast", "ignore")
