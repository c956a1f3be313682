"""The records of a run directory: JSON files with one writer each, checked when they are read.

Unknown keys are ignored, so that this version reads the files of a later version.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, ValidationError

from kilroy_engine.errors import CorruptRecord, RunDirectoryError, StopKind
from kilroy_engine.events.encoding import require_shallow
from kilroy_engine.events.times import rfc3339
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.traversal.outcome import FinalStatus


def _write_time(moment: datetime) -> str:
    return rfc3339(moment)


Moment: TypeAlias = Annotated[AwareDatetime, PlainSerializer(_write_time, when_used="json")]
"""An aware time. On disk: RFC 3339 in UTC with ``Z``."""


class Record(BaseModel):
    """A JSON file of the run directory. Each subclass describes one file.

    - ``mend`` tells a person what to do about a damaged file.
    - ``optional`` names the keys that are left out when empty.
    - ``sort_keys``: the keys are sorted on disk.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    mend: ClassVar[str]
    optional: ClassVar[frozenset[str]] = frozenset()
    sort_keys: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def path_in(run: RunDirectory) -> Path:
        """The record's file in ``run``."""

    @classmethod
    def find(cls, run: RunDirectory) -> Self | None:
        """The record; None where the file does not exist.

        Raises:
            CorruptRecord: The file is damaged.
        """
        path = cls.path_in(run)
        content = read_file(path)
        return None if content is None else cls.parse(content, path)

    @classmethod
    def read(cls, run: RunDirectory) -> Self:
        """The record; the file must exist.

        Raises:
            RunDirectoryError: The file does not exist.
            CorruptRecord: The file is damaged.
        """
        found = cls.find(run)
        if found is None:
            raise RunDirectoryError(f"{cls.path_in(run)} does not exist", path=cls.path_in(run))
        return found

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Self:
        """The record in ``content``. ``path`` is for the error message.

        Raises:
            CorruptRecord: ``content`` is no such record.
        """
        try:
            require_shallow(content)
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"{place}: {first['msg']}" if place else str(first["msg"])
            raise CorruptRecord(f"{path} is damaged ({what}). {cls.mend}", path=path) from error
        except ValueError as error:
            raise CorruptRecord(f"{path} is damaged ({error}). {cls.mend}", path=path) from error

    def to_json(self) -> dict[str, Any]:
        """The file's content: keys in the order of the fields or sorted. An empty optional key is left out."""
        content = self.model_dump(mode="json")
        kept = {key: value for key, value in content.items() if value or key not in self.optional}
        return dict(sorted(kept.items())) if self.sort_keys else kept

    def write(self, run: RunDirectory) -> None:
        """Writes the file. Once the call returned, neither a crash nor a power cut loses the file."""
        write_json(self.path_in(run), self.to_json(), named=True)


class Manifest(Record):
    """`manifest.json`: run id, pipeline, folders and inputs of the run. Kilroy's keys and the engine's own, sorted on disk."""

    mend: ClassVar[str] = "Restore it from run.tgz or another copy; without it the run cannot be resumed."
    optional: ClassVar[frozenset[str]] = frozenset({"warnings", "labels", "inputs"})
    sort_keys: ClassVar[bool] = True

    run_id: str = Field(description="id of the run")
    graph_name: str = Field(default="", description="name of the pipeline")
    goal: str = Field(default="", description="the pipeline's goal")
    started_at: Moment = Field(description="when this start began")
    logs_root: str = Field(default="", description="the run directory, absolute")
    graph_dot: str = Field(default="", description="the copy of the pipeline's source, absolute")
    graph_file: str = Field(default="", description="the file that it was read from, absolute; empty for DOT text")
    run_config_path: str = Field(default="", description="the run's settings, absolute")
    worktree: str = Field(default="", description="the folder that the stages work in, absolute")
    repo_path: str = Field(default="", description="the repository; empty in a run without one")
    run_branch: str = Field(default="", description="the run's branch; empty in a run without a repository")
    base_sha: str = Field(default="", description="commit that the run began at; empty without a repository")
    kilroy_v1: bool = Field(default=True, description="always true")
    cxdb: dict[str, JsonValue] = Field(default_factory=dict, description="always empty; for readers that expect it")
    modeldb: dict[str, JsonValue] = Field(default_factory=dict, description="always empty; for readers that expect it")
    warnings: list[str] = Field(default_factory=list, description="warnings given before the first stage")
    labels: dict[str, str] = Field(default_factory=dict, description="labels given to the run")
    inputs: dict[str, JsonValue] = Field(default_factory=dict, description="inputs given to the run, secrets masked")
    flow_run_id: str = Field(default="", description="id of the Prefect flow run of this start")
    flow_run_name: str = Field(default="", description="its name")
    deployment_id: str = Field(default="", description="id of its deployment; empty without one")
    prefect_ui_url: str = Field(default="", description="its page in the Prefect UI; empty without one")
    engine_version: str = Field(default="", description="version of Kilroy Engine")
    outputs: list[str] = Field(default_factory=list, description="outputs that the pipeline declares, relative paths")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.manifest


