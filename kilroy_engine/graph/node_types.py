"""The table of node types: names, shapes, handlers, and how the walk and the orchestrator treat each type.

All general facts about a type follow from its row. What a node of the type does is code in the handler. A plug-in's type has no
row: the engine treats it as a type that works itself, may call a model and is tried again after a failure.
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
    """Who does the work of a stage of this type."""

    OWN = "own"
    """The stage itself."""
    OTHERS = "others"
    """The stage waits while others work: branches, a child pipeline, a callee."""
    NONE = "none"
    """Nobody: the stage marks a place in the graph, or asks a person."""


class Model(StrEnum):
    """When a stage of this type lets an agent work, which calls a model."""

    ALWAYS = "always"
    WITH_PROMPT = "with a prompt"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class NodeType:
    """The row of one node type.

    ``handler`` is ``module:object`` in ``kilroy_engine.handlers``. The object is the handler function, or a class that takes
    the function that finds a node's agent. ``handler`` is empty for a type that validation refuses. A node has the type by one
    of the ``shapes`` (Spec 2.8), by ``name`` or one of ``other_names`` in the attribute ``type``, or as a plain box whose id is
    one of ``ids``. ``runs_once``: no attempt follows a failed one. ``calls_prefect``: the attribute ``ref`` names a task, flow
    or deployment. ``mermaid``: the brackets around a node's label in Mermaid.
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
        """Whether a handler exists for the type."""
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
"""Name of the type -> row. Sources of the shapes: Spec 2.8; Kilroy (circle, trapezium …), fabro (tab), amplifier (folder)."""

BUILT_IN_TYPES: frozenset[str] = frozenset(NODE_TYPES)
"""Names of all types in the table, with the types that validation refuses. A plug-in cannot replace such a type."""

CALL_TYPES: frozenset[str] = frozenset(row.name for row in _ROWS if row.calls_prefect)
"""Types that call a task, flow or deployment of Prefect. They have no shape."""

SHAPE_TO_TYPE: Mapping[str, str] = {shape: row.name for row in _ROWS for shape in row.shapes}
TYPE_BY_OTHER_NAME: Mapping[str, str] = {name: row.name for row in _ROWS for name in row.other_names}
TYPE_BY_ID: Mapping[str, str] = {node_id: row.name for row in _ROWS for node_id in row.ids}


def runs_once(type_name: str) -> bool:
    """Whether a failed node of the type is never tried again. False for a plug-in's type."""
    row = NODE_TYPES.get(type_name)
    return row is not None and row.runs_once
