"""What a run's agents need, checked before its first stage: programs, models, keys. And Kilroy's report about that."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from kilroy_engine.agents.choosing import PROGRAM_OF_PROVIDER, SIMULATE, Choice
from kilroy_engine.agents.registry import AgentsOfRun
from kilroy_engine.agents.running.environment import agent_environment
from kilroy_engine.agents.running.looking import is_tested, path_of, sign_in_of, version_of
from kilroy_engine.agents.running.prices import is_known_model
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.sign_in import Found
from kilroy_engine.errors import AgentsRefused, InvalidInput
from kilroy_engine.events.times import rfc3339
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import AGENT
from kilroy_engine.rundir.files.layout import RunDirectory, runs_root
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.escalation import Escalation, models
from kilroy_engine.traversal.outcome import Json

PRESENCE = "provider_cli_presence"
CAPABILITIES = "provider_cli_capabilities"
CATALOG = "provider_model_catalog"
CREDENTIALS = "provider_api_credentials"
"""Names of the checks (Kilroy)."""


class CheckStatus(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``message`` is a sentence for people. ``provider`` is Kilroy's key, or the agent's name
    where the agent has no provider of its own."""

    name: str
    status: CheckStatus
    message: str
    provider: str = ""
    details: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def as_json(self) -> dict[str, Json]:
        """The check as an entry of the report."""
        optional: dict[str, Json] = {"provider": self.provider} if self.provider else {}
        details: dict[str, Json] = {"details": {**self.details}} if self.details else {}
        return {"name": self.name, **optional, "status": self.status.value, "message": self.message, **details}


@dataclass(frozen=True, slots=True)
class AgentOfNode:
    """Who works on an agent node. ``problem`` says why nobody can; empty where somebody can."""

    node: Node
    choice: Choice
    problem: str = ""
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where agents are looked at: with the variables ``environ`` of the engine's process, at work in ``folder``."""

    environ: Mapping[str, str]
    folder: Path


def agents_of_nodes(graph: Graph, agents: AgentsOfRun) -> tuple[AgentOfNode, ...]:
    """Who works on each agent node of the pipeline, in the order in which they are written. Empty in a simulation."""
    if agents.settings.simulate:
        return ()
    return tuple(_agent_of(node, agents) for node in graph.nodes.values() if node.type == AGENT)


def checked_agents(graph: Graph, agents: AgentsOfRun, around: Surroundings, *, versions: bool = False) -> tuple[Check, ...]:
    """Everything that can be known of the pipeline's agents before they work.

    ``versions`` starts each program to ask for its version. Otherwise a program is started only where it alone knows whether
    it is logged in. No model is asked anything.
    """
    found = agents_of_nodes(graph, agents)
    by_program = {each.choice.agent: each for each in found if each.program is not None and not each.problem}
    return (
        *_presence(found, agents),
        *(_capabilities(each.program, agents, around) for each in by_program.values() if each.program and versions),
        *_catalog(found),
        *_escalations(found, agents),
        *(check for each in by_program.values() if each.program for check in _credentials(each.program, agents, around)),
    )


def place_of_agents(settings: RunSettings, folder: Path) -> Path:
    """Where the settings of agent programs are looked for before there is a place of work: the folder or repository that the
    settings name, else ``folder``."""
    return folder / Path(settings.workdir or settings.repo or ".").expanduser()


def require_agents(checks: Sequence[Check]) -> None:
    """Refuses a run whose agents lack something.

    Raises:
        AgentsRefused: One of the checks failed; the message is the first one's.
    """
    failed = next((check for check in checks if check.status is CheckStatus.FAIL), None)
    if failed is not None:
        raise AgentsRefused(failed.message, name="agent", checks=checks)


def warnings_of(checks: Sequence[Check]) -> tuple[str, ...]:
    """What the checks have to say, short of refusing the run."""
    return tuple(check.message for check in checks if check.status is CheckStatus.WARN)


def preflight_report(checks: Sequence[Check], *, began: datetime, ended: datetime, versions: bool = False) -> dict[str, Json]:
    """Content of ``preflight_report.json`` (Kilroy). No program is asked to do work, so prompt probes are always off."""
    count = {status.value: sum(check.status is status for check in checks) for status in CheckStatus}
    return {
        "generated_at": rfc3339(began),
        "completed_at": rfc3339(ended),
        "cli_profile": "real",
        "allow_test_shim": False,
        "strict_capabilities": False,
        "capability_probe_mode": "on" if versions else "off",
        "prompt_probe_mode": "off",
        "checks": [check.as_json() for check in checks],
        "summary": {**count},
    }


def preflight_path(options: Options, *, name: str, environ: Mapping[str, str]) -> Path:
    """Where the report of a check without a run is kept: in the run directory that the options name, else in a folder beside
    all run directories, one file for each pipeline."""
    if options.logs_root:
        return RunDirectory(Path(options.logs_root).expanduser()).preflight_report
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:80]
    return runs_root(environ).parent / "preflight" / f"{stem or 'pipeline'}.json"


