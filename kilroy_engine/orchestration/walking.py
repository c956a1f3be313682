"""The walk through an opened run, from its place of work to how it ended: of a run and of a child pipeline alike."""

from __future__ import annotations

from kilroy_engine.errors import RunCanceled
from kilroy_engine.orchestration.opening import OpenRun
from kilroy_engine.orchestration.recorder import tell_opened
from kilroy_engine.orchestration.restarts import walk_run
from kilroy_engine.orchestration.setup import SetupFailed, bring_back, run_setup_commands
from kilroy_engine.orchestration.tags import tags_set_aside
from kilroy_engine.traversal.outcome import FinalStatus


def walk_through(run: OpenRun) -> tuple[FinalStatus, str]:
    """How the run ended, and why."""
    tell_opened(run)
    try:
        bring_back(run)
        run_setup_commands(run)
        with tags_set_aside() as run.tags:
            finish = walk_run(run)
    except RunCanceled as canceled:
        return FinalStatus.FAIL if run.cancellation.failed else FinalStatus.CANCELED, str(canceled)
    except SetupFailed as failed:
        return FinalStatus.FAIL, str(failed)
    return finish.status, finish.reason
