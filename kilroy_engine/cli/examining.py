"""What ``kilroy doctor`` looks at: this installation, git, the agents, the Prefect server, and what a pipeline's agents need.

Nothing is started but agent programs, for their version and their login. Nothing is written.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine.agents.registry import PROGRAMS, AgentsOfRun
from kilroy_engine.agents.running.looking import is_tested, path_of, sign_in_of, version_of
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.sign_in import Found
from kilroy_engine.cli.connection import Connection, server_state_dir
from kilroy_engine.cli.show.diagnostics import tally
from kilroy_engine.cli.source import Source, diagnose, read_source
from kilroy_engine.errors import KilroyError, ServerError
from kilroy_engine.execution.preparing.extensions import with_plugin_transforms
from kilroy_engine.execution.preparing.pipeline_file import read_prompt
from kilroy_engine.execution.preparing.preflight import (
    CheckStatus,
    Surroundings,
    agents_of_nodes,
    checked_agents,
    environment_of,
    place_of_agents,
)
from kilroy_engine.execution.preparing.settings import resolve_settings
from kilroy_engine.graph.diagnostics import Severity
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.transforms import prepare, resolve_types
from kilroy_engine.handlers.node_types import known_types
from kilroy_engine.settings.options import Options

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

OLDEST_GIT = "2.30"
"""The first git whose ``update-ref --stdin`` takes several transactions, which fan-outs need."""
_PACKAGES = ("kilroy-engine", "prefect", "pydantic", "gitpython", "genai-prices")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


class Level(StrEnum):
    """``WARNING``: it may trouble a run. ``BROKEN``: it does."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing. ``text`` says it to people; no value of a key is in it."""

    area: str
    name: str
    level: Level
    text: str


def examine(name: str = "") -> list[Finding]:
    """Everything, in the order in which it is shown. ``name`` is a pipeline as the command line names it; empty for none."""
    agents = AgentsOfRun(resolve_settings(Options(), repo="", environ=os.environ), os.environ.get("PATH", ""))
    return [*_installation(), _git(), *_agents(agents), *_server(), *(_pipeline(name, agents) if name else ())]


def _installation() -> Iterator[Finding]:
    yield Finding("installation", "python", Level.OK, f"{platform.python_version()}, {platform.platform()}")
    for package in _PACKAGES:
        yield Finding("installation", package, Level.OK, version(package))


def _git() -> Finding:
    mend = f"install git {OLDEST_GIT} or later; without it runs work in plain folders only (--no-git)"
    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding("installation", "git", Level.BROKEN, f"git does not answer; {mend}")
    found = _VERSION.search(said)
    if found is None:
        return Finding("installation", "git", Level.WARNING, f"git says {said.strip()}, which names no version")
    if _parts(found[0]) < _parts(OLDEST_GIT):
        return Finding("installation", "git", Level.BROKEN, f"{found[0]} is too old; {mend}")
    return Finding("installation", "git", Level.OK, f"{found[0]} ({OLDEST_GIT} or later is needed)")


def _agents(agents: AgentsOfRun) -> list[Finding]:
    programs = [make() for make in PROGRAMS.values()]
    with ThreadPoolExecutor(len(programs)) as threads:  # one of them takes seconds to say its version
        found = list(threads.map(partial(_agent, agents), programs))
    if not any(path_of(program, os.environ) for program in programs) and not agents.settings.agent:
        mend = "no agent is installed; agent nodes need one: install claude, codex or gemini, or set agent_command"
        found.append(Finding("agents", "any", Level.WARNING, mend))
    return found


def _agent(agents: AgentsOfRun, program: Program) -> Finding:
    environment = environment_of(program, agents, os.environ)
    path = path_of(program, environment)
    if not path:
        return Finding("agents", program.name, Level.OK, "not installed")
    known = version_of(program, environment, Path.cwd())
    sign_in = sign_in_of(program, environment, Path.cwd())
    tested = is_tested(program, known)
    said = f"{known or 'unknown version'} ({'tested' if tested else 'tested are ' + ' to '.join(program.tested)})"
    access = {Found.YES: "has", Found.UNKNOWN: "may have no access:"}.get(sign_in.found, "has no access:")
    level = Level.OK if tested and sign_in.found is Found.YES else Level.WARNING
    return Finding("agents", program.name, level, f"{path}, {said}, {access} {sign_in.by}")


def _server() -> Iterator[Finding]:
    """The server that a run would use, and its work pools. None is started."""
    try:
        url = Connection(lambda line: None).check()
    except ServerError as error:
        yield Finding("prefect", "server", Level.BROKEN, str(error))
        return
    if url == "local":
        from kilroy_engine.server.local_server import server_status

        local = server_status(server_state_dir(os.environ)).server
        if local is None:
            yield Finding("prefect", "server", Level.OK, "none is configured; a run starts the local one, which is not running")
            return
        url = local.api_url
    yield from _facts_of_server(url)


def _facts_of_server(url: str) -> Iterator[Finding]:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        try:
            with get_client(httpx_settings={"timeout": 10}, sync_client=True) as client:
                yield Finding("prefect", "server", Level.OK, f"{url}, Prefect {client.api_version()}")
                yield _pools(client)
        except httpx.HTTPError as error:
            yield Finding("prefect", "server", Level.BROKEN, f"{url} does not answer as a Prefect server does: {error}")


def _pools(client: SyncPrefectClient) -> Finding:
    pools = client.read_work_pools()
    shown = ", ".join(f"{pool.name} ({pool.type}{', paused' if pool.is_paused else ''})" for pool in pools)
    return Finding("prefect", "work pools", Level.OK, shown or "none; only deployments need one")


def _pipeline(name: str, agents: AgentsOfRun) -> Iterator[Finding]:
    """Who would work on each agent node, with which model and why, and whether they have what they need."""
    try:
        source = read_source(name)
        written = parse_dot(source.text, source.name)
        found = diagnose(written, source)
        graph = _as_it_runs(written, source)
    except KilroyError as error:
        yield Finding("pipeline", name, Level.BROKEN, str(error))
        return
    broken = any(diagnostic.severity is Severity.ERROR for diagnostic in found)
    text = f"{tally(found) or 'no findings'}{'; `kilroy validate` shows them' if found else ''}"
    yield Finding("pipeline", name, Level.BROKEN if broken else Level.OK, text)
    for each in agents_of_nodes(graph, agents):
        choice = each.choice
        model = f"model {choice.model}" if choice.model else "its own default model"
        of = f" of {choice.provider}" if choice.provider else ""
        shown = f"agent {choice.agent or 'none'}, {model}{of}, chosen by {_SOURCES.get(choice.source, choice.source)}"
        yield Finding("nodes", each.node.id, Level.OK, shown)
    around = Surroundings(os.environ, place_of_agents(agents.settings, Path.cwd()))
    for check in checked_agents(graph, agents, around):
        if check.status is not CheckStatus.PASS:
            level = Level.WARNING if check.status is CheckStatus.WARN else Level.BROKEN
            yield Finding("nodes", check.name, level, check.message)


_SOURCES = {
    "graph_attrs": "the node's attributes",
    "settings": "the settings",
    "installed": "what is installed first",
}


def _as_it_runs(graph: Graph, source: Source) -> Graph:
    read_text = partial(read_prompt, source.folder)
    return resolve_types(with_plugin_transforms(prepare(graph, inputs=source.inputs, read_text=read_text)), known_types())


def is_broken(findings: Sequence[Finding]) -> bool:
    """Whether a run would be troubled for sure."""
    return any(finding.level is Level.BROKEN for finding in findings)


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
