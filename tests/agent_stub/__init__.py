"""A stub of the model providers on 127.0.0.1: Anthropic Messages, OpenAI Responses and chat completions, Gemini.

Real coding agents run against it with no network: the agent's own tools do what a scenario says. See ``README.md``.
"""

from agent_stub.script import Call, Fault, Scenario, Turn, Usage
from agent_stub.server import AgentStub, Asked

__all__ = ["AgentStub", "Asked", "Call", "Fault", "Scenario", "Turn", "Usage"]
