"""The project's pages: their pipelines are valid, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.diagnostics import Severity
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import prepare
from kilroy_engine.handlers.node_types import known_types

ROOT = Path(__file__).parents[2]
DOCS = [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "templates"]
ROOMS = list((ROOT / "kilroy_engine").rglob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *DOCS, *ROOMS, *(ROOT / "examples").rglob("*.md")])
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pipelines() -> list[object]:
    found = [
        pytest.param(block, id=f"{name(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(r"```dot\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL), start=1)
    ]
    files = [*(ROOT / "flows").rglob("*.dot"), *(ROOT / "examples").rglob("*.dot")]
    return [*found, *(pytest.param(path.read_text(encoding="utf-8"), id=name(path)) for path in files)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("source", pipelines())
def test_every_pipeline_in_the_documentation_is_valid(source: str) -> None:
    """Whoever copies an example gets no error."""
    graph = prepare(parse_dot(source, "example.dot"), inputs={})
    errors = [finding for finding in validate(graph, known_types=known_types()) if finding.severity is Severity.ERROR]
    assert errors == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Files exist; anchors are headings of the page that they name. Links outward are not followed."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(linked), f"{name(page)} links to {target}; there is no such heading"


@pytest.mark.parametrize("page", sorted(DOCS), ids=name)
def test_every_page_can_be_reached_from_the_index(page: Path) -> None:
    """docs/README.md or a page that it links to names it."""
    index = ROOT / "docs" / "README.md"
    linked = {index}
    for _ in range(2):
        for known in list(linked):
            targets = re.findall(r"\]\(([^)\s#]+\.md)", known.read_text(encoding="utf-8"))
            linked |= {(known.parent / target).resolve() for target in targets if "://" not in target}
    assert page in linked
