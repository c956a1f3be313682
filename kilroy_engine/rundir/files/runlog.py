"""Writes ``run.log``, the log for people: one JSON object per line in Kilroy's field order, times with milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from kilroy_engine.events.encoding import utf8
from kilroy_engine.events.times import now
from kilroy_engine.rundir.files.atomic import append_whole
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.traversal.outcome import Json


class RunLog:
    """Appends records to ``run.log``. Each record is one write, so that threads and processes may share the file."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.log

    def write(
        self,
        source: Literal["engine", "git", "tool", "agent"],
        event: str,
        message: str,
        *,
        node: str = "",
        data: Mapping[str, Json] | None = None,
        level: Literal["info", "warn"] = "info",
    ) -> None:
        """Appends one record. Without ``data`` the record has no ``data`` key."""
        record: dict[str, object] = {
            "ts": f"{now():%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "level": level,
            "source": source,
            "node": node,
            "event": event,
            "msg": message,
        }
        if data is not None:
            record["data"] = dict(data)
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str)
        append_whole(self._path, utf8(line) + b"\n")

    def worktree_created(self, path: str, *, branch: str, base_sha: str) -> None:
        """The run's worktree is ready."""
        data: dict[str, Json] = {"path": path, "branch": branch, "base_sha": base_sha}
        self.write("git", "worktree.created", f"Worktree: {path} (branch: {branch})", data=data)

    def run_started(self, run_id: str, *, graph: str, workspace: str, inputs: Mapping[str, Json] | None = None) -> None:
        """The run begins. The secrets in ``inputs`` are masked."""
        given: Json = dict(inputs) if inputs is not None else None
        data: dict[str, Json] = {"run_id": run_id, "workspace": workspace, "inputs": given, "graph": graph}
        self.write("engine", "run.started", f"Run started: {graph}", data=data)

    def node_started(self, node_id: str, *, label: str, handler: str, attempt: int) -> None:
        """An attempt at a stage begins."""
        data: dict[str, Json] = {"handler": handler, "attempt": attempt}
        self.write("engine", "node.started", f"Executing: {label}", node=node_id, data=data)

    def node_completed(self, node_id: str, *, status: str, duration_ms: int, attempt: int) -> None:
        """An attempt at a stage is over."""
        data: dict[str, Json] = {"status": status, "duration_ms": duration_ms, "attempt": attempt}
        self.write("engine", "node.completed", f"Node {node_id}: {status} ({duration_ms}ms)", node=node_id, data=data)

    def context_updated(self, node_id: str, keys: Sequence[str]) -> None:
        """A stage changed the context."""
        data: dict[str, Json] = {"keys": list(keys)}
        self.write("engine", "context.updated", f"Context updated: {len(keys)} keys", node=node_id, data=data)

    def checkpoint_saved(self, node_id: str, *, sha: str) -> None:
        """The state after a stage is on disk. ``sha`` is the stage's commit, if any."""
        data: dict[str, Json] | None = {"sha": sha} if sha else None
        self.write("engine", "checkpoint.saved", f"Checkpoint: {sha[:8]}", node=node_id, data=data)

    def edge_selected(self, source: str, target: str, *, method: str, condition: str) -> None:
        """The walk goes from ``source`` to ``target``."""
        data: dict[str, Json] = {"from": source, "to": target, "reason": method, "condition": condition}
        self.write("engine", "edge.selected", f"{source} → {target} ({method})", data=data)

    def tool_output(self, node_id: str, stream: str, line: str) -> None:
        """One line of a tool's output; ``stream`` is ``stdout`` or ``stderr``."""
        self.write("tool", stream, line, node=node_id)

    def run_completed(self, *, status: str, failure_reason: str, sha: str) -> None:
        """The run ended, with any ``status``."""
        data: dict[str, Json] = {"status": status, "failure_reason": failure_reason, "sha": sha}
        self.write("engine", "run.completed", f"Run completed: {status}", data=data)
