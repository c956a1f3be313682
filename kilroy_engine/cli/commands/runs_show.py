"""``kilroy runs show``: prints everything about one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.event_text import duration, one_line
from kilroy_engine.cli.show.streams import console, print_json, print_table, style_of
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.encoding import from_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file

if TYPE_CHECKING:
    from kilroy_engine.rundir.stream.reader import RunSummary
    from kilroy_engine.rundir.stream.visits import VisitRecord

_FILES = ("progress.ndjson", "final.json", "checkpoint.json", "failure_dossier.json", "run.log", "graph.dot", "run.tgz")


def show(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    path: Annotated[bool, Parameter(help="Draw the path taken, as text.")] = False,
    json: Annotated[bool, Parameter(help="Print JSON with Kilroy's keys.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Everything about one run: its facts, its visits with attempts and times, its files and outputs."""
    from kilroy_engine.rundir.stream.reader import read_run, tail_events
    from kilroy_engine.rundir.stream.visits import read_visits

    directory = find_run(run, root_of_runs(runs_root))
    summary = read_run(directory.path)
    visits = read_visits(tail_events(directory.path))
    if json:
        print_json(_as_json(summary, visits))
    elif path:
        _print_path(directory, visits)
    else:
        _print(summary, visits)
    return 0


def _print(summary: RunSummary, visits: Sequence[VisitRecord]) -> None:
    from rich.text import Text

    for name, value in _facts(summary):
        console().print(Text.assemble((f"{name:9} ", "bold"), (one_line(value), style_of(value) if name == "state" else "")))
    if visits:
        print()
        print_table(("NODE", "VISIT", "STATUS", "ATTEMPTS", "TOOK", "REASON"), [_visit_cells(visit) for visit in visits])
        print()
        console().print(" -> ".join(visit.node_id for visit in visits))
    outputs = _outputs(summary.path)
    if outputs:
        print()
        print_table(("OUTPUT", "FOUND", "BYTES", "PATH"), [_output_cells(output) for output in outputs])
    files = [summary.path / name for name in _FILES if (summary.path / name).is_file()]
    print()
    for file in files:
        print(file)


def _facts(summary: RunSummary) -> Iterator[tuple[str, str]]:
    from kilroy_engine.cli.listing import took_s

    manifest, final, seconds = summary.manifest, summary.final, took_s(summary)
    candidates = {
        "run": summary.run_id,
        "pipeline": manifest.graph_name if manifest else "",
        "goal": manifest.goal if manifest else "",
        "state": summary.status,
        "reason": summary.failure_reason,
        "started": f"{summary.started_at.astimezone():%Y-%m-%d %H:%M:%S}" if summary.started_at else "",
        "took": "" if seconds is None else duration(seconds),
        "labels": _pairs(manifest.labels) if manifest else "",
        "inputs": _pairs(manifest.inputs) if manifest else "",
        "logs": str(summary.path),
        "worktree": manifest.worktree if manifest and Path(manifest.worktree).is_dir() else "",
        "branch": manifest.run_branch if manifest else "",
        "commit": final.final_git_commit_sha if final else "",
        "page": manifest.prefect_ui_url if manifest else "",
    }
    return ((name, value) for name, value in candidates.items() if value)


def _pairs(mapping: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={one_line(value, 60)}" for name, value in mapping.items())


def _visit_cells(visit: VisitRecord) -> tuple[str, ...]:
    return (
        visit.node_id,
        visit.which,
        visit.status or "running",
        f"{visit.attempts}/{visit.max_attempts}",
        duration(visit.duration_s) if visit.duration_s is not None else "",
        one_line(visit.failure_reason),
    )


def _outputs(path: Path) -> list[dict[str, object]]:
    try:
        content = from_json(read_file(RunDirectory(path).outputs_index) or b"[]")
    except (RunDirectoryError, ValueError):
        return []  # the index is damaged: the rest of the run is shown all the same
    entries = cast("list[object]", content) if isinstance(content, list) else []
    return [cast("dict[str, object]", entry) for entry in entries if isinstance(entry, dict)]


def _output_cells(output: Mapping[str, object]) -> tuple[str, ...]:
    return (
        str(output.get("name", "")),
        "yes" if output.get("found") else "no",
        str(output.get("size_bytes", "")),
        str(output.get("path", "")),
    )


def _print_path(run: RunDirectory, visits: Sequence[VisitRecord]) -> None:
    """Prints the visits from top to bottom, and between two visits what led from the first to the second."""
    from rich.text import Text

    why = _reasons(run)
    for place, visit in enumerate(visits):
        status = visit.status or "running"
        took = f"  {duration(visit.duration_s)}" if visit.duration_s is not None else ""
        again = f" (visit {visit.which})" if visit.number > 1 or visit.restart else ""
        attempts = f", {visit.attempts} attempts" if visit.attempts > 1 else ""
        reason = f"  {one_line(visit.failure_reason)}" if visit.failure_reason else ""
        line = Text.assemble(
            (f"[{visit.node_id}]{again}", "bold"), " ", (status, style_of(status)), f"{took}{attempts}{reason}"
        )
        console().print(line)
        if place + 1 < len(visits):
            label = why[place] if place < len(why) else ""
            print(f"  |  {label}".rstrip())
            print("  v")


def _reasons(run: RunDirectory) -> list[str]:
    """For each visit but the last, what led to the next: the edge's condition or label, a retry target, a loop, a resume."""
    from kilroy_engine.rundir.stream.reader import tail_events

    reasons: list[str] = []
    for event in tail_events(run.path):
        match event.get("event"):
            case "edge_selected":
                reasons.append(one_line(event.get("condition") or event.get("label") or "", 120))
            case "no_matching_fail_edge_fallback":
                reasons.append("retry target")
            case "goal_gate_retry":
                reasons.append(f"goal gate {event.get('gate')} is not satisfied")
            case "loop_iteration":
                reasons.append(f"loop {event.get('loop_id')}, iteration {event.get('iteration')} is over")
            case "loop_restart" if reasons:
                reasons[-1] = f"{reasons[-1]} (restart {event.get('restart_count')})".strip()
            case "run_resumed":
                reasons.append("resumed")
            case _:
                pass
    return reasons


def _as_json(summary: RunSummary, visits: Sequence[VisitRecord]) -> dict[str, object]:
    from kilroy_engine.cli.listing import record_of, took_s
    from kilroy_engine.events.times import rfc3339

    record, seconds = record_of(summary), took_s(summary)
    if summary.final:
        record |= {
            "completed_at": rfc3339(summary.final.timestamp),
            "final_sha": summary.final.final_git_commit_sha,
            "failure_reason": summary.failure_reason,
        }
    if seconds is not None:
        record["duration_ms"] = round(seconds * 1000)
    if manifest := summary.manifest:
        record |= {"inputs": manifest.inputs, "flow_run_id": manifest.flow_run_id}
    record["outputs"] = [{**output, "source": "collected"} for output in _outputs(summary.path)]
    record["visits"] = [
        {
            "node_id": visit.node_id,
            "visit": visit.number,
            "restart": visit.restart,
            "status": visit.status or "running",
            "attempts": visit.attempts,
            "max_attempts": visit.max_attempts,
            "started_at": rfc3339(visit.started_at),
            "duration_ms": round(visit.duration_s * 1000) if visit.duration_s is not None else None,
            "failure_reason": visit.failure_reason,
        }
        for visit in visits
    ]
    return record
