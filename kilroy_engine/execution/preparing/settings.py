"""Where a run's settings come from: flow parameters (the CLI's flags are the same thing), environment, settings file, default.

The first source that says something wins. A text that is empty, a switch that is off and a choice that reads ``default`` say
nothing. ``SETTINGS`` is the one table of them; the settings reference is generated from it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kilroy_engine.errors import InvalidInput
from kilroy_engine.execution.preparing.settings_file import read_run_config, read_settings_file
from kilroy_engine.graph.attributes import read_bool, read_duration_s
from kilroy_engine.rundir.files.layout import RunDirectory, check_run_id, run_id_of, runs_root

SAVED = "run_config.json"
"""Where settings of a resumed run come from, for messages."""

Human = Literal["default", "auto-approve", "console", "prefect"]
WorkspaceKind = Literal["default", "git", "plain"]
KeepWorktree = Literal["default", "on_failure", "always", "never"]


class Options(BaseModel):
    """Everything about a run that is rarely changed. An empty text, a switch that is off and "default" mean: not set here."""

    model_config = ConfigDict(extra="forbid")

    simulate: bool = Field(
        default=False,
        title="Simulate",
        description="Do not execute agents and tools; they succeed, and gates take their first choice.",
    )
    human: Human = Field(
        default="default", title="Human gates", description="Who answers human gates. auto-approve takes the first choice."
    )
    agent: str = Field(default="", title="Agent", description="Who does the work of agent nodes, for example simulate.")
    workspace: WorkspaceKind = Field(
        default="default",
        title="Workspace",
        description="git works in a worktree of the repository with one commit per stage; plain works in a scratch folder.",
    )
    workdir: str = Field(default="", title="Work folder", description="Work in this folder, in place. Implies plain.")
    run_timeout: str = Field(
        default="", title="Run deadline", description="Cancels the run after this time, for example 30s, 15m or 2h."
    )
    stage_timeout: str = Field(default="", title="Stage limit", description="Upper limit of every attempt, for example 20m.")
    stall_timeout: str = Field(
        default="",
        title="Stall limit",
        description="Fail the run after this time without an event or a line of output. 0: never.",
    )
    keep_worktree: KeepWorktree = Field(
        default="default", title="Keep worktree", description="When the worktree of a git run stays after the run."
    )
    require_clean: bool = Field(
        default=False, title="Require a clean repository", description="Refuse the run when there is uncommitted work."
    )
    push_remote: str = Field(default="", title="Push to remote", description="Push the run's branch to this remote at the end.")
    run_branch_prefix: str = Field(default="", title="Branch prefix", description="The run's branch is <prefix>/<run id>.")
    task_runner: str = Field(
        default="",
        title="Task runner",
        description="Where parallel branches run: threads, dask (or dask:4 for 4 worker processes), dask:tcp://host:8786.",
    )
    config: str = Field(default="", title="Settings file", description="Path of a run.yaml.")
    logs_root: str = Field(default="", title="Run directory", description="Write the run directory here, exactly.")
    run_id: str = Field(default="", title="Run id", description="Letters, digits, _ and -; by default made from the flow run.")
    resume_from: str = Field(
        default="", title="Resume run", description="Go on with this run (its id, or the path of its directory)."
    )
    force: bool = Field(default=False, title="Force", description="Resume although the pipeline has changed since.")


@dataclass(frozen=True)
class RunSettings:
    """What a run works with, every default applied. Times are seconds; None means no limit."""

    repo: str = ""
    simulate: bool = False
    human: str = ""
    agent: str = ""
    workspace: str = "auto"
    workdir: str = ""
    run_timeout_s: float | None = None
    stage_timeout_s: float | None = None
    stall_timeout_s: float | None = 1200.0
    keep_worktree: str = "on_failure"
    worktree_max_age_s: float | None = 14 * 86400.0
    require_clean: bool = False
    submodules: str = "warn"
    sign: bool = False
    push_remote: str = ""
    run_branch_prefix: str = "attractor/run"
    checkpoint_exclude_globs: tuple[str, ...] = ()
    task_runner: str = "threads"
    setup_commands: tuple[str, ...] = ()
    setup_timeout_s: float = 300.0
    inputs: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field in :class:`RunSettings`, where it may be given, and how its text is read."""

    name: str
    meaning: str
    default: object
    read: Callable[[object], object]
    environment: str = ""
    file_key: str = ""
    option: str = ""


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError("a text is expected")
    return str(value).strip()


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = read_bool(str(value), default=False), read_bool(str(value), default=True)
    if known[0] != known[1]:
        raise ValueError("true or false is expected")
    return known[0]