class FinalOutcome(Record):
    """`final.json`: how the run ended. Tools wait for this file."""

    mend: ClassVar[str] = "Remove it and run `kilroy reconcile`, which writes the end of a run that has none."
    optional: ClassVar[frozenset[str]] = frozenset({"failure_reason", "crashed"})

    timestamp: Moment = Field(description="when the end was decided")
    status: FinalStatus = Field(description="`success`, `fail` or `canceled`")
    run_id: str = Field(description="id of the run")
    final_git_commit_sha: str = Field(default="", description="last commit of the run branch; empty without a repository")
    failure_reason: str = Field(default="", description="one line a person can act on; left out when empty")
    cxdb_context_id: str = Field(default="", description="always empty; for readers that expect it")
    cxdb_head_turn_id: str = Field(default="", description="always empty; for readers that expect it")
    flow_run_id: str = Field(default="", description="id of the Prefect flow run that ended so")
    start: int = Field(default=1, ge=1, description="start that ended so")
    crashed: bool = Field(default=False, description="its process ended without a conclusion; left out when it did not")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.final


class RunLockRecord(Record):
    """`run.lock.json`: who owns the run. Kilroy's keys, then what tells whether the owner lives, on this machine or another."""

    mend: ClassVar[str] = "Remove it when no process works on the run; the next start writes a new one."

    pid: int = Field(gt=0, description="process id of the owner")
    pid_start_time: int = Field(0, description="when that process started, in clock ticks since boot (Linux)")
    run_id: str = Field(default="", description="id of the run")
    acquired_at: Moment = Field(description="when the owner took the run")
    host: str = Field(default="", description="machine of the owner")
    boot_id: str = Field(default="", description="boot of that machine")
    flow_run_id: str = Field(default="", description="id of the Prefect flow run that owns the run")
    start: int = Field(default=1, ge=1, description="number of the start")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.lock


class Conclusion(Record):
    """`conclusion.json`: how the walk ended, written before the flow returns."""

    mend: ClassVar[str] = "Remove it; the end of the run then follows from the state of the flow run."
    optional: ClassVar[frozenset[str]] = frozenset({"stop"})

    status: FinalStatus = Field(description="`success`, `fail` or `canceled`")
    reason: str = Field(default="", description="as `failure_reason` of `final.json`")
    stop: StopKind | None = Field(default=None, description="what stopped the walk; left out when it came to its end")
    sha: str = Field(default="", description="last commit of the run branch")
    start: int = Field(default=1, ge=1, description="start that came to it")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.conclusion


class CancelRequest(Record):
    """`cancel_request.json`: a request to stop this start."""

    mend: ClassVar[str] = "Remove it and ask again."

    source: str = Field(description="completes `canceled: …`, for example `by kilroy stop`")
    kind: StopKind = Field(default=StopKind.PERSON, description="who or what asked; `person` where another program did")
    at: Moment = Field(description="when it was asked")
    start: int = Field(default=1, ge=1, description="start that is asked to stop")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.cancel_request
