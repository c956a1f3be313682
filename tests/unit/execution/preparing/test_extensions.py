"""Rules, transforms and handlers that an installed distribution adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kilroy_engine.cli.commands.validate import check
from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_run
from kilroy_engine.plugins import plugins
from kilroy_engine.settings.options import Options

MODULE = """
from dataclasses import replace
from kilroy_engine import warning

def labels_are_short(subject):
    for node in subject.graph.nodes.values():
        if len(node.label) > 10:
            yield warning("acme_label").on_node(node, f"node '{node.id}': the label is long")

def upper_goal(graph):
    goal = graph.attributes["goal"]
    return replace(graph, attributes={**graph.attributes, "goal": replace(goal, value=goal.value.upper())})

def raises(subject_or_graph):
    raise RuntimeError("on holiday")

def forgets_to_return(graph):
    pass
"""
PIPELINE = (
    'digraph g { graph [goal="ship"] start [shape=Mdiamond] done [shape=Msquare]\n'
    'a [shape=parallelogram, tool_command="true", label="a rather long label"] start -> a '
    'a -> done [condition="outcome=success"] }'
)
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the distribution ``acme-checks`` 2.0 with these entry points."""

    def make(entry_points: str) -> None:
        site = tmp_path / "site"
        info = site / "acme_checks-2.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-checks\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        (site / "acme_checks.py").write_text(MODULE)
        monkeypatch.syspath_prepend(str(site))
        plugins.cache_clear()

    yield make
    plugins.cache_clear()


def prepare(text: str, base: Path) -> PreparedRun:
    return prepare_run(RunParameters(text, options=Options(workspace="plain")), environ={}, base=base)


def test_a_rule_is_asked_by_runs_and_by_validate(install: Install, tmp_path: Path) -> None:
    """Its diagnostics stand among the others, with line and column."""
    install("[kilroy_engine.rules]\nlabels = acme_checks:labels_are_short\n")
    (tmp_path / "p.dot").write_text(PIPELINE)

    for diagnostics in (prepare(PIPELINE, tmp_path).diagnostics, check(str(tmp_path / "p.dot")).diagnostics):
        assert [(d.rule, d.line, d.column) for d in diagnostics if d.rule == "acme_label"] == [("acme_label", 2, 1)]


def test_a_transform_changes_what_runs(install: Install, tmp_path: Path) -> None:
    """After the engine's own transforms, before the checks."""
    install("[kilroy_engine.transforms]\nupper = acme_checks:upper_goal\n")

    prepared = prepare(PIPELINE, tmp_path)
    assert prepared.graph.goal == "SHIP"


@pytest.mark.parametrize(
    ("group", "object_", "message"),
    [
        ("rules", "acme_checks:raises", "the rule broken of acme-checks 2.0 does not work: RuntimeError: on holiday"),
        ("rules", "acme_checks:gone", "the rule broken of acme-checks 2.0 does not work: AttributeError"),
        ("transforms", "acme_checks_gone:x", "the transform broken of acme-checks 2.0 does not work: ModuleNotFoundError"),
        ("transforms", "acme_checks:forgets_to_return", "acme-checks 2.0 does not work: TypeError: it answers NoneType"),
    ],
)
def test_a_broken_one_refuses_the_run_and_names_its_distribution(
    install: Install, tmp_path: Path, group: str, object_: str, message: str
) -> None:
    """A rule that cannot be asked must not pass for one that has agreed."""
    install(f"[kilroy_engine.{group}]\nbroken = {object_}\n")

    with pytest.raises(InvalidPipeline, match=message):
        prepare(PIPELINE, tmp_path)


def test_a_broken_handler_refuses_the_run_where_a_node_needs_it(install: Install, tmp_path: Path) -> None:
    """Before the run starts, at the node's type; a pipeline that does not need it is not refused."""
    install("[kilroy_engine.handlers]\nacme.deploy = acme_checks:gone\n")
    prepare(PIPELINE, tmp_path)

    with pytest.raises(InvalidPipeline) as refusal:
        prepare(PIPELINE.replace("shape=parallelogram", 'type="acme.deploy", shape=parallelogram'), tmp_path)

    (broken,) = [d for d in refusal.value.diagnostics if d.severity == "ERROR"]
    assert (broken.rule, broken.node, broken.line, broken.column) == ("handler_loadable", "a", 2, 4)
    assert 'the handler for type "acme.deploy" of acme-checks 2.0 cannot be loaded: AttributeError' in broken.message