def _seconds(value: object) -> float:
    seconds = read_duration_s(str(value), default=None)
    if seconds is None or seconds < 0:
        raise ValueError("a time such as 30s, 15m or 2h is expected")
    return seconds


def _limit_s(value: object) -> float | None:
    return _seconds(value) or None


def _milliseconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number of milliseconds is expected")
    return value / 1000 or None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[object]", value)):
        raise ValueError("a list of texts is expected")
    return tuple(cast("list[str]", value))


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("a mapping of names to texts is expected")
    entries = cast("dict[object, object]", value)
    bad = [str(key) for key, item in entries.items() if not isinstance(item, str | int | float | bool)]
    if bad:
        raise ValueError(f"the value of {bad[0]!r} must be a text")
    return {str(key): str(item).lower() if isinstance(item, bool) else str(item) for key, item in entries.items()}


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = str(value).strip()
        if word not in words:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return word

    return read


def _task_runner(value: object) -> str:
    word = str(value).strip()
    kind, _, where = word.partition(":")
    if word != "threads" and (kind != "dask" or not (where.isdigit() or "://" in where or word == "dask") or where == "0"):
        raise ValueError("threads, dask, dask:<number of workers> or dask:<address of a scheduler> is expected")
    return word


SETTINGS: tuple[Setting, ...] = (
    Setting("repo", "Repository that a git run works on.", "", _text, "KILROY_REPO", "repo.path"),
    Setting("simulate", "Do not execute agents and tools.", False, _switch, "KILROY_SIMULATE", "simulate", "simulate"),
    Setting(
        "human", "Who answers human gates.", "", _one_of("auto-approve", "console", "prefect"), "KILROY_HUMAN", "human", "human"
    ),
    Setting("agent", "Who does the work of agent nodes.", "", _text, "KILROY_AGENT", "agent", "agent"),
    Setting(
        "workspace", "git, plain, or auto: git inside a repository.", "auto", _one_of("auto", "git", "plain"),
        "KILROY_WORKSPACE", "workspace", "workspace",
    ),
    Setting("workdir", "Folder that a plain run works in, in place.", "", _text, "", "workdir", "workdir"),
    Setting(
        "run_timeout_s", "Deadline of the run; past it the run is canceled.", None, _limit_s,
        "KILROY_RUN_TIMEOUT", "runtime_policy.run_timeout_ms", "run_timeout",
    ),
    Setting(
        "stage_timeout_s", "Upper limit of every attempt.", None, _limit_s,
        "KILROY_STAGE_TIMEOUT", "runtime_policy.stage_timeout_ms", "stage_timeout",
    ),
    Setting(
        "stall_timeout_s", "Fails the run after so long without an event or a line of output; a stage with a longer limit of "
        "its own may be silent until that. 0: never.", 1200.0, _limit_s,
        "KILROY_STALL_TIMEOUT", "runtime_policy.stall_timeout_ms", "stall_timeout",
    ),
    Setting(
        "keep_worktree", "When a git run's worktree stays.", "on_failure", _one_of("on_failure", "always", "never"),
        "KILROY_KEEP_WORKTREE", "git.keep_worktree", "keep_worktree",
    ),
    Setting(
        "worktree_max_age_s", "After this time `kilroy reconcile` removes the worktree of a run that has ended, unless "
        "keep_worktree is always.", 14 * 86400.0, _limit_s, "KILROY_WORKTREE_MAX_AGE", "git.worktree_max_age_ms",
    ),
    Setting(
        "require_clean", "Refuse to run on uncommitted work.", False, _switch,
        "KILROY_REQUIRE_CLEAN", "git.require_clean", "require_clean",
    ),
    Setting(
        "submodules", "What is done about a repository with submodules, which no worktree has: warn, accept (say nothing) or "
        "refuse to run.", "warn", _one_of("warn", "accept", "refuse"), "KILROY_SUBMODULES", "git.submodules",
    ),
    Setting(
        "sign", "Let git sign the run's commits, with the key that the repository is set to.", False, _switch,
        "KILROY_SIGN", "git.sign",
    ),
    Setting(
        "push_remote", "Remote that the run's branch is pushed to at the end.", "", _text,
        "KILROY_PUSH_REMOTE", "git.push_remote", "push_remote",
    ),
    Setting(
        "run_branch_prefix", "The run's branch is <prefix>/<run id>.", "attractor/run", _text,
        "KILROY_RUN_BRANCH_PREFIX", "git.run_branch_prefix", "run_branch_prefix",
    ),
    Setting(
        "checkpoint_exclude_globs", "Paths that stage commits leave out.", (), _texts,
        "", "artifact_policy.checkpoint.exclude_globs",
    ),
    Setting(
        "task_runner", "Where parallel branches run: `threads` of the flow's process; `dask`, `dask:4` a cluster of worker "
        "processes on this machine; `dask:tcp://host:8786` a cluster that is there.", "threads", _task_runner,
        "KILROY_TASK_RUNNER", "task_runner", "task_runner",
    ),
    Setting("setup_commands", "Commands to run in the work folder before the first stage.", (), _texts, "", "setup.commands"),
    Setting("setup_timeout_s", "Limit of all set-up commands together.", 300.0, _seconds, "", "setup.timeout_ms"),
    Setting("inputs", "Inputs of the pipeline; single inputs given with the run win.", {}, _mapping, "", "inputs"),
    Setting("labels", "Labels of the run; single labels given with the run win.", {}, _mapping, "", "labels"),
)  # fmt: skip

