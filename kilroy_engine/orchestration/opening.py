"""From a prepared run to an opened one: directory, lock, place of work, manifest. What fails here is taken back whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx

from kilroy_engine import __version__
from kilroy_engine.agents.base import Agent
from kilroy_engine.errors import KilroyError, RunAlreadyFinished, RunDirectoryError
from kilroy_engine.events import Event, RunStarted, WarningGiven
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.handlers.base import Cancellation
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.orchestration.inputs import Inputs, reveal
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.locate import Identity, Labels, run_id_for, write_labels
from kilroy_engine.orchestration.package import keep_package
from kilroy_engine.orchestration.places import GuestPlan, facts_of, open_place, plan_workspace
from kilroy_engine.orchestration.preparation import PreparedRun
from kilroy_engine.orchestration.resume import EarlierRun, refuse_success, resumption_of
from kilroy_engine.orchestration.settings import RunSettings, run_config, run_directory_path
from kilroy_engine.orchestration.stall import ProgressClock
from kilroy_engine.orchestration.tag_limits import TagLimits
from kilroy_engine.rundir.ending.cancel import cancel_requested, request_cancel
from kilroy_engine.rundir.ending.finalize import stage_conclusion
from kilroy_engine.rundir.ending.starts import OpenStart, begin_start
from kilroy_engine.rundir.files.atomic import is_temporary, write_json, write_text
from kilroy_engine.rundir.files.layout import RunDirectory, check_run_id
from kilroy_engine.rundir.files.records import Conclusion, Manifest
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.ownership.ownership import RunLock
from kilroy_engine.rundir.stages.process_groups import end_process_groups
from kilroy_engine.rundir.stages.restarts import write_restart_records
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import FinalStatus, Json
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.base import Workspace, WorkspaceFacts
from kilroy_engine.workspace.closing import closing_of
from kilroy_engine.workspace.kilroy_folder import KilroyFolder
from kilroy_engine.workspace.reopen import facts_in

END_GRACE_S = 2.0
_log = logging.getLogger(__name__)


@dataclass
class OpenRun:
    """A run at work in this process: everything that its parts share. ``current`` is where the walk's files go, the run
    directory itself or its latest ``restart-N``, and ``stream`` the events there. ``environment`` is for child processes.
    ``ending`` is set when its state hook begins."""

    prepared: PreparedRun
    identity: Identity
    started: OpenStart
    current: RunDirectory
    stream: ProgressLog
    workspace: Workspace
    log: RunLog
    handlers: HandlerRegistry
    inputs: Inputs
    environment: Mapping[str, str]
    state: RunState
    """Where the walk begins."""
    restore_to: str | None = None
    """Commit that a resumed run's place of work is put back to before the first stage; None for a new run."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    clock: ProgressClock = field(default_factory=ProgressClock)
    inherited: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What a child pipeline knows of the run around it, each time it begins."""
    within: tuple[str, ...] = ()
    """What tells a child pipeline from all other walks of the run around it."""
    limits: TagLimits = field(default_factory=TagLimits)
    tags: frozenset[str] = frozenset()
    """Of whoever called the flow."""
    ending: bool = False
    labels: Labels | None = None
    """What the flow run is told of the run; None until it is open."""

    @property
    def run_id(self) -> str:
        return self.started.run_id

    @property
    def directory(self) -> RunDirectory:
        return self.started.run

    @property
    def graph(self) -> Graph:
        return self.prepared.graph

    @property
    def settings(self) -> RunSettings:
        return self.prepared.settings

    @property
    def lane(self) -> Lane:
        """The run's own walk, in the run directory itself or in the restart that it has come to."""
        return Lane(
            run_id=self.run_id,
            graph=self.graph,
            settings=self.settings,
            directory=self.current,
            base=self.directory,
            progress=self.stream,
            workspace=self.workspace,
            handlers=self.handlers,
            inputs=self.inputs,
            environment=self.environment,
            log=self.log,
            cancellation=self.cancellation,
            clock=self.clock,
            folder=self.prepared.folder,
            pipelines=self.prepared.pipelines,
            pool=self.prepared.pool,
            within=self.within if self.current == self.directory else (*self.within, self.current.path.name),
            tags=self.tags,
            limits=self.limits,
        )

    @property
    def is_child(self) -> bool:
        """Whether it is a child pipeline, which ends with the run around it."""
        return bool(self.prepared.around)

    def beginning(self) -> RunState:
        """The state of a walk that begins at the beginning: the graph's attributes, the inputs, what is inherited."""
        state = initial_state(self.graph, run_id=self.run_id, inputs=self.prepared.inputs, base_sha=self.workspace.base_sha)
        return replace(state, context={**self.inherited, **state.context})

    def emit(self, event: Event) -> None:
        """Appends an event to the run's stream. One that comes after the end is left out; the stream logs that."""
        self.lane.emit(event)

    def move_to(self, restart: RunDirectory) -> None:
        """The walk goes on in a ``restart-N`` of the run. Who listens to the run's events hears those of the restart too."""
        left, self.stream = self.stream, self.started.progress.beside(restart)
        self.current = restart
        if left is not self.started.progress:
            left.close()

    def stop_requested(self) -> str:
        """Source of a stop request that somebody left on disk for this start; empty where there is none."""
        request = cancel_requested(self.directory, self.started.owner.start)
        return request.source if request else ""

    def conclude(self, status: FinalStatus, reason: str) -> Conclusion:
        """Stages what the walk came to, for the state hook to commit. Child processes are gone before it."""
        self.end_processes()
        self.started.lock.restore()
        if status is FinalStatus.CANCELED:
            request_cancel(self.directory, self.cancellation.source)
        conclusion = Conclusion(status=status, reason=reason, sha=self.workspace.head(), start=self.started.owner.start)
        stage_conclusion(self.directory, conclusion)
        return conclusion

    def interrupted(self, by: BaseException) -> None:
        """Something passes through the walk: child processes end, and what is known of the end goes to disk.

        Raises nothing: ``by`` must pass on, and the state hook or the reconciler finds out the rest.
        """
        try:
            self.end_processes()
            self.started.lock.restore()
            if self.cancellation.failed:
                self.conclude(FinalStatus.FAIL, self.cancellation.reason)
            elif self.cancellation.requested:
                request_cancel(self.directory, self.cancellation.source)
            elif isinstance(by, Exception):
                self.conclude(FinalStatus.FAIL, f"{_told(by)}; `kilroy resume {self.run_id}` goes on with the run")
        except (KilroyError, OSError) as error:
            _log.warning("%s was interrupted by %s and could not write down why: %s", self.run_id, type(by).__name__, error)

    def end_processes(self) -> None:
        """Ends every process group that a stage of this run has recorded and that still lives."""
        end_process_groups(self.directory, grace_s=END_GRACE_S)

    def close(self) -> None:
        """Lets go of lock and files: the run is over for this process."""
        _LIVE.pop(self.identity.flow_run_id, None)
        self.workspace.close()
        if self.stream is not self.started.progress:
            self.stream.close()
        self.started.close()


