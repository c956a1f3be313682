"""From a Prefect flow run to its run directory. The flow body and every hook use it, so that they always agree."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.urls import url_for

from kilroy_engine.errors import CorruptRecord, InvalidInput
from kilroy_engine.orchestration.settings import Options, run_directory_path
from kilroy_engine.rundir.files.layout import RunDirectory, run_id_of
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.ownership.ownership import find_record

RUN_DIRECTORY_LABEL = "kilroy.run_directory"
RUN_ID_LABEL = "kilroy.run_id"
_LABEL_LIMIT_S = 10.0
_LABEL_PAUSES_S = (1.0, 2.0, *(5.0,) * 24)
"""Between one try to label a flow run and the next: two minutes in all."""
_INSIST_S = 30.0
_INSIST_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What Prefect knows a run by. ``page_url`` is its page in the Prefect UI, empty where no UI is known."""

    flow_run_id: UUID
    flow_run_name: str
    deployment_id: UUID | None
    page_url: str

    @classmethod
    def of(cls, flow_run: FlowRun) -> Identity:
        """Identity of a flow run."""
        return cls(flow_run.id, flow_run.name, flow_run.deployment_id, url_for("flow-run", flow_run.id) or "")

    @property
    def supervised(self) -> bool:
        """Whether a worker or runner started the flow's process, hands it cancels and sees it die."""
        return self.deployment_id is not None


def run_id_for(flow_run_id: UUID, options: Options) -> str:
    """The run's id: as given, else the ULID form of the flow run's id."""
    return options.run_id or run_id_of(flow_run_id)


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


@dataclass(eq=False)
class Labels:
    """The run id and the directory, noted at the flow run for hooks, people and scripts that start from Prefect."""

    flow_run_id: UUID
    values: Mapping[str, str]
    _written: threading.Event = field(default_factory=threading.Event)
    _away: bool = False

    def begin(self) -> None:
        """Writes them. A server that is busy or away gets them later: a thread tries on, and the run need not wait."""
        if not self._try():
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self._try_on,), name="kilroy-labels", daemon=True).start()

    def insist(self) -> None:
        """At the end of the run, which may come before the thread's next try: waits for a server that is busy, for a while,
        and not for one that is away."""
        give_up = time.monotonic() + _INSIST_S
        while not self._written.is_set() and not self._try() and not self._away and time.monotonic() < give_up:
            self._written.wait(_INSIST_PAUSE_S)

    def _try_on(self) -> None:
        for pause_s in _LABEL_PAUSES_S:
            if self._written.wait(pause_s) or self._try():
                return
        where = self.values[RUN_DIRECTORY_LABEL]
        _log.warning("flow run %s has no label for its run directory %s: the server does not take it", self.flow_run_id, where)

    def _try(self) -> bool:
        without_retries = temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
        try:
            with without_retries, get_client(httpx_settings={"timeout": _LABEL_LIMIT_S}, sync_client=True) as client:
                client.update_flow_run_labels(self.flow_run_id, dict(self.values))
        except httpx.HTTPError as error:
            _log.debug("labels of flow run %s: %s", self.flow_run_id, error)
            self._away = isinstance(error, httpx.ConnectError)
            return False
        self._written.set()
        return True


def write_labels(flow_run_id: UUID, run_id: str, run: RunDirectory) -> Labels:
    """Labels the flow run with its run id and directory, now or as soon as the server takes that."""
    labels = Labels(flow_run_id, {RUN_DIRECTORY_LABEL: str(run.path), RUN_ID_LABEL: run_id})
    labels.begin()
    return labels
