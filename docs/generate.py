"""Writes the reference pages that follow from the code: ``python docs/generate.py``. A test holds them up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kilroy_engine.cli.reference import cli_parts, settings_parts
from kilroy_engine.rundir.reference import directory_parts, event_parts, fill

DOCS = Path(__file__).parent
PAGES: Mapping[str, Callable[[], dict[str, str]]] = {
    "cli.md": cli_parts,
    "events.md": event_parts,
    "run-directory.md": directory_parts,
    "settings.md": settings_parts,
}
"""Page in ``reference/`` to the parts that its template in ``templates/`` asks for."""


def render(name: str) -> str:
    """The whole text of a page."""
    template = (DOCS / "templates" / name).read_text(encoding="utf-8")
    return fill(template, PAGES[name]())


def main() -> None:
    for name in PAGES:
        path = DOCS / "reference" / name
        path.write_text(render(name), encoding="utf-8")
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
