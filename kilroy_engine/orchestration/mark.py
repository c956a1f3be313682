"""The mark of our flow runs: a tag, by which whoever ends what nobody has ended tells them from all others.

Not the flow's name, which anybody may give, and not the labels: Prefect 3.8 cannot be asked for the flow runs with a label.
"""

from __future__ import annotations

from prefect.client.schemas.objects import FlowRun

from kilroy_engine.orchestration.noting import note

MARK = "kilroy.run"


def mark(flow_run: FlowRun) -> None:
    """Adds the mark to the flow run, in Prefect and in ``flow_run``. Called first thing in the body of each of our flows.

    A flow run that carries the mark costs no request: ``kilroy run`` creates it so, and a deployment's tags become its own.
    """
    if MARK in flow_run.tags:
        return
    flow_run.tags = [*flow_run.tags, MARK]  # the state hooks get this object
    # Prefect replaces tags as a whole: those of now are read, in case somebody has added one meanwhile.
    note(
        flow_run.id,
        f"the mark of flow run {flow_run.id}",
        lambda prefect: prefect.update_flow_run(flow_run.id, tags=sorted({*prefect.read_flow_run(flow_run.id).tags, MARK})),
    )
