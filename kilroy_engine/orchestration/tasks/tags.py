"""Tags of task runs: what a team filters stages by, and puts concurrency limits on.

Prefect takes a slot of every limit on a task run's tags before the task begins, and holds it until the task is over. A task run
that others run inside of would hold it while those wait for it, so Prefect gets to see no tag at all when a task run begins;
the engine takes the slots itself (:mod:`kilroy_engine.orchestration.tasks.slots`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from prefect.context import TagsContext

from kilroy_engine.graph.loops import LOOP_BEGIN, LOOP_END
from kilroy_engine.graph.model import CALL_TYPES, Node

_WITHOUT_WORK = frozenset({"start", "exit", "conditional", "wait.human", LOOP_BEGIN, LOOP_END})
_CONTAINERS = frozenset({"parallel", "stack.manager_loop", "pipeline", *CALL_TYPES})


def stage_tags(node: Node, around: Iterable[str]) -> frozenset[str]:
    """Tags of a stage of ``node``, those of whoever called the flow (``around``) included.

    None for a node that does no work itself: it marks a place, asks a person, or holds the task runs of others.
    """
    if node.type in _WITHOUT_WORK or node.type in _CONTAINERS:
        return frozenset()
    model = node.text("llm_model").strip() if _calls_a_model(node) else ""
    return frozenset({*around, f"handler:{node.type}", *([f"model:{model}"] if model else [])})


def _calls_a_model(node: Node) -> bool:
    """Tools never do, whatever a stylesheet gives them; a plug-in's handler may, and then the limit has to hold."""
    match node.type:
        case "tool":
            return False
        case "parallel.fan_in":
            return node.has("prompt")
        case _:
            return True


@contextmanager
def tags_set_aside() -> Generator[frozenset[str]]:
    """Takes the tags of the caller (``with prefect.tags(...)``) off everything that begins inside; gives those tags."""
    around = frozenset(TagsContext.get().current_tags)
    with TagsContext(current_tags=set()):
        yield around
