"""Every error that the engine raises on purpose, in one tree, and the kinds of a stop request.

::

    KilroyError
    ├── PipelineSourceError (line, column, filename, excerpt, hint)
    │   ├── DotSyntaxError
    │   ├── ConditionSyntaxError
    │   ├── PackageSyntaxError
    │   └── StylesheetSyntaxError
    ├── PipelineNotFound (path)
    ├── InvalidPipeline (diagnostics)
    ├── InvalidInput (name)
    │   └── AgentsRefused (checks)
    ├── UnknownHandler (node, type)
    ├── StageError (node, attempt)
    │   ├── TransientStageError
    │   ├── PermanentStageError
    │   └── SessionLost
    ├── RunCanceled (kind)
    ├── RunDirectoryError (path)
    │   ├── RunAlreadyOwned (pid)
    │   ├── RunAlreadyFinished
    │   ├── RunSuperseded (owner)
    │   ├── RunEnded
    │   └── CorruptRecord
    ├── CheckpointMismatch
    ├── WorkspaceError (command, stderr)
    │   └── WorkInConflict (paths)
    └── ServerError (url)

The names in brackets are attributes: they hold the facts of the error. ``__str__`` makes the text from them. Prefect and
process pools pickle errors. Therefore an error takes its facts as keyword arguments, and unpickling calls the class with them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kilroy_engine.execution.preparing.preflight import Check
    from kilroy_engine.graph.diagnostics import Diagnostic


def _rebuild(kind: type[KilroyError], facts: dict[str, object]) -> KilroyError:
    return kind(**facts)  # pyright: ignore[reportArgumentType] - the facts are the keywords that made the error


class KilroyError(Exception):
    """Base of all errors that the engine raises on purpose. ``message`` is one paragraph for a person.

    Each of ``facts`` becomes an attribute of the error.
    """

    def __init__(self, message: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self._facts = {"message": message, **facts}
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._facts)

    def __str__(self) -> str:
        return self.message


class PipelineSourceError(KilroyError):
    """A source text has a syntax error. ``line`` and ``column`` count from 1; ``line`` is 0 where no place is known.

    ``excerpt`` is the source line with a caret under the place. ``hint`` says what to write instead.
    """

    def __init__(
        self, message: str, *, line: int = 0, column: int = 0, filename: str = "", excerpt: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, line=line, column=column, filename=filename, excerpt=excerpt, hint=hint)
        self.line = line
        self.column = column
        self.filename = filename
        self.excerpt = excerpt
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.filename or '<pipeline>'}:{self.line}:{self.column}: " if self.line else ""
        parts = [f"{place}{self.message}"]
        if self.excerpt:
            parts.append(self.excerpt)
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class DotSyntaxError(PipelineSourceError):
    """The DOT text is outside the dialect (Spec 2.2, 2.3)."""


class ConditionSyntaxError(PipelineSourceError):
    """An edge condition does not follow the condition grammar (Spec 10.2). Columns count inside the condition's text."""


class StylesheetSyntaxError(PipelineSourceError):
    """A model stylesheet does not parse (Spec 8.2). Columns count inside the stylesheet's text."""


class PackageSyntaxError(PipelineSourceError):
    """The ``workflow.toml`` of a workflow package is not TOML, or a value in it does not fit its key."""


class PipelineNotFound(KilroyError):
    """No readable pipeline file at ``path``: missing, a directory, not text, or not readable."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, path=path)
        self.path = path


class InvalidPipeline(KilroyError):
    """The graph has diagnostics of severity ERROR. ``diagnostics`` holds all diagnostics of the graph, warnings too."""

    def __init__(self, message: str = "", *, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(message, diagnostics=tuple(diagnostics))
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        errors = [d for d in self.diagnostics if d.severity == "ERROR"]
        return "validation failed: " + "; ".join(f"{d.rule}: {d.message}" for d in errors)


class InvalidInput(KilroyError):
    """A run parameter cannot be used. ``name`` is the parameter or setting."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message, name=name)
        self.name = name


class AgentsRefused(InvalidInput):
    """Agent nodes lack what they need to begin. ``checks`` are all checks of the run's agents that were made."""

    def __init__(self, message: str, *, name: str, checks: Sequence[Check]) -> None:
        super().__init__(message, name=name)
        self._facts["checks"] = self.checks = tuple(checks)


