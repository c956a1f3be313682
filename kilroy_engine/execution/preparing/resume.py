"""Resuming a run that has ended or was interrupted: what its directory holds, what refuses the resume, where the run goes on.

This module writes nothing into a run directory, so that a refused resume leaves it unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kilroy_engine.errors import CheckpointMismatch, InvalidInput, RunAlreadyFinished, RunDirectoryError
from kilroy_engine.graph.model import Graph
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.rundir.files.artifacts import require_artifacts
from kilroy_engine.rundir.files.checkpoint import Checkpoint, load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.files.run_config import read_run_config
from kilroy_engine.rundir.ownership.ownership import RunLock, owner_alive
from kilroy_engine.rundir.stages.stage_files import begun_visits
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.settings.options import Options
from kilroy_engine.traversal.fold import initial_state, with_inputs
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.base import Workspace
from kilroy_engine.workspace.reopen import workspace_of

_DIFF_LINES = 80


@dataclass(frozen=True)
class EarlierRun:
    """A run as its directory holds it. ``settings`` has dotted keys. ``source`` is the text of the pipeline that the run began
    with."""

    directory: RunDirectory
    manifest: Manifest
    settings: Mapping[str, object]
    source: str

    @property
    def prompt_folder(self) -> Path | None:
        """Folder of the pipeline's file, for prompt files; None for a pipeline that was given as text."""
        return Path(self.manifest.graph_file).parent if self.manifest.graph_file else None


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on: in ``workspace``, put back to commit ``sha``, from ``state``, at ``from_node``. ``directory`` is the
    run directory, or the latest ``restart-N`` in it."""

    directory: RunDirectory
    workspace: Workspace
    sha: str
    state: RunState
    from_node: str


def read_earlier(path: Path) -> EarlierRun:
    """The run in the directory at ``path``.

    Raises:
        RunDirectoryError: There is no run, or a file that a resume needs is missing or damaged.
        RunAlreadyOwned: A live process works on the run.
        RunAlreadyFinished: The run has succeeded.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        raise RunDirectoryError(f"there is no run directory {path}; start the pipeline anew", path=path)
    if owner_alive(run):
        RunLock.acquire(run).release()  # raises RunAlreadyOwned, unless the owner has just ended
    manifest = Manifest.find(run)
    if manifest is None:
        raise RunDirectoryError(
            f"{path} holds no run that can be resumed (manifest.json is missing): it was ended while it was being opened "
            "and has done nothing; start the pipeline anew, with the same run id if you like",
            path=path,
        )
    refuse_success(run)
    try:
        content = read_file(run.graph_dot, limit_bytes=TEXT_BYTES)
        source = content.decode("utf-8") if content is not None else None
    except UnicodeDecodeError:
        source = None
    if source is None:
        raise RunDirectoryError(
            f"{run.graph_dot} is missing or is not UTF-8 text; restore it from run.tgz or start anew", path=path
        )
    return EarlierRun(run, manifest, read_run_config(run), source)


def refuse_success(run: RunDirectory) -> None:
    """Refuses to resume a run that has succeeded.

    Raises:
        RunAlreadyFinished: The run has succeeded, and all records of its end are written.
    """
    final = FinalOutcome.find(run)
    if final is not None and final.status is FinalStatus.SUCCESS and is_ended(run.progress):
        raise RunAlreadyFinished(f"run {final.run_id} has succeeded; there is nothing to resume", path=run.path)


def require_same_pipeline(earlier: EarlierRun, source: str, filename: str, *, force: bool) -> None:
    """Refuses a pipeline that differs from the one that the run began with, unless ``force`` is set.

    Raises:
        CheckpointMismatch: The pipelines differ. The message has a unified diff.
    """
    if source == earlier.source or force:
        return
    before, after = (text.splitlines() for text in (earlier.source, source))
    lines = list(difflib.unified_diff(before, after, str(earlier.directory.graph_dot), filename, lineterm=""))
    left_out = [f"... {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else []
    run_id = earlier.manifest.run_id
    raise CheckpointMismatch(
        f"the pipeline has changed since run {run_id} began. To go on with the new one: `kilroy resume {run_id} --graph FILE "
        f"--force` (options resume_from and force). To go on with the one that it began with: `kilroy resume {run_id}`. "
        "The difference:\n" + "\n".join([*lines[:_DIFF_LINES], *left_out])
    )


def require_same_place(earlier: EarlierRun, options: Options, repo: Path | None) -> None:
    """Refuses parameters that would change the run's id or its repository.

    Raises:
        InvalidInput: One of them differs.
    """
    manifest = earlier.manifest
    if options.run_id and options.run_id != manifest.run_id:
        raise InvalidInput(f"run {manifest.run_id} keeps its id; leave run_id out to resume it", name="run_id")
    if repo is not None and manifest.repo_path not in [str(place) for place in (repo.resolve(), *repo.resolve().parents)]:
        works_on = manifest.repo_path or f"the folder {manifest.worktree}"
        raise InvalidInput(
            f"run {manifest.run_id} works on {works_on}, and not on {repo}; leave repo out to resume it", name="repo"
        )


def resumption_of(earlier: EarlierRun, graph: Graph, inputs: Mapping[str, str]) -> Resumption:
    """Where the run goes on, read from its directory now. Without a checkpoint the run begins anew. Called when a resume is
    prepared, and again under the run's lock.

    Raises:
        CorruptRecord: The checkpoint is damaged.
        CheckpointMismatch: The checkpoint belongs to another run or another pipeline.
        WorkspaceError: The repository, the commit or the work folder is gone.
    """
    run, manifest = earlier.directory, earlier.manifest
    current = run.ending_directories()[0]
    checkpoint = _saved(run, current)
    workspace = workspace_of(run)
    sha = (checkpoint.git_commit_sha if checkpoint else "") or manifest.base_sha
    if checkpoint is not None or workspace.path != run.worktree.resolve() or workspace.base_sha:
        workspace.require_restorable(sha)
    begins = initial_state(graph, run_id=manifest.run_id, inputs=inputs, base_sha=manifest.base_sha)
    saved = _saved_state(checkpoint, begins, earlier, inputs) if checkpoint else begins
    state, from_node = resumed_state(graph, saved, lambda node_id: begun_visits(current.stage(node_id)))
    return Resumption(current, workspace, sha, state, from_node)


def _saved(run: RunDirectory, current: RunDirectory) -> Checkpoint | None:
    """The checkpoint to continue from; None for a run that has completed no stage. A restart always has a checkpoint."""
    if current.checkpoint.exists():
        return load_checkpoint(current)
    if current == run:
        return None
    raise RunDirectoryError(
        f"{current.checkpoint} is missing; restore it from run.tgz or another copy, or start the pipeline anew",
        path=current.path,
    )


def _saved_state(checkpoint: Checkpoint, begins: RunState, earlier: EarlierRun, inputs: Mapping[str, str]) -> RunState:
    """The checkpoint's state, with the current attributes of the pipeline and the inputs that were given anew."""
    state, run = checkpoint.state, earlier.directory.ending_directories()[0]
    if state.run_id != begins.run_id:
        raise CheckpointMismatch(f"{run.checkpoint} belongs to run {state.run_id}, not to {begins.run_id}; restore its own")
    require_artifacts(run, state.context)
    of_graph = {key: value for key, value in begins.context.items() if key.startswith("graph.")}
    changed = {key: value for key, value in inputs.items() if value != earlier.manifest.inputs.get(key)}
    return with_inputs(replace(state, context={**state.context, **of_graph}), changed)
