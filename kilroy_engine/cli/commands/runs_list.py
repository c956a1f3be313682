"""``kilroy runs list``: lists the runs below the runs root, the newest first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kilroy_engine.cli.find_run import root_of_runs
from kilroy_engine.cli.run_options import check_labels, read_pairs
from kilroy_engine.cli.show.event_text import duration
from kilroy_engine.cli.show.streams import print_json, print_table, say

if TYPE_CHECKING:
    from kilroy_engine.rundir.stream.reader import RunSummary


def list_runs(
    *,
    label: Annotated[
        list[str], Parameter(validator=check_labels, metavar="NAME=VALUE", help="Only runs with this label. May be repeated.")
    ] = (),  # type: ignore[assignment]
    status: Annotated[
        Literal["running", "success", "fail", "canceled", "unknown", "damaged"] | None,
        Parameter(help="Only runs in this state; `unknown` has neither a process nor an end, `damaged` cannot be read."),
    ] = None,
    graph: Annotated[str, Parameter(metavar="TEXT", help="Only runs whose pipeline's name contains this text.")] = "",
    limit: Annotated[int, Parameter(help="At most so many; 0 for all.")] = 0,
    json: Annotated[bool, Parameter(help="Print JSON with Kilroy's keys.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """List runs, the newest first.

    Runs whose directory was placed elsewhere with `--logs-root` are not listed. Runs whose directory is damaged come last, with
    what is wrong; `--limit` does not count them.
    """
    from kilroy_engine.cli.listing import DAMAGED, Selection, read_runs, record_of, record_of_damaged

    root = root_of_runs(runs_root)
    found, damaged = read_runs(root)
    wanted = Selection(read_pairs(label), status or "", graph)
    shown = [run for run in found if wanted.fits(run)]
    shown = shown[:limit] if limit > 0 else shown
    broken = damaged if wanted.takes_damaged else []
    if json:
        print_json([*map(record_of, shown), *map(record_of_damaged, broken)])
    elif shown or broken:
        rows = [*map(_cells, shown), *((run.run_id, DAMAGED, "", "", "", run.problem) for run in broken)]
        print_table(("RUN", "STATE", "PIPELINE", "STARTED", "TOOK", "REASON"), rows)
    else:
        say(f"no runs{' match' if found or damaged else ''} in {root}")
    return 0


def _cells(run: RunSummary) -> tuple[str, ...]:
    from kilroy_engine.cli.listing import took_s

    seconds = took_s(run)
    return (
        run.run_id,
        run.status,
        run.graph_name,
        f"{run.started_at.astimezone():%Y-%m-%d %H:%M}" if run.started_at else "",
        "" if seconds is None else duration(seconds),
        run.failure_reason,
    )