def _told(error: BaseException) -> str:
    """One line about what broke the run off. A server that is away may be deep down in Prefect's own errors."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, httpx.TransportError):
            return f"the Prefect API stopped answering ({text})"
        cause = cause.__cause__ or cause.__context__
    return f"the run broke off with {text}"


_LIVE: dict[UUID, OpenRun] = {}


def live_run(flow_run_id: UUID) -> OpenRun | None:
    """The run of this flow run if it was opened in this very process; None in a hook that runs elsewhere."""
    return _LIVE.get(flow_run_id)


def live_runs() -> tuple[OpenRun, ...]:
    """The runs that this process has opened and not closed."""
    return tuple(_LIVE.values())


def open_run(
    prepared: PreparedRun, identity: Identity, *, environ: Mapping[str, str], host: Workspace | None = None
) -> OpenRun:
    """Opens the run for this flow run: a new one, or another start of an earlier one.

    ``host`` is the place of work of the run around a child pipeline, where that works too.

    Raises:
        KilroyError: The directory is in use or not empty, it cannot be written, or the place of work cannot be made. Nothing
            is left behind of a new run, and nothing is changed of an earlier one.
        RunAlreadyFinished: The earlier run has succeeded.
    """
    parts = _Parts(prepared, identity, reveal(prepared.declared, prepared.inputs, environ), _child_environment(environ))
    if prepared.earlier is not None:
        return _open_again(parts, prepared.earlier)
    return _open_new(parts, environ, host)


@dataclass(frozen=True)
class _Parts:
    """What an opened run is made of, new or not."""

    prepared: PreparedRun
    identity: Identity
    inputs: Inputs
    environment: Mapping[str, str]

    def opening(self) -> RunStarted:
        graph = self.prepared.graph
        return RunStarted(flow_run_id=str(self.identity.flow_run_id), graph_name=self.prepared.name, goal=graph.goal)

    def assemble(self, started: OpenStart, workspace: Workspace, state: RunState, restore_to: str | None = None) -> OpenRun:
        return OpenRun(
            prepared=self.prepared.at_commit(str(state.context.get("base_sha", ""))),
            identity=self.identity,
            started=started,
            current=started.run,
            stream=started.progress,
            workspace=workspace,
            log=RunLog(started.run),
            inputs=self.inputs,
            handlers=HandlerRegistry(partial(_agent, self.prepared.agent)),
            environment=self.environment,
            state=state,
            restore_to=restore_to,
        )


def _open_new(parts: _Parts, environ: Mapping[str, str], host: Workspace | None) -> OpenRun:
    """The records come before the start: a start that is on record can be resumed, whatever happens to it afterwards."""
    prepared, identity = parts.prepared, parts.identity
    options = prepared.parameters.options
    run_id = check_run_id(run_id_for(identity.flow_run_id, options))
    directory = RunDirectory(run_directory_path(options, run_id=run_id, environ=environ))
    plan = GuestPlan(host) if host else plan_workspace(prepared.settings, run_id=run_id, base=Path.cwd())
    made = _make_directory(directory)
    lock: RunLock | None = None
    workspace: Workspace | None = None
    try:
        lock = RunLock.acquire(directory)
        facts = facts_of(plan, run_id=run_id, worktree=directory.worktree)
        _write_records(directory, prepared, identity, facts)
        if prepared.package is not None:
            keep_package(prepared.package, directory.package)
        started = begin_start(lock, parts.opening(), run_id=run_id)
        settings = prepared.settings
        workspace = open_place(
            plan, worktree=directory.worktree, exclude_globs=settings.checkpoint_exclude_globs, sign=settings.sign
        )
        if host is None:  # else the run around it has done so
            folder = KilroyFolder(workspace.path, lambda message: started.progress.append(WarningGiven(message=message)))
            folder.prepare(dict(prepared.inputs), directory.package)
        state = initial_state(prepared.graph, run_id=run_id, inputs=prepared.inputs, base_sha=facts.base_sha)
        run = parts.assemble(started, workspace, state)
    except BaseException:
        if workspace is not None and host is None:
            workspace.abandon()
        if lock is not None:
            lock.release()
        _take_back(directory.path, made=made)
        raise
    _LIVE[identity.flow_run_id] = run
    run.labels = write_labels(identity.flow_run_id, run_id, directory)
    return run


def _open_again(parts: _Parts, earlier: EarlierRun) -> OpenRun:
    """Another start of an earlier run. It is decided under the lock where that goes on, then the start is on record, and from
    then on it has to end like any other."""
    prepared, identity, directory = parts.prepared, parts.identity, earlier.directory
    run_id = earlier.manifest.run_id
    lock = RunLock.acquire(directory)
    try:
        refuse_success(directory)
        place = resumption_of(earlier, prepared.graph, prepared.inputs)
        closing = closing_of(directory)
        started = begin_start(lock, parts.opening(), run_id=run_id, from_node=place.from_node, closing=closing)
    except BaseException:
        lock.release()
        raise
    run = parts.assemble(started, place.workspace, place.state, restore_to=place.sha)
    _LIVE[identity.flow_run_id] = run
    if prepared.source != earlier.source:
        write_text(directory.graph_of_start(started.owner.start - 1), earlier.source)
    if prepared.package is not None:
        keep_package(prepared.package, directory.package)
    _write_records(directory, prepared, identity, facts_in(directory, earlier.manifest))
    if place.directory != directory:
        write_restart_records(directory, place.directory)
        run.move_to(place.directory)
    run.labels = write_labels(identity.flow_run_id, run_id, directory)
    return run


def _agent(agent: Agent | None, node: Node) -> Agent | None:
    """The run's one agent works on every node."""
    return agent


