"""Finds the run directory of a Prefect flow run. The flow's body and every state hook use this module, so they always agree."""

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
    """The flow run's id, name, deployment and page, as the engine's :class:`Identity`."""
    return Identity(flow_run.id, flow_run.name, flow_run.deployment_id, url_for("flow-run", flow_run.id) or "")


def locate(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """The run directory that this flow run owns; None where the flow run owns none. Called by the state hooks.

    The flow run's label decides: the engine wrote it when the run directory was opened. Prefect may have read ``flow_run``
    before that. Then the path is computed from the parameters, and last the server is asked for the label, because a fresh
    process may have another environment.
    """
    for path in _candidates(flow_run, environ):
        run = RunDirectory(path)
        if _owned_by(run, flow_run.id):
            return run
    return None


def directory_of(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """The flow run's directory, which need not exist and may belong to another flow run.

    None where the flow run's parameters are invalid. Makes no request to the server.
    """
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
        return None  # the flow refused these parameters before a directory was made


def earlier_start(flow_run: FlowRun, environ: Mapping[str, str]) -> RunDirectory | None:
    """The run that this flow run has started before; None the first time. Called at the beginning of the flow's body.

    Prefect runs the body again after *Retry* in its UI. Prefect's run count does not show this: the count also stays 1 when a
    flow run is resumed. Prefect has just read the flow run, so its labels are those of the first start. Where the first start
    was killed before it wrote labels, the path is computed from the parameters.
    """
    labelled = flow_run.labels.get(RUN_DIRECTORY_LABEL)
    if labelled:
        return RunDirectory(Path(str(labelled)))
    computed = _computed(flow_run.parameters, flow_run.id, environ)
    run = RunDirectory(computed) if computed is not None else None
    return run if run is not None and _owned_by(run, flow_run.id) else None


def _owned_by(run: RunDirectory, flow_run_id: UUID) -> bool:
    """Whether the lock's record, or without a record the manifest, names the flow run. A start writes the record first."""
    try:
        record = find_record(run)
        owner = record.flow_run_id if record else (manifest.flow_run_id if (manifest := Manifest.find(run)) else "")
    except CorruptRecord:
        return False
    return owner == str(flow_run_id)


def write_labels(flow_run_id: UUID, run_id: str, run: RunDirectory) -> None:
    """Writes the run id and the run directory as labels of the flow run, by which hooks, people and scripts find the run."""
    labels = {RUN_DIRECTORY_LABEL: str(run.path), RUN_ID_LABEL: run_id}
    note(
        flow_run_id,
        f"the label of flow run {flow_run_id} for its run directory {run.path}",
        lambda prefect: prefect.update_flow_run_labels(flow_run_id, dict(labels)),
    )
