"""A program that speaks as Claude Code does, for whole runs without a model: it counts tokens and leaves a status.

Each answer of its model reads 1,000 tokens and writes 100. It is told in ``KILROY_PLAY_...``: ``ANSWERS``, how many it gives
(3); ``PAUSE``, the seconds before each (0.05); ``SHELL``, a command that it runs after the first; ``MODEL``, the model that
answers (the one that is asked for); ``COST``, what it says that all has cost (0); ``ERROR``, an error that it ends with;
``STATUS``, ``none`` for a program that leaves no status.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

READ, WRITTEN = 1000, 100
KEY = "played-key-7b1c"

_PROGRAM = f"""#!{sys.executable}
import json, os, subprocess, sys, time

def out(**record):
    try:
        print(json.dumps(record), flush=True)
    except BrokenPipeError:
        pass  # the engine is gone; it works on, as an agent would whose output nobody needs

def event(**facts):
    out(type="stream_event", event=facts)

sys.stdin.read()
asked = sys.argv[sys.argv.index("--model") + 1] if "--model" in sys.argv else "claude-sonnet-4-5"
model = os.environ.get("KILROY_PLAY_MODEL", asked)
out(type="system", subtype="init", session_id="played")
answers = int(os.environ.get("KILROY_PLAY_ANSWERS", "3"))
for number in range(answers):
    time.sleep(float(os.environ.get("KILROY_PLAY_PAUSE", "0.05")))
    event(type="message_start", message=dict(id=f"m{{number}}", model=model, usage=dict(input_tokens={READ}, output_tokens=1)))
    event(type="message_delta", usage=dict(output_tokens={WRITTEN}))
    event(type="message_stop")
    if number == 0 and "KILROY_PLAY_SHELL" in os.environ:
        subprocess.run(os.environ["KILROY_PLAY_SHELL"], shell=True, check=True)
if error := os.environ.get("KILROY_PLAY_ERROR"):
    out(type="result", subtype="success", is_error=True, result=error.replace("KEY", os.environ["ANTHROPIC_API_KEY"]))
    sys.exit(1)
if os.environ.get("KILROY_PLAY_STATUS") != "none":
    with open(os.environ["KILROY_STAGE_STATUS_PATH"], "w") as status:
        json.dump(dict(status="success"), status)
usage = dict(input_tokens={READ} * answers, output_tokens={WRITTEN} * answers)
cost = float(os.environ.get("KILROY_PLAY_COST", "0"))
ended = dict(subtype="success", is_error=False, result="done", session_id="played", total_cost_usd=cost, usage=usage)
out(type="result", **ended)
"""


def played(folder: Path, **settings: object) -> dict[str, str]:
    """Writes the program below ``folder``; the environment that has it on the ``PATH``. ``settings`` are ``answers``, ``pause``
    and ``shell``."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    program = programs / "claude"
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    key = {"ANTHROPIC_API_KEY": KEY}  # else the run is refused: nobody has logged in
    return {"PATH": path, **key, **{f"KILROY_PLAY_{name.upper()}": str(value) for name, value in settings.items()}}


def play_claude(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """The same for runs in this process."""
    for name, value in played(folder, **settings).items():
        monkeypatch.setenv(name, value)
