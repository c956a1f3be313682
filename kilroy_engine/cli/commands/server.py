"""``kilroy server status`` and ``kilroy server stop``: shows or stops the local Prefect server."""

from __future__ import annotations

import os

from kilroy_engine.cli.connection import server_state_dir
from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.show.event_text import duration


def status() -> int:
    """Whether the local Prefect server runs, and where.

    The exit code is 0 while it runs and 1 when it does not.
    """
    from kilroy_engine.server.local_server import server_status

    known = server_status(server_state_dir(os.environ))
    if known.server is None:
        print("No local Prefect server is running; `kilroy run` starts one when no other is configured.")
        print(f"database={known.database}")
        return ExitCode.FAIL
    print(f"ui={known.server.ui_url}")
    print(f"api={known.server.api_url}")
    print(f"pid={known.server.pid}")
    if known.answer is None:
        print("state=starting, or busy: it does not answer yet")
    else:
        left_s = known.answer.idle_limit_s - known.answer.idle_s
        busy = f"{known.answer.open_connections} open connections" if known.answer.open_connections else ""
        print(f"state=running, {busy or f'stops in {duration(left_s)} unless it is used'}")
    print(f"prefect={known.prefect_version}")
    print(f"database={known.database}")
    print(f"log={known.log}")
    return ExitCode.SUCCESS


def stop() -> int:
    """Stop the local Prefect server once it has recorded everything it was told.

    Its database stays: the runs are there again after the next start. Runs in progress lose their connection.
    """
    from kilroy_engine.server.local_server import stop_server

    stopped = stop_server(server_state_dir(os.environ))
    print("The local Prefect server has stopped." if stopped else "No local Prefect server was running.")
    return ExitCode.SUCCESS
