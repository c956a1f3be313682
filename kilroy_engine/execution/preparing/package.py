"""Workflow packages: folders with a pipeline, its scripts, its prompts and a ``workflow.toml`` (Kilroy)."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kilroy_engine.errors import InvalidInput, PackageSyntaxError, RunDirectoryError
from kilroy_engine.execution.preparing.pipeline_file import PACKAGE_FILE, is_folder
from kilroy_engine.graph.inputs import DeclaredInput
from kilroy_engine.graph.source import excerpt
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.rundir.files.copies import copy_file, copy_tree
from kilroy_engine.rundir.files.inside import path_inside, read_inside
from kilroy_engine.rundir.files.regular import is_real_folder

PACKAGE_FOLDERS = ("scripts", "prompts")
"""Folders of a package that are copied into ``.kilroy/package/`` of every place of work."""
_PLACE_IN_MESSAGE = re.compile(r"\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)\Z")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PackageInput(_Table):
    """One ``[[inputs]]`` table: an input of the pipeline."""

    name: str = Field(min_length=1)
    description: str = ""
    required: bool = False
    default: str | None = None

    @field_validator("default", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # Inputs are text. Other TOML types are written as on the command line.
        match value:
            case bool():
                return str(value).lower()
            case int() | float():
                return str(value)
            case _:
                return value


class _Defaults(_Table):
    labels: dict[str, str] = Field(default_factory=dict[str, str])


class PackageManifest(_Table):
    """The content of ``workflow.toml``."""

    name: str = ""
    description: str = ""
    version: str = ""
    inputs: tuple[PackageInput, ...] = ()
    outputs: tuple[str, ...] = ()
    defaults: _Defaults = Field(default_factory=_Defaults)
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class WorkflowPackage:
    """A package on disk. ``warnings`` name the unknown keys of its ``workflow.toml``."""

    folder: Path
    manifest: PackageManifest
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.manifest.name or self.folder.resolve().name

    def declared_with(self, of_graph: Sequence[DeclaredInput]) -> tuple[DeclaredInput, ...]:
        """The inputs that the graph declares, completed by the package, then the inputs that only the package declares.

        A default of the package replaces the graph's. An input without a default is required if the graph or the package
        requires it.
        """
        inputs = {known.name: known for known in of_graph}
        for own in self.manifest.inputs:
            known = inputs.get(own.name, DeclaredInput(own.name, required=False))
            default = own.default if own.default is not None else known.default
            inputs[own.name] = replace(
                known,
                required=default is None and (known.required or own.required),
                default=default,
                description=known.description or own.description,
            )
        return tuple(inputs.values())

    @property
    def labels(self) -> Mapping[str, str]:
        return self.manifest.defaults.labels

    def require_inputs(self, given: Mapping[str, str]) -> None:
        """Checks that ``given``, with defaults included, holds all required inputs.

        Raises:
            InvalidInput: Inputs are missing. The message has their descriptions.
        """
        missing = [declared for declared in self.manifest.inputs if declared.required and declared.name not in given]
        if missing:
            named = ", ".join(f"{one.name} ({one.description})" if one.description else one.name for one in missing)
            raise InvalidInput(
                f"missing required inputs: {named}, declared in {self.folder / PACKAGE_FILE}; "
                f"give each with --input {missing[0].name}=VALUE or in the parameter inputs",
                name="inputs",
            )


def package_at(graph: str, *, base: Path) -> WorkflowPackage | None:
    """The package that the parameter ``graph`` names; None if ``graph`` names no folder.

    Raises:
        PackageSyntaxError: The ``workflow.toml`` is invalid.
        InvalidInput: A link in the package leads out of it.
    """
    return read_package(base / Path(graph).expanduser()) if is_folder(graph, base=base) else None


def read_package(folder: Path) -> WorkflowPackage:
    """The package in ``folder``. Without a ``workflow.toml`` the package has an empty manifest.

    Raises:
        PackageSyntaxError: The ``workflow.toml`` is invalid. The error has file, line and column.
        InvalidInput: A link in the package leads out of it.
    """
    path = folder / PACKAGE_FILE
    _require_own_files(folder)
    try:
        content = read_inside(folder, PACKAGE_FILE, limit_bytes=TEXT_BYTES)
        text = content.decode("utf-8") if content is not None else None
    except (RunDirectoryError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, RunDirectoryError) else "it is not UTF-8 text"
        raise PackageSyntaxError(f"cannot be read: {reason}", filename=str(path)) from error
    if text is None:
        return WorkflowPackage(folder, PackageManifest())
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(error, text, path) from error
    try:
        manifest = PackageManifest.model_validate(tables)
    except ValidationError as error:
        raise _misfit(error, text, path) from error
    return WorkflowPackage(folder, manifest, tuple(_unknown(tables)))


def keep_package(package: WorkflowPackage, kept: Path) -> None:
    """Copies the package into the run directory, for the place of work and for later starts.

    Raises:
        RunDirectoryError: A file cannot be copied.
    """
    if package.folder.resolve() == kept.resolve():
        return
    try:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name in PACKAGE_FOLDERS:
            if is_real_folder(package.folder / name):
                copy_tree(package.folder / name, kept / name)
        if os.path.lexists(package.folder / PACKAGE_FILE):
            copy_file(package.folder / PACKAGE_FILE, kept / PACKAGE_FILE)
    except OSError as error:
        raise RunDirectoryError(f"cannot copy the package {package.folder} to {kept}: {error}", path=kept) from error


def _require_own_files(folder: Path) -> None:
    """Refuses links that lead out of the package or in a circle. Links are copied as links and would be broken in the copy."""
    for name in (*PACKAGE_FOLDERS, PACKAGE_FILE):
        for link in _links_at(folder / name):
            target = link.readlink()
            if link == folder / name or target.is_absolute() or path_inside(folder, link.relative_to(folder)) is None:
                raise InvalidInput(
                    f"{link} is a link to {target}; what a workflow package hands on lies in the package itself, so put a copy "
                    "there, or a relative link to a file of its scripts and prompts",
                    name="graph",
                )


def _links_at(place: Path) -> Iterator[Path]:
    if place.is_symlink():
        yield place
        return
    for parent, folders, names in os.walk(place):
        yield from (path for name in (*folders, *names) if (path := Path(parent, name)).is_symlink())


def _no_toml(error: tomllib.TOMLDecodeError, text: str, path: Path) -> PackageSyntaxError:
    lines = text.splitlines()
    match = _PLACE_IN_MESSAGE.search(str(error))
    line, column = len(lines), len(lines[-1]) + 1 if lines else 1
    if match and match["line"]:
        line, column = int(match["line"]), int(match["column"])
    message = _PLACE_IN_MESSAGE.sub("", str(error))
    hint = "texts stand in quotes, each input begins with [[inputs]], and lists stand in brackets"
    return _at(path, lines, line, column, f"this is no TOML: {message[:1].lower()}{message[1:]}", hint)


def _misfit(error: ValidationError, text: str, path: Path) -> PackageSyntaxError:
    first = error.errors()[0]
    place = list(first["loc"])
    lines = text.splitlines()
    line, column = _line_of(place, lines)
    named = ".".join(str(part) for part in place)
    expected = "see the how-to about workflow packages for what the keys take"
    return _at(path, lines, line, column, f"{named}: {first['msg'][:1].lower()}{first['msg'][1:]}", expected)


def _at(path: Path, lines: list[str], line: int, column: int, message: str, hint: str) -> PackageSyntaxError:
    shown = excerpt(lines, line, column)
    return PackageSyntaxError(message, line=line, column=column, filename=str(path), excerpt=shown, hint=hint)


def _line_of(place: list[str | int], lines: list[str]) -> tuple[int, int]:
    """Line and column of a value in the text: its key, below its table's header. Python's TOML reader gives no positions."""
    start, table, index = 0, str(place[0]), place[1] if len(place) > 1 and isinstance(place[1], int) else 0
    headers = [n for n, text in enumerate(lines) if re.match(rf"\s*\[+\s*{re.escape(table)}\b", text)]
    if len(place) > 1 and len(headers) > index:
        start = headers[index]
    for key in (str(part) for part in reversed(place) if isinstance(part, str)):
        for number in range(start, len(lines)):
            if match := re.match(rf"(\s*)[\"']?{re.escape(key)}[\"']?\s*=", lines[number]):
                return number + 1, len(match[1]) + 1
            if number > start and start and lines[number].lstrip().startswith("["):
                break
    return start + 1, 1


def _unknown(tables: Mapping[str, Any]) -> list[str]:
    found = _unknown_in(tables, PackageManifest, "")
    inputs = tables.get("inputs")
    for index, table in enumerate(cast("list[Mapping[str, Any]]", inputs if isinstance(inputs, list) else [])):
        found += _unknown_in(table, PackageInput, f"inputs[{index}].")
    defaults = tables.get("defaults")
    return found + (_unknown_in(cast("Mapping[str, Any]", defaults), _Defaults, "defaults.") if defaults else [])


def _unknown_in(table: Mapping[str, Any], kind: type[BaseModel], prefix: str) -> list[str]:
    unknown = [key for key in table if key not in kind.model_fields]
    near = {key: get_close_matches(key, kind.model_fields, n=1, cutoff=0.6) for key in unknown}
    return [
        f"{PACKAGE_FILE}: unknown key {prefix + key!r} is ignored"
        + (f"; did you mean {near[key][0]!r}?" if near[key] else "; keys of your own belong in [metadata]")
        for key in unknown
    ]
