"""``kilroy status``: prints the state of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.streams import print_json

if TYPE_CHECKING:
    from kilroy_engine.rundir.stream.reader import RunSummary
    from kilroy_engine.rundir.stream.visits import VisitRecord


def status(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    json: Annotated[bool, Parameter(help="Print a JSON snapshot with Kilroy's keys.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Where a run stands.

    The exit code is 0 whenever the run can be read, however it ended.
    """
    from kilroy_engine.rundir.stream.reader import read_run

    summary = read_run(find_run(run, root_of_runs(runs_root)).path)
    if json:
        print_json(snapshot(summary))
    else:
        _print(summary)
    return 0


def snapshot(summary: RunSummary) -> dict[str, object]:
    """The JSON snapshot of the run: Kilroy's keys, then the engine's own. Empty keys are left out, as Kilroy does."""
    from kilroy_engine.events.times import rfc3339
    from kilroy_engine.rundir.stream.reader import tail_events
    from kilroy_engine.rundir.stream.visits import INTERRUPTED, read_visits

    visits = read_visits(tail_events(summary.path))
    manifest, final = summary.manifest, summary.final
    content: dict[str, object] = {
        "logs_root": str(summary.path),
        "run_id": summary.run_id,
        "state": summary.status,
        "current_node_id": summary.node_id,
        "last_event": summary.last_event,
        "last_event_at": rfc3339(summary.last_event_at) if summary.last_event_at else "",
        "failure_reason": summary.failure_reason,
        "pid": summary.pid,
        "pid_alive": summary.owner_alive,
        "current_attempt": summary.attempt,
        "max_attempts": summary.max_attempts,
        "final_commit_sha": final.final_git_commit_sha if final else "",
        "completed_nodes": [visit.node_id for visit in visits if visit.status not in ("", INTERRUPTED)],
        "stage_trace": [_traced(visit) for visit in visits],
        "graph_name": summary.graph_name,
        "flow_run_id": manifest.flow_run_id if manifest else "",
        "prefect_ui_url": manifest.prefect_ui_url if manifest else "",
        "restart_count": summary.restarts,
    }
    always = {"logs_root", "state", "last_event_at", "pid_alive"}
    return {key: value for key, value in content.items() if key in always or value}


def _traced(visit: VisitRecord) -> dict[str, object]:
    trace: dict[str, object] = {
        "node_id": visit.node_id,
        "status": visit.status or "running",
        "attempt": visit.attempts,
        "max_attempts": visit.max_attempts,
    }
    return {**trace, "failure_reason": visit.failure_reason} if visit.failure_reason else trace


def _print(summary: RunSummary) -> None:
    """Prints lines of ``key=value`` that a shell can read: Kilroy's keys in Kilroy's order, then the engine's own."""
    known = snapshot(summary)
    lines = {
        "state": summary.status,
        "run_id": summary.run_id,
        "node": summary.node_id,
        "event": summary.last_event,
        "attempt": f"{summary.attempt}/{summary.max_attempts}" if summary.status == "running" and summary.attempt else "",
        "pid": str(summary.pid or ""),
        "pid_alive": str(summary.owner_alive).lower(),
        "last_event_at": str(known["last_event_at"]),
        "failure_reason": summary.failure_reason,
        "graph_name": summary.graph_name,
        "restart_count": str(summary.restarts or ""),
        "logs_root": str(summary.path),
        "prefect_ui_url": str(known.get("prefect_ui_url", "")),
    }
    for name, value in lines.items():
        if value:
            print(f"{name}={value}")
