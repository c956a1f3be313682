"""Which handler serves which node, plug-ins of other distributions included."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kilroy_engine import handlers
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.errors import UnknownHandler
from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import NODE_TYPES
from kilroy_engine.graph.vocabulary import NODE_ATTRIBUTES
from kilroy_engine.handlers import markers
from kilroy_engine.handlers.base import Handler, StageRequest
from kilroy_engine.handlers.codergen import CodergenHandler
from kilroy_engine.handlers.human import wait_human
from kilroy_engine.handlers.registry import HandlerRegistry, known_types
from kilroy_engine.handlers.tool import run_tool
from kilroy_engine.plugins import plugins
from kilroy_engine.traversal.outcome import Outcome

Requests = Callable[..., StageRequest]

PLUGIN = """
from kilroy_engine import success

def shout(request, /):
    return success(request.node.label.upper())

class Whisper:
    def __call__(self, request, /):
        return success(request.node.label.lower())

not_callable = 42
"""
ENTRY_POINTS = """
[kilroy_engine.handlers]
demo.shout = demo_handlers:shout
demo.whisper = demo_handlers:Whisper
demo.number = demo_handlers:not_callable
demo.gone = demo_handlers_gone:handler
tool = demo_handlers:shout
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution ``demo-handlers`` 1.2 that brings handlers."""
    site = tmp_path / "site"
    info = site / "demo_handlers-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-handlers\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "demo_handlers.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield
    plugins.cache_clear()


@pytest.mark.parametrize(
    ("attributes", "handler"),
    [
        ("shape=Mdiamond", markers.start),
        ("shape=Msquare", markers.exit),
        ("shape=diamond", markers.conditional),
        ("shape=parallelogram", run_tool),
        ("shape=hexagon", wait_human),
        ("shape=box, type=tool", run_tool),
    ],
)
def test_built_in_types_have_their_handler(request_for: Requests, attributes: str, handler: object) -> None:
    """By shape, or by an explicit type, which wins."""
    assert HandlerRegistry().resolve(request_for(f"a [{attributes}]").node) is handler


def handlers_written() -> set[str]:
    """``module:object`` of everything in this folder that takes a request and nothing else, as a handler does."""
    found: set[str] = set()
    for info in pkgutil.iter_modules(handlers.__path__):
        module = importlib.import_module(f"{handlers.__name__}.{info.name}")
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.__name__ or value is Handler:
                continue
            call = vars(value).get("__call__") if isinstance(value, type) else value if inspect.isfunction(value) else None
            if call is not None and takes_a_request(call, method=isinstance(value, type)):
                found.add(f"{info.name}:{name}")
    return found


def takes_a_request(call: Callable[..., object], *, method: bool) -> bool:
    parameters = list(inspect.signature(call).parameters.values())[int(method) :]
    only = parameters[0] if len(parameters) == 1 else None
    return only is not None and only.annotation == "StageRequest" and only.kind is only.POSITIONAL_ONLY


def test_the_table_of_types_and_the_handlers_know_the_same() -> None:
    """A handler that no row names would never run; a row whose handler is gone could not."""
    assert {row.handler for row in NODE_TYPES.values() if row.served} == handlers_written()


@pytest.mark.parametrize("type_name", [row.name for row in NODE_TYPES.values() if row.served])
def test_every_type_that_is_served_has_a_handler(request_for: Requests, type_name: str) -> None:
    """Made when the registry is: a wrong name in the table is found by every run, not by the first visit."""
    assert callable(HandlerRegistry().resolve(request_for(f'a [type="{type_name}"]').node))


@pytest.mark.parametrize("type_name", ["concurrent.split", "concurrent.join"])
def test_a_type_that_is_refused_has_none_and_is_not_proposed(request_for: Requests, type_name: str) -> None:
    """The checks refuse the run long before; nobody is told to use such a type."""
    with pytest.raises(UnknownHandler) as caught:
        HandlerRegistry().resolve(request_for(f'a [type="{type_name}"]').node)
    assert "did you mean" not in str(caught.value)
    assert "known types are" in str(caught.value)
    assert "concurrent" not in str(caught.value).partition("known types are")[2]


def test_everything_else_is_an_agent_node(request_for: Requests) -> None:
    """Kilroy's name for the type included."""
    for attributes in ("label=A", "type=agent", "type=codergen", "shape=ellipse"):
        assert isinstance(HandlerRegistry().resolve(request_for(f"a [{attributes}]").node), CodergenHandler)


