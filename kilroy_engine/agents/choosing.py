"""Which agent works on a node, with which model of which provider: from the node's attributes and the run's settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from kilroy_engine.graph.model import Node

PROGRAM_OF_PROVIDER: Mapping[str, str] = {"anthropic": "claude", "openai": "codex", "google": "gemini"}
"""The agent that serves a provider's models where the settings name no other."""
PROVIDER_ALIASES: Mapping[str, str] = {
    "gemini": "google",
    "google_ai_studio": "google",
    "claude": "anthropic",
    "codex": "openai",
}
"""Other names of providers, as Kilroy reads them."""
SIMULATE = "simulate"

_PROVIDER_OF_MODEL = (
    (re.compile(r"claude|sonnet|opus|haiku", re.IGNORECASE), "anthropic"),
    (re.compile(r"gpt|codex|o\d\b|chatgpt", re.IGNORECASE), "openai"),
    (re.compile(r"gemini", re.IGNORECASE), "google"),
)
_VERSION_DOT = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the settings say about agents. ``agent`` serves every node that names none itself, empty for the provider's.

    ``of_provider`` names agents by provider, ``models`` are short names of models; the tables of both are the settings'.
    """

    agent: str = ""
    of_provider: Mapping[str, str] = field(default_factory=dict[str, str])
    models: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Choice:
    """Who works on a node. ``agent`` is empty where nobody can be found. ``model`` is empty for the agent's own choice.

    ``source`` says what decided, in Kilroy's word where it has one: ``graph_attrs`` for the node's own attributes.
    ``ignored_model`` is a model of another provider than the agent's, which is not asked for.
    """

    agent: str
    provider: str = ""
    model: str = ""
    source: str = "graph_attrs"
    ignored_model: str = ""


def choose(node: Node, wishes: Wishes, installed: tuple[str, ...] = ()) -> Choice:
    """The agent, provider and model for ``node``.

    In this order: a simulation that is wished for, the node's ``agent_tool``, the wished agent, the agent of the node's
    provider (``llm_provider``, else the one that its model belongs to), the first that is ``installed``.
    """
    provider, model = _model_of(node, wishes.models)
    of_provider = {**PROGRAM_OF_PROVIDER, **wishes.of_provider}
    named = node.text("agent_tool").strip()
    if wishes.agent == SIMULATE:
        agent, source = SIMULATE, "settings"
    elif named:
        agent, source = named, "graph_attrs"
    elif wishes.agent:
        agent, source = wishes.agent, "settings"
    elif provider:
        agent, source = of_provider.get(provider, ""), "graph_attrs"
    else:
        agent, source = next(iter(installed), ""), "installed"
    own = next((key for key, program in PROGRAM_OF_PROVIDER.items() if program == agent), "")
    if own and provider and own != provider:
        return Choice(agent, own, "", source, ignored_model=model)
    return Choice(agent, own or provider, model, source)


def installed_programs(path: str | None) -> tuple[str, ...]:
    """The agent programs that are on ``path``, in the order in which they are looked for."""
    return tuple(program for program in PROGRAM_OF_PROVIDER.values() if shutil.which(program, path=path))


def provider_key(name: str) -> str:
    """The key of a provider by any of its names."""
    key = name.strip().lower()
    return PROVIDER_ALIASES.get(key, key)


def _model_of(node: Node, models: Mapping[str, str]) -> tuple[str, str]:
    """Provider and model as the node's attributes, or a short name in the settings, say. Either may be empty."""
    written = node.text("llm_model").strip()
    written = models.get(written, written)
    before, slash, after = written.partition("/")
    provider = provider_key(node.text("llm_provider"))
    if slash and provider_key(before) in PROGRAM_OF_PROVIDER:
        provider, written = provider or provider_key(before), after
    if not provider:
        provider = next((of for pattern, of in _PROVIDER_OF_MODEL if pattern.search(written)), "")
    # Anthropic writes versions with a hyphen, people with a dot (Kilroy).
    return provider, _VERSION_DOT.sub("-", written) if provider == "anthropic" else written
