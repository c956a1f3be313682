"""Texts from Go, output contracts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.processes.go_text import duration_text, exit_text
from kilroy_engine.processes.output import without_escapes
from kilroy_engine.processes.output_contract import missing_outputs

Requests = Callable[..., StageRequest]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1s"), (0.25, "250ms"), (1.5, "1.5s"), (60, "1m0s"), (600, "10m0s"), (3600, "1h0m0s"), (90061.5, "25h1m1.5s")],
)
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    """Go's ``Duration.String``."""
    assert duration_text(seconds) == text


def test_an_unknown_signal_keeps_its_number() -> None:
    """Go's text for signals without a name."""
    assert exit_text(-34) == "signal: signal 34"


def test_missing_outputs_are_named_in_the_order_written(request_for: Requests) -> None:
    """Files and folders count; blanks are nothing."""
    request = request_for('a [outputs="out.txt, dir ,missing.txt,, also/missing"]')
    (request.work_dir / "out.txt").write_text("x")
    (request.work_dir / "dir").mkdir()

    assert missing_outputs(request.node, request.work_dir) == ("missing.txt", "also/missing")


def test_an_output_outside_of_the_work_folder_counts_as_missing(request_for: Requests) -> None:
    """A contract is about the work folder, so nothing elsewhere can fulfil it."""
    request = request_for('a [outputs="../secret.txt,/etc/passwd"]')
    (request.work_dir.parent / "secret.txt").write_text("x")

    assert missing_outputs(request.node, request.work_dir) == ("../secret.txt", "/etc/passwd")


def test_a_node_without_outputs_misses_nothing(request_for: Requests) -> None:
    """Most nodes promise nothing."""
    request = request_for("a [label=A]")

    assert missing_outputs(request.node, request.work_dir) == ()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[?25lhidden cursor\x1bM", "hidden cursor"),
    ],
)
def test_what_only_a_terminal_understands_is_left_out(written: str, shown: str) -> None:
    """ECMA-48: control sequences, operating system commands (ended by BEL or ST) and the two-character ones."""
    assert without_escapes(written) == shown
