"""Where settings come from, and which source wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidInput
from kilroy_engine.execution.preparing.settings import resolve_settings, run_directory_path
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import SETTINGS


def write(folder: Path, text: str) -> str:
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return "run.yaml"


def test_without_any_source_every_setting_has_its_default(tmp_path: Path) -> None:
    """Nothing given: the defaults of the settings table, and no limits."""
    settings = resolve_settings(Options(), environ={}, base=tmp_path)

    assert settings.workspace == "auto"
    assert settings.keep_worktree == "on_failure"
    assert settings.run_branch_prefix == "attractor/run"
    assert settings.run_timeout_s is None
    assert settings.warnings == ()


def test_a_parameter_wins_over_environment_over_file(tmp_path: Path) -> None:
    """Order of precedence: parameter (or flag), environment, settings file, default."""
    config = write(tmp_path, "git: {keep_worktree: never, push_remote: file}\nruntime_policy: {run_timeout_ms: 5000}\n")
    environ = {"KILROY_KEEP_WORKTREE": "always", "KILROY_PUSH_REMOTE": "environment"}

    settings = resolve_settings(Options(config=config, push_remote="parameter"), environ=environ, base=tmp_path)

    assert settings.push_remote == "parameter"
    assert settings.keep_worktree == "always"
    assert settings.run_timeout_s == 5.0


def test_an_empty_value_says_nothing(tmp_path: Path) -> None:
    """An empty text, a switch that is off and "default" leave the word to the next source: the run form sends every field."""
    config = write(tmp_path, "git: {require_clean: true}\nhuman: auto-approve\n")

    settings = resolve_settings(
        Options(config=config, require_clean=False, human="default"), environ={"KILROY_HUMAN": ""}, base=tmp_path
    )

    assert settings.require_clean is True
    assert settings.human == "auto-approve"


def test_kilroys_own_settings_file_is_read(tmp_path: Path) -> None:
    """Kilroy's run.yaml keys that make sense here have their effect; those that do not are accepted in silence."""
    config = write(
        tmp_path,
        "version: 1\n"
        "repo: {path: /somewhere}\n"
        "llm: {cli_profile: real, providers: {openai: {backend: cli}}}\n"
        "cxdb: {autostart: {enabled: false}}\n"
        "git: {require_clean: false, run_branch_prefix: bot/run, commit_per_node: true, push_remote: origin}\n"
        "setup: {commands: ['make deps'], timeout_ms: 1500}\n"
        "runtime_policy: {stage_timeout_ms: 90000, max_llm_retries: 6}\n"
        "artifact_policy: {checkpoint: {exclude_globs: ['**/big/**']}}\n"
        "inputs: {task: fix it, attempts: 3, deep: true}\n"
        "labels: {team: blue}\n",
    )

    settings = resolve_settings(Options(config=config), environ={}, base=tmp_path)

    assert settings.repo == "/somewhere"
    assert settings.run_branch_prefix == "bot/run"
    assert settings.push_remote == "origin"
    assert settings.setup_commands == ("make deps",)
    assert settings.setup_timeout_s == 1.5
    assert settings.stage_timeout_s == 90
    assert settings.checkpoint_exclude_globs == ("**/big/**",)
    assert settings.inputs == {"task": "fix it", "attempts": "3", "deep": "true"}
    assert settings.labels == {"team": "blue"}
    assert settings.warnings == ()


def test_an_unknown_key_is_a_warning_that_suggests_the_right_one(tmp_path: Path) -> None:
    """A misspelled key changes nothing and is told, with "did you mean"."""
    config = write(tmp_path, "git: {push_remotes: origin}\nnonsense: 1\n")

    settings = resolve_settings(Options(config=config), environ={}, base=tmp_path)

    assert settings.push_remote == ""
    assert settings.warnings == (
        "run.yaml: unknown key 'git.push_remotes' is ignored; did you mean 'git.push_remote'?",
        "run.yaml: unknown key 'nonsense' is ignored",
    )


@pytest.mark.parametrize(
    ("options", "environ", "content", "message"),
    [
        (Options(run_timeout="soon"), {}, "", "parameter run_timeout is 'soon': a time such as 30s, 15m or 2h is expected"),
        (Options(), {"KILROY_KEEP_WORKTREE": "maybe"}, "", "environment variable KILROY_KEEP_WORKTREE is 'maybe'"),
        (Options(), {}, "setup: {timeout_ms: 5s}", "setup.timeout_ms in run.yaml is '5s': a whole number of milliseconds"),
        (Options(), {}, "setup: {commands: make}", "setup.commands in run.yaml is 'make': a list of texts is expected"),
    ],
)
def test_a_value_that_does_not_fit_names_its_source(
    tmp_path: Path, options: Options, environ: dict[str, str], content: str, message: str
) -> None:
    """A bad value is refused with the place it came from and what is expected."""
    config = write(tmp_path, content) if content else ""

    with pytest.raises(InvalidInput) as refusal:
        resolve_settings(options.model_copy(update={"config": config}), environ=environ, base=tmp_path)

    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1, 2", "run.yaml:1:9 is no YAML"),
        ("- a\n- b\n", "must hold a mapping"),
    ],
)
def test_a_settings_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """A broken settings file is refused with line and column."""
    config = write(tmp_path, content)

    with pytest.raises(InvalidInput) as refusal:
        resolve_settings(Options(config=config), environ={}, base=tmp_path)

    assert message in str(refusal.value)


def test_a_missing_settings_file_is_refused(tmp_path: Path) -> None:
    """A settings file that was named must exist."""
    with pytest.raises(InvalidInput, match=r"absent.yaml cannot be read: No such file"):
        resolve_settings(Options(config="absent.yaml"), environ={}, base=tmp_path)


def test_every_option_that_is_a_setting_is_a_field_of_the_form() -> None:
    """The settings table names only options that the form has."""
    assert {setting.option for setting in SETTINGS if setting.option} <= set(Options.model_fields)


def test_the_run_directory_follows_from_options_and_environment(tmp_path: Path) -> None:
    """``logs_root`` is the directory itself; else it is the run id under the runs root, which must be a safe name."""
    environ = {"KILROY_RUNS_ROOT": str(tmp_path)}

    assert run_directory_path(Options(logs_root="/x/y"), run_id="r1", environ=environ) == Path("/x/y")
    assert run_directory_path(Options(), run_id="r1", environ=environ) == tmp_path / "r1"
    with pytest.raises(InvalidInput, match="does not match"):
        run_directory_path(Options(), run_id="../r1", environ=environ)
