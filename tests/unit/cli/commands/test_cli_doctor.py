"""``kilroy doctor``: what runs need, and whether it is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_writer import Kilroy

PIPELINE = """digraph p { start [shape=Mdiamond] exit [shape=Msquare] a [shape=box, prompt=x, llm_model="claude-haiku-4-5"]
  start -> a  a -> exit [condition="outcome=success"] }"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose only agent is a Claude Code 2.1.300 that is not logged in."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = auth ] && { echo \'{"loggedIn": false}\'; exit 1; }\necho "2.1.300 (Claude Code)"\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}


def findings(text: str) -> dict[str, tuple[str, str]]:
    return {f"{found['area']} {found['name']}": (found["level"], found["text"]) for found in json.loads(text)["findings"]}


def test_a_login_that_is_missing_breaks_only_who_needs_it(kilroy: Kilroy, home: dict[str, str], tmp_path: Path) -> None:
    """Alone it is a warning and exit code 0; with a pipeline that uses the agent exit code 1, and the node is shown with
    its agent, its model and what has decided."""
    (tmp_path / "p.dot").write_text(PIPELINE)
    alone, with_file = kilroy("doctor", "--json", **home), kilroy("doctor", "p.dot", "--json", **home)
    assert (alone.returncode, with_file.returncode) == (0, 1)
    level, text = findings(alone.stdout)["agents claude"]
    assert level == "warning"
    assert "2.1.300 (tested), has no access: ANTHROPIC_API_KEY" in text
    found = findings(with_file.stdout)
    assert found["nodes a"] == ("ok", "agent claude, model claude-haiku-4-5 of anthropic, chosen by the node's attributes")
    assert found["nodes provider_api_credentials"][0] == "broken"


def test_it_prints_no_key_and_starts_no_server(kilroy: Kilroy, home: dict[str, str]) -> None:
    """The variable is named, never its value; the server that a run would start is told of only."""
    done = kilroy("doctor", **home, ANTHROPIC_API_KEY="canary-4711")
    assert done.returncode == 0
    assert "has ANTHROPIC_API_KEY" in done.stdout
    assert "a run starts the local one, which is not running" in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_a_server_that_is_away_is_broken(home: dict[str, str]) -> None:
    """One that is configured is what a run would use: nothing else takes its place."""
    environment = {**home, "PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": home["HOME"]}
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "doctor", "--json"]
    # A process of its own: Prefect reads its settings once in each.
    done = subprocess.run(command, cwd=home["HOME"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    level, text = findings(done.stdout)["prefect server"]
    assert level == "broken"
    assert "http://127.0.0.1:9/api cannot be used" in text


def test_preflight_writes_the_report_of_a_run_that_it_refuses(kilroy: Kilroy, home: dict[str, str], tmp_path: Path) -> None:
    """Beside the run directories, with its path on standard output; as JSON on standard output alone when that is asked for."""
    (tmp_path / "p.dot").write_text(PIPELINE)
    done, as_json = (
        kilroy("run", "p.dot", "--no-git", "--preflight", **home),
        kilroy("run", "p.dot", "--no-git", "--preflight", "--json", **home),
    )
    assert (done.returncode, as_json.returncode) == (1, 1)
    assert "claude cannot log in" in done.stderr
    report = Path(done.stdout.strip().removeprefix("preflight_report="))
    assert report.name == "p.json"
    summaries = [json.loads(text)["summary"] for text in (report.read_text(), as_json.stdout)]
    assert summaries == [{"pass": 2, "warn": 0, "fail": 1}] * 2
