"""The environment of a stage's child processes: the engine's environment without stale variables, plus facts about the stage
(Kilroy)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.traversal.artifact import read_artifact_reference
from kilroy_engine.traversal.outcome import Json
from kilroy_engine.workspace.git_command import GIT_FROM_AROUND

_NOT_INHERITED = frozenset(
    {
        # An agent that finds this variable takes itself to be nested and refuses to start.
        "CLAUDECODE",
        # Facts about another stage, if the engine itself runs inside a stage.
        "KILROY_RUN_ID",
        "KILROY_NODE_ID",
        "KILROY_LOGS_ROOT",
        "KILROY_STAGE_LOGS_DIR",
        "KILROY_WORKTREE_DIR",
        "KILROY_INPUTS_MANIFEST_PATH",
        "KILROY_STAGE_STATUS_PATH",
        "KILROY_STAGE_STATUS_FALLBACK_PATH",
        "KILROY_DATA_DIR",
        "KILROY_PREDECESSOR_NODE",
        "KILROY_PREDECESSOR_OUTCOME",
        # With these variables a stage's git would write to the user's repository and index.
        *GIT_FROM_AROUND,
    }
)
_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")


@dataclass(frozen=True, slots=True)
class StagePlace:
    """Which stage it is and where the stage works. ``logs_root`` is the run directory, in a branch the branch's directory."""

    run_id: str
    node_id: str
    logs_root: Path
    stage_dir: Path
    work_dir: Path


def stage_environment(base: Mapping[str, str], place: StagePlace, context: Mapping[str, Json]) -> dict[str, str]:
    """The complete environment for the tool or agent of a stage (Kilroy: node environment).

    ``base`` is the environment of the engine's process. ``context`` gives the goal, the run's inputs and the previous stage. An
    input ``a.b-c`` becomes ``KILROY_INPUT_A_B_C``. A value that is no text becomes JSON. A value that is kept as an artifact
    becomes the path of its file, because it is too large for an environment.
    """
    environment = {name: value for name, value in base.items() if name not in _NOT_INHERITED}
    environment |= {
        "KILROY_RUN_ID": place.run_id,
        "KILROY_NODE_ID": place.node_id,
        "KILROY_LOGS_ROOT": str(place.logs_root),
        "KILROY_STAGE_LOGS_DIR": str(place.stage_dir),
        "KILROY_WORKTREE_DIR": str(place.work_dir),
        "KILROY_DATA_DIR": str(place.work_dir / ".kilroy"),
        "KILROY_GOAL": _as_text(context.get("graph.goal")),
        "KILROY_PREDECESSOR_NODE": _as_text(context.get("previous_node")),
        "KILROY_PREDECESSOR_OUTCOME": _as_text(context.get("previous_outcome")),
    }
    inputs = context.get("inputs")
    if isinstance(inputs, dict):
        environment |= {f"KILROY_INPUT_{_as_name(key)}": _as_text(value) for key, value in sorted(inputs.items())}
    return environment


def _as_name(key: str) -> str:
    return _NOT_IN_A_NAME.sub("_", key.upper())


def _as_text(value: Json) -> str:
    if (reference := read_artifact_reference(value)) is not None:
        return reference.path
    match value:
        case None:
            return ""
        case str():
            return value.replace("\0", "")  # no environment can hold it
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
