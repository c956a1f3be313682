"""Builds the ``kilroy`` app: its commands and command groups. A command's module is imported when the command is called.

The command modules import slow packages (pydantic, Prefect) inside their functions, because ``--help`` imports all of them.
"""

from __future__ import annotations

from cyclopts import App, Group, Parameter

from kilroy_engine import __version__

_HELP = """Run Attractor pipelines (Graphviz DOT graphs of agent, tool, human and parallel nodes) as Prefect flows.

Start with `kilroy validate FILE`, then `kilroy run FILE`.
"""

_HERE = "kilroy_engine.cli.commands"


def build_app(*, complete: bool = False) -> App:
    """A new app. ``complete`` imports every command, for ``--help``, which shows the first line of each command's help."""
    pipelines, runs, server = (Group(name, sort_key=place) for place, name in enumerate(("Pipelines", "Runs", "Server")))
    app = App(
        name="kilroy",
        help=_HELP,
        version=__version__,
        version_flags=["--version"],
        help_format="markdown",
        group_commands=Group("Commands", sort_key=9),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), show_default=False),
    )
    app.command(f"{_HERE}.run:run", name="run", group=pipelines, sort_key=1)
    app.command(f"{_HERE}.resume:resume", name="resume", group=pipelines, sort_key=2)
    app.command(f"{_HERE}.validate:validate", name="validate", group=pipelines, sort_key=3)
    app.command(f"{_HERE}.render:render", name="render", group=pipelines, sort_key=4)
    app.command(f"{_HERE}.doctor:doctor", name="doctor", group=pipelines, sort_key=5)
    app.command(f"{_HERE}.status:status", name="status", group=runs, sort_key=1)
    app.command(f"{_HERE}.follow:follow", name="follow", group=runs, sort_key=2)
    app.command(f"{_HERE}.stop:stop", name="stop", group=runs, sort_key=4)
    app.command(f"{_HERE}.reconcile:reconcile", name="reconcile", group=runs, sort_key=5)
    app.command(_runs_app(runs))
    app.command(_server_app(server))
    if complete:
        for group in (app, app["runs"], app["server"]):
            for name in group:
                group[name]  # looking a command up imports it
    return app


def _runs_app(group: Group) -> App:
    runs = App(name="runs", help="List, show, await and remove runs.", group=group, sort_key=3)
    runs.command(f"{_HERE}.runs_list:list_runs", name="list", sort_key=1)
    runs.command(f"{_HERE}.runs_show:show", name="show", sort_key=2)
    runs.command(f"{_HERE}.runs_wait:wait", name="wait", sort_key=3)
    runs.command(f"{_HERE}.runs_prune:prune", name="prune", sort_key=4)
    return runs


def _server_app(group: Group) -> App:
    server = App(name="server", help="The local Prefect server that runs use when no other is configured.", group=group)
    server.command(f"{_HERE}.server:status", name="status", sort_key=1)
    server.command(f"{_HERE}.server:stop", name="stop", sort_key=2)
    return server
