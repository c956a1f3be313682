"""Opens a prepared run: run directory, lock, place of work, manifest. If a step fails, everything that was made is removed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kilroy_engine import __version__
from kilroy_engine.agents.registry import AgentsOfRun
from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.errors import RunAlreadyFinished, RunDirectoryError, RunEnded
from kilroy_engine.events import Event, RunStarted, WarningGiven
from kilroy_engine.events.times import now
from kilroy_engine.execution.budget import Budget, BudgetLimits, Meter
from kilroy_engine.execution.lane import CarryOut, Lane
from kilroy_engine.execution.ports import Identity, Orchestrator
from kilroy_engine.execution.preparing.inputs import Inputs, reveal
from kilroy_engine.execution.preparing.package import keep_package
from kilroy_engine.execution.preparing.places import GuestPlan, WorkspacePlan, facts_of, open_place, plan_workspace
from kilroy_engine.execution.preparing.preflight import preflight_report
from kilroy_engine.execution.preparing.preparation import PreparedRun, with_agent_block
from kilroy_engine.execution.preparing.resume import EarlierRun, refuse_success, resumption_of
from kilroy_engine.execution.preparing.settings import run_directory_path, run_id_for
from kilroy_engine.execution.run import Run, register
from kilroy_engine.execution.stall import ProgressClock
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.rundir.ending.starts import OpenStart, begin_start
from kilroy_engine.rundir.files.atomic import is_temporary, write_json, write_text
from kilroy_engine.rundir.files.layout import RunDirectory, check_run_id
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.run_config import run_config
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.files.usage import UsageLog
from kilroy_engine.rundir.ownership.ownership import RunLock
from kilroy_engine.rundir.stages.restarts import write_restart_records
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import Json
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.base import Workspace, WorkspaceFacts
from kilroy_engine.workspace.closing import closing_of
from kilroy_engine.workspace.kilroy_folder import KilroyFolder
from kilroy_engine.workspace.reopen import facts_in


@dataclass(frozen=True)
class Host:
    """What a child pipeline gets from the run around it: the ``lane`` of the node that runs the child, a ``cancellation``
    linked to that lane's, the names that tell the child from all other walks of the run (``within``), and the context keys that
    the child starts with (``inherited``)."""

    lane: Lane
    cancellation: Cancellation
    within: tuple[str, ...]
    inherited: Mapping[str, Json]


@dataclass(frozen=True)
class OpenedRun:
    """An opened run. ``lane`` and ``state`` are what the walk begins with.

    ``restore_to`` is the commit that a resumed run's place of work is put back to before the first stage; None for a new run.
    ``inherited`` holds the context keys that a child pipeline gets from the run around it, at its first start and at each
    restart. ``within`` is :attr:`Host.within`.
    """

    run: Run
    lane: Lane
    prepared: PreparedRun
    state: RunState
    restore_to: str | None = None
    inherited: Mapping[str, Json] = field(default_factory=dict[str, Json])
    within: tuple[str, ...] = ()

    def beginning(self) -> RunState:
        """The state of a walk from the start node: the graph's attributes, the inputs and ``inherited`` as context. Called for
        each restart."""
        base_sha = self.lane.workspace.base_sha
        state = initial_state(self.lane.graph, run_id=self.run.run_id, inputs=self.prepared.inputs, base_sha=base_sha)
        return replace(state, context={**self.inherited, **state.context})

    def lane_in(self, restart: RunDirectory, stream: ProgressLog) -> Lane:
        """The lane of the walk in the directory ``restart`` (a ``restart-N``), with the events in ``stream``."""
        return replace(self.lane, directory=restart, progress=stream, within=(*self.within, restart.path.name))


def open_run(
    prepared: PreparedRun,
    identity: Identity,
    orchestrator: Orchestrator,
    carry_out: CarryOut,
    *,
    environ: Mapping[str, str],
    host: Host | None = None,
) -> OpenedRun:
    """Opens the run for this flow run: a new run, or another start of an earlier run.

    ``carry_out`` is :func:`kilroy_engine.execution.effects.carry_out`, for every lane of the run. ``host`` is given for a child
    pipeline only.

    Raises:
        KilroyError: The directory is in use, not empty or not writable, or the place of work cannot be made. A new run leaves
            nothing behind, and an earlier run stays unchanged.
        RunAlreadyFinished: The earlier run has succeeded.
    """
    inputs = reveal(prepared.declared, prepared.inputs, environ, orchestrator.secret)
    if host is not None:
        inputs = replace(inputs, hidden=host.lane.inputs.hidden)
    elif prepared.settings.agent_block:
        prepared = with_agent_block(prepared, orchestrator.agent_variables, environ)
        inputs = replace(inputs, hidden=prepared.agents.variables.hidden if prepared.agents.variables else ())
    parts = _Parts(prepared, identity, orchestrator, carry_out, inputs, _child_environment(environ), host)
    opened = _open_again(parts, prepared.earlier) if prepared.earlier is not None else _open_new(parts, environ)
    orchestrator.opened(identity, opened.run.run_id, opened.run.directory)
    return opened


@dataclass(frozen=True)
class _Parts:
    """The parts that :class:`OpenedRun` is made of, for a new run and for another start."""

    prepared: PreparedRun
    identity: Identity
    orchestrator: Orchestrator
    carry_out: CarryOut
    inputs: Inputs
    environment: Mapping[str, str]
    host: Host | None

    def opening(self) -> RunStarted:
        graph = self.prepared.graph
        return RunStarted(flow_run_id=str(self.identity.flow_run_id), graph_name=self.prepared.name, goal=graph.goal)

    def assemble(self, started: OpenStart, workspace: Workspace, state: RunState, restore_to: str | None = None) -> OpenedRun:
        """Makes the opened run and registers it for :func:`~kilroy_engine.execution.run.live_run`."""
        prepared, host = self.prepared, self.host
        cancellation = host.cancellation if host else Cancellation()
        run = Run(
            identity=self.identity,
            started=started,
            stream=started.progress,
            workspace=workspace,
            orchestrator=self.orchestrator,
            budget=host.lane.budget if host else _budget(prepared.settings, started, cancellation),
            cancellation=cancellation,
            clock=host.lane.clock if host else ProgressClock(),
            is_child=host is not None,
        )
        lane = Lane(
            run_id=started.run_id,
            graph=prepared.graph,
            settings=prepared.settings,
            directory=started.run,
            base=started.run,
            progress=started.progress,
            workspace=workspace,
            handlers=host.lane.handlers if host else HandlerRegistry(_agents_of(prepared, self.inputs)),
            orchestrator=self.orchestrator,
            carry_out=self.carry_out,
            inputs=self.inputs,
            environment=self.environment,
            log=RunLog(started.run),
            budget=run.budget,
            cancellation=run.cancellation,
            clock=run.clock,
            within=host.within if host else (),
            folder=prepared.folder,
            pipelines=prepared.pipelines,
        )
        inherited = host.inherited if host else {}
        if inherited and not state.completed:
            state = replace(state, context={**inherited, **state.context})
        register(run)
        return OpenedRun(run, lane, prepared, state, restore_to, inherited, lane.within)


def _open_new(parts: _Parts, environ: Mapping[str, str]) -> OpenedRun:
    """Opens a new run. The records are written before the start is recorded, so that every recorded start can be resumed."""
    prepared, identity, host = parts.prepared, parts.identity, parts.host
    options = prepared.parameters.options
    run_id = check_run_id(run_id_for(identity.flow_run_id, options))
    directory = RunDirectory(run_directory_path(options, run_id=run_id, environ=environ))
    if host:
        plan: WorkspacePlan = GuestPlan(host.lane.workspace, prepared.base_sha)
    else:
        plan = plan_workspace(prepared.settings, run_id=run_id, base=Path.cwd(), base_sha=prepared.base_sha)
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
        return parts.assemble(started, workspace, state)
    except BaseException:
        if workspace is not None and host is None:
            workspace.abandon()
        if lock is not None:
            lock.release()
        _take_back(directory.path, made=made)
        raise


def _open_again(parts: _Parts, earlier: EarlierRun) -> OpenedRun:
    """Opens another start of an earlier run. Under the lock, the place where the run goes on is decided and the start is
    recorded. A recorded start must get an end like any other."""
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
    opened = parts.assemble(started, place.workspace, place.state, restore_to=place.sha)
    if prepared.source != earlier.source:
        write_text(directory.graph_of_start(started.owner.start - 1), earlier.source)
    if prepared.package is not None:
        keep_package(prepared.package, directory.package)
    _write_records(directory, prepared, identity, facts_in(directory, earlier.manifest))
    if place.directory == directory:
        return opened
    write_restart_records(directory, place.directory)
    return replace(opened, lane=opened.lane_in(place.directory, opened.run.move_to(place.directory)))


def _agents_of(prepared: PreparedRun, inputs: Inputs) -> AgentsOfRun:
    """The run's agents, in whose files no secret input is kept either."""
    agents = prepared.agents
    return replace(agents, variables=(agents.variables or AgentVariables()).hiding(inputs.secrets))


