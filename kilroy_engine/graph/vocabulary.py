"""The attributes that the engine reads: their owners, what values they take, and the other names they go by."""

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


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is known of an attribute: its values, and which types of node read it.

    ``readers`` is None where every one does. For an attribute of an edge they are the types of the node that the edge leaves;
    for one of the graph there is no type to tell, and it is None or empty. Empty: nothing reads it, it is accepted because
    pipelines of other engines have it. A plug-in's handler may read any attribute of its nodes.
    """

    kind: Kind
    readers: frozenset[str] | None = None

    @property
    def without_effect(self) -> bool:
        """Whether nothing reads it, wherever it is written."""
        return self.readers is not None and not self.readers

    def is_read_at(self, type_name: str) -> bool:
        """Whether a node of this type, or an edge that leaves one, reads it."""
        return self.readers is None or type_name not in NODE_TYPES or type_name in self.readers


def _read(kind: Kind, *types: str) -> Meaning:
    return Meaning(kind, frozenset(types))


def _unread(kind: Kind) -> Meaning:
    return Meaning(kind, frozenset())


_TRIED = tuple(row.name for row in NODE_TYPES.values() if not row.runs_once)
"""Types whose stages are attempts: they have a limit and may be tried again."""
_WITH_AGENT = tuple(row.name for row in NODE_TYPES.values() if row.model is not Model.NEVER)
_ONE_WAY = tuple(name for name in NODE_TYPES if name != PARALLEL)
"""Types that leave by one of their edges. A fan-out takes all of them, whatever they say."""

NODE_ATTRIBUTES: Mapping[str, Meaning] = {
    # Spec 2.6
    "label": Meaning(Kind.TEXT),
    "shape": Meaning(Kind.TEXT),
    "type": Meaning(Kind.TEXT),
    "prompt": _read(Kind.TEXT, *_WITH_AGENT, TOOL),
    "max_retries": _read(Kind.COUNT, *_TRIED),
    "goal_gate": Meaning(Kind.BOOLEAN),
    "retry_target": Meaning(Kind.TEXT),
    "fallback_retry_target": Meaning(Kind.TEXT),
    "fidelity": _read(Kind.TEXT, AGENT),
    "thread_id": _read(Kind.TEXT, AGENT),
    "class": Meaning(Kind.TEXT),
    "timeout": _read(Kind.DURATION, *_TRIED),
    "llm_model": _read(Kind.TEXT, *_WITH_AGENT),
    "llm_provider": _read(Kind.TEXT, *_WITH_AGENT),
    "reasoning_effort": _read(Kind.TEXT, *_WITH_AGENT),
    "auto_status": _read(Kind.BOOLEAN, AGENT),
    "allow_partial": _read(Kind.BOOLEAN, *_TRIED),
    # Spec 4: handlers
    "tool_command": _read(Kind.TEXT, TOOL),
    "join_policy": _read(Kind.TEXT, PARALLEL),
    "error_policy": _read(Kind.TEXT, PARALLEL),
    "max_parallel": _read(Kind.POSITIVE, PARALLEL),
    "human.default_choice": _read(Kind.TEXT, HUMAN),
    "manager.poll_interval": _read(Kind.DURATION, MANAGER),
    "manager.max_cycles": _read(Kind.POSITIVE, MANAGER),
    "manager.stop_condition": _read(Kind.TEXT, MANAGER),
    "manager.actions": _read(Kind.TEXT, MANAGER),
    "stack.child_dotfile": _read(Kind.TEXT, MANAGER),
    "stack.child_autostart": _read(Kind.BOOLEAN, MANAGER),
    "tool_hooks.pre": _unread(Kind.TEXT),
    "tool_hooks.post": _unread(Kind.TEXT),
    # Kilroy
    "prompt_file": _read(Kind.TEXT, *_WITH_AGENT, TOOL),
    "outputs": Meaning(Kind.TEXT),
    "inputs": _unread(Kind.TEXT),
    "max_node_visits": Meaning(Kind.POSITIVE),
    "max_tokens": _read(Kind.POSITIVE, *_WITH_AGENT),
    "max_agent_turns": _read(Kind.POSITIVE, *_WITH_AGENT),
    "agent_tool": _read(Kind.TEXT, *_WITH_AGENT),
    "agent_mode": _read(Kind.TEXT, AGENT),
    "question": _read(Kind.TEXT, HUMAN),
    "k": _read(Kind.POSITIVE, PARALLEL),
    "quorum_fraction": _read(Kind.NUMBER, PARALLEL),
    "concurrent_id": _unread(Kind.TEXT),
    "escalation_models": _read(Kind.TEXT, *_WITH_AGENT),
    "collect_browser_artifacts": _unread(Kind.BOOLEAN),
    "retry.backoff.initial_delay_ms": _read(Kind.COUNT, *_TRIED),
    "retry.backoff.backoff_factor": _read(Kind.NUMBER, *_TRIED),
    "retry.backoff.max_delay_ms": _read(Kind.COUNT, *_TRIED),
    "retry.backoff.jitter": _read(Kind.BOOLEAN, *_TRIED),
    "loop_id": Meaning(Kind.TEXT),
    "loop_count": Meaning(Kind.COUNT),
    "loop_max": Meaning(Kind.COUNT),
    "loop_until_file": Meaning(Kind.TEXT),
    "loop_until_file_contains": Meaning(Kind.TEXT),
    "loop_while_outcome": Meaning(Kind.TEXT),
    # ours
    "retry_policy": _read(Kind.TEXT, *_TRIED),
    "missing_status": _read(Kind.TEXT, AGENT),
    "budget.max_cost_usd": _read(Kind.NUMBER, *_WITH_AGENT),
    "budget.max_tokens": _read(Kind.POSITIVE, *_WITH_AGENT),
    "human.timeout": _read(Kind.DURATION, HUMAN),
    "human.suspend": _unread(Kind.BOOLEAN),
    "merge": _read(Kind.TEXT, FAN_IN),
    "branch_workspace": _read(Kind.TEXT, PARALLEL),
    "branch_copy_max_bytes": _read(Kind.COUNT, PARALLEL, FAN_IN),
    "dot_file": _read(Kind.TEXT, NESTED),
    "ref": _read(Kind.TEXT, *CALL_TYPES),
}
"""Attributes of nodes. Others are kept, for handlers of the pipeline's own and for Graphviz."""

