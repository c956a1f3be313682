"""The reference pages of command line and settings."""

from __future__ import annotations

import re
from pathlib import Path

from kilroy_engine.cli.doc_pages import cli_parts, settings_parts
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import SETTINGS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def test_every_command_and_option_is_on_the_page() -> None:
    """The page is complete: each command has a section, ``run`` each option of the flow that it can set."""
    text = cli_parts()["commands"]
    commands = re.findall(r"^#+ kilroy (.+)$", text, re.MULTILINE)
    assert commands == [
        "run", "resume", "validate", "render", "doctor", "status", "follow", "stop", "reconcile", "runs", "runs list",
        "runs show", "runs wait", "runs prune", "server", "server status", "server stop",
    ]  # fmt: skip
    run = text[: text.index("## kilroy validate")]
    shown = set(re.findall(r"`--([a-z-]+)", run))
    # --repo and --no-git choose it; environment and run.yaml set it; `kilroy resume RUN` says it
    reached_otherwise = {"workspace", "run_branch_prefix", "resume_from"}
    assert {name.replace("_", "-") for name in set(Options.model_fields) - reached_otherwise} <= shown


def test_every_setting_has_a_row() -> None:
    """The table is the settings' own; a command-line option is named only where it exists."""
    rows = settings_parts()["settings"].splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [setting.name for setting in SETTINGS]
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    for flag in re.findall(r"`(--[a-z-]+)`", "\n".join(rows)):
        assert f"`{flag}" in page