def environment_of(program: Program, agents: AgentsOfRun, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that the program gets for a stage, but for what tells of the stage."""
    own = agents.variables.of(program.provider) if agents.variables else {}
    more = (*agents.settings.agent_environment, *own)
    return agent_environment({**environ, **own}, provider=program.variables, more=more, private_tmp=Path(tempfile.gettempdir()))


def _agent_of(node: Node, agents: AgentsOfRun) -> AgentOfNode:
    choice = agents.choice(node)
    try:
        problem = agents.problem(node)
        return AgentOfNode(node, choice, problem, agents.program(choice) if choice.agent else None)
    except InvalidInput as error:
        return AgentOfNode(node, choice, str(error))


def _presence(found: Sequence[AgentOfNode], agents: AgentsOfRun) -> list[Check]:
    """A failure for each node that nobody can work on, a success for each agent that is there."""
    checks: list[Check] = []
    nodes: dict[str, list[Json]] = {}
    for each in found:
        if each.problem:
            message = f"node {each.node.id} (line {each.node.position.line}) is an agent node and {each.problem}"
            checks.append(Check(PRESENCE, CheckStatus.FAIL, message, each.choice.provider, {"nodes": [each.node.id]}))
        elif each.choice.agent != SIMULATE:
            nodes.setdefault(each.choice.agent, []).append(each.node.id)
    for agent, ids in nodes.items():
        program = next(each.program for each in found if each.choice.agent == agent)
        path = path_of(program, {"PATH": agents.path}) if program else ""
        where = f"agent {agent} is {path}" if path else f"agent {agent} is no program"
        checks.append(Check(PRESENCE, CheckStatus.PASS, where, program.provider if program else agent, {"nodes": ids}))
    return checks


def _capabilities(program: Program, agents: AgentsOfRun, around: Surroundings) -> Check:
    version = version_of(program, environment_of(program, agents, around.environ), around.folder)
    tested = " to ".join(program.tested)
    details: dict[str, Json] = {"version": version, "tested": tested}
    if not program.tested:
        return Check(
            CAPABILITIES, CheckStatus.PASS, f"agent {program.name} has no version of ours to compare with", program.name
        )
    if is_tested(program, version):
        message = f"agent {program.name} {version} is within the versions that are tested ({tested})"
        return Check(CAPABILITIES, CheckStatus.PASS, message, program.provider, details)
    said = f"is version {version}" if version else "does not say which version it is"
    message = f"agent {program.name} {said}; tested are {tested}, and another one may speak in other words"
    return Check(CAPABILITIES, CheckStatus.WARN, message, program.provider, details)


def _catalog(found: Sequence[AgentOfNode]) -> list[Check]:
    checks: list[Check] = []
    nodes: dict[tuple[str, str], list[Json]] = {}
    for each in found:
        choice, node = each.choice, each.node
        if choice.ignored_model:
            message = (
                f"node {node.id} (line {node.position.line}) names the model {choice.ignored_model}, which agent "
                f"{choice.agent} cannot use: the agent takes its own default. Name a model of {choice.provider}, "
                "or another agent (agent_tool)"
            )
            details: dict[str, Json] = {"nodes": [node.id], "model": choice.ignored_model}
            checks.append(Check(CATALOG, CheckStatus.WARN, message, choice.provider, details))
        if choice.model and choice.agent != SIMULATE and choice.provider in PROGRAM_OF_PROVIDER:
            nodes.setdefault((choice.provider, choice.model), []).append(node.id)
    for (provider, model), ids in nodes.items():
        known = is_known_model(provider, model)
        if known is None:
            continue
        status = CheckStatus.PASS if known else CheckStatus.WARN
        message = f"{provider} has a model {model}" if known else _unknown(provider, model, ids)
        checks.append(Check(CATALOG, status, message, provider, {"model": model, "nodes": ids}))
    return checks


def _escalations(found: Sequence[AgentOfNode], agents: AgentsOfRun) -> list[Check]:
    """A warning for each model that a node may go over to and that nobody could work with then."""
    checks: list[Check] = []
    for node in (each.node for each in found if each.choice.agent != SIMULATE):
        for index, (provider, model) in enumerate(models(node), start=1):
            after = _agent_of(Escalation(index).applied(node), agents)
            cannot = f"agent {after.choice.agent} cannot use the model and would take its own default"
            why = after.problem or (cannot if after.choice.ignored_model else "")
            if why:
                message = f"node {node.id} (line {node.position.line}): escalation_models names {provider}:{model}, and {why}"
                checks.append(Check(CATALOG, CheckStatus.WARN, message, provider, {"nodes": [node.id], "model": model}))
    return checks


def _unknown(provider: str, model: str, ids: list[Json]) -> str:
    where = f"node {ids[0]}" if len(ids) == 1 else f"nodes {', '.join(str(each) for each in ids)}"
    return (
        f"{where}: no model {model} of {provider} is known here. It may be a newer one, whose cost is not counted then; "
        "else correct llm_model"
    )


def _credentials(program: Program, agents: AgentsOfRun, around: Surroundings) -> tuple[Check, ...]:
    sign_in = sign_in_of(program, environment_of(program, agents, around.environ), around.folder)
    details: dict[str, Json] = {"by": sign_in.by}
    match sign_in.found:
        case Found.NOT_LOOKED_FOR:
            return ()
        case Found.YES:
            status, message = CheckStatus.PASS, f"agent {program.name} has {sign_in.by}"
        case _ if agents.settings.agent_block and agents.variables is None:
            block = agents.settings.agent_block
            status = CheckStatus.PASS
            message = f"agent {program.name} may get a key of the block {block}, which is read when the run begins"
        case Found.NO:
            status = CheckStatus.FAIL
            message = f"agent {program.name} cannot log in: {sign_in.by}; or name another agent with --agent"
        case Found.UNKNOWN:
            status, message = CheckStatus.WARN, f"agent {program.name} may not be able to log in: {sign_in.by}"
    return (Check(CREDENTIALS, status, message, program.provider, details),)
