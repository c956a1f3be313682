"""Which of the tools that an agent offers does what a scenario asks for, and with which arguments."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_stub.script import Call

Schema = Mapping[str, Any]

# Claude Code, Gemini CLI, Codex, then what other agents call theirs.
_SHELLS = ("Bash", "run_shell_command", "exec_command", "shell_command", "shell", "bash", "run_command")
_WRITERS = ("Write", "write_file", "create_file", "write")
_COMMAND = ("command", "cmd", "script")
_PATH = ("file_path", "path", "filename")
_CONTENT = ("content", "contents", "text")


@dataclass(frozen=True)
class Offer:
    """What an agent offers with a request: JSON schemas of the arguments by the name of the tool, and the names of tools that
    take text of their own kind. ``folder`` is where the agent works, empty if the request does not say."""

    tools: Mapping[str, Schema] = field(default_factory=dict)
    freeform: frozenset[str] = frozenset()
    folder: str = ""

    def __bool__(self) -> bool:
        return bool(self.tools or self.freeform)


@dataclass(frozen=True)
class Use:
    """A call of one of the agent's tools. ``args`` of a tool that takes text are that text, as ``input``."""

    name: str
    args: dict[str, Any]


def use(call: Call, offer: Offer, status_path: str) -> Use:
    """``call`` with the agent's own tool. What cannot be written with a tool for files is written with the shell.

    Raises:
        ValueError: The agent offers no such tool, or the prompt names no status path.
    """
    match call.tool:
        case "raw":
            return Use(call.args["name"], call.args["input"])
        case "shell":
            return _shell(call.args["command"], offer)
        case "status":
            if not status_path:
                raise ValueError("The scenario writes a status file, but no prompt names $KILROY_STAGE_STATUS_PATH")
            text = json.dumps(call.args.get("status", {"status": "success"}))
            # A tool for files often refuses what lies outside the agent's folder: the shell first.
            return _shell(_printed(status_path, text), offer) if _has_shell(offer) else _write(status_path, text, offer)
        case "write":
            path = call.args["path"]
            return _write(f"{offer.folder}/{path}" if offer.folder else path, call.args["content"], offer)


def smallest(schema: Schema) -> Any:
    """The smallest value that a JSON schema allows."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {name: smallest(inner) for name, inner in schema.get("properties", {}).items()}
    return {"string": "scripted", "integer": 1, "number": 1, "boolean": False, "array": []}.get(kind)


def _has_shell(offer: Offer) -> bool:
    return "exec" in offer.freeform or bool(_named(offer.tools, _SHELLS, _COMMAND))


def _shell(command: str, offer: Offer) -> Use:
    name = _named(offer.tools, _SHELLS, _COMMAND)
    if not name and "exec" in offer.freeform:  # newer models of Codex write JavaScript that calls the tools
        script = f"const r = await tools.exec_command({json.dumps({'cmd': command})});\ntext(r.output);"
        return Use("exec", {"input": script})
    if not name:
        raise ValueError(f"No tool for commands among {sorted(offer.tools)}")
    schema = offer.tools[name]
    argument = _first(schema, _COMMAND)
    words = schema["properties"][argument].get("type") == "array"
    return Use(name, _required(schema) | {argument: ["bash", "-lc", command] if words else command})


def _write(path: str, content: str, offer: Offer) -> Use:
    name = _named(offer.tools, _WRITERS, _PATH, _CONTENT)
    if name:
        schema = offer.tools[name]
        return Use(name, _required(schema) | {_first(schema, _PATH): path, _first(schema, _CONTENT): content})
    if "apply_patch" in offer.freeform:
        lines = "".join(f"+{line}\n" for line in content.splitlines())
        return Use("apply_patch", {"input": f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n"})
    return _shell(_printed(path, content), offer)


def _printed(path: str, content: str) -> str:
    return f"printf '%s' {shlex.quote(content)} > {shlex.quote(path)}"


def _required(schema: Schema) -> dict[str, Any]:
    return {name: smallest(schema["properties"][name]) for name in schema.get("required", [])}


def _named(tools: Mapping[str, Schema], known: tuple[str, ...], *arguments: tuple[str, ...]) -> str:
    """A tool that is known by its name, else the first that takes one of each kind of arguments; empty if there is none."""
    fitting = [name for name, schema in tools.items() if all(_first(schema, names) for names in arguments)]
    return next((name for name in known if name in fitting), fitting[0] if fitting else "")


def _first(schema: Schema, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in schema.get("properties", {})), "")
