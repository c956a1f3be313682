"""What the vocabulary says about who reads an attribute, held against the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kilroy_engine
from kilroy_engine.graph.vocabulary import ATTRIBUTES, STYLE_PROPERTIES, AttributeOwner

PACKAGE = Path(kilroy_engine.__file__).parent
LOOKS_ONLY = ("graph/vocabulary.py", "graph/checks/", "graph/render.py")
"""Who speaks of attributes without doing anything by them."""
READERS = {"text", "has", "integer", "get", "_whole"}
"""Names of what gives the value of the attribute that its argument names."""
OF_AGENTS = set(STYLE_PROPERTIES)
"""The engine hands them on; the agent reads them (``agents.base.AgentRequest``)."""


def _read_in(module: Path) -> Iterator[str]:
    """Every text that stands where the name of an attribute to read would: an argument, a subscript, an item of a tuple."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in READERS:
                places: list[ast.expr] = node.args
            case ast.Subscript():
                places = [node.slice]
            case ast.Tuple() | ast.Assign():
                places = node.elts if isinstance(node, ast.Tuple) else [node.value]
            case _:
                places = []
        yield from (place.value for place in places if isinstance(place, ast.Constant) and isinstance(place.value, str))


@pytest.fixture(scope="module")
def read() -> set[str]:
    """Names of the attributes that the package reads."""
    modules = {str(module.relative_to(PACKAGE)): module for module in PACKAGE.rglob("*.py")}
    acting = [module for name, module in modules.items() if not name.startswith(LOOKS_ONLY)]
    return {name for module in acting for name in _read_in(module)}


@pytest.mark.parametrize(("owner", "key"), [(owner, key) for owner, known in ATTRIBUTES.items() for key in known])
def test_an_attribute_is_read_or_marked_as_without_effect(read: set[str], owner: AttributeOwner, key: str) -> None:
    """An attribute that nobody reads would be accepted and do nothing in silence; one that is read must not be called idle."""
    elsewhere = any(key in known and not known[key].without_effect for other, known in ATTRIBUTES.items() if other != owner)
    if ATTRIBUTES[owner][key].without_effect:
        assert key not in read or elsewhere
    else:
        assert key in read | OF_AGENTS