def _make_directory(run: RunDirectory) -> bool:
    """Makes the run directory; True when it was not there. One without a run in it may be used, any other may not."""
    path = run.path
    try:
        path.mkdir(parents=True)
    except FileExistsError as exists:
        if not path.is_dir():
            raise RunDirectoryError(f"{path} exists and is no directory; choose another logs_root", path=path) from exists
        if any(entry.name not in _remains(run) and not is_temporary(entry) for entry in path.iterdir()):
            raise RunAlreadyFinished(
                f"{path} is not empty: a run lives there already; resume it, or choose another run id or logs_root", path=path
            ) from exists
        return False
    except OSError as error:
        raise RunDirectoryError(
            f"cannot make the run directory {path}: {error.strerror}; choose another place with KILROY_RUNS_ROOT or logs_root",
            path=path,
        ) from error
    return True


def _remains(run: RunDirectory) -> set[str]:
    """Names of what is left of a run that was killed before its manifest was there: it has never begun."""
    return {file.name for file in (run.lock, run.run_config, run.graph_dot, run.package, run.supervisor)}


def _take_back(path: Path, *, made: bool) -> None:
    """Removes everything of a run that cannot begin; a folder that was there before stays, empty as it was."""
    if made:
        shutil.rmtree(path, ignore_errors=True)
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _write_records(directory: RunDirectory, prepared: PreparedRun, identity: Identity, facts: WorkspaceFacts) -> None:
    """Settings and pipeline, then the manifest: where that is, the others are too."""
    write_json(directory.run_config, run_config(prepared.settings, repo_path=facts.repo_path, inputs=prepared.inputs))
    write_text(directory.graph_dot, prepared.source, durable=True)
    Manifest(
        run_id=facts.run_id,
        graph_name=prepared.name,
        goal=prepared.graph.goal,
        started_at=datetime.now(UTC),
        logs_root=str(directory.path),
        graph_dot=str(directory.graph_dot),
        graph_file=prepared.graph_file,
        run_config_path=str(directory.run_config),
        worktree=str(facts.worktree),
        repo_path=str(facts.repo_path or ""),
        run_branch=facts.run_branch,
        base_sha=facts.base_sha,
        warnings=list(prepared.settings.warnings),
        labels=dict(prepared.labels),
        inputs=dict(prepared.inputs),
        flow_run_id=str(identity.flow_run_id),
        flow_run_name=identity.flow_run_name,
        deployment_id=str(identity.deployment_id or ""),
        prefect_ui_url=identity.page_url,
        engine_version=__version__,
        outputs=list(prepared.outputs),
    ).write(directory)


def _child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for stages: without Prefect's private line between a worker and this very process, which would make a
    flow that a stage starts believe that it is supervised."""
    return {name: value for name, value in environ.items() if not name.startswith("PREFECT__")}