FILE_KEYS = frozenset(setting.file_key for setting in SETTINGS if setting.file_key)
"""Keys of the settings file, as dotted names."""


def resolve_settings(
    options: Options,
    *,
    repo: str = "",
    environ: Mapping[str, str],
    base: Path | None = None,
    saved: Mapping[str, object] | None = None,
) -> RunSettings:
    """The run's settings from all sources.

    Args:
        options: What was given with the run; ``repo`` likewise.
        environ: The process environment, for ``KILROY_*`` variables.
        base: Folder that a relative settings file is looked up in; the current one by default.
        saved: Settings of a run that is resumed (:func:`saved_settings`): they stand in the place of environment and file.

    Raises:
        InvalidInput: A source holds a value that does not fit; names the source and what is expected.
    """
    in_file: Mapping[str, object] = {}
    warnings: tuple[str, ...] = ()
    if saved is not None:
        config, in_file, environ = SAVED, saved, {}
    elif config := options.config or environ.get("KILROY_CONFIG", ""):
        in_file, warnings = read_settings_file((base or Path.cwd()) / config, FILE_KEYS)
    given: dict[str, object] = {"repo": repo, **{s.option: getattr(options, s.option) for s in SETTINGS if s.option}}
    values: dict[str, object] = {}
    for setting in SETTINGS:
        values[setting.name] = _first_said(setting, given, environ, in_file, config)
    return RunSettings(**values, warnings=warnings)  # type: ignore[arg-type]


