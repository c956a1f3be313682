"""Every type of node, in every way to write it: read, checked and run from its start to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from whole_runs import Place

from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.execution.preparing.extensions import findings_with_plugins
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.node_types import NODE_TYPES

CHILD = 'digraph c { s [shape=Mdiamond] w [shape=parallelogram, tool_command="true"] e [shape=Msquare] s -> w -> e }'
ENDS = "start [shape=Mdiamond] done [shape=Msquare]"
TOOL = 'shape=parallelogram, tool_command="true"'


@dataclass(frozen=True)
class Case:
    """A pipeline around the node ``x``, whose type is written at ``TYPE``, and the path of its run."""

    statements: str
    path: str


CASES = {
    "start": Case(f"x [TYPE] w [{TOOL}] done [shape=Msquare] x -> w -> done", "x w done"),
    "exit": Case(f"start [shape=Mdiamond] w [{TOOL}] x [TYPE] start -> w -> x", "start w x"),
    "codergen": Case(f'{ENDS} x [TYPE, prompt="Plan"] start -> x -> done', "start x done"),
    "tool": Case(f'{ENDS} x [TYPE, tool_command="test ! -e here && touch here"] start -> x -> done', "start x done"),
    "wait.human": Case(
        f"{ENDS} x [TYPE] y [{TOOL}] n [{TOOL}] start -> x x -> y [label=Yes] x -> n [label=No] y -> done n -> done",
        "start x y done",
    ),
    "conditional": Case(
        f'{ENDS} w [{TOOL}] x [TYPE] bad [{TOOL}] start -> w -> x x -> bad [condition="outcome=fail"] bad -> done '
        'x -> done [condition="outcome=success"]',
        "start w x done",
    ),
    "parallel": Case(
        f"{ENDS} x [TYPE] a [{TOOL}] b [{TOOL}] j [shape=tripleoctagon] start -> x x -> a -> j x -> b -> j j -> done",
        "start x j done",
    ),
    "parallel.fan_in": Case(
        f"{ENDS} p [shape=component] a [{TOOL}] b [{TOOL}] x [TYPE] start -> p p -> a -> x p -> b -> x x -> done",
        "start p x done",
    ),
    "stack.manager_loop": Case(
        f'{ENDS} x [TYPE, stack.child_dotfile="child.dot", manager.poll_interval="100ms"] start -> x -> done', "start x done"
    ),
    "pipeline": Case(f'{ENDS} x [TYPE, dot_file="child.dot"] start -> x -> done', "start x done"),
    "loop.begin": Case(
        f"{ENDS} x [TYPE, loop_id=l] w [{TOOL}] z [shape=invtrapezium, loop_id=l, loop_count=2] start -> x -> w -> z -> done",
        "start x w z x w z done",
    ),
    "loop.end": Case(
        f"{ENDS} z [shape=trapezium, loop_id=l] w [{TOOL}] x [TYPE, loop_id=l, loop_count=2] start -> z -> w -> x -> done",
        "start z w x z w x done",
    ),
    "prefect.task": Case(f'{ENDS} x [TYPE, ref="module:name"] start -> x -> done', "start x"),
    "prefect.flow": Case(f'{ENDS} x [TYPE, ref="module:name"] start -> x -> done', "start x"),
}
REFUSED = {
    "concurrent.split": f"{ENDS} x [TYPE] a [{TOOL}] start -> x -> a -> done",
    "concurrent.join": f"{ENDS} x [TYPE] a [{TOOL}] start -> a -> x -> done",
}
REASON_WITHOUT_PREFECT = "no Prefect is there to call module:name"


def spellings(type_name: str) -> list[str]:
    """Every way to write the type: its own name, its shapes, its other names."""
    row = NODE_TYPES[type_name]
    names = [f'type="{name}"' for name in (row.name, *row.other_names)]
    return [*names, *(f"shape={shape}" for shape in row.shapes)]


def written(case: Case, spelling: str) -> str:
    return f"digraph g {{ {case.statements.replace('TYPE', spelling)} }}"


def found(text: str) -> list[str]:
    """The rules that say something about a pipeline."""
    return [finding.rule for finding in findings_with_plugins(parse_dot(text))]


def every(types: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(type_name, spelling) for type_name in types for spelling in spellings(type_name)]


def test_every_type_has_a_case() -> None:
    """A row that is added to the table asks for a pipeline here."""
    assert set(CASES) | set(REFUSED) == set(NODE_TYPES)


@pytest.mark.parametrize(("type_name", "spelling"), every(CASES))
def test_a_node_runs_as_its_type_however_it_is_written(place: Place, type_name: str, spelling: str) -> None:
    """Spec 2.8: the shape stands for the type. Neither a finding nor a stage depends on the way of writing."""
    case = CASES[type_name]
    text = written(case, spelling)
    rules = found(text)
    assert rules == found(written(case, spellings(type_name)[0]))
    assert {"type_known", "shape_known"}.isdisjoint(rules)

    (place.folder / "child.dot").write_text(CHILD, encoding="utf-8")
    file = place.folder / "pipeline.dot"
    file.write_text(text, encoding="utf-8")
    ran = place.carry_out(str(file), None, {}, logs_root=str(place.run.path), agent="simulate", human="auto-approve")

    assert " ".join(ran.completed) == case.path
    if NODE_TYPES[type_name].calls_prefect:
        assert REASON_WITHOUT_PREFECT in ran.final.failure_reason
    else:
        assert ran.end == ("success", "")


@pytest.mark.parametrize(("type_name", "spelling"), every(REFUSED))
def test_what_is_not_supported_is_refused_however_it_is_written(place: Place, type_name: str, spelling: str) -> None:
    """A region that runs as something else would do half of what it says."""
    file = place.folder / "pipeline.dot"
    file.write_text(f"digraph g {{ {REFUSED[type_name].replace('TYPE', spelling)} }}", encoding="utf-8")

    with pytest.raises(InvalidPipeline) as refused:
        place.carry_out(str(file), None, {}, logs_root=str(place.run.path))
    assert "concurrent_not_supported" in {diagnostic.rule for diagnostic in refused.value.diagnostics}


@pytest.mark.parametrize(("node_id", "type_name"), [("start", "start"), ("exit", "exit"), ("end", "exit")])
def test_a_plain_box_is_a_marker_by_its_name(node_id: str, type_name: str) -> None:
    """Spec 3.2, 7.2."""
    assert parse_dot(f"digraph g {{ {node_id} [label=x] }}").nodes[node_id].type == type_name
