"""What an agent's stage is given of the run before it: mode of fidelity, thread, session (Spec 5.4, Kilroy: fidelity)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kilroy_engine.graph.model import Edge, Graph, Node
from kilroy_engine.graph.node_types import AGENT
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import RunState, Visit


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes into a stage: ``thread`` is empty unless the stage is part of a conversation, ``session`` continues that.

    A thread without a session begins one.
    """

    fidelity: Fidelity = Fidelity.COMPACT
    thread: str = ""
    session: str = ""


def resolve_fidelity(graph: Graph, node: Node, edge: Edge | None) -> Fidelity:
    """The mode by the edge taken, else the node, else the graph, else ``compact``.

    Case does not matter. The first text that is not blank decides; one that is no mode counts as ``compact`` (Kilroy).
    """
    candidates = (
        edge.text("fidelity") if edge else "",
        node.text("fidelity"),
        graph.text("default_fidelity"),
        graph.text("context_fidelity_default"),
    )
    word = next((text.strip().lower() for text in candidates if text.strip()), "")
    return Fidelity(word) if word in tuple(Fidelity) else Fidelity.COMPACT


def resolve_thread(graph: Graph, node: Node, edge: Edge | None, previous: str) -> str:
    """The key of the conversation under ``full`` fidelity; never empty.

    The node's ``thread_id``, the edge's, the graph's, its ``context_thread_default``, the node's first class (its innermost
    subgraph's, if that has a label), the node before, the node itself.
    """
    candidates = (
        node.text("thread_id"),
        edge.text("thread_id") if edge else "",
        graph.text("thread_id"),
        graph.text("context_thread_default"),
        next(iter(node.classes), ""),
        edge.source if edge else previous,
    )
    return next((text.strip() for text in candidates if text.strip()), node.id)


def carried_into(graph: Graph, state: RunState, visit: Visit) -> Carried:
    """What ``visit`` is given; ``state`` is the one in which it works."""
    node, edge = graph.nodes[visit.node_id], _edge(graph, visit)
    fidelity = resolve_fidelity(graph, node, edge)
    if fidelity is not Fidelity.FULL:
        return Carried(fidelity)
    thread = resolve_thread(graph, node, edge, state.last_node)
    if state.degrade_fidelity:
        # The conversation begins anew, and its later stages go on with the new one.
        return Carried(Fidelity.SUMMARY_HIGH, thread)
    return Carried(fidelity, thread, state.sessions.get(thread, ""))


def remember(graph: Graph, state: RunState, visit: Visit, outcome: Outcome) -> RunState:
    """``state`` with what later stages and a resume need to know of this one: mode, thread, and the agent's session."""
    if graph.nodes[visit.node_id].type != AGENT:
        return replace(state, last_fidelity="", last_thread_key="")
    carried = carried_into(graph, state, visit)
    sessions = state.sessions
    if carried.thread and outcome.session:
        sessions = {**sessions, carried.thread: outcome.session}
    return replace(
        state,
        last_fidelity=str(carried.fidelity),
        last_thread_key=carried.thread,
        sessions=sessions,
        degrade_fidelity=False,
    )


def _edge(graph: Graph, visit: Visit) -> Edge | None:
    return next((edge for edge in graph.incoming(visit.node_id) if edge.index == visit.edge), None)
