"""The generated pages."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from kilroy_engine.events import CATALOG
from kilroy_engine.rundir.doc_pages import fill

DOCS = Path(__file__).parents[3] / "docs"
GENERATE = runpy.run_path(str(DOCS / "generate.py"))


@pytest.mark.parametrize("page", sorted(GENERATE["PAGES"]))
def test_a_generated_page_is_up_to_date(page: str) -> None:
    """What is written in docs is what the code says now; ``python docs/generate.py`` mends it."""
    assert (DOCS / page).read_text(encoding="utf-8") == GENERATE["render"](page)


def test_every_event_has_its_section() -> None:
    """The page can be searched for any event's name."""
    page = (DOCS / "reference" / "events.md").read_text(encoding="utf-8")
    missing = [kind.event for kinds in CATALOG.values() for kind in kinds if f"\n### `{kind.event}`\n" not in page]
    assert missing == []


def test_a_part_without_a_place_is_an_error() -> None:
    """A template that lost its place would drop a table silently."""
    assert fill("a\n\n<!-- x -->\n", {"x": "b"}) == "a\n\nb\n"
    with pytest.raises(KeyError, match="<!-- y -->"):
        fill("a", {"y": "b"})
