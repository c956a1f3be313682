"""Tags of task runs: what a team filters stages by, and puts concurrency limits on.

Prefect takes a slot of every limit on a task run's tags before the task begins, and holds it until the task is over. A task run
that others run inside of would hold it while those wait for it, so Prefect gets to see no tag at all when a task run begins;
the engine takes the slots itself (:mod:`kilroy_engine.orchestration.tasks.slots`).
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
    """Tags of a stage of ``node``, those of whoever called the flow (``around``) included.

    None for a node that does no work itself: it marks a place, asks a person, or holds the task runs of others.
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
    """Tools never do, whatever a stylesheet gives them; a plug-in's handler may, and then the limit has to hold."""
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
    """Takes the tags of the caller (``with prefect.tags(...)``) off everything that begins inside; gives those tags."""
    around = frozenset(TagsContext.get().current_tags)
    with TagsContext(current_tags=set()):
        yield around
