"""Everything that can refuse a run before it starts: the pipeline's text, its checks, settings, inputs, the repository.

This module writes nothing, so that a refused run leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kilroy_engine.agents.registry import AgentsOfRun
from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.errors import InvalidInput, InvalidPipeline
from kilroy_engine.execution.preparing.extensions import (
    findings_with_plugins,
    handler_findings,
    plugin_rules,
    with_plugin_transforms,
)
from kilroy_engine.execution.preparing.inputs import check_inputs, with_defaults
from kilroy_engine.execution.preparing.package import WorkflowPackage, package_at, read_package
from kilroy_engine.execution.preparing.pipeline_file import INLINE, child_reader, name_by_file, read_pipeline, read_prompt
from kilroy_engine.execution.preparing.places import GitPlan, PlainPlan, WorkspacePlan, first_commit, plan_workspace
from kilroy_engine.execution.preparing.preflight import (
    Check,
    Surroundings,
    checked_agents,
    place_of_agents,
    require_agents,
    warnings_of,
)
from kilroy_engine.execution.preparing.resume import (
    EarlierRun,
    read_earlier,
    require_same_pipeline,
    require_same_place,
    resumption_of,
)
from kilroy_engine.execution.preparing.settings import require_task_runner, resolve_settings, resumed_path
from kilroy_engine.graph.checks.child_validation import nesting_problem, with_children_checked
from kilroy_engine.graph.checks.validation import require_valid
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import DeclaredInput, declared_inputs
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.transforms import complete, expand_variables, resolve_types
from kilroy_engine.handlers.node_types import known_types
from kilroy_engine.rundir.ending.outputs import declared_outputs
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.children import SupervisorRecord
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.workspace.branching import BranchWorkspace

UNNAMED = "unnamed"
"""Used as run id for the check of the place of work, when the real id will follow from a flow run that does not exist yet."""


@dataclass(frozen=True)
class RunParameters:
    """What a run is started with: the flow's parameters.

    ``graph`` is a path, a folder or DOT text. A text that contains ``{`` is DOT text. Relative paths count from the ``base`` of
    :func:`prepare_run`.
    """

    graph: str
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    repo: str = ""
    options: Options = field(default_factory=Options)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def resuming(self, run: RunDirectory) -> RunParameters:
        """The same parameters for another start of ``run``."""
        return replace(self, options=self.options.model_copy(update={"resume_from": str(run.path)}))


@dataclass(frozen=True)
class PreparedRun:
    """A run that may start. ``source`` is the pipeline's text as submitted. ``graph`` is the graph after all transforms; this
    graph is checked and run. ``base_sha`` is the commit that the run begins at, empty without a repository.

    ``checks`` are the checks of the run's agents. ``declared`` are the inputs that the pipeline and its package declare.
    ``inputs`` are the values, defaults included. ``folder`` is where child pipelines are looked for first. ``earlier`` is the
    run that is resumed, None for a new run. ``package`` is the workflow package of the pipeline. ``around`` are the files of
    the pipelines around a child pipeline, outermost first. A pipeline without a file is an empty text.
    """

    parameters: RunParameters
    source: str
    filename: str
    graph: Graph
    base_sha: str
    settings: RunSettings
    declared: tuple[DeclaredInput, ...]
    inputs: Mapping[str, str]
    labels: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]
    folder: Path
    agents: AgentsOfRun = field(default_factory=lambda: AgentsOfRun(RunSettings(), ""))
    checks: tuple[Check, ...] = ()
    earlier: EarlierRun | None = None
    package: WorkflowPackage | None = None
    around: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the graph, else of the earlier run, the package or the file."""
        known = self.earlier.manifest.graph_name if self.earlier else ""
        return self.graph.name or known or (self.package.name if self.package else name_by_file(self.filename))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Files that the run delivers at its end: those that the graph declares, then those of the package."""
        of_package = self.package.manifest.outputs if self.package else ()
        return tuple(dict.fromkeys((*declared_outputs(self.graph.text("outputs")), *of_package)))

    @property
    def graph_file(self) -> str:
        """Absolute path of the pipeline's file; empty for DOT text."""
        if self.earlier is not None and self.source == self.earlier.source:
            return self.earlier.manifest.graph_file
        return "" if self.filename == INLINE else str(Path(self.filename).absolute())

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The files of the pipelines around this one, then its own file."""
        return (*self.around, self.graph_file and str(Path(self.graph_file).resolve()))


def prepare_run(parameters: RunParameters, *, environ: Mapping[str, str], base: Path | None = None) -> PreparedRun:
    """Reads, checks and resolves everything that the run needs.

    Args:
        parameters: The flow's parameters.
        environ: The process environment.
        base: Folder that relative paths count from; the current folder by default.

    Raises:
        KilroyError: The run is refused. The message says what is wrong, where, and how to mend it.
    """
    folder, options = base or Path.cwd(), parameters.options
    earlier = read_earlier(resumed_path(options.resume_from, environ)) if options.resume_from else None
    if earlier is not None:
        _require_no_child(earlier)
    source, filename, beside = _pipeline(parameters, folder, earlier)
    package = _package(parameters, folder, earlier)
    saved = earlier.settings if earlier else None
    settings = resolve_settings(options, repo="" if earlier else parameters.repo, environ=environ, base=folder, saved=saved)
    written = complete(parse_dot(source, filename), partial(_read_prompt, beside))
    of_graph = declared_inputs(written)
    declared = package.declared_with(of_graph) if package else of_graph
    given = with_defaults(declared, {**settings.inputs, **parameters.inputs})
    base_sha = earlier.manifest.base_sha if earlier else first_commit(settings, base=folder)
    graph = expand_variables(written, given, base_sha=base_sha)
    graph, diagnostics = _checked(graph, _own_file(source, filename, beside[-1], earlier), beside[-1])
    agents, checks = _agents_for(graph, settings, environ, place_of_agents(settings, folder))
    settings = replace(settings, warnings=(*settings.warnings, *warnings_of(checks)))
    check_inputs(of_graph, given)
    if package is not None:
        package.require_inputs(given)
        settings = replace(settings, warnings=(*settings.warnings, *package.warnings))
    require_task_runner(settings.task_runner)
    if earlier is None:
        plan = plan_workspace(settings, run_id=options.run_id or UNNAMED, base=folder, base_sha=base_sha)
        _require_branchable(graph, plan)
        if isinstance(plan, GitPlan):
            settings = replace(settings, warnings=(*settings.warnings, *plan.warnings))
    else:
        require_same_place(earlier, options, folder / Path(parameters.repo).expanduser() if parameters.repo else None)
        resumption_of(earlier, graph, given)
    return PreparedRun(
        parameters=parameters,
        source=source,
        filename=filename,
        graph=graph,
        base_sha=base_sha,
        settings=settings,
        declared=declared,
        inputs=given,
        labels={**(earlier.manifest.labels if earlier else _labels(settings, package)), **parameters.labels},
        diagnostics=diagnostics,
        folder=beside[-1],
        agents=agents,
        checks=checks,
        earlier=earlier,
        package=package,
    )


def prepare_child(
    parameters: RunParameters,
    settings: RunSettings,
    *,
    around: tuple[str, ...],
    base_sha: str = "",
    environ: Mapping[str, str] | None = None,
) -> PreparedRun:
    """Prepares a child pipeline. The child has the ``settings`` of the run around it, except those of the outer run alone:
    place of work, deadlines, set-up, publishing.

    ``parameters.graph`` is the absolute path of the child's file. ``options.resume_from`` says that the child is resumed. A new
    child begins at ``base_sha``, the outer run's last commit.

    Raises:
        KilroyError: The child is refused.
    """
    file = Path(parameters.graph)
    nested = nesting_problem((*around, str(file.resolve())))
    if nested:
        raise InvalidInput(nested, name="graph")
    resume_from = parameters.options.resume_from
    source, filename = read_pipeline(str(file))
    written = complete(parse_dot(source, filename), partial(_read_prompt, (file.parent,)))
    declared = declared_inputs(written)
    given = with_defaults(declared, parameters.inputs)
    earlier = read_earlier(Path(resume_from)) if resume_from else None
    base_sha = earlier.manifest.base_sha if earlier else base_sha
    graph = expand_variables(written, given, base_sha=base_sha)
    graph, diagnostics = _checked(graph, str(file.resolve()), file.parent)
    agents, checks = _agents_for(graph, settings, environ or {}, place_of_agents(settings, file.parent))
    check_inputs(declared, given)
    if settings.workdir:
        _require_branchable(graph, PlainPlan(Path(settings.workdir)))
    return PreparedRun(
        parameters=parameters,
        source=source,
        filename=filename,
        graph=graph,
        base_sha=base_sha,
        settings=settings.for_child(),
        declared=declared,
        inputs=given,
        labels={},
        diagnostics=diagnostics,
        folder=file.parent,
        agents=agents,
        checks=checks,
        earlier=earlier,
        around=around,
    )


def with_agent_block(
    prepared: PreparedRun, variables_of: Callable[[str], AgentVariables], environ: Mapping[str, str]
) -> PreparedRun:
    """The run with what its agents get of the block that its settings name, and its agents checked once more with that.

    ``variables_of`` reads the block, and raises KeyError for one that does not exist.

    Raises:
        InvalidInput: There is no such block, or an agent has no key in it either.
    """
    name = prepared.settings.agent_block
    try:
        variables = variables_of(name)
    except KeyError as absent:
        raise InvalidInput(
            f"there is no Prefect block kilroy-agent/{name} on this server; register its type with `prefect block register "
            "-m kilroy_engine.orchestration.agent_block` and make one in the Prefect UI under Blocks, or leave agent_block out",
            name="agent_block",
        ) from absent
    agents = replace(prepared.agents, variables=variables)
    folder = place_of_agents(prepared.settings, Path.cwd())
    checks = checked_agents(prepared.graph, agents, Surroundings(environ, folder))
    require_agents(checks)
    return replace(prepared, agents=agents, checks=checks)


def _checked(graph: Graph, own_file: str, folder: Path) -> tuple[Graph, tuple[Diagnostic, ...]]:
    """The graph after the plug-ins' transforms, and the diagnostics of the checks.

    The checks include child pipelines, which are looked for in ``folder``.

    Raises:
        InvalidPipeline: There are errors among the diagnostics.
    """
    types = known_types()
    graph = with_plugin_transforms(graph)
    graph = with_children_checked(graph, own_file, child_reader(folder), findings_with_plugins, with_plugin_transforms)
    diagnostics = require_valid(graph, known_types=types, extra_rules=plugin_rules())
    graph = resolve_types(graph, types)
    if broken := handler_findings(graph):
        raise InvalidPipeline(diagnostics=(*diagnostics, *broken))
    return graph, diagnostics


def _own_file(source: str, filename: str, folder: Path, earlier: EarlierRun | None) -> str:
    """Absolute path of the pipeline's own file, empty for DOT text. No child pipeline may be that file."""
    if earlier is not None and source == earlier.source:
        file = earlier.manifest.graph_file
    else:
        file = "" if filename == INLINE else str(folder / Path(filename).name)
    return file and str(Path(file).resolve())


def _agents_for(
    graph: Graph, settings: RunSettings, environ: Mapping[str, str], folder: Path
) -> tuple[AgentsOfRun, tuple[Check, ...]]:
    """The agents of the run and what was checked of them. Refuses the run if a gate or an agent node has nobody.

    Raises:
        InvalidInput: Names the node and the mend.
    """
    _require_answerable(graph, settings)
    agents = AgentsOfRun(settings, environ.get("PATH", ""))
    checks = checked_agents(graph, agents, Surroundings(environ, folder))
    require_agents(checks)
    return agents, checks


def _labels(settings: RunSettings, package: WorkflowPackage | None) -> Mapping[str, str]:
    return {**(package.labels if package else {}), **settings.labels}


def _package(parameters: RunParameters, folder: Path, earlier: EarlierRun | None) -> WorkflowPackage | None:
    """The package that ``parameters.graph`` names, else the package that the resumed run began with."""
    named = package_at(parameters.graph, base=folder)
    if named is None and earlier is not None and earlier.directory.package.is_dir():
        return read_package(earlier.directory.package)
    return named


def _read_prompt(folders: tuple[Path, ...], name: str) -> str:
    """Text of a prompt file, from the first folder that has the file."""
    return read_prompt(next((folder for folder in folders if os.path.lexists(folder / name)), folders[-1]), name)


def _pipeline(parameters: RunParameters, folder: Path, earlier: EarlierRun | None) -> tuple[str, str, tuple[Path, ...]]:
    """The pipeline's text, its file name, and the folders in which its prompt files may be."""
    if earlier is None or parameters.graph.strip():
        source, filename = read_pipeline(parameters.graph, base=folder)
    else:
        source, filename = earlier.source, str(earlier.directory.graph_dot)
    if earlier is not None:
        require_same_pipeline(earlier, source, filename, force=parameters.options.force)
        if source == earlier.source:
            return source, filename, (earlier.directory.package, earlier.prompt_folder or folder)
    if filename == INLINE:
        return source, filename, (folder,)
    return source, filename, ((folder / Path(filename).expanduser()).parent,)


def _require_no_child(earlier: EarlierRun) -> None:
    """Refuses to resume a child pipeline alone. A child is resumed by the run around it, which knows where both of them
    stopped."""
    supervisor = SupervisorRecord.find(earlier.directory)
    if supervisor is not None:
        raise InvalidInput(
            f"{earlier.directory.path} is the child pipeline of node {supervisor.node_id} of run {supervisor.run_id}; "
            "resume that run, which goes on inside the child",
            name="resume_from",
        )


def _require_answerable(graph: Graph, settings: RunSettings) -> None:
    """Refuses a pipeline with human gates, unless the settings ask for automatic answers."""
    gate = next((node for node in graph.nodes.values() if node.type == "wait.human"), None)
    if gate is None or settings.simulate or settings.human == "auto-approve":
        return
    what = f"--human {settings.human} is not supported yet" if settings.human else "nobody is there to answer it"
    raise InvalidInput(
        f"node {gate.id} (line {gate.position.line}) is a human gate and {what}; "
        "give --human auto-approve (option human) to take the first choice at every gate",
        name="human",
    )


def _require_branchable(graph: Graph, plan: WorkspacePlan) -> None:
    """Refuses fan-outs and fan-ins that need a repository in a plain run."""
    if not isinstance(plan, PlainPlan):
        return
    for node in graph.nodes.values():
        shared = node.text("branch_workspace").strip().lower() == BranchWorkspace.SHARED
        if node.type == "parallel" and plan.workdir is not None and not shared:
            raise InvalidInput(
                f"node {node.id} (line {node.position.line}) fans out, and the branches would all work in {plan.workdir}; "
                "set branch_workspace=shared on it, or run on a git repository (repo)",
                name="workdir",
            )
        if node.type == "parallel.fan_in" and node.text("merge").strip().lower() == "all":
            raise InvalidInput(
                f"node {node.id} (line {node.position.line}) has merge=all, which needs a git repository (repo); "
                "without it the winner's folder is taken over",
                name="repo",
            )
