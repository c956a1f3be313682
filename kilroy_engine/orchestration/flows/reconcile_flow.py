"""The ``reconcile`` flow: ends lost runs. A schedule runs the flow every minute on the machine with the run directories."""

# No `from __future__ import annotations`: see attractor.py.
import os
from pathlib import Path

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed

from kilroy_engine.graph.attributes import read_duration_s
from kilroy_engine.orchestration.ending.reconcile import Action, Patience, reconcile
from kilroy_engine.rundir.files.layout import runs_root


@flow(name="reconcile", persist_result=False)
def reconcile_runs(root: str = "", grace: str = "120s", dry_run: bool = False) -> State:
    """Ends the runs that nobody has ended: their process is gone, or Prefect was never told.

    Args:
        root: Folder of the run directories. Empty: where this machine keeps them.
        grace: Runs with a sign of life within this time are left alone, for example 120s.
        dry_run: Change nothing and say what would be done.
    """
    logger = get_run_logger()
    grace_s = read_duration_s(grace, default=None)
    if grace_s is None or grace_s < 0:
        return Failed(message=f"grace is {grace!r}: a time such as 120s or 2m is expected")
    folder = Path(root).expanduser().absolute() if root else runs_root(os.environ)
    findings = reconcile(folder, patience=Patience(grace_s=grace_s), dry_run=dry_run)
    for found in findings:
        log = logger.warning if found.action is Action.ERROR else logger.info
        log("run %s: %s: %s", found.run_id, found.action.value, found.what)
    failed = sum(found.action is Action.ERROR for found in findings)
    done = sum(found.action not in (Action.ERROR, Action.LEAVE) for found in findings)
    verb = "would be mended" if dry_run else "mended"
    message = f"{done} {verb}, {len(findings) - done - failed} left alone, {failed} failed, in {folder}"
    return Failed(message=message) if failed else Completed(message=message)
