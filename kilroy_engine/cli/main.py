"""Entry point of the ``kilroy`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilroy_engine.cli.errors import ExitCode, report, report_usage
from kilroy_engine.cli.show.streams import prepare_streams, silence_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. ``arguments`` default to those of the process."""
    prepare_streams()
    try:
        code = _call(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # a closed pipe raises here, not at interpreter exit
    except BrokenPipeError:
        silence_streams()
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitCode.CANCELED
    except Exception as error:  # noqa: BLE001  # this is the place that turns every error into a message
        return report(error)
    return code


_OF_OVERVIEWS = frozenset({"-h", "--help", "runs", "server"})


def _call(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError

    from kilroy_engine.cli.app import build_app

    overview = _OF_OVERVIEWS.issuperset(arguments)
    try:
        code = build_app(complete=overview)(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return report_usage(error)
    return ExitCode.SUCCESS if code is None else int(code)


if __name__ == "__main__":
    sys.exit(main())
