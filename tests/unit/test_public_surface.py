"""The names of ``kilroy_engine`` itself: what programs, flow files and plug-ins import."""

from __future__ import annotations

import ast
import doctest
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kilroy_engine

ROOT = Path(__file__).parents[2]
INIT = ROOT / "kilroy_engine" / "__init__.py"
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
HOMES = {name: home for homes in kilroy_engine.GROUPS.values() for home, names in homes.items() for name in names}


def typed_names() -> dict[str, str]:
    """What type checkers see: the names that ``__init__`` imports under ``TYPE_CHECKING``, and from where."""
    blocks = [
        statement
        for statement in ast.parse(INIT.read_bytes()).body
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
    ]
    imports = [statement for block in blocks for statement in block.body]
    assert all(isinstance(statement, ast.ImportFrom) for statement in imports)
    return {alias.name: str(found.module) for found in imports if isinstance(found, ast.ImportFrom) for alias in found.names}


def test_type_checkers_see_the_names_that_programs_get() -> None:
    """The imports for type checkers, the table that names are loaded by and ``__all__`` agree; a name is in one group."""
    assert typed_names() == HOMES
    assert sorted(kilroy_engine.__all__) == sorted([*HOMES, "__version__"])
    assert len(HOMES) == sum(len(names) for homes in kilroy_engine.GROUPS.values() for names in homes.values())
    assert set(kilroy_engine.__all__) <= set(dir(kilroy_engine))


@pytest.mark.parametrize("name", sorted(HOMES))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    """It is defined, not imported, in the module that the table names, with a docstring."""
    assert getattr(kilroy_engine, name) is getattr(sys.modules[HOMES[name]], name)
    assert GENERATE["docstring_of"](name, HOMES[name])


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    """In Python's own words."""
    with pytest.raises(AttributeError, match="module 'kilroy_engine' has no attribute 'read_runs'"):
        _ = kilroy_engine.read_runs  # type: ignore[attr-defined]


def test_no_name_is_that_of_a_module() -> None:
    """Python would put the module in its place as soon as somebody imports it."""
    modules = {path.stem for path in INIT.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules & {*HOMES} == set()


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import kilroy_engine", []),
        ("from kilroy_engine import Abandoned, RunSummary, read_run, tail_events", []),
        ("from kilroy_engine import Agent, AgentResult, Graph, StageRequest, Subject, success, warning", []),
        ("from kilroy_engine import attractor", ["prefect"]),
    ],
)
def test_a_program_pays_for_what_it_uses(program: str, loaded: list[str]) -> None:
    """Prefect costs seconds, lark its grammar: reading a run or writing a plug-in loads neither, a flow does load Prefect."""
    look = "import json, sys; print(json.dumps([name for name in ('prefect', 'lark') if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{program}; {look}"], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == loaded


def programs() -> Iterator[object]:
    """The Python that people copy: blocks of the pages that they read, the examples, the flow files."""
    pages = [ROOT / "README.md", *(ROOT / "examples").rglob("*.md")]
    for folder in ("how-to", "tutorials", "reference", "templates"):
        pages += (ROOT / "docs" / folder).rglob("*.md")
    for page in sorted(pages):
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for number, block in enumerate(blocks, start=1):
            yield pytest.param(_program(block), id=f"{page.relative_to(ROOT)}-{number}")
    for file in sorted([*(ROOT / "flows").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]):
        yield pytest.param(file.read_text(encoding="utf-8"), id=str(file.relative_to(ROOT)))


def _program(block: str) -> str:
    """The statements of a block; those of a session stand behind ``>>>``."""
    session = doctest.DocTestParser().get_examples(block)
    return "".join(example.source for example in session) if session else block


def _imports(program: str) -> Iterator[tuple[str, str]]:
    """Modules of the engine that a program imports, each with a name that it takes from there."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


@pytest.mark.parametrize("program", list(programs()))
def test_what_people_copy_imports_public_names_only(program: str) -> None:
    """So that it runs with the next version too, wherever modules move."""
    engine = [(module, name) for module, name in _imports(program) if module.split(".")[0] == "kilroy_engine"]
    assert [module for module, _ in engine if module != "kilroy_engine"] == []
    assert {name for _, name in engine if name} <= {*kilroy_engine.__all__}


def test_pages_have_programs_that_use_the_engine() -> None:
    """The test above would hold for pages without any."""
    used = {name for case in programs() for _, name in _imports(case.values[0])}  # type: ignore[attr-defined]
    assert {"attractor", "pipeline_flow", "reconcile_runs", "StageRequest", "Subject", "read_run"} <= used
