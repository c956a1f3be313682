"""Writes the reference pages that follow from the code: ``python docs/generate.py``. A test holds them up to date."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kilroy_engine.cli.reference import cli_parts, settings_parts
from kilroy_engine.events import CATALOG, Event
from kilroy_engine.rundir.reference import directory_parts, event_parts, fill

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "kilroy_engine"


def events_page() -> dict[str, str]:
    """Parts of ``events.md``: its tables, the events that agents tell, and those that nobody does."""
    told = [kind for kinds in CATALOG.values() for kind in kinds if kind.by_agents]
    return {**event_parts(), "agents": _links(told), "unwritten": _links(unwritten_events())}


def unwritten_events() -> list[type[Event]]:
    """Events that no code writes and no agent is asked to tell."""
    used = {name for module in PACKAGE.rglob("*.py") for name in _names_in_functions(module)}
    every = (kind for kinds in CATALOG.values() for kind in kinds)
    return [kind for kind in every if kind.__name__ not in used and not kind.by_agents]


def _links(kinds: Sequence[type[Event]]) -> str:
    return ", ".join(f"[`{kind.event}`](#{kind.event})" for kind in kinds) or "none"


def _names_in_functions(module: Path) -> set[str]:
    """Whoever writes an event names its class in a function; imports, tables and the class itself are outside of any."""
    functions = [node for node in ast.walk(ast.parse(module.read_bytes())) if isinstance(node, ast.FunctionDef)]
    statements = [statement for function in functions for statement in function.body]
    return {node.id for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Name)}


PAGES: Mapping[str, Callable[[], dict[str, str]]] = {
    "cli.md": cli_parts,
    "events.md": events_page,
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
