"""Errors travel between processes: Prefect and process pools pickle them."""

from __future__ import annotations

import inspect
import pickle

import pytest

from kilroy_engine import errors

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.KilroyError)]
_FACTS = {
    "paths": ("a", "b"),
    "diagnostics": (),
    "checks": (),
    "kind": errors.StopKind.SIGNAL,
    "owner": "run-2",
    "pid": 7,
    "line": 3,
}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_a_journey(kind: type[errors.KilroyError]) -> None:
    """Its text and its facts, which are attributes."""
    named = [name for name, one in inspect.signature(kind).parameters.items() if one.kind is one.KEYWORD_ONLY]
    facts = {name: _FACTS.get(name, "said") for name in named}
    error = kind("what happened", **facts)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (kind, str(error))
    assert {name: getattr(back, name) for name in named} == facts
