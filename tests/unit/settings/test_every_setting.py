"""Every field of the settings table, at every place where a setting is given, shown, kept or handed on.

A place that a field is left out of is declared at the field, with a reason. Nothing here names a setting, but for the few whose
values have to mean something.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest
import yaml

from kilroy_engine.cli.app import build_app
from kilroy_engine.cli.run_options import options_of
from kilroy_engine.errors import InvalidInput
from kilroy_engine.events.times import now
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_child, prepare_run
from kilroy_engine.execution.preparing.settings import resolve_settings
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.run_config import read_run_config, run_config
from kilroy_engine.settings.kinds import AMOUNT, COUNT, MAPPING, SWITCH, TEXTS
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.setting import Inherited, NoSetting, Row, Setting, Topic, rows_of
from kilroy_engine.settings.table import SETTINGS, START_OPTIONS, RunSettings
from kilroy_engine.workspace.reopen import workspace_settings_of

GRAPH = 'digraph g { inputs="a" start [shape=Mdiamond] done [shape=Msquare] start -> done }'
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"
every_setting = pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
every_option = pytest.mark.parametrize("row", [*SETTINGS, *START_OPTIONS], ids=lambda row: row.name)


@dataclass(frozen=True)
class Sample:
    """A value that is no default: what the run works with, how a person writes it, what a file holds."""

    value: object
    written: str
    kept: object


_WITH_A_MEANING = {"agent": "simulate", "task_runner": "dask:3"}
"""Texts that are looked up or taken apart before a run begins."""


def sample(row: Row) -> Sample:
    """One for a row, by its kind."""
    if row.kind.milliseconds:
        return Sample(77.0, "77s", 77_000)
    if row.kind is SWITCH:
        return Sample(value=True, written="true", kept=True)
    if row.kind is TEXTS:
        return Sample(("said",), "", ["said"])
    if row.kind is MAPPING:
        return Sample({"a": "said"}, "", {"a": "said"})
    if row.kind in (AMOUNT, COUNT):
        return Sample(7, "7", 7)
    word = next((word for word in row.choices if word not in (row.default, row.setting.in_child)), "")
    text = word or _WITH_A_MEANING.get(row.name, "/said")
    return Sample(text, text, text)


def told(row: Row) -> RunSettings:
    """Settings of which one alone is no default."""
    return replace(RunSettings(), **{row.name: sample(row).value})


def name_of(row: Row) -> str:
    """What people call the setting: times have their unit in the code only."""
    return row.name.removesuffix("_s") if row.kind.milliseconds else row.name


def kept_by(run: RunDirectory, settings: RunSettings) -> None:
    """A ``run_config.json`` of a run with these settings."""
    repo = Path(settings.repo) if settings.repo else None
    write_json(run.run_config, run_config(settings, repo_path=repo, inputs=settings.inputs))


def test_every_field_says_what_it_is() -> None:
    """A field is a setting, or says that it is none; nobody can forget it."""

    @dataclass(frozen=True)
    class Forgetful:
        color: str = ""

    with pytest.raises(TypeError, match="color says nothing about itself"):
        rows_of(Forgetful)
    others = {known.name for known in dataclasses.fields(RunSettings)} - {row.name for row in SETTINGS}
    said = RunSettings.__annotations__
    assert all(NoSetting.__name__ in str(said[name]) for name in others)


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (Annotated[tuple[str, ...], Setting("Colors", "Which.", Topic.PLACE)], (), "say why it is left out"),
        (Annotated[str, Setting("Color", "Which.", Topic.PLACE, key="color_ms")], "", "a time ends in _ms, and no other key"),
        (Annotated[bytes, Setting("Color", "Which.", Topic.PLACE)], b"", "no kind of settings/kinds.py reads"),
    ],
)
def test_a_field_that_cannot_be_is_refused_when_it_is_read(annotation: object, default: object, message: str) -> None:
    """At import, long before anybody sets it."""
    table = dataclasses.make_dataclass("Table", [("color", annotation, default)])
    with pytest.raises(TypeError, match=message):
        rows_of(table)


@every_option
def test_a_place_is_left_out_for_a_reason(row: Row) -> None:
    """The reason is words, and what is named instead is there: a parameter of the flow, an option of the command."""
    option, flag, environment = row.setting.option, row.setting.flag, row.setting.environment
    assert all(len(left_out.why.split()) >= 3 for left_out in (option, flag, environment) if left_out)
    if option and option.instead:
        assert option.instead in {known.name for known in dataclasses.fields(RunParameters)}
    if flag and flag.instead:
        assert flag.instead in {name for known in build_app()["run"].assemble_argument_collection() for name in known.names}


@every_option
def test_the_form_offers_it(row: Row) -> None:
    """With title, description and choices, under its name; the default says nothing."""
    shown = Options.model_json_schema()["properties"]
    if row.setting.option:
        assert name_of(row) not in shown
        return
    field = shown[name_of(row)]
    assert (field["title"], field["description"]) == (row.setting.title, row.setting.meaning)
    assert row.setting.title
    assert row.setting.meaning.endswith(".")
    assert field["default"] in ("", "default", False)
    assert field.get("enum", []) == (["default", *row.choices] if row.choices else [])
    assert set(row.choices) | set(row.setting.unoffered) == set(row.kind.choices)
    if row in SETTINGS:
        given = sample(row).value if row.kind is SWITCH else sample(row).written
        assert resolve_settings(Options(**{name_of(row): given}), environ={}) == told(row)


@every_option
def test_the_command_has_a_flag_for_it(row: Row) -> None:
    """``--name`` of ``kilroy run`` becomes the flow's parameter."""
    command = build_app()["run"]
    flags = {name for known in command.assemble_argument_collection() for name in known.names}
    flag = f"--{name_of(row).replace('_', '-')}"
    if row.setting.flag or row.setting.option:
        assert flag not in flags or (row.setting.flag and flag == row.setting.flag.instead)
        return
    words = [flag] if row.kind is SWITCH else [flag, sample(row).written]
    _, bound, _ = command.parse_args(["p.dot", *words], exit_on_error=False, print_error=False)
    parts = (bound.kwargs[name] for name in ("identity", "place", "workers", "limits") if name in bound.kwargs)
    options = options_of(*parts)
    assert options.model_dump(exclude_defaults=True) == {
        name_of(row): True if row.kind is SWITCH else sample(row).written,
    }