class UnknownHandler(KilroyError):
    """No handler serves the node type ``type`` of the node with the id ``node``."""

    def __init__(self, message: str, *, node: str, type: str) -> None:
        super().__init__(message, node=node, type=type)
        self.node = node
        self.type = type


class StageError(KilroyError):
    """A handler or agent could not do a stage. ``node`` is the node's id, ``attempt`` counts from 1.

    A failure that a stage expects is an outcome with the status ``fail``, not an error.
    """

    def __init__(self, message: str, *, node: str = "", attempt: int = 0) -> None:
        super().__init__(message, node=node, attempt=attempt)
        self.node = node
        self.attempt = attempt


class TransientStageError(StageError):
    """Trying again may help: network, rate limit, provider trouble."""


class PermanentStageError(StageError):
    """Trying again will not help: authentication, bad request, bad configuration."""


class SessionLost(StageError):
    """An agent cannot continue a session: the session is gone, or belongs to another agent. The stage begins a new session."""


class StopKind(StrEnum):
    """Who or what asks a run, or a part of a run, to stop. The kind decides how the run ends.

    An unknown word, written by another program or a later version, is read as ``person``.
    """

    PERSON = "person"
    """A request file in the run directory, written by ``kilroy stop`` or by another program."""
    PREFECT = "prefect"
    """A cancel in Prefect's UI or API."""
    SIGNAL = "signal"
    """A signal to the flow's process."""
    DEADLINE = "deadline"
    """The run's own time limit has passed."""
    STALL = "stall"
    """The stall watchdog: nothing has happened for too long. The run ends as failed, not as canceled."""
    BUDGET = "budget"
    """The run's budget for models is spent. The run ends as failed, and can be resumed with a higher limit."""
    PARENT = "parent"
    """The run around a branch stops, or the node that runs a child pipeline stops the child."""
    ANSWERED = "answered"
    """A fan-out does not need the branch's outcome any more."""

    @classmethod
    def _missing_(cls, value: object) -> StopKind | None:
        return cls.PERSON if isinstance(value, str) else None


class RunCanceled(KilroyError):
    """The run was asked to stop. The message is the failure reason. ``kind`` says who or what asked."""

    def __init__(self, message: str, *, kind: StopKind) -> None:
        super().__init__(message, kind=kind)
        self.kind = kind


class RunDirectoryError(KilroyError):
    """The run directory at ``path`` cannot be used as the caller wants."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, path=path)
        self.path = path


class RunAlreadyOwned(RunDirectoryError):
    """A live process owns the run directory. ``pid`` is the process id of the owner, 0 where unknown."""

    def __init__(self, message: str, *, path: Path, pid: int = 0) -> None:
        super().__init__(message, path=path)
        self._facts["pid"] = pid
        self.pid = pid


class RunAlreadyFinished(RunDirectoryError):
    """The run directory already records the end of its run."""


class RunSuperseded(RunDirectoryError):
    """Another start owns the run directory, so the caller must not end the run. ``owner`` is the owner's flow run."""

    def __init__(self, message: str, *, path: Path, owner: str = "") -> None:
        super().__init__(message, path=path)
        self._facts["owner"] = owner
        self.owner = owner


class RunEnded(RunDirectoryError):
    """The event stream refused an event because its terminal line is already written."""


class CorruptRecord(RunDirectoryError):
    """A file of the run directory cannot be read as the record that its name says."""


class CheckpointMismatch(KilroyError):
    """A checkpoint does not belong to this graph or this worktree."""


class WorkspaceError(KilroyError):
    """A git or folder operation failed. ``command`` is the command that was run, ``stderr`` its error output."""

    def __init__(self, message: str, *, command: str = "", stderr: str = "") -> None:
        super().__init__(message, command=command, stderr=stderr)
        self.command = command
        self.stderr = stderr


class WorkInConflict(WorkspaceError):
    """A stage left files with merge conflicts in git's index. ``paths`` are the paths of these files."""

    def __init__(self, message: str = "", *, paths: tuple[str, ...], command: str = "", stderr: str = "") -> None:
        told = message or f"files are in conflict: {', '.join(paths)}; the stage must resolve what it merges"
        super().__init__(told, command=command, stderr=stderr)
        self._facts["paths"] = self.paths = paths


class ServerError(KilroyError):
    """A Prefect server cannot be reached or started. ``url`` is its API address."""

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message, url=url)
        self.url = url