def _budget(settings: RunSettings, started: OpenStart, cancellation: Cancellation) -> Budget:
    """The run's budget, with what its earlier starts have spent."""
    limits = BudgetLimits(settings.max_cost_usd, settings.max_tokens)
    mend = f"; `kilroy resume {started.run_id}` with a higher --max-cost-usd or --max-tokens goes on with the run"

    def tell(event: Event) -> None:
        try:
            started.progress.append(event)
        except RunEnded:
            return

    return Budget(UsageLog(started.run.usage), Meter(limits, tell, cancellation, mend=mend))


def _make_directory(run: RunDirectory) -> bool:
    """Makes the run directory. Returns True if the directory did not exist. An existing directory is only accepted if it holds
    no run."""
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
    """Names of the files of a run that was killed before its manifest was written. Such a run has never begun."""
    return {file.name for file in (run.lock, run.run_config, run.graph_dot, run.preflight_report, run.package, run.supervisor)}


def _take_back(path: Path, *, made: bool) -> None:
    """Removes all files of a run that could not begin. A directory that existed before stays, empty."""
    if made:
        shutil.rmtree(path, ignore_errors=True)
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _write_records(directory: RunDirectory, prepared: PreparedRun, identity: Identity, facts: WorkspaceFacts) -> None:
    """Writes settings and pipeline first and the manifest last: a directory with a manifest has the other records too."""
    write_json(directory.run_config, run_config(prepared.settings, repo_path=facts.repo_path, inputs=prepared.inputs))
    write_text(directory.graph_dot, prepared.source, durable=True)
    if prepared.checks:
        moment = now()
        write_json(directory.preflight_report, preflight_report(prepared.checks, began=moment, ended=moment))
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
    """The environment for stages, without the variables that a Prefect worker sets for this process alone. With them, a flow
    that a stage starts would believe that a worker supervises it."""
    return {name: value for name, value in environ.items() if not name.startswith("PREFECT__")}
