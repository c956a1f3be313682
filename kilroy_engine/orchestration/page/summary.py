"""The run's summary in Prefect: one markdown artifact with the end, the picture of the path and the visits.

Both of Prefect's UIs show a table and an SVG given as a data URI. Both strip inline SVG, and one UI breaks on folded sections.
Where Graphviz is not installed the picture is mermaid: the newer UI draws mermaid, the older UI shows the code. The text names
each status too, so that nobody depends on colors.
"""

from __future__ import annotations

import base64
import re
from functools import reduce

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun

from kilroy_engine.errors import KilroyError, PipelineSourceError, RunDirectoryError
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.render import to_dot, to_mermaid
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.markdown import table
from kilroy_engine.processes.graphviz import draw
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.files.usage import Usage, UsageLog, totals_of
from kilroy_engine.rundir.stream.reader import tail_events
from kilroy_engine.rundir.stream.visits import VisitRecord, last_statuses, read_visits, taken_edges

ROW_LIMIT = 200
_DRAWING_LIMIT_S = 20.0


def publish_summary(run: RunDirectory, flow_run: FlowRun, final: FinalOutcome) -> None:
    """Creates the summary artifact of the flow run, with a key made of the flow run's name. Called once, after the run's end.

    Raises:
        httpx.HTTPError: The server does not accept the artifact.
    """
    artifact = ArtifactCreate(
        key=summary_key(flow_run.name),
        type="markdown",
        description=f"How the run ended: {final.status}",
        data=summary(run, final),
        flow_run_id=flow_run.id,
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(artifact)


def summary_key(name: str) -> str:
    """``name`` as the key of an artifact: Prefect allows lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def summary(run: RunDirectory, final: FinalOutcome) -> str:
    """The artifact's markdown."""
    manifest = Manifest.read(run)
    visits = read_visits(tail_events(run.path))
    facts = [
        ("Status", f"**{final.status}**"),
        ("Reason", _cell(final.failure_reason or "")),
        ("Goal", _cell(manifest.goal)),
        ("Run directory", f"`{run.path}`"),
        ("Branch", f"`{manifest.run_branch}`" if manifest.run_branch else ""),
        ("Commit", f"`{final.final_git_commit_sha}`" if final.final_git_commit_sha else ""),
    ]
    shown = table(("", ""), ((name, value) for name, value in facts if value))
    parts = (f"# {manifest.graph_name}", shown, _picture(run, visits), _visits(visits), _models(run))
    return "\n\n".join(part for part in parts if part)


def _picture(run: RunDirectory, visits: tuple[VisitRecord, ...]) -> str:
    try:
        content = read_file(run.graph_dot, limit_bytes=TEXT_BYTES)
        graph = parse_dot((content or b"").decode("utf-8"), "graph.dot")
    except (RunDirectoryError, UnicodeDecodeError, PipelineSourceError):
        return ""  # the summary is published without the picture
    statuses, taken = last_statuses(visits), taken_edges(visits)
    try:
        dot_text = to_dot(graph, statuses=statuses, taken=taken)
        image = draw(dot_text, "svg", timeout_s=_DRAWING_LIMIT_S, options=("-Gbgcolor=white",))
    except KilroyError:
        return f"## Path\n\n```mermaid\n{to_mermaid(graph, statuses=statuses, taken=taken)}\n```"
    return f"## Path\n\n![path](data:image/svg+xml;base64,{base64.b64encode(image).decode()})"


def _visits(visits: tuple[VisitRecord, ...]) -> str:
    rows = [
        (
            visit.node_id,
            visit.which,
            visit.status or "not finished",
            str(visit.attempts),
            _seconds(visit.duration_s),
            _cell(visit.failure_reason),
        )
        for visit in visits[-ROW_LIMIT:]
    ]
    left_out = f"\n\n{len(visits) - ROW_LIMIT} earlier visits are in progress.ndjson." if len(visits) > ROW_LIMIT else ""
    head = ("Node", "Visit", "Status", "Attempts", "Time", "Reason")
    return f"## Visits\n\n{table(head, rows)}{left_out}" if rows else ""


def _models(run: RunDirectory) -> str:
    """What models have cost, by node and model, over all starts of the run; empty for a run without agents."""
    totals = totals_of(UsageLog(run.usage).news())
    if not totals:
        return ""
    rows = [(_cell(total.node_id), _cell(total.model), *_amounts(total)) for total in totals]
    everything = reduce(Usage.plus, totals)
    head = ("Node", "Model", "Tokens in", "Of them kept", "Tokens out", "US dollars")
    return f"## Models\n\n{table(head, [*rows, ('**all**', '', *_amounts(everything))])}"


def _amounts(total: Usage) -> tuple[str, ...]:
    tokens = (total.input_tokens, total.cached_input_tokens, total.output_tokens)
    return (*(f"{count:,}" for count in tokens), "not known" if total.cost_usd is None else f"{total.cost_usd:.4f}")


def _seconds(duration_s: float | None) -> str:
    return "" if duration_s is None else f"{duration_s:.2f} s"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:300]
