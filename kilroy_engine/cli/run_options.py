"""The options of ``kilroy run``, and how they become the flow's parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

from cyclopts import Group, Parameter
from cyclopts.validators import MutuallyExclusive

from kilroy_engine.errors import InvalidInput

if TYPE_CHECKING:
    from kilroy_engine.execution.preparing.settings import Options

_IDENTITY = Group("The run", sort_key=1)
_PLACE = Group("Where it works", sort_key=2, help="At most one of `--repo`, `--workdir` and `--no-git`.")
_ONE_PLACE = Group("Place of work", show=False, validator=MutuallyExclusive())
_WORKERS = Group("Who does the work", sort_key=3)
_LIMITS = Group("Limits", sort_key=4)

HumanChoice: TypeAlias = Literal["auto-approve", "console", "prefect"]
KeepChoice: TypeAlias = Literal["on_failure", "always", "never"]


def check_inputs(kind: object, pairs: Sequence[str]) -> None:  # cyclopts hands the type to every validator
    """Refuses texts that are neither ``NAME=VALUE`` nor a mapping."""
    check_labels(kind, [pair for pair in pairs if not pair.startswith(("@", "{"))])


def check_labels(kind: object, pairs: Sequence[str]) -> None:  # cyclopts hands the type to every validator
    """Refuses texts that are not ``NAME=VALUE``."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{pair!r} is not NAME=VALUE")


@dataclass(frozen=True)
class Identity:
    """What the run is called, what it is given, and where its directory is."""

    input: Annotated[
        list[str],
        Parameter(
            group=_IDENTITY,
            validator=check_inputs,
            metavar="NAME=VALUE",
            help="An input of the pipeline. `NAME=@FILE` takes the text of a file (`@@` is a plain `@`), `@FILE` takes all "
            "inputs of a JSON or YAML file, `NAME=env:VARIABLE` and `NAME=secret:BLOCK` name a secret. May be repeated; the "
            "last one wins.",
        ),
    ] = ()  # type: ignore[assignment]
    label: Annotated[
        list[str],
        Parameter(
            group=_IDENTITY,
            validator=check_labels,
            metavar="NAME=VALUE",
            help="A label for finding the run again. May be repeated.",
        ),
    ] = ()  # type: ignore[assignment]
    run_id: Annotated[str, Parameter(group=_IDENTITY, help="Id of the run: letters, digits, `_` and `-`.")] = ""
    logs_root: Annotated[
        Path | None, Parameter(group=_IDENTITY, help="Write the run directory exactly here. Default: below the runs root.")
    ] = None
    config: Annotated[Path | None, Parameter(group=_IDENTITY, help="Settings file, for example run.yaml.")] = None


@dataclass(frozen=True)
class Place:
    """Where the stages work."""

    repo: Annotated[
        Path | None,
        Parameter(
            group=(_PLACE, _ONE_PLACE),
            help="Git repository. The run gets a worktree and a branch of its own. Default: the repository around the current "
            "directory, if any.",
        ),
    ] = None
    workdir: Annotated[Path | None, Parameter(group=(_PLACE, _ONE_PLACE), help="Work in this folder, in place.")] = None
    no_git: Annotated[bool, Parameter(group=(_PLACE, _ONE_PLACE), help="Work in an empty scratch folder.")] = False
    require_clean: Annotated[bool, Parameter(group=_PLACE, help="Refuse to run on uncommitted work.")] = False
    keep_worktree: Annotated[
        KeepChoice | None, Parameter(group=_PLACE, help="When the worktree of a git run stays. Default: on_failure.")
    ] = None
    push_remote: Annotated[str, Parameter(group=_PLACE, help="Push the run's branch to this remote at the end.")] = ""


@dataclass(frozen=True)
class Workers:
    """Who does what the nodes ask for."""

    human: Annotated[
        HumanChoice | None,
        Parameter(group=_WORKERS, help="Who answers human gates. auto-approve takes the first choice of every gate."),
    ] = None
    agent: Annotated[str, Parameter(group=_WORKERS, help="Who does the work of agent nodes, for example simulate.")] = ""
    task_runner: Annotated[
        str, Parameter(group=_WORKERS, help="Where parallel branches run: threads, dask, dask:N or dask:ADDRESS.")
    ] = ""
    simulate: Annotated[
        bool, Parameter(group=_WORKERS, help="Execute nothing: agents and tools succeed, gates take their first choice.")
    ] = False


@dataclass(frozen=True)
class Limits:
    """How long it may take."""

    run_timeout: Annotated[
        str, Parameter(group=_LIMITS, help="Cancel the run after this time, for example 90s, 15m or 2h.")
    ] = ""
    stage_timeout: Annotated[str, Parameter(group=_LIMITS, help="Upper limit of every attempt at a stage.")] = ""
    stall_timeout: Annotated[
        str,
        Parameter(
            group=_LIMITS, help="Fail the run after so long without an event or a line of output; 0 is never. Default: 20m."
        ),
    ] = ""


def options_of(identity: Identity, place: Place, workers: Workers, limits: Limits) -> Options:
    """The flow's ``options``; paths are made absolute, because the flow need not share this process's folder."""
    from kilroy_engine.execution.preparing.settings import Options

    return Options(
        simulate=workers.simulate,
        human=workers.human or "default",
        agent=workers.agent,
        workspace="git" if place.repo else "plain" if place.no_git else "default",
        workdir=_absolute(place.workdir),
        run_timeout=limits.run_timeout,
        stage_timeout=limits.stage_timeout,
        stall_timeout=limits.stall_timeout,
        keep_worktree=place.keep_worktree or "default",
        require_clean=place.require_clean,
        task_runner=workers.task_runner,
        push_remote=place.push_remote,
        config=_absolute(identity.config),
        logs_root=_absolute(identity.logs_root),
        run_id=identity.run_id,
    )


def options_of_resume(run: Path, workers: Workers, limits: Limits, *, force: bool) -> Options:
    """The flow's ``options`` for another start of the run in the directory ``run``."""
    given = options_of(Identity(), Place(), workers, limits)
    return given.model_copy(update={"resume_from": str(run), "force": force})


def _absolute(path: Path | None) -> str:
    return str(path.expanduser().absolute()) if path else ""


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping; see the help of ``--input`` for the other forms.

    Raises:
        InvalidInput: A file cannot be read or holds no inputs.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        if pair.startswith("@"):
            found |= _mapping_in(_text_of(pair[1:], pair), pair)
        elif pair.startswith("{"):
            found |= _mapping_in(pair, "--input")
        else:
            name, _, value = pair.partition("=")
            found[name.strip()] = _value(value, pair)
    return found


def _value(value: str, pair: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    return _text_of(value[1:], pair) if value.startswith("@") else value


def _text_of(name: str, given: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"--input {given}: {name or 'the file'} cannot be read: {reason}", name="input") from error


def _mapping_in(text: str, given: str) -> dict[str, str]:
    import yaml

    try:
        content: object = yaml.safe_load(text)  # JSON is YAML
    except yaml.YAMLError as error:
        raise InvalidInput(f"{given} holds neither JSON nor YAML: {' '.join(str(error).split())}", name="input") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{given} must hold a mapping of input names to values", name="input")
    entries = cast("dict[object, object]", content)
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in entries.items()}
