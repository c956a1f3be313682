"""Carries out the whole matrix, prints it, and writes the table of docs/explanation/the-end-of-a-run.md.

``python tests/faults/matrix.py [--only TEXT] [--write]``: cells whose "launcher fault" contains TEXT; results of earlier
calls are kept in ``.faults.json``, so that a broken-off matrix goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from launchers import World  # noqa: E402 - the path comes first
from matrix_cells import FAULTS, LAUNCHERS, unreachable  # noqa: E402
from matrix_run import MountNotPermitted, Observed, carry_out  # noqa: E402
from real_prefect import Prefect, child_environment  # noqa: E402

from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server  # noqa: E402

RESULTS = ROOT / ".faults.json"
PAGE = ROOT / "docs" / "explanation" / "the-end-of-a-run.md"
BEGIN, END = "<!-- table: made by tests/faults/matrix.py -->", "<!-- end of table -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--again", action="store_true", help="measure cells anew that have a result")
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    arguments = parser.parse_args()
    results: dict[str, dict[str, object]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    cells = [(f"{who} / {fault.name}", who, fault.name) for fault in FAULTS for who in LAUNCHERS]
    wanted = [cell for cell in cells if arguments.only in cell[0] and not unreachable(cell[1], cell[2])]
    left = [cell for cell in wanted if arguments.again or cell[0] not in results or results[cell[0]]["problems"]]
    if left:
        _measure(left, results)
    print(_table(results))
    if arguments.write:
        _write(results)
    return 1 if any(results.get(name, {"problems": True})["problems"] for name, _, _ in wanted) else 0


def _measure(cells: list[tuple[str, str, str]], results: dict[str, dict[str, object]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="kilroy-faults-"))
    server = ensure_server(state_dir=folder / "server", on_status=lambda line: None)
    try:
        with httpx.Client(base_url=server.api_url, timeout=30) as http:
            prefect = Prefect(server.api_url, child_environment(folder / "home", client_environment(server)), http)
            world = World(prefect, folder)
            for number, (name, launcher, fault) in enumerate(cells, start=1):
                try:
                    observed = asdict(carry_out(launcher, fault, world, folder / f"cell-{number}"))
                except MountNotPermitted as refusal:
                    observed = asdict(Observed(launcher, fault, "not run", str(refusal), "", 0, "", ()))
                except AssertionError as failed:
                    observed = asdict(Observed(launcher, fault, "", "", "", 0, "", (str(failed),)))
                results |= json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # another call may measure too
                results[name] = observed
                RESULTS.write_text(json.dumps(results, indent=1))
                print(
                    f"{number}/{len(cells)} {name}: {observed['status']}/{observed['prefect']} {observed['delay_s']:.1f} s "
                    f"{'; '.join(observed['problems'])}",
                    flush=True,
                )
    finally:
        stop_server(folder / "server")
        shutil.rmtree(folder, ignore_errors=True)


def _table(results: dict[str, dict[str, object]]) -> str:
    rows = ["| what happens | " + " | ".join(LAUNCHERS) + " |", "|---|" + "---|" * len(LAUNCHERS)]
    for fault in FAULTS:
        cells = [_cell(who, fault.name, results.get(f"{who} / {fault.name}")) for who in LAUNCHERS]
        rows.append(f"| {fault.name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(launcher: str, fault: str, result: dict[str, object] | None) -> str:
    if why := unreachable(launcher, fault):
        return f"– ({why})"
    if result is None:
        return "not measured"
    if result["problems"]:
        return "**" + "; ".join(str(problem) for problem in result["problems"]) + "**"  # type: ignore[attr-defined]
    status = "no directory" if result["status"] == "none" else result["status"]
    return f"{status} / {str(result['prefect']).title()}, {result['delay_s']:.1f} s ({result['by']})"


def _write(results: dict[str, dict[str, object]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    where = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Prefect {version('prefect')}, Python {platform.python_version()}, "
        f"{platform.system()}, 2 cores."
    )
    PAGE.write_text(f"{before}{BEGIN}\n\n{where}\n\n{_table(results)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
