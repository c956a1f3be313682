"""The pages in the rooms: every folder of the package says what is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kilroy_engine"
ROOMS = sorted({module.parent for module in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE.parent)))
def test_every_folder_has_a_page_that_names_each_of_its_modules_and_no_other(room: Path) -> None:
    """A row per module and per folder below; a module that was moved leaves no row behind."""
    page = (room / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| \[?`([^`]+)`", page, re.MULTILINE)) - {"__init__.py"}
    modules = {module.name for module in room.glob("*.py")} - {"__init__.py"}
    folders = {f"{folder.name}/" for folder in room.iterdir() if folder in ROOMS}
    assert named == modules | folders
    assert all(re.search(rf"^\|[^|]*`{re.escape(name)}`[^|]*\| \S", page, re.MULTILINE) for name in named)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE.parent)))
def test_what_a_page_says_to_touch_is_there(room: Path) -> None:
    """Files that its prose names, counted from the folder itself, the package or the project."""
    prose = re.sub(r"^\|.*$", "", (room / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = set(re.findall(r"`([\w/]+\.(?:py|toml|txt|lark))`", prose))
    assert [name for name in named if not any((base / name).exists() for base in (room, PACKAGE, PACKAGE.parent))] == []
