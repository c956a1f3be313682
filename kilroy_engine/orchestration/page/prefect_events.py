"""Sends the main moments of a run (start, stall, human gate, end) as Prefect events, for automations.

The resource of every event is the run, ``kilroy.run.<run id>``; its labels are what an automation can match. The event of the
end has flow run, flow, deployment and tags as related resources. Prefect adds these to the events of a running flow.

While the run is at work, Prefect queues the events, sends them in a thread, and sends the rest when the process ends. The
event of the end is one request that the server has confirmed when :func:`announce_end` returns, because the process of a
state hook may exit a moment later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event as PrefectEvent
from prefect.events import RelatedResource, Resource, emit_event
from prefect.exceptions import ObjectNotFound

from kilroy_engine.events import (
    Event,
    HumanGateAnswered,
    HumanGateOpened,
    StallWatchdogTimeout,
)
from kilroy_engine.execution.run import Run
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.traversal.outcome import FinalStatus

STARTED = "kilroy.run.started"
RELAYED: Mapping[type[Event], str] = {
    StallWatchdogTimeout: "kilroy.run.stalled",
    HumanGateOpened: "kilroy.gate.opened",
    HumanGateAnswered: "kilroy.gate.answered",
}
"""Events of ``progress.ndjson`` that are sent to Prefect as well, with the name there. Their fields are in the payload."""
ENDED: Mapping[FinalStatus, str] = {
    FinalStatus.SUCCESS: "kilroy.run.completed",
    FinalStatus.FAIL: "kilroy.run.failed",
    FinalStatus.CANCELED: "kilroy.run.canceled",
}


def relay(run: Run) -> None:
    """Sends ``kilroy.run.started``, and from now on each event of the run's stream that is in :data:`RELAYED`.

    Called once per start, before the walk. Does not wait for the server.
    """
    manifest = Manifest.read(run.directory)
    resource = _resource(manifest, start=run.started.owner.start)
    told = {"run_id": manifest.run_id, "run_directory": str(run.directory.path), "labels": manifest.labels}

    def tell(event: Event) -> None:
        name = RELAYED.get(type(event))
        if name is not None:
            emit_event(name, resource=resource, payload={**told, **_fields(event)})

    emit_event(STARTED, resource=resource, payload={**told, "start": run.started.owner.start})
    run.started.progress.listen(tell)


def announce_end(
    run: RunDirectory, final: FinalOutcome, flow_run: FlowRun, *, flow_name: str, client: SyncPrefectClient
) -> None:
    """Sends the event of the run's end. Call it once, after the terminal line is written: an automation acts on every event.

    Raises:
        httpx.HTTPError: The server did not accept the event within the client's time limit and retries.
        RunDirectoryError: The manifest is missing or damaged.
    """
    event = end_event(Manifest.read(run), final, _related(flow_run, flow_name, client))
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def end_event(manifest: Manifest, final: FinalOutcome, related: list[RelatedResource]) -> PrefectEvent:
    """The event of a start's end. The event's id follows from run, flow run and start, so the server keeps one of two."""
    labels = {
        "kilroy.status": final.status.value,
        "kilroy.crashed": "true" if final.crashed else "false",
    }
    return PrefectEvent(
        id=uuid5(NAMESPACE_URL, f"kilroy.run.{final.run_id}/{final.flow_run_id}/{final.start}/end"),
        event=ENDED[final.status],
        resource=Resource({**_resource(manifest, start=final.start), **labels}),
        related=related,
        payload={
            "run_id": final.run_id,
            "run_directory": manifest.logs_root,
            "labels": manifest.labels,
            "start": final.start,
            "status": final.status.value,
            "reason": final.failure_reason,
            "final_commit": final.final_git_commit_sha,
            "branch": manifest.run_branch,
            "page": manifest.prefect_ui_url,
        },
    )


def _resource(manifest: Manifest, *, start: int) -> dict[str, str]:
    return {
        "prefect.resource.id": f"kilroy.run.{manifest.run_id}",
        "prefect.resource.name": manifest.run_id,
        "kilroy.graph": manifest.graph_name,
        "kilroy.start": str(start),
        **{f"kilroy.label.{name}": value for name, value in manifest.labels.items()},
    }


def _related(flow_run: FlowRun, flow_name: str, client: SyncPrefectClient) -> list[RelatedResource]:
    """The related resources that Prefect adds by itself only inside of a running flow, where a hook need not run."""
    found = [
        _resource_of("flow-run", flow_run.id, flow_run.name),
        _resource_of("flow", flow_run.flow_id, flow_name),
        *(
            RelatedResource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"})
            for tag in flow_run.tags
        ),
    ]
    if flow_run.deployment_id is not None:
        try:
            name = client.read_deployment(flow_run.deployment_id).name
        except ObjectNotFound:
            name = ""  # deleted while the run was at work
        found.append(_resource_of("deployment", flow_run.deployment_id, name))
    return found


def _resource_of(kind: str, id_: UUID | str, name: str) -> RelatedResource:
    return RelatedResource(
        {"prefect.resource.id": f"prefect.{kind}.{id_}", "prefect.resource.role": kind, "prefect.resource.name": name}
    )


def _fields(event: Event) -> dict[str, Any]:
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if value is not None}
