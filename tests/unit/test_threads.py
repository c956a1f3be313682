"""Threads with the contexts of their starter."""

from __future__ import annotations

import contextvars
import threading

import pytest

from kilroy_engine.threads import beside, start_thread

_flow: contextvars.ContextVar[str] = contextvars.ContextVar("flow", default="none")


def test_a_thread_sees_the_contexts_of_its_starter_and_changes_none_of_them() -> None:
    """What Prefect keeps in context variables (the flow run, temporary settings) holds in there too."""
    seen: list[str] = []

    def work() -> None:
        seen.append(_flow.get())
        _flow.set("inner")

    token = _flow.set("outer")
    try:
        start_thread(work, name="work").join()
        assert seen == ["outer"]
        assert _flow.get() == "outer"
    finally:
        _flow.reset(token)


def test_work_beside_a_block_is_told_of_its_end_and_waited_for() -> None:
    """After the block nothing of it is at work any more, also where the block raises."""
    ended: list[bool] = []

    def work(finished: threading.Event) -> None:
        ended.append(finished.wait(30.0))

    with beside(work, name="beside", join_s=None):
        assert ended == []
    assert ended == [True]

    with pytest.raises(ValueError, match="of the block"), beside(work, name="beside", join_s=None):
        raise ValueError("of the block")
    assert ended == [True, True]


def test_a_block_does_not_wait_for_work_that_need_not_be_over() -> None:
    """Whoever renews something, or looks at a server, may still be waiting for its answer."""
    answered = threading.Event()
    over = threading.Event()

    def work(_: threading.Event) -> None:
        answered.wait(30.0)
        over.set()

    with beside(work, name="beside"):
        pass
    assert not over.is_set()
    answered.set()
    assert over.wait(30.0)
