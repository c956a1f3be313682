"""Nodes that run a child pipeline: which file they name, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

import pytest

from kilroy_engine.errors import PipelineNotFound
from kilroy_engine.graph.checks.child_validation import ChildText, ReadChild, with_children_checked
from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.children import MAX_DEPTH, child_file
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.dot.parse import parse_dot

GOOD = "digraph c { s [shape=Mdiamond] x [shape=Msquare] s -> x }"
BROKEN = "digraph c {\n  s [shape=Mdiamond] x [shape=Msquare]\n  s -> a -> x\n  a [shape=parallelogram]\n}"


def nests(name: str) -> str:
    """A pipeline that runs the pipeline in file ``name``."""
    return f'digraph p {{ s [shape=Mdiamond] x [shape=Msquare] a [shape=folder, dot_file="{name}"] s -> a -> x }}'


def reader(files: Mapping[str, str]) -> ReadChild:
    """Files by name, all in one folder."""

    def read(name: str, named_in: str) -> ChildText | None:
        if name == "binary.dot":
            raise PipelineNotFound("binary.dot is not UTF-8 text", path=PurePath("binary.dot"))  # type: ignore[arg-type]
        return ChildText(files[name], f"/pipelines/{name}", lambda other: files[other]) if name in files else None

    return read


def found(text: str, files: Mapping[str, str], filename: str = "/pipelines/p.dot") -> list[Diagnostic]:
    """The findings about child pipelines."""
    checked = with_children_checked(parse_dot(text), filename, reader(files), validate, lambda graph: graph)
    return [diagnostic for diagnostic in validate(checked) if diagnostic.rule == "child_pipeline"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a [shape=house, stack.child_dotfile=own]", "own"),
        ("stack.child_dotfile=graphs a [shape=house, stack.child_dotfile=own]", "graphs"),
        ('stack.child_dotfile=" " a [shape=house, stack.child_dotfile=own]', "own"),
        ("a [shape=house, stack.child_workflow=fabros]", "fabros"),
        ("a [shape=house]", None),
        ("a [shape=folder, dot_file=nested]", "nested"),
        ("stack.child_dotfile=graphs a [shape=folder]", None),
        ("stack.child_dotfile=graphs a [shape=box]", None),
    ],
)
def test_a_node_names_its_child_pipeline(text: str, named: str | None) -> None:
    """Spec 4.11: the graph's attribute; Kilroy: else the node's. A nested pipeline has an attribute of its own."""
    graph = parse_dot(f"digraph g {{ {text} }}")
    attribute = child_file(graph, graph.nodes["a"])
    assert (attribute.value if attribute else None) == named


def test_a_sound_child_pipeline_gives_no_finding() -> None:
    """Down to the children of children; warnings about a child are told when that is checked itself."""
    files = {"c.dot": nests("d.dot"), "d.dot": "digraph d { s [shape=Mdiamond] x [shape=Msquare] s -> a -> x a [label=a] }"}
    assert found(nests("c.dot"), files) == []


def test_an_error_in_a_child_names_its_file_line_and_column() -> None:
    """At the place where the parent names the file, with the child's own line as excerpt."""
    (finding,) = found(nests("c.dot"), {"c.dot": BROKEN})
    assert finding.severity == "ERROR"
    assert (finding.node, finding.line) == ("a", 1)
    assert nests("c.dot")[finding.column - 1 :].startswith('"c.dot"')
    assert "node 'a': child pipeline c.dot:4:3: " in finding.message
    assert "(tool_command_required)" in finding.message
    assert "a [shape=parallelogram]" in finding.excerpt


def test_a_child_that_is_no_dot_is_an_error_at_its_place() -> None:
    """The place, the hint and the excerpt are those of the child's text."""
    (finding,) = found(nests("c.dot"), {"c.dot": "digraph c {\n  a -- b\n}"})
    assert "child pipeline c.dot:2:5: " in finding.message
    assert finding.fix
    assert "a -- b" in finding.excerpt


def test_an_error_of_a_grandchild_is_told_through_its_parent() -> None:
    """Every file of the way is named."""
    (finding,) = found(nests("c.dot"), {"c.dot": nests("d.dot"), "d.dot": BROKEN})
    assert "child pipeline c.dot:1:" in finding.message
    assert "child pipeline d.dot:4:3: " in finding.message


def test_a_child_that_is_not_there_is_a_warning() -> None:
    """A stage before may write it; one that is there and cannot be read is an error."""
    (missing,) = found(nests("later.dot"), {})
    (unreadable,) = found(nests("binary.dot"), {})
    assert (missing.severity, unreadable.severity) == ("WARNING", "ERROR")
    assert "later.dot is not there now" in missing.message
    assert "not UTF-8" in unreadable.message


@pytest.mark.parametrize(
    ("files", "chain"),
    [
        ({"p.dot": nests("p.dot")}, "p.dot -> p.dot"),
        ({"p.dot": nests("c.dot"), "c.dot": nests("p.dot")}, "p.dot -> c.dot -> p.dot"),
    ],
)
def test_a_pipeline_cannot_contain_itself(files: Mapping[str, str], chain: str) -> None:
    """Not over others either; the message shows the way."""
    (finding,) = found(files["p.dot"], files)
    assert finding.severity == "ERROR"
    assert f"a pipeline cannot contain itself: {chain}" in finding.message


def test_nesting_has_a_limit() -> None:
    """Without it a pipeline that writes its own children would never end."""
    files = {f"{n}.dot": nests(f"{n + 1}.dot") for n in range(1, MAX_DEPTH + 1)}
    at_limit = {**files, f"{MAX_DEPTH}.dot": GOOD}
    assert found(nests("1.dot"), at_limit) == []
    (finding,) = found(nests("1.dot"), {**files, f"{MAX_DEPTH + 1}.dot": GOOD})
    assert f"more than {MAX_DEPTH} pipelines are nested" in finding.message


def test_a_child_that_somebody_else_starts_is_not_looked_at() -> None:
    """``stack.child_autostart=false``: the file is no business of the engine."""
    text = (
        "digraph p { s [shape=Mdiamond] x [shape=Msquare] s -> a -> x "
        'a [shape=house, stack.child_autostart=false, stack.child_dotfile="c.dot"] }'
    )
    assert found(text, {"c.dot": BROKEN}) == []
