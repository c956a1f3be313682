"""Markdown tables, for the reference pages and for the run's summary in Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without a newline at its end. Cells are Markdown: the caller writes ``|`` in a cell as ``\\|``."""
    lines = (f"| {' | '.join(cells)} |" for cells in (headers, *rows))
    head, *body = lines
    return "\n".join((head, f"|{'---|' * len(headers)}", *body))
