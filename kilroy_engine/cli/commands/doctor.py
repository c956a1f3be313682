"""``kilroy doctor``: what runs need, and whether it is there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.show.streams import print_json, print_table
from kilroy_engine.cli.source import no_option


def doctor(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            validator=no_option,
            help="A pipeline, or folder of a workflow package: also show who would work on its agent nodes.",
        ),
    ] = "",
    /,
    *,
    json: Annotated[bool, Parameter(help="Print the findings as JSON.")] = False,
) -> int:
    """Look at everything that runs need: this installation, git, the agents and their logins, the Prefect server.

    Starts no run and no server, and prints no key. The exit code is 1 if something is broken, else 0; a warning is something
    that troubles some runs only. The settings are those of the environment (`KILROY_AGENT` and the like).
    """
    from kilroy_engine.cli.examining import examine, is_broken

    findings = examine(file)
    if json:
        print_json({"broken": is_broken(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(("AREA", "NAME", "STATUS", "FOUND"), [(f.area, f.name, f.level, f.text) for f in findings])
    return ExitCode.FAIL if is_broken(findings) else ExitCode.SUCCESS
