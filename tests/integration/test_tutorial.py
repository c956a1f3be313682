"""The tutorial, typed in line by line: its files, its commands, the exit codes and the lines that it promises."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from real_prefect import ROOT, Prefect

PAGE = ROOT / "docs" / "tutorials" / "first-pipeline.md"
INSTALLATION, *COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FILES = re.findall(r"[Ss]ave (?:this|it) as\s+`([\w.-]+)`.*?```dot\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SHOWN = re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def without_figures(text: str) -> set[str]:
    """The lines of an output without what differs from run to run: times, ids, paths."""
    text = re.sub(r"/\S+/runs/\w+", "<run>", re.sub(r"\d+\.\d\d s", "<time>", text))
    return {re.sub(r"\b[0-9A-Z]{26}\b", "<id>", line).rstrip() for line in text.splitlines() if line.strip()}


def test_the_tutorial_does_what_it_says(prefect: Prefect, tmp_path: Path) -> None:
    """Every command as printed; all succeed but the run that is to fail. Every line of output shown does appear."""
    assert "pip install kilroy-engine" in INSTALLATION
    assert [file for file, _ in FILES] == ["greet.dot", "greet-and-mend.dot"]
    for file, text in FILES:
        (tmp_path / file).write_text(text, encoding="utf-8")

    # Runs of its own: the worker of other tests starts runs of its schedule, and one of those may be the latest.
    environment = {**prefect.environment, "KILROY_RUNS_ROOT": str(tmp_path / "runs")}
    output, codes = "", dict[str, int]()
    for command in [line for block in COMMANDS for line in block.splitlines()]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        codes[command] = done.returncode
        output += done.stdout + done.stderr

    assert [command for command, code in codes.items() if code != 0] == ["kilroy run greet.dot --input name=grace"]
    assert without_figures("\n".join(SHOWN)) - without_figures(output) == set()