PARAMETER_PREFIX = "param."
"""Attributes ``param.<name>`` of a call node are the arguments of the call; their names are the callee's."""
PARAMETER = _read(Kind.TEXT, *CALL_TYPES)

EDGE_ATTRIBUTES: Mapping[str, Meaning] = {
    "label": Meaning(Kind.TEXT),
    "condition": _read(Kind.TEXT, *_ONE_WAY),
    "weight": _read(Kind.INTEGER, *_ONE_WAY),
    "fidelity": Meaning(Kind.TEXT),
    "thread_id": Meaning(Kind.TEXT),
    "loop_restart": _read(Kind.BOOLEAN, *_ONE_WAY),
}
"""Attributes of edges (Spec 2.7)."""

GRAPH_ATTRIBUTES: Mapping[str, Meaning] = {
    # Spec 2.5
    "goal": Meaning(Kind.TEXT),
    "label": Meaning(Kind.TEXT),
    "model_stylesheet": Meaning(Kind.TEXT),
    "default_max_retries": Meaning(Kind.COUNT),
    "retry_target": Meaning(Kind.TEXT),
    "fallback_retry_target": Meaning(Kind.TEXT),
    "default_fidelity": Meaning(Kind.TEXT),
    "tool_hooks.pre": _unread(Kind.TEXT),
    "tool_hooks.post": _unread(Kind.TEXT),
    "stack.child_dotfile": Meaning(Kind.TEXT),
    # Spec 8.5
    "llm_model": Meaning(Kind.TEXT),
    "llm_provider": Meaning(Kind.TEXT),
    "reasoning_effort": Meaning(Kind.TEXT),
    "max_tokens": Meaning(Kind.POSITIVE),
    # Kilroy
    "inputs": Meaning(Kind.TEXT),
    "outputs": Meaning(Kind.TEXT),
    "thread_id": Meaning(Kind.TEXT),
    "context_fidelity_default": Meaning(Kind.TEXT),
    "context_thread_default": Meaning(Kind.TEXT),
    "max_node_visits": Meaning(Kind.POSITIVE),
    "max_restarts": Meaning(Kind.COUNT),
    "loop_restart_signature_limit": Meaning(Kind.POSITIVE),
    "loop_restart_persist_keys": Meaning(Kind.TEXT),
    "retries_before_escalation": Meaning(Kind.COUNT),
    "provenance_version": _unread(Kind.TEXT),
    "retry.backoff.initial_delay_ms": Meaning(Kind.COUNT),
    "retry.backoff.backoff_factor": Meaning(Kind.NUMBER),
    "retry.backoff.max_delay_ms": Meaning(Kind.COUNT),
    "retry.backoff.jitter": Meaning(Kind.BOOLEAN),
    # ours
    "retry_policy": Meaning(Kind.TEXT),
}
"""Attributes of the whole pipeline."""

ATTRIBUTES: Mapping[Owner, Mapping[str, Meaning]] = {
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
