"""The table of settings: each setting of a run is one field. To add a setting, add a field, and read it where it is needed.

The run form, the flags, the environment names, the keys of ``run.yaml`` and ``run_config.json``, the reference page, the values
in a child pipeline and those in a resume follow from the field: :class:`~kilroy_engine.settings.setting.Setting` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from kilroy_engine.settings.kinds import Amount, Count, FilePath, Limit, TaskRunner
from kilroy_engine.settings.setting import Inherited, LeftOut, NoSetting, Setting, Topic, rows_of

_A_LIST = LeftOut("a list; the form has single values only")
_OF_THE_COMMANDS = LeftOut("goes with the commands")
_OF_THE_REPOSITORY = LeftOut("a property of the repository, the same for all of its runs")
_OF_ONE_RUN = LeftOut("meant for one run or for one project, never for all runs of a user")
_OF_ONE_START = LeftOut("meant for one start of a run")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of one run, with every default applied. Times are in seconds; None means no limit."""

    repo: Annotated[
        FilePath,
        Setting(
            "Repository",
            "Git repository that the run works on, in a worktree and on a branch of its own. By default the one around the "
            "working folder, if there is one.",
            Topic.PLACE,
            key="repo.path",
            option=LeftOut("a parameter of the flow beside the options", instead="repo"),
            flag=LeftOut("it chooses the workspace too", instead="--repo"),
        ),
    ] = ""
    simulate: Annotated[
        bool,
        Setting("Simulate", "Execute nothing: agents and tools succeed, human gates take their first choice.", Topic.WORKERS),
    ] = False
    human: Annotated[
        Literal["", "auto-approve", "console", "prefect"],
        Setting("Human gates", "Who answers human gates. auto-approve takes the first choice of every gate.", Topic.WORKERS),
    ] = ""
    agent: Annotated[
        str,
        Setting(
            "Agent",
            "Who does the work of agent nodes that name nobody themselves (agent_tool): claude, codex, gemini, command, or "
            "simulate, which works on every node. By default the agent of the node's provider, else the first one installed.",
            Topic.WORKERS,
        ),
    ] = ""
    agent_command: Annotated[
        str,
        Setting(
            "Agent command",
            "What the agent `command` calls, for example aider --model {model} --yes. The prompt comes on standard input.",
            Topic.WORKERS,
            key="agents.command",
        ),
    ] = ""
    provider_agents: Annotated[
        Mapping[str, str],
        Setting(
            "Agents of providers",
            "Which agent works on the nodes of a provider, for example anthropic: command.",
            Topic.WORKERS,
            key="agents.providers",
            option=_A_LIST,
            environment=_A_LIST,
        ),
    ] = field(default_factory=dict[str, str])
    model_aliases: Annotated[
        Mapping[str, str],
        Setting(
            "Names of models",
            "Short names for llm_model, for example fast: claude-haiku-4-5.",
            Topic.WORKERS,
            key="agents.models",
            option=_A_LIST,
            environment=_A_LIST,
        ),
    ] = field(default_factory=dict[str, str])
    agent_environment: Annotated[
        tuple[str, ...],
        Setting(
            "Variables of agents",
            "Names of environment variables that agents get beside those on the list of the agents page.",
            Topic.WORKERS,
            key="agents.environment",
            option=_A_LIST,
            environment=_A_LIST,
        ),
    ] = ()
    agent_block: Annotated[
        str,
        Setting(
            "Agent block",
            "Name of a Prefect block of type Kilroy Agent: the keys and variables that agents get.",
            Topic.WORKERS,
            key="agents.block",
        ),
    ] = ""
    agent_timeout_s: Annotated[
        Limit,
        Setting(
            "Agent limit",
            "Limit of an agent's attempt where its node has no timeout, for example 45m.",
            Topic.LIMITS,
            key="agents.timeout_ms",
        ),
    ] = 3600.0
    agent_idle_timeout_s: Annotated[
        Limit,
        Setting(
            "Agent silence",
            "End an agent that has said nothing for so long; another attempt may follow. 0: never.",
            Topic.LIMITS,
            key="agents.idle_timeout_ms",
        ),
    ] = 900.0
    agent_max_turns: Annotated[
        Count,
        Setting(
            "Agent turns",
            "How often an agent may ask its model within an attempt, where its node sets no max_agent_turns.",
            Topic.LIMITS,
            key="agents.max_turns",
        ),
    ] = None
    max_cost_usd: Annotated[
        Amount,
        Setting(
            "Budget in US dollars",
            "What the models of the whole run may cost, for example 5. Past it the run fails, and can be resumed with more.",
            Topic.LIMITS,
            key="budget.max_cost_usd",
            in_child=None,
        ),
    ] = None
    max_tokens: Annotated[
        Count,
        Setting(
            "Budget in tokens",
            "How many tokens the models of the whole run may read and write. Past it the run fails, and can be resumed.",
            Topic.LIMITS,
            key="budget.max_tokens",
            in_child=None,
        ),
    ] = None
    missing_status: Annotated[
        Literal["fail", "success"],
        Setting(
            "Without a verdict",
            "What an agent's stage comes to when it leaves no status file.",
            Topic.WORKERS,
            key="agents.missing_status",
        ),
    ] = "fail"
    source_repo_change: Annotated[
        Literal["warn", "fail"],
        Setting(
            "Repository changed",
            "What happens when an agent has changed HEAD, branches or index of the repository itself: a warning, or the "
            "stage's failure.",
            Topic.PLACE,
            key="git.source_repo_change",
        ),
    ] = "warn"
    workspace: Annotated[
        Literal["auto", "git", "plain"],
        Setting(
            "Workspace",
            "git works in a worktree of the repository with one commit per stage; plain works in a scratch folder. By default "
            "git inside a repository, plain elsewhere.",
            Topic.PLACE,
            flag=LeftOut("--repo and --no-git choose it", instead="--no-git"),
            unoffered=("auto",),
        ),
    ] = "auto"
    workdir: Annotated[
        FilePath,
        Setting("Work folder", "Work in this folder, in place. Implies plain.", Topic.PLACE, environment=_OF_ONE_RUN),
    ] = ""
    run_timeout_s: Annotated[
        Limit,
        Setting(
            "Run deadline",
            "Cancel the run after this time, for example 30s, 15m or 2h.",
            Topic.LIMITS,
            key="runtime_policy.run_timeout_ms",
            in_child=None,
        ),
    ] = None
    stage_timeout_s: Annotated[
        Limit,
        Setting(
            "Stage limit",
            "Upper limit of every attempt at a stage, for example 20m.",
            Topic.LIMITS,
            key="runtime_policy.stage_timeout_ms",
        ),
    ] = None
    stall_timeout_s: Annotated[
        Limit,
        Setting(
            "Stall limit",
            "Fail the run after so long without an event or a line of output; a stage with a longer limit of its own may be "
            "silent until that. 0: never.",
            Topic.LIMITS,
            key="runtime_policy.stall_timeout_ms",
            in_child=None,
        ),
    ] = 1200.0
    keep_worktree: Annotated[
        Literal["on_failure", "always", "never"],
        Setting(
            "Keep worktree",
            "When the worktree of a git run stays after the run.",
            Topic.PLACE,
            key="git.keep_worktree",
            in_child="always",
        ),
    ] = "on_failure"
    worktree_max_age_s: Annotated[
        Limit,
        Setting(
            "Age of worktrees",
            "After this time `kilroy reconcile` removes the worktree of a run that has ended, unless keep_worktree is always.",
            Topic.PLACE,
            key="git.worktree_max_age_ms",
            option=LeftOut("a rule for the machine's disk, the same for all runs on it"),
            in_child=None,
        ),
    ] = 14 * 86400.0
    require_clean: Annotated[
        bool,
        Setting("Require a clean repository", "Refuse to run on uncommitted work.", Topic.PLACE, key="git.require_clean"),
    ] = False
    submodules: Annotated[
        Literal["warn", "accept", "refuse"],
        Setting(
            "Submodules",
            "What is done about a repository with submodules, which no worktree has: warn, accept (say nothing) or refuse to "
            "run.",
            Topic.PLACE,
            key="git.submodules",
            option=_OF_THE_REPOSITORY,
        ),
    ] = "warn"
    sign: Annotated[
        bool,
        Setting(
            "Sign commits",
            "Let git sign the run's commits, with the key that the repository is set to.",
            Topic.PLACE,
            key="git.sign",
            option=_OF_THE_REPOSITORY,
        ),
    ] = False
    push_remote: Annotated[
        str,
        Setting(
            "Push to remote",
            "Push the run's branch to this remote at the end.",
            Topic.PLACE,
            key="git.push_remote",
            in_child="",
        ),
    ] = ""
    run_branch_prefix: Annotated[
        str,
        Setting(
            "Branch prefix",
            "The run's branch is <prefix>/<run id>.",
            Topic.PLACE,
            key="git.run_branch_prefix",
            flag=LeftOut("agreed on by those who share a repository: in run.yaml, the environment or a deployment"),
        ),
    ] = "attractor/run"
    checkpoint_exclude_globs: Annotated[
        tuple[str, ...],
        Setting(
            "Left out of commits",
            "Paths that stage commits leave out.",
            Topic.PLACE,
            key="artifact_policy.checkpoint.exclude_globs",
            option=_A_LIST,
            environment=_A_LIST,
        ),
    ] = ()
    task_runner: Annotated[
        TaskRunner,
        Setting(
            "Task runner",
            "Where parallel branches run: threads of the flow's process; dask or dask:4, a cluster of worker processes on "
            "this machine; dask:tcp://host:8786, a cluster that is there.",
            Topic.WORKERS,
        ),
    ] = "threads"
    setup_commands: Annotated[
        tuple[str, ...],
        Setting(
            "Set-up commands",
            "Commands to run in the work folder before the first stage.",
            Topic.PLACE,
            key="setup.commands",
            option=_A_LIST,
            environment=_A_LIST,
            in_child=(),
        ),
    ] = ()
    setup_timeout_s: Annotated[
        Limit,
        Setting(
            "Set-up limit",
            "Limit of all set-up commands together.",
            Topic.LIMITS,
            key="setup.timeout_ms",
            option=_OF_THE_COMMANDS,
            environment=_OF_THE_COMMANDS,
        ),
    ] = 300.0
    inputs: Annotated[
        Mapping[str, str],
        Setting(
            "Inputs",
            "Inputs of the pipeline; single inputs given with the run win.",
            Topic.RUN,
            option=LeftOut("a parameter of the flow beside the options", instead="inputs"),
            flag=LeftOut("one flag for each of them", instead="--input"),
            environment=LeftOut("an input names a variable: env:NAME"),
            in_child={},
        ),
    ] = field(default_factory=dict[str, str])
    labels: Annotated[
        Mapping[str, str],
        Setting(
            "Labels",
            "Labels of the run; single labels given with the run win.",
            Topic.RUN,
            option=LeftOut("a parameter of the flow beside the options", instead="labels"),
            flag=LeftOut("one flag for each of them", instead="--label"),
            environment=_OF_ONE_RUN,
            in_child={},
        ),
    ] = field(default_factory=dict[str, str])
    warnings: Annotated[tuple[str, ...], NoSetting("what preparing the run has to say, short of refusing it")] = ()

    def for_child(self) -> RunSettings:
        """The settings of a child pipeline of this run: the same, but for the fields that set ``in_child``."""
        own = {row.name: row.setting.in_child for row in SETTINGS if row.setting.in_child is not Inherited.FROM_RUN}
        return replace(self, **own, warnings=())  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Options of one start of a run. No settings file holds them, and the next start of the run does not know them."""

    config: Annotated[FilePath, Setting("Settings file", "Settings file, for example run.yaml.", Topic.RUN)] = ""
    logs_root: Annotated[
        FilePath,
        Setting(
            "Run directory",
            "Write the run directory exactly here. By default below the runs root.",
            Topic.RUN,
            environment=LeftOut("KILROY_RUNS_ROOT names the folder of all run directories"),
        ),
    ] = ""
    run_id: Annotated[
        str,
        Setting(
            "Run id",
            "Id of the run: letters, digits, _ and -. By default made from the flow run.",
            Topic.RUN,
            environment=_OF_ONE_START,
        ),
    ] = ""
    resume_from: Annotated[
        FilePath,
        Setting(
            "Resume run",
            "Go on with this run (its id, or the path of its directory).",
            Topic.RUN,
            flag=LeftOut("`kilroy resume RUN` says it"),
            environment=_OF_ONE_START,
        ),
    ] = ""
    force: Annotated[
        bool,
        Setting(
            "Force",
            "Resume although the pipeline has changed since.",
            Topic.RUN,
            flag=LeftOut("an option of `kilroy resume`"),
            environment=_OF_ONE_START,
        ),
    ] = False


SETTINGS = rows_of(RunSettings)
"""One row per setting. ``run_config.json`` stores all of these settings."""

START_OPTIONS = rows_of(StartOptions)
"""One row per option of a start."""

KEYS = frozenset(row.key for row in SETTINGS)
"""The dotted keys of ``run.yaml`` and ``run_config.json``."""
