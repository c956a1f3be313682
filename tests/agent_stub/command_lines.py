"""How the real agents are started against the stub: command line, environment, settings. None of it is the engine's own.

Each agent has a private home, and an environment that holds nothing else of the tests'.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 120.0
UNKNOWN_SESSION = "00000000-0000-4000-8000-000000000000"
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.5", "gemini": "gemini-2.5-pro"}
# How often the agents ask again, at most. Each has its own way to count.
CLAUDE_RETRIES, CODEX_RETRIES, GEMINI_ATTEMPTS = 2, 1, 2


@dataclass(frozen=True)
class Task:
    """One run of an agent. ``resume`` is the session that goes on, empty for a new one. ``allowed`` says whether its tools may
    write. ``max_turns`` and ``budget_usd`` end it early, where the agent knows such a limit. ``subscription`` gives Claude the
    token of a subscription instead of a key: the limits of plans are told in other words. ``streamed`` lets Claude print the
    events of each answer's stream too."""

    prompt: str = "create hello.txt"
    resume: str = ""
    allowed: bool = True
    max_turns: int | None = None
    budget_usd: float | None = None
    subscription: bool = False
    streamed: bool = False


@dataclass(frozen=True)
class Place:
    """Where an agent runs: the folder of the programs, its home, its work folder, the base URL of the stub."""

    programs: Path
    home: Path
    work: Path
    url: str


@dataclass(frozen=True)
class CommandLine:
    argv: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Ran:
    """What a run printed. ``lines`` are the JSON lines of its output."""

    argv: list[str]
    exit_code: int
    stdout: str
    stderr: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def session(self) -> str:
        """Claude and Gemini call it session, Codex thread; all name it in their first line."""
        first = self.lines[0] if self.lines else {}
        return first.get("session_id") or first.get("thread_id") or ""


def claude(place: Place, task: Task) -> CommandLine:
    """``dontAsk`` with a list of tools: what is not on it is denied. Root may do it too, unlike skipping the permissions."""
    argv = [str(place.programs / "claude"), "-p", "--output-format", "stream-json", "--verbose", "--model", MODELS["claude"]]
    argv += ["--permission-mode", "dontAsk"]
    argv += ["--allowedTools", "Bash,Write,Edit,Read"] if task.allowed else []
    argv += ["--max-turns", str(task.max_turns)] if task.max_turns is not None else []
    argv += ["--max-budget-usd", str(task.budget_usd)] if task.budget_usd is not None else []
    argv += ["--resume", task.resume] if task.resume else []
    argv += ["--include-partial-messages"] if task.streamed else []
    environment = {
        "CLAUDE_CONFIG_DIR": str(place.home / "claude"),
        "ANTHROPIC_BASE_URL": place.url,
        ("CLAUDE_CODE_OAUTH_TOKEN" if task.subscription else "ANTHROPIC_API_KEY"): "stub",
        "CLAUDE_CODE_MAX_RETRIES": str(CLAUDE_RETRIES),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return CommandLine([*argv, "--", task.prompt], environment)


def codex(place: Place, task: Task) -> CommandLine:
    """The model's name decides which tools Codex offers. Its two limits of retries multiply."""
    home = place.home / "codex"
    home.mkdir(parents=True, exist_ok=True)
    provider = {
        "name": '"stub"',
        "base_url": f'"{place.url}/v1"',
        "env_key": '"STUB_KEY"',
        "wire_api": '"responses"',
        "request_max_retries": CODEX_RETRIES,
        "stream_max_retries": CODEX_RETRIES,
    }
    settings = {
        "model_provider": '"stub"',
        "model_providers.stub": "{" + ", ".join(f"{key}={value}" for key, value in provider.items()) + "}",
        "check_for_update_on_startup": "false",
        "analytics.enabled": "false",
        "sandbox_mode": '"workspace-write"' if task.allowed else '"read-only"',
    }
    argv = [str(place.programs / "codex"), "exec", *(["resume"] if task.resume else [])]
    argv += ["--json", "--skip-git-repo-check", "-m", MODELS["codex"]]
    argv += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    argv += [task.resume] if task.resume else []
    return CommandLine([*argv, task.prompt], {"CODEX_HOME": str(home), "STUB_KEY": "stub"})


def gemini(place: Place, task: Task) -> CommandLine:
    """Without the type of authentication in its settings, Gemini takes the base URL for a gateway that it does not support."""
    settings: dict[str, Any] = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"enableAutoUpdate": False, "maxAttempts": GEMINI_ATTEMPTS},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    if task.max_turns is not None:
        settings["model"] = {"maxSessionTurns": task.max_turns}
    path = place.home / ".gemini" / "settings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings), encoding="utf-8")
    argv = [str(place.programs / "gemini"), "-p", task.prompt, "--output-format", "stream-json", "-m", MODELS["gemini"]]
    argv += ["--skip-trust", *(["--yolo"] if task.allowed else [])]
    argv += ["--resume", task.resume] if task.resume else []
    environment = {
        "GEMINI_CLI_HOME": str(place.home),
        "GOOGLE_GEMINI_BASE_URL": place.url,
        "GEMINI_API_KEY": "stub",
        "GEMINI_CLI_NO_RELAUNCH": "true",  # one process, that signals reach
    }
    return CommandLine(argv, environment)


AGENTS: Mapping[str, Callable[[Place, Task], CommandLine]] = {"claude": claude, "codex": codex, "gemini": gemini}


def start(agent: str, place: Place, task: Task) -> subprocess.Popen[str]:
    """The agent's process, in a session of its own."""
    place.home.mkdir(parents=True, exist_ok=True)
    line = AGENTS[agent](place, task)
    common = {
        "PATH": f"{place.programs}{os.pathsep}{os.environ['PATH']}",  # Gemini is a script for the Node beside it
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "HOME": str(place.home),
        "TMPDIR": str(place.home),
    }
    marks = {name: value for name, value in os.environ.items() if name in ("TESTS_OF_KILROY_ENGINE", "PYTEST_CURRENT_TEST")}
    return subprocess.Popen(
        line.argv,
        cwd=place.work,
        env=common | marks | line.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(agent: str, place: Place, task: Task, limit_s: float = LIMIT_S) -> Ran:
    """Runs an agent to its end, which must come within ``limit_s``."""
    process = start(agent, place, task)
    try:
        stdout, stderr = process.communicate(timeout=limit_s)
    finally:
        process.kill()
    return ran(process, stdout, stderr)


def ran(process: subprocess.Popen[str], stdout: str, stderr: str) -> Ran:
    lines = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    return Ran([str(word) for word in process.args], process.returncode, stdout, stderr, lines)  # type: ignore[union-attr]
