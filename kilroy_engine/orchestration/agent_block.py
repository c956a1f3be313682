"""The Prefect block with what a run's agents need: keys of providers, addresses, further variables.

The setting ``agent_block`` names one.

``prefect block register -m kilroy_engine.orchestration.agent_block`` makes the type known to a server, once. Then a block is
made in the UI (Blocks, Kilroy Agent) or with ``KilroyAgent(anthropic_api_key=...).save("team")``.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import Field, SecretStr

from kilroy_engine.agents.variables import AgentVariables

SHORTEST_HIDDEN = 8
"""Characters. Shorter values of further variables, such as ``1``, are no secrets and would blot out half of a log."""


class KilroyAgent(Block):
    """Keys and variables of the agents of a run. Agents get those of the provider whose models they use, and
    `extra_environment`; commands and tools get none."""

    _block_type_name = "Kilroy Agent"
    _block_type_slug = "kilroy-agent"

    anthropic_api_key: SecretStr | None = Field(default=None, title="Anthropic API key", description="ANTHROPIC_API_KEY")
    anthropic_base_url: str = Field(default="", title="Anthropic address", description="ANTHROPIC_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, title="OpenAI API key", description="OPENAI_API_KEY")
    openai_base_url: str = Field(default="", title="OpenAI address", description="OPENAI_BASE_URL")
    gemini_api_key: SecretStr | None = Field(default=None, title="Gemini API key", description="GEMINI_API_KEY")
    gemini_base_url: str = Field(default="", title="Gemini address", description="GOOGLE_GEMINI_BASE_URL")
    extra_environment: SecretDict | None = Field(
        default=None, title="Further variables", description="Variables that every agent gets, by name."
    )

    def variables(self) -> AgentVariables:
        """What agents get of the block."""
        keys = {
            "anthropic": {"ANTHROPIC_API_KEY": _value(self.anthropic_api_key), "ANTHROPIC_BASE_URL": self.anthropic_base_url},
            "openai": {"OPENAI_API_KEY": _value(self.openai_api_key), "OPENAI_BASE_URL": self.openai_base_url},
            "google": {"GEMINI_API_KEY": _value(self.gemini_api_key), "GOOGLE_GEMINI_BASE_URL": self.gemini_base_url},
        }
        more = {
            name: str(value)
            for name, value in (self.extra_environment.get_secret_value().items() if self.extra_environment else ())
        }
        secret = {_value(key) for key in (self.anthropic_api_key, self.openai_api_key, self.gemini_api_key)}
        secret |= {value for value in more.values() if len(value) >= SHORTEST_HIDDEN}
        return AgentVariables(
            of_provider={provider: _given(variables) for provider, variables in keys.items()},
            every=_given(more),
            hidden=tuple(sorted((value for value in secret if value), key=len, reverse=True)),
        )


def _value(key: SecretStr | None) -> str:
    return key.get_secret_value().strip() if key else ""


def _given(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
