"""Every error of the engine, in one tree.

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
    └── ServerError (url)

Facts are attributes, text is made in ``__str__``. Each error can be pickled, because Prefect and process pools carry errors
between processes: every one takes its facts as keyword arguments and restores itself from them.
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
    """Base of all errors that the engine raises on purpose. ``message`` is one paragraph for a person."""

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
    """Text that cannot be read. ``line`` and ``column`` count from 1; ``excerpt`` is the line with a caret under the place."""

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
    """The ``workflow.toml`` of a workflow package is no TOML, or holds a value that does not fit its key."""


class PipelineNotFound(KilroyError):
    """No readable pipeline file at ``path``: missing, a directory, not text, or not readable."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, path=path)
        self.path = path


class InvalidPipeline(KilroyError):
    """The graph has diagnostics of severity ERROR. ``diagnostics`` holds all of them, warnings too."""

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
    """No handler serves ``type`` of node ``node``."""

    def __init__(self, message: str, *, node: str, type: str) -> None:
        super().__init__(message, node=node, type=type)
        self.node = node
        self.type = type


class StageError(KilroyError):
    """A stage could not be carried out. Expected failures are outcomes, not errors; this is for broken contracts."""

    def __init__(self, message: str, *, node: str = "", attempt: int = 0) -> None:
        super().__init__(message, node=node, attempt=attempt)
        self.node = node
        self.attempt = attempt


class TransientStageError(StageError):
    """Trying again may help: network, rate limit, provider trouble."""


class PermanentStageError(StageError):
    """Trying again will not help: authentication, bad request, bad configuration."""


class SessionLost(StageError):
    """An agent cannot go on with a session: it is gone, or was another agent's. The stage begins a new one."""


class StopKind(StrEnum):
    """Who or what asks a run, or a part of one, to stop. Closed: the sentence beside a kind is for people only.

    A kind that is not known, from another program or a later version, reads as ``person``.
    """

    PERSON = "person"
    """Somebody by a request in the run directory: ``kilroy stop``, or another program."""
    PREFECT = "prefect"
    """A cancel in Prefect's UI or API."""
    SIGNAL = "signal"
    """A signal to the flow's process."""
    DEADLINE = "deadline"
    """The run's own time limit."""
    STALL = "stall"
    """The stall watchdog: the run stops as failed, not as canceled."""
    BUDGET = "budget"
    """What the run may spend on models is spent: it stops as failed, and can be resumed with a higher limit."""
    PARENT = "parent"
    """What is around it stops: the run around a branch, or a child pipeline's node."""
    ANSWERED = "answered"
    """A branch whose fan-out does not need its answer any more."""

    @classmethod
    def _missing_(cls, value: object) -> StopKind | None:
        return cls.PERSON if isinstance(value, str) else None


class RunCanceled(KilroyError):
    """The run was asked to stop. The message is the failure reason, ``kind`` says what asked."""

    def __init__(self, message: str, *, kind: StopKind) -> None:
        super().__init__(message, kind=kind)
        self.kind = kind


class RunDirectoryError(KilroyError):
    """The run directory at ``path`` cannot be used as asked."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, path=path)
        self.path = path


class RunAlreadyOwned(RunDirectoryError):
    """A live process owns the run directory. ``pid`` is that process."""

    def __init__(self, message: str, *, path: Path, pid: int = 0) -> None:
        super().__init__(message, path=path)
        self._facts["pid"] = pid
        self.pid = pid


class RunAlreadyFinished(RunDirectoryError):
    """The run directory already holds the end of a run."""


class RunSuperseded(RunDirectoryError):
    """The run directory belongs to another start, so this one may not end it. ``owner`` names the flow run that owns it."""

    def __init__(self, message: str, *, path: Path, owner: str = "") -> None:
        super().__init__(message, path=path)
        self._facts["owner"] = owner
        self.owner = owner


class RunEnded(RunDirectoryError):
    """An append was refused because the terminal line is already written."""


class CorruptRecord(RunDirectoryError):
    """A file of the run directory does not hold what its name promises."""


class CheckpointMismatch(KilroyError):
    """A checkpoint does not belong to this graph or this worktree."""


class WorkspaceError(KilroyError):
    """A git or folder operation failed. ``command`` and ``stderr`` are what was run and what it said."""

    def __init__(self, message: str, *, command: str = "", stderr: str = "") -> None:
        super().__init__(message, command=command, stderr=stderr)
        self.command = command
        self.stderr = stderr


class WorkInConflict(WorkspaceError):
    """A stage left files in conflict in git's index. ``paths`` names them."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__(f"files are in conflict: {', '.join(paths)}; the stage must resolve what it merges")
        self.paths = paths


class ServerError(KilroyError):
    """A Prefect server cannot be reached or started. ``url`` is its API address."""

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message, url=url)
        self.url = url
