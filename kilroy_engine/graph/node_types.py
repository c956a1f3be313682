"""The one table of node types: shapes, other names, who serves them, how the walk and the orchestrator treat them.

Everything that the package knows about a type as such follows from its row; only what the type means is code. A plug-in's
type has no row: it stands for one that does work itself, may call a model and is tried again after a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

START = "start"
EXIT = "exit"
CONDITIONAL = "conditional"
AGENT = "codergen"
TOOL = "tool"
HUMAN = "wait.human"
PARALLEL = "parallel"
FAN_IN = "parallel.fan_in"
MANAGER = "stack.manager_loop"
NESTED = "pipeline"
LOOP_BEGIN = "loop.begin"
LOOP_END = "loop.end"
PREFECT_TASK = "prefect.task"
PREFECT_FLOW = "prefect.flow"
CONCURRENT_SPLIT = "concurrent.split"
CONCURRENT_JOIN = "concurrent.join"


class Work(StrEnum):
    """Whose work a stage is."""

    OWN = "own"
    OTHERS = "others"
    """It holds what others run for it: branches, a child pipeline, a callee."""
    NONE = "none"
    """It marks a place, or asks a person."""


class Model(StrEnum):
    """When a stage lets an agent work, and so calls a model."""

    ALWAYS = "always"
    WITH_PROMPT = "with a prompt"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class NodeType:
    """What is known of a type of node.

    ``handler`` is ``module:object`` in ``kilroy_engine.handlers``: a function that is the handler, or a class that is made with
    who works on an agent node. It is empty for a type that is read and then refused. ``shapes`` stand for the type
    (Spec 2.8). ``other_names`` are read as it in the attribute ``type``. A plain box whose id is one of ``ids`` is of the type
    too. ``runs_once``: no attempt follows a failed one. ``calls_prefect``: its attribute ``ref`` names something of Prefect's.
    ``mermaid`` opens and closes its node in Mermaid.
    """

    name: str
    handler: str
    shapes: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    work: Work = Work.OWN
    model: Model = Model.NEVER
    runs_once: bool = False
    calls_prefect: bool = False
    mermaid: tuple[str, str] = ("[", "]")

    @property
    def served(self) -> bool:
        """Whether it can run."""
        return bool(self.handler)


_ROWS = (
    NodeType(
        START,
        "markers:start",
        shapes=("Mdiamond", "circle"),
        ids=("start",),
        work=Work.NONE,
        runs_once=True,
        mermaid=("([", "])"),
    ),
    NodeType(
        EXIT,
        "markers:exit",
        shapes=("Msquare", "doublecircle"),
        ids=("exit", "end"),
        work=Work.NONE,
        runs_once=True,
        mermaid=("(((", ")))"),
    ),
    NodeType(AGENT, "codergen:CodergenHandler", shapes=("box", "tab"), other_names=("agent",), model=Model.ALWAYS),
    NodeType(HUMAN, "human:wait_human", shapes=("hexagon",), work=Work.NONE, mermaid=("{{", "}}")),
    NodeType(CONDITIONAL, "markers:conditional", shapes=("diamond",), work=Work.NONE, runs_once=True, mermaid=("{", "}")),
    NodeType(PARALLEL, "parallel:fan_out", shapes=("component",), work=Work.OTHERS, mermaid=("[/", "\\]")),
    NodeType(FAN_IN, "parallel:FanInHandler", shapes=("tripleoctagon",), model=Model.WITH_PROMPT, mermaid=("[\\", "/]")),
    NodeType(TOOL, "tool:run_tool", shapes=("parallelogram",), mermaid=("[/", "/]")),
    NodeType(
        MANAGER,
        "manager:ManagerHandler",
        shapes=("house",),
        work=Work.OTHERS,
        model=Model.WITH_PROMPT,
        mermaid=("[[", "]]"),
    ),
    NodeType(NESTED, "manager:run_pipeline", shapes=("folder",), work=Work.OTHERS, mermaid=("[[", "]]")),
    NodeType(LOOP_BEGIN, "markers:loop_begin", shapes=("trapezium",), work=Work.NONE, runs_once=True),
    NodeType(LOOP_END, "markers:loop_end", shapes=("invtrapezium",), work=Work.NONE, runs_once=True),
    NodeType(PREFECT_TASK, "call_node:call_prefect", work=Work.OTHERS, calls_prefect=True),
    NodeType(PREFECT_FLOW, "call_node:call_prefect", work=Work.OTHERS, calls_prefect=True),
    NodeType(CONCURRENT_SPLIT, "", shapes=("pentagon",), work=Work.NONE),
    NodeType(CONCURRENT_JOIN, "", shapes=("cylinder",), work=Work.NONE),
)

NODE_TYPES: Mapping[str, NodeType] = {row.name: row for row in _ROWS}
"""The rows by the name of the type. Spec 2.8; Kilroy's circle, doublecircle, trapezium …; fabro's tab, amplifier's folder."""

BUILT_IN_TYPES: frozenset[str] = frozenset(NODE_TYPES)
"""Types that the engine itself gives a meaning, those that are refused included. No plug-in takes one over."""

CALL_TYPES: frozenset[str] = frozenset(row.name for row in _ROWS if row.calls_prefect)
"""Types that call something of Prefect's, which the attribute ``ref`` names. No shape stands for them."""

SHAPE_TO_TYPE: Mapping[str, str] = {shape: row.name for row in _ROWS for shape in row.shapes}
TYPE_BY_OTHER_NAME: Mapping[str, str] = {name: row.name for row in _ROWS for name in row.other_names}
TYPE_BY_ID: Mapping[str, str] = {node_id: row.name for row in _ROWS for node_id in row.ids}


def runs_once(type_name: str) -> bool:
    """Whether a node of the type is never tried again."""
    row = NODE_TYPES.get(type_name)
    return row is not None and row.runs_once
