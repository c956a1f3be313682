"""Whether a stage has reached out of its worktree into the user's own repository."""

from __future__ import annotations

from kilroy_engine.events import WarningGiven
from kilroy_engine.execution.lane import Lane
from kilroy_engine.graph.model import Node
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, Status
from kilroy_engine.workspace.source_repo import SourceRepository, SourceState, differences

FAIL = "fail"


class SourceWatch:
    """Looks at the user's repository before and after an attempt at an agent node. Nothing is ever put back.

    Made when the attempt begins. Of other nodes, and of runs without a repository, it sees nothing.
    """

    def __init__(self, lane: Lane, node: Node) -> None:
        self._lane = lane
        self._node = node
        source = lane.workspace.source if node.type == "codergen" and not lane.settings.simulate else None
        self._repository = SourceRepository(source, lane.settings.run_branch_prefix) if source is not None else None
        self._before = self._repository.look() if self._repository is not None else SourceState()

    def judged(self, outcome: Outcome) -> Outcome:
        """``outcome``, or a failure where the repository is not what it was and the settings want that. A warning tells it.

        In a branch nobody can say whose stage it was.
        """
        found = differences(self._before, self._repository.look()) if self._repository is not None else ()
        if not found:
            return outcome
        source = self._lane.workspace.source
        who = "while parallel stages were at work" if self._lane.path else f"while {self._node.id} was at work"
        told = f"the repository {source} was changed {who}: {'; '.join(found)}"
        self._lane.emit(WarningGiven(message=f"{told}; a run works in its own worktree, and nothing was put back"))
        if self._lane.settings.source_repo_change != FAIL or outcome.failed:
            return outcome
        return outcome.with_updates(
            status=Status.FAIL, failure_reason=told, failure_class=FailureClass.DETERMINISTIC,
            preferred_label="", suggested_next_ids=(),
        )  # fmt: skip
