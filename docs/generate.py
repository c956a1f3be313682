"""Writes the pages that follow from the code: ``python docs/generate.py``. A test holds them up to date."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from kilroy_engine import GROUPS
from kilroy_engine.agents.registry import PROGRAMS
from kilroy_engine.agents.running.environment import ALLOWED, ALLOWED_PREFIXES
from kilroy_engine.cli.doc_pages import cli_parts, settings_parts
from kilroy_engine.events import CATALOG, Event
from kilroy_engine.markdown import table
from kilroy_engine.rundir.doc_pages import directory_parts, event_parts, fill

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


def python_page() -> dict[str, str]:
    """The part of ``python.md``: the public names by group, each with the first sentence of its docstring."""
    return {"names": "\n\n".join(_group(title, homes) for title, homes in GROUPS.items())}


def _group(title: str, homes: Mapping[str, tuple[str, ...]]) -> str:
    rows = [
        f"| `{_called(name, home)}` | {_first_sentence(docstring_of(name, home))} |"
        for home, names in homes.items()
        for name in names
    ]
    return "\n".join([f"## {title}", "", "| name | what it is |", "|---|---|", *rows])


def docstring_of(name: str, home: str) -> str:
    """The docstring of a class or function, or the text after an assignment; empty where there is none.

    Raises:
        KeyError: The module ``home`` does not define ``name``.
    """
    statement, following = _statements(home)[name]
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        return ast.get_docstring(statement) or ""
    text = following.value if isinstance(following, ast.Expr) else None
    return str(text.value) if isinstance(text, ast.Constant) else ""


@cache
def _statements(home: str) -> dict[str, tuple[ast.stmt, ast.stmt | None]]:
    """What defines each name of a module, with the statement after it. The module is read and not imported."""
    file = PACKAGE.parent.joinpath(*home.split(".")).with_suffix(".py")
    body = list(_flat(ast.parse(file.read_bytes()).body))
    found: dict[str, tuple[ast.stmt, ast.stmt | None]] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found[name] = statement, following
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = statement, following
            case _:
                pass
    return found


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, with those that type checkers alone see (``if TYPE_CHECKING:``) in the place of what stands for them."""
    for statement in body:
        yield from statement.body if isinstance(statement, ast.If) else (statement,)


def _called(name: str, home: str) -> str:
    """The name; a function with its parameters, those with a default as ``name=…``."""
    statement, _ = _statements(home)[name]
    if not isinstance(statement, ast.FunctionDef):
        return name
    given = statement.args
    ordinary = [*given.posonlyargs, *given.args]
    optional = {argument.arg for argument in ordinary[len(ordinary) - len(given.defaults) :]}
    optional |= {argument.arg for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default}
    shown = [_parameter(argument.arg, optional) for argument in ordinary]
    shown += ["*"] * bool(given.kwonlyargs) + [_parameter(argument.arg, optional) for argument in given.kwonlyargs]
    shown += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return f"{name}({', '.join(shown)})"


def _parameter(name: str, optional: set[str]) -> str:
    return f"{name}=…" if name in optional else name


def _first_sentence(docstring: str) -> str:
    """In Markdown: roles of Sphinx become the names that they show."""
    paragraph = " ".join(docstring.split("\n\n", maxsplit=1)[0].split())
    sentence = re.split(r"(?<=[.:])\s+(?=[A-Z])", paragraph)[0]
    sentence = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", sentence)
    return sentence.replace("``", "`").replace("|", "\\|").rstrip(":")


def agents_page() -> dict[str, str]:
    """Parts of ``connect-an-agent.md``: what agents have in their environment, and the versions that were tested."""
    programs = [make() for make in PROGRAMS.values()]
    prefixes = (f"{prefix}…" for prefix in ALLOWED_PREFIXES)
    allowed = [*ALLOWED.items(), ("all that begin so", tuple(prefixes))]
    versions = [(f"`{program.name}`", ", ".join(program.tested)) for program in programs]
    return {
        "environment": table(("for", "variables"), ((what, _codes(names)) for what, names in allowed)),
        "providers": table(("agent", "variables"), ((f"`{one.name}`", _codes(sorted(one.variables))) for one in programs)),
        "versions": table(("agent", "versions"), versions),
    }


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PAGES: Mapping[str, Callable[[], dict[str, str]]] = {
    "how-to/connect-an-agent.md": agents_page,
    "reference/cli.md": cli_parts,
    "reference/events.md": events_page,
    "reference/python.md": python_page,
    "reference/run-directory.md": directory_parts,
    "reference/settings.md": settings_parts,
}
"""Page to the parts that its template in ``templates/``, a file of the same name, asks for."""


def render(page: str) -> str:
    """The whole text of a page."""
    template = (DOCS / "templates" / Path(page).name).read_text(encoding="utf-8")
    return fill(template, PAGES[page]())


def main() -> None:
    for page in PAGES:
        (DOCS / page).write_text(render(page), encoding="utf-8")


if __name__ == "__main__":
    main()
