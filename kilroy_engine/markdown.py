"""Tables of Markdown: those of the reference pages, and of the summary that Prefect shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without a newline at its end. Cells are Markdown: whose text may hold a ``|``, writes it as ``\\|``."""
    lines = (f"| {' | '.join(cells)} |" for cells in (headers, *rows))
    head, *body = lines
    return "\n".join((head, f"|{'---|' * len(headers)}", *body))
