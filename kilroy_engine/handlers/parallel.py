"""Fan-out and fan-in nodes: which branches to run, and which branch's work to keep (Spec 4.8, 4.9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kilroy_engine.agents.base import Agent
from kilroy_engine.graph.attributes import read_int
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.asking import ask
from kilroy_engine.handlers.base import FanIn, FanOut, StageRequest
from kilroy_engine.rundir.files.artifacts import whole_value
from kilroy_engine.rundir.stages.branches import BranchRecord, read_shown
from kilroy_engine.traversal.branch_plan import branch_plan
from kilroy_engine.traversal.fanin import RESULTS_KEY, FanOutPolicy, all_failed, winner
from kilroy_engine.traversal.outcome import Outcome, Status, failure
from kilroy_engine.workspace.branching import BranchWorkspace
from kilroy_engine.workspace.copying import DEFAULT_COPY_MAX_BYTES


def fan_out(request: StageRequest, /) -> FanOut | Outcome:
    """Asks for one branch per outgoing edge, whatever the edge's condition. The branches end at the node where they meet."""
    node = request.node
    if not request.graph.outgoing(node.id):
        return failure("parallel node has no outgoing edges")
    plan = branch_plan(request.graph, node)
    if plan is None:
        return failure("no convergence node reachable from all branches")
    shared = node.text("branch_workspace").strip().lower() == BranchWorkspace.SHARED
    return FanOut(
        plan=plan,
        policy=FanOutPolicy.of(node),
        workspace=BranchWorkspace.SHARED if shared else BranchWorkspace.OWN,
        copy_max_bytes=_copy_max_bytes(node),
    )


@dataclass(frozen=True, slots=True)
class FanInHandler:
    """Chooses the winning branch. If the node has a prompt, the agent from ``agent_for`` ranks the branches."""

    agent_for: Callable[[Node], Agent | None]

    def __call__(self, request: StageRequest, /) -> FanIn | Outcome:
        if RESULTS_KEY not in request.context:
            return failure(f"no {RESULTS_KEY} found in context")
        results = read_shown(whole_value(request.context[RESULTS_KEY]))
        if not results:
            return failure("no parallel results to evaluate")
        best = winner(results)
        if best is None:
            return all_failed(results)
        chosen, remark = self._ranked(request, results, best)
        return FanIn(
            results=tuple(results),
            winner=chosen,
            merge_all=request.node.text("merge").strip().lower() == "all",
            copy_max_bytes=_copy_max_bytes(request.node),
            notes=f"fan-in selected {chosen.branch_key} ({chosen.outcome.status}){remark}",
        )

    def _ranked(self, request: StageRequest, results: Sequence[BranchRecord], best: BranchRecord) -> tuple[BranchRecord, str]:
        agent = self.agent_for(request.node) if request.node.has("prompt") and not request.simulate else None
        if agent is None:
            return best, ""
        candidates = {result.branch_key: result for result in results if result.outcome.status != Status.FAIL}
        answer = _ask_to_rank(agent, request, list(candidates.values()))
        key = next((word for word in answer if word in candidates), "")
        return (candidates[key], ", chosen by the agent") if key else (best, ", the agent named none of the branches")


def _ask_to_rank(agent: Agent, request: StageRequest, candidates: Sequence[BranchRecord]) -> list[str]:
    """Texts in the agent's answer that may name a branch, the likeliest first: its preferred label, then the lines of its
    response from the last to the first."""
    result = ask(agent, request, ranking_prompt(request.node, candidates))
    label = [result.outcome.preferred_label] if result.outcome else []
    return [*label, *(line.strip(" `*.\"'") for line in reversed(result.response.splitlines()) if line.strip())]


def ranking_prompt(node: Node, candidates: Sequence[BranchRecord]) -> str:
    """The list of branches to choose from, the node's own prompt, and how to answer."""
    lines = ["BRANCHES TO CHOOSE FROM"]
    for result in candidates:
        lines.append(f"- {result.branch_key}: {result.outcome.status}; its work: {result.worktree_dir}")
        if result.outcome.notes:
            lines.append(f"  notes: {result.outcome.notes}")
        if result.head_sha:
            lines.append(f"  git: {result.branch_name} at {result.head_sha}")
    keys = ", ".join(result.branch_key for result in candidates)
    return "\n".join(
        [*lines, "", node.prompt.strip(), "", f"Answer with the key of the best branch alone on the last line: {keys}"]
    )


def _copy_max_bytes(node: Node) -> int:
    return read_int(node.text("branch_copy_max_bytes"), default=DEFAULT_COPY_MAX_BYTES)
