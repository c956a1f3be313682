"""Runs the coding loop on a copy of the example project: ``make demo-agents``. Without a key, a login or a network.

The agent is the program beside this one, which works as a coding agent does and has no model. Any other agent takes its place
with ``--agent claude`` and the like.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo import ROOT, new_project, run_pipeline, say_how_to_stop

TASK = "Add a function longest_word(text) to textstats"


def main() -> int:
    """Runs the pipeline, shows its stages, its commits and what models were used for. Returns the run's exit code."""
    project = new_project("textstats-agents")
    agent = shlex.join([sys.executable, str(ROOT / "examples" / "scripted_agent.py")])
    code, run = run_pipeline(
        "coding-loop.dot", "--repo", str(project), "--input", f"task={TASK}", "--label", "example=demo-agents",
        "--agent", "command", "--agent-command", agent,
    )  # fmt: skip
    if run is None:
        return code or 1
    print("\nThe stages:")
    for name, status, said in stages(run):
        print(f"  {name:<10} {status:<8} {said}")
    branch = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["run_branch"]
    print(f"\nThe commits of {branch}:", flush=True)
    subprocess.run(
        ["git", "--no-pager", "log", "--reverse", "--stat", "--format=%h %s", f"main..{branch}"], cwd=project, check=True
    )
    print("\nWhat models were used for:")
    print(usage(run))
    say_how_to_stop()
    return code


def stages(run: Path) -> list[tuple[str, str, str]]:
    """Node, status and reason of each attempt, in order."""
    lines = (run / "progress.ndjson").read_text(encoding="utf-8").splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    ends = [event for event in events if event["event"] == "stage_attempt_end"]
    return [
        (end["node_id"], end["status"], end["failure_reason"].splitlines()[0] if end["failure_reason"] else "") for end in ends
    ]


def usage(run: Path) -> str:
    """Tokens and cost of the whole run, from its ledger."""
    ledger = run / "usage.ndjson"
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    if not lines:
        return "  nothing: the scripted agent has no model"
    used: list[dict[str, Any]] = [json.loads(line) for line in lines]
    tokens = sum(line["input_tokens"] + line["output_tokens"] for line in used)
    return f"  {tokens} tokens, {sum(line['cost_usd'] or 0 for line in used):.2f} US dollars"


if __name__ == "__main__":
    sys.exit(main())
