"""Fakes for walks: graphs built by hand, stages that play outcomes from a script, a recorder that writes down events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kilroy_engine.events import Event as Decision
from kilroy_engine.events import field_names
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
from kilroy_engine.traversal.breakers import failure_cycle_check
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import FinalStatus, Outcome, failure, read_status, success
from kilroy_engine.traversal.retry import Again, delay_s, judge, retry_policy
from kilroy_engine.traversal.state import Finish, Restart, RunState, Visit
from kilroy_engine.traversal.walk import walk

NOWHERE = Position(0, 0)
COMPARED: Mapping[str, tuple[str, ...]] = {
    "edge_selected": ("from_node", "to_node", "selection_method", "hop_source", "condition"),
    "stuck_cycle_breaker": ("node_id",),
    "deterministic_failure_cycle_breaker": ("node_id", "signature"),
}
"""Fields of events that are compared with those of the recorded runs; all fields of any other event."""
LEFT_OUT = (("condition", ""), ("current_logs_root", ""))
"""What an event of the walk alone does not say."""
Event = dict[str, object]


def attributes(values: Mapping[str, object]) -> dict[str, Attribute]:
    """Attributes of plain values; ``retry__x`` stands for ``retry.x``."""
    texts = {key.replace("__", "."): str(value) for key, value in values.items()}
    return {key: Attribute(key, text, NOWHERE, NOWHERE) for key, text in texts.items()}


def node(node_id: str, **values: object) -> Node:
    return Node(node_id, NOWHERE, attributes(values))


def edge(source: str, target: str, **values: object) -> Edge:
    return Edge(source, target, NOWHERE, attributes=attributes(values))


def graph_of(nodes: Sequence[Node], edges: Sequence[Edge], **values: object) -> Graph:
    """A graph with ``start`` and ``exit`` besides ``nodes``; edges are numbered in order."""
    markers = (node("start", shape="Mdiamond"), node("exit", shape="Msquare"))
    numbered = tuple(Edge(e.source, e.target, e.position, i, e.attributes) for i, e in enumerate(edges))
    return Graph("g", {n.id: n for n in (*markers, *nodes)}, numbered, attributes(values))


def outcome_of(word: str) -> Outcome:
    """``success``, ``fail`` … or ``fail: reason``."""
    status, _, reason = word.partition(":")
    return Outcome(read_status(status), failure_reason=reason.strip())


@dataclass
class Stages:
    """Plays each node's outcomes, one per attempt; the last one repeats, a node without a script succeeds.

    Attempts are judged like real ones, only without the waiting. ``events`` are in Kilroy's words; ``visits`` are the node
    ids in order.
    """

    graph: Graph
    script: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    visits: list[str] = field(default_factory=list)
    finish: Finish | None = None
    state: RunState | None = None
    executions: dict[str, int] = field(default_factory=dict)
    until: str = "a join that no graph here has"
    """A walk like a branch's, which cannot begin the run again."""

    def run(self, state: RunState | None = None) -> Finish:
        state = state or initial_state(self.graph, run_id="RUN", inputs={})
        finish = walk(self.graph, state, perform=self.perform, recorder=self, until=self.until)
        assert isinstance(finish, Finish)
        return finish

    def perform(self, visit: Visit, state: RunState) -> Outcome:
        stage = self.graph.nodes[visit.node_id]
        policy = retry_policy(self.graph, stage)
        for attempt in range(1, 1000):
            outcome = self._play(stage.id)
            judged = judge(self.graph, stage, outcome, attempt=attempt)
            if judged.reason:
                self._tell(
                    "retry_decision",
                    node_id=stage.id,
                    attempt=attempt,
                    reason=judged.reason,
                    will_retry=isinstance(judged, Again),
                )
            if isinstance(judged, Again):
                delay_ms = round(delay_s(policy, state.run_id, stage.id, attempt) * 1000)
                self._tell("stage_retry_sleep", node_id=stage.id, attempt=attempt, delay_ms=delay_ms, retries=attempt)
                continue
            if judged.blocked:
                self._tell("stage_retry_blocked", node_id=stage.id, attempt=attempt, failure_class=judged.failure_class)
            return judged.outcome
        raise AssertionError("a stage was tried without end")

    def visit_started(self, visit: Visit, state: RunState) -> None:
        self.told(visit.decisions)
        self.visits.append(visit.node_id)

    def outcome_recorded(self, visit: Visit, outcome: Outcome, state: RunState) -> None:
        check = failure_cycle_check(self.graph, state, visit.node_id, outcome)
        if check:
            self._tell(
                "deterministic_failure_cycle_check",
                node_id=check.node_id,
                failure_reason=check.failure_reason,
                signature=check.signature,
            )

    def restarting(self, restart: Restart, state: RunState) -> None:
        self.told(restart.decisions)

    def finished(self, finish: Finish, state: RunState) -> None:
        self.told(finish.decisions)
        completed = finish.status == FinalStatus.SUCCESS
        self._tell("run_completed" if completed else "run_failed", status=str(finish.status), reason=finish.reason)
        self.finish, self.state = finish, state

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    def _play(self, node_id: str) -> Outcome:
        number = self.executions[node_id] = self.executions.get(node_id, 0) + 1
        outcomes = self.script.get(node_id) or (success(),)
        return outcomes[min(number, len(outcomes)) - 1]

    def _tell(self, name: str, **fields: object) -> None:
        self.events.append({"event": name} | fields)

    def told(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            kept = COMPARED.get(decision.event, field_names(type(decision)))
            fields = {name: getattr(decision, name) for name in kept}
            self._tell(decision.event, **{name: value for name, value in fields.items() if (name, value) not in LEFT_OUT})


def walked(graph: Graph, **script: Sequence[str | Outcome]) -> Stages:
    """A walk that is over. The script gives outcomes or words as in :func:`outcome_of`."""
    plays = {n: [outcome_of(o) if isinstance(o, str) else o for o in outcomes] for n, outcomes in script.items()}
    stages = Stages(graph, plays)
    stages.run()
    return stages


__all__ = [
    "Stages",
    "edge",
    "failure",
    "graph_of",
    "node",
    "outcome_of",
    "success",
    "walked",
]
