"""What an adapter says about one agent program: how to call it, and what its lines mean."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.running.reports import Closed, Report, Trouble
from kilroy_engine.agents.running.session import Session
from kilroy_engine.agents.running.sign_in import Found, SignIn


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a program, which reads the prompt from standard input.

    ``environment`` comes on top of what every agent gets. ``hidden`` are arguments that no record shows.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: frozenset[str] = frozenset()


class Transcript(Protocol):
    """What one program has said so far. Made anew for each call."""

    def read(self, line: str, /) -> Iterable[Report]:
        """What a line of standard output, without its newline, says. A line that says nothing gives nothing."""
        ...

    def end(self, exit_code: int, stderr: str, /) -> Closed | Trouble | None:
        """Called once, when the program is over: what only its end tells. ``stderr`` is the last of what it printed there.

        None where its lines have said everything.
        """
        ...


class Program(Protocol):
    """An agent program. ``name`` is the agent's name, ``provider`` whose models it uses (Kilroy's key).

    ``variables`` of the provider are let into its environment; ``keys`` are those among them whose values nobody may see.
    ``stop_signal`` is what makes the program end its own commands and say a last word within ``grace_s`` seconds. ``tested`` is
    the range of versions that our tests have seen.
    """

    name: str
    executable: str
    provider: str
    variables: frozenset[str]
    keys: tuple[str, ...]
    stop_signal: signal.Signals
    grace_s: float
    tested: tuple[str, ...]

    def invocation(self, request: AgentRequest, session: Session, private: Path, /) -> Invocation:
        """The call for a task. ``private`` is a folder of the program's own for this call, for files that it is to read."""
        ...

    def transcript(self) -> Transcript: ...

    def sign_in(self, environment: Mapping[str, str], folder: Path, /) -> SignIn:
        """What variables and files say about its access to its provider, for work in ``folder``. Starts nothing."""
        ...

    def reads_sign_in(self, exit_code: int, stdout: str, stderr: str, /) -> Found:
        """What the program's answer to ``SignIn.ask`` means."""
        ...