def test_the_registry_hands_agent_nodes_to_the_chosen_agent(request_for: Requests) -> None:
    """Without a choice every agent node fails."""
    request = request_for("a [prompt=x]")
    outcome = HandlerRegistry().resolve(request.node)(request)

    assert isinstance(outcome, Outcome)
    assert outcome.failure_reason.startswith("no agent is configured")


@pytest.mark.parametrize("type_name", [row.name for row in NODE_TYPES.values() if row.served])
def test_a_handler_reads_only_what_the_vocabulary_says_its_type_reads(
    request_for: Requests, type_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the checks would call an attribute idle that has an effect."""
    request = request_for(
        f'a [type="{type_name}", ref="m:f", dot_file=c, tool_command=true, prompt=p] b [label=b] a -> b -> exit'
    )
    read: set[str] = set()
    text = Node.text

    def recorded(node: Node, key: str, default: str = "") -> str:
        read.add(key)
        return text(node, key, default)

    handler = HandlerRegistry(lambda node: SimulatedAgent()).resolve(request.node)
    monkeypatch.setattr(Node, "text", recorded)
    handler(request)

    assert {key for key in read if key in NODE_ATTRIBUTES and not NODE_ATTRIBUTES[key].is_read_at(type_name)} == set()


def test_an_unknown_type_names_the_near_one(request_for: Requests) -> None:
    """Node, type, and what may have been meant."""
    with pytest.raises(UnknownHandler, match=r'node "a": no handler for type "tol"; did you mean "tool"\?') as caught:
        HandlerRegistry().resolve(request_for("a [type=tol]").node)
    assert (caught.value.node, caught.value.type) == ("a", "tol")


@pytest.mark.usefixtures("distribution")
class TestPlugins:
    """Handlers by entry point."""

    def test_functions_and_classes_serve(self, request_for: Requests) -> None:
        """A class is made into one handler."""
        loud = request_for('a [type="demo.shout", label="Hi"]')
        quiet = request_for('a [type="demo.whisper", label="Hi"]')
        registry = HandlerRegistry()

        assert [registry.resolve(request.node)(request) for request in (loud, quiet)] == [
            Outcome("success", notes="HI"),
            Outcome("success", notes="hi"),
        ]

    def test_their_types_are_known_before_any_is_loaded(self) -> None:
        """Validation must not import what it does not run."""
        sys.modules.pop("demo_handlers", None)
        assert {"demo.shout", "demo.gone", "tool", "codergen", "wait.human"} <= known_types()
        assert "demo_handlers" not in sys.modules

    @pytest.mark.parametrize(
        ("type_", "reason"), [("demo.gone", "ModuleNotFoundError: No module named"), ("demo.number", "is no handler")]
    )
    def test_a_broken_one_names_its_distribution(self, request_for: Requests, type_: str, reason: str) -> None:
        """So that a person knows what to mend or remove."""
        with pytest.raises(UnknownHandler, match=f'"{type_}" of demo-handlers 1.2 cannot be loaded: .*{reason}'):
            HandlerRegistry().resolve(request_for(f'a [type="{type_}"]').node)

    def test_a_built_in_type_cannot_be_taken_over(self, request_for: Requests) -> None:
        """Installing a distribution must not change what a tool node does."""
        assert HandlerRegistry().resolve(request_for("a [shape=parallelogram]").node) is run_tool
