"""Runs the real coding agents against the stub of their providers, and records what they print in ``tests/data/agents``.

    make agents
    python scripts/record_agents.py [--agent claude] [--case http429] ...

For an upgrade of an agent: record again, and read what changed. Paths and ports of this machine do not get into a recording;
names of sessions and times do, so that a recording stays what an agent really printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "tests"))

from agent_stub import AgentStub  # noqa: E402
from agent_stub.cases import ALL, CASES, play  # noqa: E402
from agent_stub.recordings import recording, save  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=PROJECT / ".agents" / "bin", help="folder of the agents' programs")
    parser.add_argument("--agent", action="append", choices=ALL, help="one agent; again for more (default: all)")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="one case; again for more (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, AgentStub() as stub:
        for agent in options.agent or ALL:
            version = _version(options.programs, agent)
            for name in options.case or CASES:
                if agent in CASES[name].agents:
                    _record(agent, name, version, stub, options.programs.resolve(), Path(folder).resolve())


def _record(agent: str, name: str, version: str, stub: AgentStub, programs: Path, folder: Path) -> None:
    case, run_id, own = CASES[name], f"{agent}-{name}", folder / agent / name
    began = time.monotonic()
    played = play(case, agent, stub, programs, own, run_id)
    places = {
        stub.base_url(run_id, case.scenario): "http://stub",
        stub.url.removeprefix("http://"): "stub",
        f"{own}/work": "/agent/work",
        f"{own}/home": "/agent/home",
        str(programs): "/agent/bin",
        str(PROJECT): "/agent",
        # Claude and Gemini name folders after the one they work in.
        str(own).replace("/", "-"): "-agent",
    }
    save(recording(played, agent, version, case.scenario, places), name)
    last = played.ran.lines[-1].get("type") if played.ran.lines else "nothing"
    seconds = time.monotonic() - began
    print(
        f"{agent:7} {name:15} exit {played.ran.exit_code:4} {len(played.asked):2} requests {seconds:5.1f} s, last: {last}",
        flush=True,
    )


def _version(programs: Path, agent: str) -> str:
    path = f"{programs}:/usr/bin:/bin"
    shown = subprocess.run(
        [programs / agent, "--version"], env={"PATH": path, "HOME": "/nonexistent"}, capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


if __name__ == "__main__":
    main()
