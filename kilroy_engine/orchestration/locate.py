"""From a Prefect flow run to its run directory. The flow body and every hook use it, so that they always agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from kilroy_engine.errors import CorruptRecord, InvalidInput
from kilroy_engine.execution.ports import Identity
from kilroy_engine.execution.preparing.settings import run_directory_path, run_id_for
from kilroy_engine.orchestration.noting import note
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.ownership.ownership import find_record
from kilroy_engine.settings.options import Options

RUN_DIRECTORY_LABEL = "kilroy.run_directory"
RUN_ID_LABEL = "kilroy.run_id"


def identity_of(flow_run: FlowRun) -> Identity:
    """What Prefect knows the run of this flow run by."""
    return Identity(flow_run.id, flow_run.name, flow_run.deployment_id, url_for("flow-run", flow_run.id) or "")


def locate(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """The run directory that this flow run owns, or None where it has none.

    The label is the truth: it was written when the directory was opened. The engine hands hooks a flow run that was read
    before that, and a fresh process may have another environment, so parameters come second and the server third.
    """
    for path in _candidates(flow_run, environ):
        run = RunDirectory(path)
        if _owned_by(run, flow_run.id):
            return run
    return None


def directory_of(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """Where the flow run's directory is or would be, whoever owns it; None where its parameters were refused. Asks nobody."""
    labelled = flow_run.labels.get(RUN_DIRECTORY_LABEL)
    path = Path(str(labelled)) if labelled else _computed(flow_run.parameters, flow_run.id, environ)
    return RunDirectory(path) if path else None


def _candidates(flow_run: FlowRun, environ: Mapping[str, str]) -> list[Path]:
    labelled = flow_run.labels.get(RUN_DIRECTORY_LABEL)
    if labelled:
        return [Path(str(labelled))]
    candidates: list[Path] = []
    computed = _computed(flow_run.parameters, flow_run.id, environ)
    if computed is not None:
        candidates.append(computed)
        if RunDirectory(computed).manifest.exists():
            return candidates
    with get_client(sync_client=True) as client:
        fresh = client.read_flow_run(flow_run.id).labels.get(RUN_DIRECTORY_LABEL)
    return [*candidates, Path(str(fresh))] if fresh else candidates


def _computed(parameters: Mapping[str, Any], flow_run_id: UUID, environ: Mapping[str, str]) -> Path | None:
    try:
        options = Options.model_validate(parameters.get("options") or {})
        return run_directory_path(options, run_id=run_id_for(flow_run_id, options), environ=environ)
    except (ValueError, InvalidInput):
        return None  # such parameters were refused before there was a directory


def earlier_start(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """The run that this flow run has started before: its body runs again after *Retry* in the Prefect UI. None the first time.

    Prefect's own run count does not tell: it also stays 1 when a flow run is resumed. The engine has just read the flow run,
    so its labels are as the first start left them, unless that was killed before it wrote them.
    """
    labelled = flow_run.labels.get(RUN_DIRECTORY_LABEL)
    if labelled:
        return RunDirectory(Path(str(labelled)))
    computed = _computed(flow_run.parameters, flow_run.id, environ)
    run = RunDirectory(computed) if computed is not None else None
    return run if run is not None and _owned_by(run, flow_run.id) else None


def _owned_by(run: RunDirectory, flow_run_id: UUID) -> bool:
    """The lock's record says it: a start writes it first, and the manifest when it has begun."""
    try:
        record = find_record(run)
        owner = record.flow_run_id if record else (manifest.flow_run_id if (manifest := Manifest.find(run)) else "")
    except CorruptRecord:
        return False
    return owner == str(flow_run_id)


def write_labels(flow_run_id: UUID, run_id: str, run: RunDirectory) -> None:
    """Notes the run id and the directory at the flow run, for hooks, people and scripts that start from Prefect."""
    labels = {RUN_DIRECTORY_LABEL: str(run.path), RUN_ID_LABEL: run_id}
    note(
        flow_run_id,
        f"the label of flow run {flow_run_id} for its run directory {run.path}",
        lambda prefect: prefect.update_flow_run_labels(flow_run_id, dict(labels)),
    )
