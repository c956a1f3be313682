"""Tags of task runs: a team filters stages by tags and puts concurrency limits on tags.

Prefect takes a slot of every limit on a task run's tags before the task begins, and holds the slot until the task is over. An
outer task run would hold a slot for which its inner task runs wait. So a task run begins without tags, and the engine takes
the slots itself (:mod:`kilroy_engine.orchestration.tasks.slots`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from prefect.context import TagsContext

from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import NODE_TYPES, Model, Work

TAG_PREFIX = "tag:"
PROVIDER_PREFIX = "kilroy-provider-"
"""A global concurrency limit ``kilroy-provider-anthropic`` limits the stages that use a model of that provider."""


def stage_tags(node: Node, around: Iterable[str]) -> frozenset[str]:
    """Tags of a stage of ``node``: handler type, model, and the tags of the flow's caller (``around``).

    Empty for a node that does no work itself: it marks a place, asks a person, or contains the task runs of other nodes.
    """
    row = NODE_TYPES.get(node.type)
    if row is not None and row.work is not Work.OWN:
        return frozenset()
    model = node.text("llm_model").strip() if _calls_a_model(node) else ""
    return frozenset({*around, f"handler:{node.type}", *([f"model:{model}"] if model else [])})


def limits_on(node: Node, tags: Iterable[str], provider: str) -> frozenset[str]:
    """Names of the limits that would hold for a stage of ``node`` with these ``tags``: Prefect's names of limits on tags, and
    the one on all stages that use models of ``provider``, which is empty for none."""
    of_provider = [f"{PROVIDER_PREFIX}{provider}"] if provider and _calls_a_model(node) else []
    return frozenset({*(f"{TAG_PREFIX}{tag}" for tag in tags), *of_provider})


def _calls_a_model(node: Node) -> bool:
    """Whether a stage of ``node`` may call a model. A tool never does, even where a stylesheet names a model. The handler of a
    plug-in counts as one that does, so that a limit on the model holds."""
    row = NODE_TYPES.get(node.type)
    match row.model if row else Model.ALWAYS:
        case Model.NEVER:
            return False
        case Model.WITH_PROMPT:
            return node.has("prompt")
        case Model.ALWAYS:
            return True


@contextmanager
def tags_set_aside() -> Generator[frozenset[str]]:
    """Removes the caller's tags (``with prefect.tags(...)``) from every run that begins in the block. Gives the tags."""
    around = frozenset(TagsContext.get().current_tags)
    with TagsContext(current_tags=set()):
        yield around
