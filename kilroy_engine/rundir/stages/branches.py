"""Branches in a run directory: their directories, their results, and the passes of each fan-out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, TypeAlias, cast

from pydantic import Field, GetPydanticSchema, JsonValue, ValidationError
from pydantic_core.core_schema import no_info_plain_validator_function, plain_serializer_function_ser_schema

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events.encoding import compact
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.inside import real_folders
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Record
from kilroy_engine.rundir.stages.stage_files import decode_status, encode_status
from kilroy_engine.traversal.branch_plan import Branch
from kilroy_engine.traversal.outcome import Json, Outcome

RESULTS_FILE = "parallel_results.json"
_PASS = re.compile(r"pass(\d+)\Z")
_SHOWN_CHARACTERS = 2000
_CHILDREN = ("*/child/", "*/attempt_*/child/", "*/visit_*/child/", "*/visit_*/attempt_*/child/")


class FanOutRecord(Record):
    """`parallel/<fan-out>/pass<P>/fan_out.json`: a pass of a fan-out. A resume goes on with a pass that was interrupted."""

    mend: ClassVar[str] = "Remove the folder of the pass; the branches then run anew."

    node_id: str = Field(description="the fan-out")
    base_sha: str = Field(default="", description="commit that the branches began at; empty without a repository")
    join_node_id: str = Field(description="node where the branches end")
    round: int = Field(default=0, description="visits of the fan-out that were over before this one")
    attempt: int = Field(default=1, description="attempt in its visit")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.path / "fan_out.json"


def _outcome_of(value: object) -> Outcome:
    if isinstance(value, Outcome):
        return value
    try:
        return decode_status(compact(value), Path("outcome"))
    except CorruptRecord as error:
        raise ValueError(str(error)) from error


StatusShaped: TypeAlias = Annotated[
    Outcome,
    # PlainValidator and PlainSerializer still inspect the class, and pydantic has no schema for the type Json in it.
    GetPydanticSchema(
        lambda _source, _handler: no_info_plain_validator_function(
            _outcome_of, serialization=plain_serializer_function_ser_schema(encode_status)
        )
    ),
]
"""An outcome that a file holds in the shape of ``status.json``."""


class BranchRecord(Record):
    """`parallel/<fan-out>/pass<P>/<NN>-<key>/result.json`: the result of a branch. Written when the branch is over."""

    mend: ClassVar[str] = "Remove it; the branch then goes on from its checkpoint."

    branch_key: str = Field(description="key of the branch")
    branch_name: str = Field(default="", description="its git branch; empty without a repository")
    start_node_id: str = Field(description="its first node")
    stop_node_id: str = Field(description="node where it ends, which is not its own")
    head_sha: str = Field(default="", description="its last commit")
    last_node_id: str = Field(default="", description="its last completed node")
    outcome: StatusShaped = Field(description="what it is judged by, in the shape of `status.json`")
    completed_nodes: tuple[str, ...] = Field(default=(), description="its completed nodes in order")
    logs_root: str = Field(default="", description="directory of the branch")
    worktree_dir: str = Field(default="", description="folder that it worked in")
    error: str = Field(default="", description="why it broke off; left out unless it did")
    context: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue], description="context keys that it changed")
    duration_ms: int = Field(default=0, description="how long it took, milliseconds")

    optional: ClassVar[frozenset[str]] = frozenset({"error", "context", "duration_ms"})

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.path / "result.json"


def pass_directory(run: RunDirectory, node_id: str, number: int) -> RunDirectory:
    """`parallel/<fan-out>/pass<P>/`: the directory of pass ``number``, from 1."""
    return RunDirectory(run.path / "parallel" / node_id / f"pass{number}")


def branch_directory(passed: RunDirectory, branch: Branch) -> RunDirectory:
    """`parallel/<fan-out>/pass<P>/<NN>-<key>/`: a branch; NN is the number of its edge, from 01."""
    return RunDirectory(passed.path / f"{branch.number:02d}-{branch.key}")


def last_pass(run: RunDirectory, node_id: str) -> int:
    """Number of the fan-out's latest pass; 0 before the first."""
    folders = real_folders(run.path, f"parallel/{node_id}/pass*")
    return max((int(m[1]) for folder in folders if (m := _PASS.match(folder.name))), default=0)


def all_branches(run: RunDirectory) -> Iterator[RunDirectory]:
    """The directories of all branches in ``run``, with the branches inside of restarts, child pipelines and other branches."""
    for folder in real_folders(run.path, "parallel/*/pass*/*"):
        inner = RunDirectory(folder)
        yield from all_branches(inner)
        yield inner
    for pattern in ("restart-*/", *_CHILDREN):
        for folder in real_folders(run.path, pattern):
            yield from all_branches(RunDirectory(folder))


def write_results(stage_dir: Path, results: Iterable[BranchRecord]) -> None:
    """Writes ``parallel_results.json``: all results, sorted by key and first node (Kilroy)."""
    write_json(stage_dir / RESULTS_FILE, _in_order(results))


def shown_results(results: Iterable[BranchRecord]) -> list[Json]:
    """The results for the context, in the same order. Long texts are cut; ``parallel_results.json`` holds them whole."""
    return [_shortened(entry) for entry in _in_order(results)]


def read_shown(value: Json) -> list[BranchRecord]:
    """The results in a context value of :func:`shown_results`. An entry that is no result is left out: an agent may set any
    key.
    """
    entries = value if isinstance(value, list) else []
    return [record for entry in entries if (record := _result_in(entry)) is not None]


def _in_order(results: Iterable[BranchRecord]) -> list[Json]:
    in_order = sorted(results, key=lambda result: (result.branch_key, result.start_node_id))
    return [cast("Json", result.to_json()) for result in in_order]


def _result_in(entry: Json) -> BranchRecord | None:
    try:
        return BranchRecord.model_validate(entry)
    except ValidationError:
        return None


def _shortened(value: Json) -> Json:
    if isinstance(value, str):
        return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]} …"
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return value
