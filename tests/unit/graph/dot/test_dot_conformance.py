"""The parser against the cases of ``tests/data/conformance/parser.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.graph.attributes import read_bool, read_duration_s, read_int, read_number
from kilroy_engine.graph.checks.subject import Subject
from kilroy_engine.graph.checks.values import attribute_value
from kilroy_engine.graph.dot.parse import parse_dot

CASES = yaml.safe_load((Path(__file__).parents[3] / "data/conformance/parser.yaml").read_text(encoding="utf-8"))


def _verdict(case: dict[str, object], otherwise: str) -> str:
    """``accepted`` or ``rejected``: what the engine decided, else what the case's list says."""
    ours = str(case.get("ours", ""))
    return ours.split(maxsplit=1)[0] if ours.startswith(("accepted", "rejected")) else otherwise


REJECTED = [case for case in CASES["reject"] if _verdict(case, "rejected") == "rejected"]
ACCEPTED = [case for case in CASES["reject"] + CASES["accept"] if case not in REJECTED]


def test_every_case_has_a_verdict():
    """No case of the file is left out."""
    assert len(REJECTED) + len(ACCEPTED) == len(CASES["reject"]) + len(CASES["accept"]) == 32


@pytest.mark.parametrize("case", REJECTED, ids=lambda case: case["name"])
def test_text_outside_the_dialect_is_refused_with_its_place_and_a_hint(case: dict[str, str]):
    """Spec 2.3: refused text gets an error with line, column, the source line with a caret, and a hint."""
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot(case["dot"], "pipeline.dot")
    error = refused.value
    assert error.line >= 1
    assert error.column >= 1
    assert error.filename == "pipeline.dot"
    assert error.excerpt.endswith("^")
    assert error.hint
    assert str(error).startswith(f"pipeline.dot:{error.line}:{error.column}: ")


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["name"])
def test_text_of_the_dialect_is_read_as_the_case_says(case: dict[str, object]):
    """Accepted text gives the wanted nodes, edges, attributes and classes."""
    graph = parse_dot(str(case["dot"]))
    want = case.get("want", {})
    assert isinstance(want, dict)
    for name, value in want.items():
        match name, value:
            case "nodes", int():
                assert len(graph.nodes) == value
            case "edges", int():
                assert len(graph.edges) == value
            case "edges", list():
                found = [[e.source, e.target, {k: a.value for k, a in e.attributes.items()}] for e in graph.edges]
                assert found == value
            case _:
                node = graph.nodes[name]
                written = {key: attribute.value for key, attribute in node.attributes.items()}
                assert ",".join(node.classes) == value.get("class", "")
                assert written if value else not written
                assert written.items() >= {(key, str(wanted)) for key, wanted in value.items() if key != "class"}


@pytest.mark.parametrize("case", CASES["values"], ids=lambda case: case["text"])
def test_bare_values_have_their_types(case: dict[str, object]):
    """Spec 2.4: booleans, numbers and durations; a quoted duration counts as one."""
    attribute = parse_dot(f"digraph G {{ a [x={case['text']}] }}").nodes["a"].attributes["x"]
    match case["type"]:
        case "bool":
            assert read_bool(attribute.value, default=False) is True
        case "int":
            assert read_int(attribute.value, default=None) == int(attribute.value)
        case "float":
            assert read_number(attribute.value, default=None) == float(attribute.value)
        case _:
            assert read_duration_s(attribute.value, default=None) == case["seconds"]
    assert attribute.quoted == str(case["text"]).startswith('"')


def test_a_bare_duration_fits_a_timeout():
    """The type is the attribute's: ``15m`` fits a timeout and does not fit a count."""
    graph = parse_dot("digraph G { a [timeout=15m, max_retries=15m] }")
    assert [d.message for d in attribute_value(Subject(graph))] == [
        "node 'a': max_retries='15m' is ignored: it takes a whole number from 0 up"
    ]
