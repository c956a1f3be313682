"""What is kept of a conversation from one task to the next: whose it is, its name, what it has used."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from kilroy_engine.agents.running.reports import Tokens
from kilroy_engine.errors import SessionLost


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation of the agent program ``agent``. ``name`` is the program's word for it, empty for a new one.

    ``tokens`` and ``cost_usd`` are the totals when its last task ended: programs report totals of the whole conversation.
    """

    agent: str
    name: str = ""
    tokens: Tokens = field(default_factory=Tokens)
    cost_usd: float = 0.0

    def to_text(self) -> str:
        """The form that goes into the checkpoint; empty for a conversation that has no name."""
        return json.dumps(asdict(self), separators=(",", ":")) if self.name else ""


def read_session(text: str, agent: str, node: str) -> Session:
    """The session that ``text`` describes, a new one for an empty text.

    Raises:
        SessionLost: It is another agent's, or no session at all.
    """
    if not text:
        return Session(agent)
    try:
        fields = json.loads(text)
        session = Session(fields["agent"], fields["name"], Tokens(**fields["tokens"]), float(fields["cost_usd"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SessionLost(f"the thread's session is none of {agent}", node=node) from error
    if session.agent != agent:
        raise SessionLost(f"the thread's session belongs to the agent {session.agent}, not to {agent}", node=node)
    return session
