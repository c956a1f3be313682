"""``kilroy reconcile``: ends the runs that nobody has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.find_run import root_of_runs
from kilroy_engine.cli.show.streams import print_json, print_table, say
from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.attributes import read_duration_s

if TYPE_CHECKING:
    from kilroy_engine.orchestration.ending.reconcile import Finding


def reconcile(
    *,
    dry_run: Annotated[bool, Parameter(help="Change nothing; say what would be done.")] = False,
    grace: Annotated[
        str, Parameter(metavar="TIME", help="Leave runs alone that showed a sign of life within this time. Default: 120s.")
    ] = "120s",
    json: Annotated[bool, Parameter(help="Print JSON.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """End the runs that nobody has ended.

    A run whose process was killed, or that Prefect was never told the end of, is ended on disk and in Prefect: status `fail`
    with a reason that begins with `crashed:`, or `canceled` where a cancel was asked for. What is left of its processes is
    ended, states that are stuck are set, worktrees past their age are removed. Runs that are at work, paused or suspended are
    left alone. May run at any time, on several machines at once.

    The exit code is 0, and 1 when something could not be ended.
    """
    from kilroy_engine.cli.connection import Connection

    grace_s = read_duration_s(grace, default=None)
    if grace_s is None or grace_s < 0:
        raise InvalidInput(f"--grace {grace}: a time such as 30s or 2m is expected", name="grace")
    Connection(say).enter_if_reachable()

    from kilroy_engine.orchestration.ending.reconcile import Action, Patience
    from kilroy_engine.orchestration.ending.reconcile import reconcile as reconcile_runs

    root = root_of_runs(runs_root)
    findings = reconcile_runs(root, patience=Patience(grace_s=grace_s), dry_run=dry_run)
    if json:
        print_json([_record(found, dry_run=dry_run) for found in findings])
    elif findings:
        print_table(("RUN", "DONE" if not dry_run else "WOULD", "STATE", "WHAT"), [_cells(found) for found in findings])
    else:
        say(f"nothing to reconcile in {root}")
    return ExitCode.FAIL if any(found.action is Action.ERROR for found in findings) else ExitCode.SUCCESS


def _record(found: Finding, *, dry_run: bool) -> dict[str, object]:
    return {
        "run_id": found.run_id,
        "logs_root": str(found.run.path),
        "action": found.action.value,
        "done": found.action.value in ("end", "state", "worktree") and not dry_run,
        "status": found.status,
        "what": found.what,
    }


def _cells(found: Finding) -> tuple[str, ...]:
    return found.run_id, found.action.value, found.status, found.what
