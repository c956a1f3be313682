"""A stage's ``status.json`` is read once per attempt: what is judged, recorded and told is one and the same verdict."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import InProcess, opened

from kilroy_engine.execution.conduct import conduct
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.settings.options import Options
from kilroy_engine.traversal.outcome import FinalStatus

VERDICT = """printf '{\\"status\\": \\"%s\\", \\"failure_reason\\": \\"r\\"}' {status} > $KILROY_STAGE_LOGS_DIR/status.json"""
_read: Counter[str] | None = None


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if _read is None or event != "open" or not isinstance(arguments[0], str | os.PathLike):
        return
    path, flags = os.fspath(arguments[0]), arguments[2]
    if str(path).endswith("/status.json") and isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR):
        _read["/".join(Path(str(path)).parts[-2:])] += 1


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    """An audit hook sees every open of this process, whoever opens and however; it cannot be taken away again."""
    sys.addaudithook(_count)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """How often each ``<stage>/status.json`` is opened for reading meanwhile."""
    global _read  # noqa: PLW0603 - the hook is one for the whole process
    _read = counts = Counter[str]()
    try:
        yield counts
    finally:
        _read = None


def test_a_verdict_is_opened_once_per_attempt(tmp_path: Path) -> None:
    """Two attempts of a tool that leaves one, one of a tool that leaves none, one of an agent."""
    commands = VERDICT.replace("{status}", "retry"), VERDICT.replace("{status}", "success")
    graph = f"""digraph g {{ node [shape=parallelogram] start [shape=Mdiamond] done [shape=Msquare]
    twice [tool_command="{commands[0]}", max_retries=1, retry.backoff.initial_delay_ms=1]
    once [tool_command="{commands[1]}"] none [tool_command="true"] agent [shape=box, prompt="p"]
    start -> twice twice -> once [condition="outcome=fail"] twice -> done [condition="outcome=success"]
    once -> none -> agent -> done }}"""
    options = Options(logs_root=str(tmp_path / "run"), workspace="plain", agent="simulate")

    found = opened(RunParameters(graph, options=options), InProcess())
    try:
        with counting() as read:
            conclusion = conduct(found)
    finally:
        found.run.close()

    assert conclusion.status is FinalStatus.SUCCESS
    stages = {stage: read[f"{stage}/status.json"] for stage in ("twice", "once", "none", "agent")}
    # One more is the copy that keeps the first attempt's.
    assert stages == {"twice": 2 + 1, "once": 1, "none": 1, "agent": 1}
