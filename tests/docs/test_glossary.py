"""The glossary: every word once, and what it stands for is in the code."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "glossary.md"
ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([\w.]+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_word_has_one_row_in_the_order_of_the_alphabet() -> None:
    """A word with two meanings would need two rows."""
    words = [word for word, _ in ROWS]
    assert words == sorted(set(words))
    assert len(words) > 50


@pytest.mark.parametrize(("word", "name"), ROWS)
def test_a_word_stands_for_something_in_the_code(word: str, name: str) -> None:
    """A module, or a class, function or value of one."""
    try:
        found: object = import_module(f"kilroy_engine.{name}")
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(f"kilroy_engine.{module}"), attribute)
    assert found is not None
