"""The environment of stages (Kilroy: node environment)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.processes.environment import StagePlace, stage_environment
from kilroy_engine.traversal.artifact import ArtifactReference
from kilroy_engine.traversal.outcome import Json

PLACE = StagePlace("R1", "build", Path("/runs/R1"), Path("/runs/R1/build"), Path("/runs/R1/worktree"))


def test_a_stage_knows_its_run_its_node_and_its_folders() -> None:
    """``KILROY_DATA_DIR`` is ``.kilroy``, not ``.kilroy/data`` (Kilroy)."""
    assert stage_environment({}, PLACE, {}) == {
        "KILROY_RUN_ID": "R1",
        "KILROY_NODE_ID": "build",
        "KILROY_LOGS_ROOT": "/runs/R1",
        "KILROY_STAGE_LOGS_DIR": "/runs/R1/build",
        "KILROY_WORKTREE_DIR": "/runs/R1/worktree",
        "KILROY_DATA_DIR": "/runs/R1/worktree/.kilroy",
        "KILROY_GOAL": "",
        "KILROY_PREDECESSOR_NODE": "",
        "KILROY_PREDECESSOR_OUTCOME": "",
    }


def test_goal_and_predecessor_come_from_the_context() -> None:
    """The goal as data: shell text is never put together from it."""
    context: dict[str, Json] = {"graph.goal": "Ship $(it)", "previous_node": "plan", "previous_outcome": "partial_success"}
    environment = stage_environment({}, PLACE, context)

    assert environment["KILROY_GOAL"] == "Ship $(it)"
    assert environment["KILROY_PREDECESSOR_NODE"] == "plan"
    assert environment["KILROY_PREDECESSOR_OUTCOME"] == "partial_success"


@pytest.mark.parametrize(
    ("key", "value", "name", "text"),
    [
        ("name", "Ada", "KILROY_INPUT_NAME", "Ada"),
        ("v.x", "1", "KILROY_INPUT_V_X", "1"),
        ("feature-flag", True, "KILROY_INPUT_FEATURE_FLAG", "true"),
        ("count", 3, "KILROY_INPUT_COUNT", "3"),
        ("ratio", 0.5, "KILROY_INPUT_RATIO", "0.5"),
        ("empty", None, "KILROY_INPUT_EMPTY", ""),
        ("list", ["a", "ö"], "KILROY_INPUT_LIST", '["a","ö"]'),
        ("map", {"a": 1}, "KILROY_INPUT_MAP", '{"a":1}'),
        ("nul", "a\0b", "KILROY_INPUT_NUL", "ab"),
    ],
)
def test_every_input_is_a_variable(key: str, value: Json, name: str, text: str) -> None:
    """Upper case, ``_`` for what no variable's name may hold; JSON for what is no text."""
    assert stage_environment({}, PLACE, {"inputs": {key: value}})[name] == text


@pytest.mark.parametrize(
    "name",
    [
        "CLAUDECODE",
        "KILROY_INPUTS_MANIFEST_PATH",
        "KILROY_STAGE_STATUS_PATH",
        "KILROY_STAGE_STATUS_FALLBACK_PATH",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
    ],
)
def test_facts_about_another_stage_or_repository_are_not_inherited(name: str) -> None:
    """The engine may itself run inside a stage, an agent, or a git hook."""
    assert name not in stage_environment({name: "stale"}, PLACE, {})


def test_everything_else_is_inherited() -> None:
    """Stages see the engine's environment, tokens included."""
    environment = stage_environment({"PATH": "/bin", "TOKEN": "t", "KILROY_RUN_ID": "other"}, PLACE, {})

    assert (environment["PATH"], environment["TOKEN"], environment["KILROY_RUN_ID"]) == ("/bin", "t", "R1")


def test_an_input_that_is_kept_as_an_artifact_is_given_as_a_path() -> None:
    """Linux takes no variable of more than 128 KB: a command could not be started at all."""
    reference = ArtifactReference("input.spec", "spec", "/runs/r1/artifacts/input.spec.txt", 300_000, "sha256:00").as_json()
    environment = stage_environment({}, PLACE, {"inputs": {"spec": reference, "other": {"a": 1}}})

    assert environment["KILROY_INPUT_SPEC"] == "/runs/r1/artifacts/input.spec.txt"
    assert environment["KILROY_INPUT_OTHER"] == '{"a":1}'
