"""Turns an error into a message on standard error and an exit code. No other module does."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine import __version__
from kilroy_engine.cli.show.streams import say
from kilroy_engine.errors import InvalidPipeline, KilroyError, RunCanceled

if TYPE_CHECKING:
    from cyclopts import CycloptsError


class ExitCode(IntEnum):
    """The exit codes of ``kilroy``."""

    SUCCESS = 0
    FAIL = 1
    USAGE = 2
    TIMED_OUT = 2  # of `runs wait` only, as Kilroy has it
    CANCELED = 130
    BROKEN_PIPE = 141


def exit_code_of(status: str) -> ExitCode:
    """Exit code for the final status of a run."""
    return {"success": ExitCode.SUCCESS, "canceled": ExitCode.CANCELED}.get(status, ExitCode.FAIL)


def report_usage(error: CycloptsError) -> ExitCode:
    """Prints why the command line cannot be understood. Returns the exit code."""
    command = " ".join(["kilroy", *(error.command_chain or ())])
    say(f"kilroy: {str(error).strip()}")
    say(f"Try '{command} --help'.")
    return ExitCode.USAGE


def report(error: Exception) -> ExitCode:
    """Prints on standard error what went wrong. Returns the exit code.

    An error that is a bug leaves a traceback in a file, which the message names.
    """
    if os.environ.get("KILROY_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    match error:
        case InvalidPipeline():
            from kilroy_engine.cli.show.diagnostics import print_refusal

            print_refusal(error)
        case RunCanceled():
            say(f"kilroy: run {error}")
            return ExitCode.CANCELED
        case KilroyError():
            say(f"kilroy: {error}")
        case OSError() if error.errno is not None:
            place = f": {error.filename}" if error.filename else ""
            say(f"kilroy: {error.strerror}{place}")
        case _:
            say(f"kilroy: {type(error).__name__}: {_first_line(error)} -- this is a bug in Kilroy Engine. {_details(error)}")
    return ExitCode.FAIL


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or "no message"


def _details(error: Exception) -> str:
    if os.environ.get("KILROY_DEBUG"):
        return "The details are above."
    try:
        descriptor, name = tempfile.mkstemp(prefix="kilroy-bug-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"kilroy {__version__}, Python {sys.version}\n{sys.argv}\n\n")
            traceback.print_exception(error, file=file)
        return f"The details are in {Path(name)}."
    except OSError:
        return "Set KILROY_DEBUG=1 to see the details."
