"""Carries out a fan-in: brings the winner's work, or the work of all successful branches, into the lane's place of work."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.events import FanInCopyWarning, FanInIgnoredFilesWarning
from kilroy_engine.execution.lane import Lane
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import FanIn
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.rundir.stages.stage_files import encode_status
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.fanin import successes
from kilroy_engine.traversal.outcome import Json, Outcome, failure, success
from kilroy_engine.workspace.branching import adopt_branch, holds_work
from kilroy_engine.workspace.git_worktree import GitWorkspace


def fan_in(lane: Lane, node: Node, effect: FanIn) -> Outcome:
    """Brings the work into the place of work and sets the context keys that name the winner.

    Raises:
        WorkspaceError: git or the disk refused.
    """
    winner = effect.winner
    merged = successes(effect.results)
    lost = _lost_work(lane, node, merged if effect.merge_all else [winner])
    if lost:
        return failure(lost, failure_class=FailureClass.DETERMINISTIC)
    if effect.merge_all:
        conflict = _merge_all(lane, node, merged)
        if conflict:
            return failure(conflict)
        notes = f"fan-in merged {', '.join(result.branch_key for result in merged)}"
        return success(notes, **_facts(effect), **{"parallel.fan_in.merged": list[Json](r.branch_key for r in merged)})
    _adopt(lane, node, winner, effect.copy_max_bytes)
    return success(effect.notes, **_facts(effect))


def _lost_work(lane: Lane, node: Node, wanted: list[BranchRecord]) -> str:
    """The failure reason if a branch's recorded work is gone; empty if all work exists. The branch cannot be run again here,
    because its fan-out is over."""
    for result in wanted:
        if holds_work(lane.workspace, Path(result.worktree_dir), result.head_sha):
            continue
        lost = f"commit {result.head_sha}" if result.head_sha else f"folder {result.worktree_dir}"
        return (
            f'node "{node.id}": the work of branch {result.branch_key} is gone: there is no {lost} any more; put it back '
            f"and resume run {lane.run_id}, or start a new run"
        )
    return ""


def _adopt(lane: Lane, node: Node, winner: BranchRecord, max_bytes: int) -> None:
    folder = Path(winner.worktree_dir)
    if folder == lane.workspace.path:
        return  # the branches have worked in the lane's own place of work
    message = _merge_message(lane, node, winner)
    warning = adopt_branch(lane.workspace, folder, winner.head_sha, max_bytes=max_bytes, message=message)
    if not warning:
        return
    kind = FanInIgnoredFilesWarning if isinstance(lane.workspace, GitWorkspace) else FanInCopyWarning
    lane.emit(kind(node_id=node.id, winner_key=winner.branch_key, warning=warning))


def _merge_all(lane: Lane, node: Node, merged: list[BranchRecord]) -> str:
    """Merges the branches in the order of their keys. Returns why a merge failed; then no branch is merged."""
    workspace = lane.workspace
    if not isinstance(workspace, GitWorkspace):
        return f'node "{node.id}": merge=all needs a run on a git repository'
    before = workspace.committed
    for result in merged:
        conflicts = workspace.merge(result.head_sha, _merge_message(lane, node, result))
        if conflicts:
            workspace.restore(before)
            return (
                f"merge conflict: branch {result.branch_key} changes {', '.join(conflicts)} in another way than a branch "
                f"merged before it; merge {result.branch_name} by hand, or let the branches change different files"
            )
    return ""


def _merge_message(lane: Lane, node: Node, result: BranchRecord) -> str:
    return f"attractor({lane.run_id}): {node.id} merges {result.branch_key}"


def _facts(effect: FanIn) -> dict[str, Json]:
    winner = effect.winner
    losers: list[Json] = [
        {
            "branch_key": result.branch_key,
            "branch_name": result.branch_name,
            "head_sha": result.head_sha,
            "status": str(result.outcome.status),
            "logs_root": result.logs_root,
        }
        for result in effect.results
        if result.branch_key != winner.branch_key
    ]
    outcome: Json = encode_status(winner.outcome)  # type: ignore[assignment]  # the shape of a JSON file
    return {
        "parallel.fan_in.best_id": winner.branch_key,
        "parallel.fan_in.best_outcome": outcome,
        "parallel.fan_in.best_head_sha": winner.head_sha,
        "parallel.fan_in.losers": losers,
    }