def _first_said(
    setting: Setting, given: Mapping[str, object], environ: Mapping[str, str], in_file: Mapping[str, object], config: str
) -> object:
    candidates = (
        (f"parameter {setting.option or setting.name}", given.get(setting.option or setting.name)),
        (f"environment variable {setting.environment}", environ.get(setting.environment) if setting.environment else None),
        (f"{setting.file_key} in {config}", in_file.get(setting.file_key)),
    )
    for source, value in candidates:
        if value is None or value is False or value in ("", "default"):
            continue
        in_ms = source.startswith(setting.file_key) and setting.file_key.endswith("_ms")
        try:
            return (_milliseconds if in_ms else setting.read)(value)
        except ValueError as error:
            raise InvalidInput(f"{source} is {value!r}: {error}", name=setting.name) from error
    return setting.default


def saved_settings(run: RunDirectory) -> Mapping[str, object]:
    """What ``run_config.json`` says, as dotted keys of the settings file.

    Raises:
        RunDirectoryError: There is no such file.
        CorruptRecord: It holds something else.
    """
    return read_run_config(run, FILE_KEYS)


def run_directory_path(options: Options, *, run_id: str, environ: Mapping[str, str]) -> Path:
    """Absolute path of a run's directory: the resumed run's, else what ``logs_root`` says, else ``run_id`` under the runs root.

    The flow body and the state hooks both call it, so that a hook in a fresh process finds the run.

    Raises:
        InvalidInput: ``run_id`` does not fit the pattern.
    """
    if options.resume_from:
        return resumed_path(options.resume_from, environ)
    if options.logs_root:
        return Path(options.logs_root).expanduser().absolute()
    return runs_root(environ) / check_run_id(run_id)


def require_task_runner(task_runner: str) -> None:
    """Makes sure that what the setting names is installed.

    Raises:
        InvalidInput: It is not.
    """
    if task_runner.partition(":")[0] == "dask" and importlib.util.find_spec("prefect_dask") is None:
        raise InvalidInput(
            "task_runner=dask needs prefect-dask: install kilroy-engine[dask], on the workers of the cluster too",
            name="task_runner",
        )


def run_id_for(flow_run_id: UUID, options: Options) -> str:
    """The run's id: as given, else the ULID form of the flow run's id."""
    return options.run_id or run_id_of(flow_run_id)


def resumed_path(reference: str, environ: Mapping[str, str]) -> Path:
    """The directory that ``resume_from`` names, by the run's id or by its path."""
    if "/" in reference or reference.startswith((".", "~")):
        return Path(reference).expanduser().absolute()
    return runs_root(environ) / check_run_id(reference)


def run_config(settings: RunSettings, *, repo_path: Path | None, inputs: Mapping[str, str]) -> dict[str, object]:
    """Content of ``run_config.json``: Kilroy's keys where it has one, every default applied, secrets by name only."""
    return {
        "version": 1,
        "repo": {"path": str(repo_path or "")},
        "git": {
            "require_clean": settings.require_clean,
            "run_branch_prefix": settings.run_branch_prefix,
            "commit_per_node": repo_path is not None,
            "submodules": settings.submodules,
            "sign": settings.sign,
            "push_remote": settings.push_remote,
            "keep_worktree": settings.keep_worktree,
            "worktree_max_age_ms": round((settings.worktree_max_age_s or 0) * 1000),
        },
        "artifact_policy": {"checkpoint": {"exclude_globs": list(settings.checkpoint_exclude_globs)}},
        "setup": {"commands": list(settings.setup_commands), "timeout_ms": round(settings.setup_timeout_s * 1000)},
        "runtime_policy": {
            "stage_timeout_ms": round((settings.stage_timeout_s or 0) * 1000),
            "run_timeout_ms": round((settings.run_timeout_s or 0) * 1000),
            "stall_timeout_ms": round((settings.stall_timeout_s or 0) * 1000),
        },
        "task_runner": settings.task_runner,
        "simulate": settings.simulate,
        "human": settings.human,
        "agent": settings.agent,
        "workspace": settings.workspace,
        "workdir": settings.workdir,
        "inputs": dict(inputs),
        "labels": dict(settings.labels or {}),
    }
