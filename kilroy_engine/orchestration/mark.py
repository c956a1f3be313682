"""Marks the engine's flow runs with a tag, by which the reconciler finds them among all flow runs of a server.

The flow's name would not do, because any flow may have that name. Labels would not do: Prefect 3.8 cannot filter by label.
"""

from __future__ import annotations

from prefect.client.schemas.objects import FlowRun

from kilroy_engine.orchestration.noting import note

MARK = "kilroy.run"


def mark(flow_run: FlowRun) -> None:
    """Adds the mark to the flow run, in Prefect and in ``flow_run``. Called at the beginning of the body of each flow.

    Makes no request where the flow run has the mark already: from ``kilroy run``, or from the tags of its deployment.
    """
    if MARK in flow_run.tags:
        return
    flow_run.tags = [*flow_run.tags, MARK]  # Prefect gives this object to the state hooks
    # Prefect replaces all tags at once. So the present tags are read first, in case somebody has added one meanwhile.
    note(
        flow_run.id,
        f"the mark of flow run {flow_run.id}",
        lambda prefect: prefect.update_flow_run(flow_run.id, tags=sorted({*prefect.read_flow_run(flow_run.id).tags, MARK})),
    )
