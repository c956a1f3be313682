"""What an agent stage gets of the run before it: the fidelity mode, the thread and the session (Spec 5.4, Kilroy)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kilroy_engine.graph.model import Edge, Graph, Node
from kilroy_engine.graph.node_types import AGENT
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import RunState, Visit


@dataclass(frozen=True, slots=True)
class Carried:
    """What an agent stage gets. ``thread`` is empty unless the mode is ``full`` or was reduced from ``full`` by a resume.

    ``session`` is the agent session to continue. A thread without a session begins a new session.
    """

    fidelity: Fidelity = Fidelity.COMPACT
    thread: str = ""
    session: str = ""


def resolve_fidelity(graph: Graph, node: Node, edge: Edge | None) -> Fidelity:
    """The mode of the edge taken, else of the node, else of the graph, else ``compact``.

    Case does not matter. The first text that is not blank decides. A text that is no mode counts as ``compact`` (Kilroy).
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
    """The thread of a stage with ``full`` fidelity; never empty.

    The first that is not blank: the node's ``thread_id``, the edge's, the graph's, the graph's ``context_thread_default``, the
    node's first class (from the label of its innermost subgraph, if any), the previous node, the node itself.
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
    """What the stage of ``visit`` gets. ``state`` is the state in which the visit works."""
    node, edge = graph.nodes[visit.node_id], _edge(graph, visit)
    fidelity = resolve_fidelity(graph, node, edge)
    if fidelity is not Fidelity.FULL:
        return Carried(fidelity)
    thread = resolve_thread(graph, node, edge, state.last_node)
    if state.degrade_fidelity:
        # The stage begins a new session, and later stages of the thread continue that session.
        return Carried(Fidelity.SUMMARY_HIGH, thread)
    return Carried(fidelity, thread, state.sessions.get(thread, ""))


def remember(graph: Graph, state: RunState, visit: Visit, outcome: Outcome) -> RunState:
    """``state`` with the mode, the thread and the agent session of this visit, for later stages and for a resume."""
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