@every_option
def test_the_environment_can_say_it(row: Row) -> None:
    """``KILROY_<NAME>``, unless the field says otherwise."""
    if row.setting.environment:
        assert row.environment == ""
        assert resolve_settings(Options(), environ={f"KILROY_{name_of(row).upper()}": "77s"}) == RunSettings()
        return
    environ = {f"KILROY_{name_of(row).upper()}": sample(row).written}
    if row in SETTINGS:
        assert resolve_settings(Options(), environ=environ) == told(row)
    else:  # the one option of a start that the environment can say: without the file nothing begins
        with pytest.raises(InvalidInput, match="settings file /said cannot be read"):
            resolve_settings(Options(), environ=environ)


@every_setting
def test_run_yaml_can_say_it(row: Row, tmp_path: Path) -> None:
    """Under its key, without a warning; the same text in run_config.json."""
    content = sample(row).kept
    for name in reversed(row.key.split(".")):
        content = {name: content}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    assert resolve_settings(Options(config="run.yaml"), environ={}, base=tmp_path) == told(row)


@every_setting
def test_run_config_json_keeps_it(row: Row, tmp_path: Path) -> None:
    """What is written is what is read again, and nothing else is."""
    run = RunDirectory(tmp_path)
    kept_by(run, told(row))
    found: object = json.loads(run.run_config.read_text())
    for name in row.key.split("."):
        assert isinstance(found, dict)
        found = found[name]
    assert found == sample(row).kept
    assert resolve_settings(Options(), environ={"KILROY_AGENT": "other"}, saved=read_run_config(run)) == told(row)


@every_setting
def test_whoever_ends_a_run_knows_it_where_it_is_about_the_place_of_work(row: Row, tmp_path: Path) -> None:
    """From the directory alone, in any process."""
    run = RunDirectory(tmp_path)
    kept_by(run, told(row))
    known = workspace_settings_of(run)
    assert getattr(known, row.name) == (sample(row).value if row.setting.topic is Topic.PLACE else row.default)


@every_setting
def test_a_resume_has_it(row: Row, tmp_path: Path) -> None:
    """A second start works with what the first has worked with."""
    run = RunDirectory(tmp_path / "r1")
    run.worktree.mkdir(parents=True)
    run.graph_dot.write_text(GRAPH)
    kept_by(run, replace(told(row), inputs={"a": "said"}))
    Manifest(run_id="r1", graph_name="g", started_at=now(), worktree=str(run.worktree), inputs={"a": "said"}).write(run)

    prepared = prepare_run(RunParameters("", options=Options(resume_from=str(run.path))), environ={}, base=tmp_path)

    assert getattr(prepared.settings, row.name) == sample(row).value


@every_setting
def test_a_child_pipeline_has_it(row: Row, tmp_path: Path) -> None:
    """The value of the run around it, or the one that the field says."""
    (tmp_path / "c.dot").write_text(GRAPH)
    around = replace(told(row), warnings=("of the run around it",))

    settings = prepare_child(RunParameters(str(tmp_path / "c.dot"), inputs={"a": "1"}), around, around=("",)).settings

    own = row.setting.in_child
    assert getattr(settings, row.name) == (sample(row).value if own is Inherited.FROM_RUN else own)
    assert settings.warnings == ()


@every_option
def test_the_reference_page_has_a_row_for_it(row: Row) -> None:
    """With what it means and everywhere that it can be given."""
    shown = re.search(rf"^\| `{row.name}` \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown is not None
    cells = [cell.strip(" `") for cell in shown[0].strip("|").split("|")]
    assert cells[1] == row.setting.meaning.replace("<", "&lt;")
    option, flag, name = row.setting.option, row.setting.flag, name_of(row)
    without = flag or option
    assert cells[3] == ((flag.instead if flag else "") if without else f"--{name.replace('_', '-')}")
    assert cells[4] == (option.instead if option else f"options.{name}")
    assert cells[5] == ("" if row.setting.environment else f"KILROY_{name.upper()}")
    assert cells[6:7] == ([row.key] if row in SETTINGS else [""] if len(cells) > 6 else [])
