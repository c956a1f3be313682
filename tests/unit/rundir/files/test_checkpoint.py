"""checkpoint.json: exact round trip, Kilroy's keys, and damage that is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.errors import CorruptRecord, RunDirectoryError
from kilroy_engine.rundir.files.checkpoint import load_checkpoint, save_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.traversal.outcome import Outcome, failure, success
from kilroy_engine.traversal.state import LoopRound, RunState, Turn

texts = st.text()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_maps = st.dictionaries(texts, json_values, max_size=3)
counts = st.dictionaries(texts, st.integers(min_value=0), max_size=3)
outcomes = st.builds(
    Outcome,
    status=texts,
    preferred_label=texts,
    suggested_next_ids=st.lists(texts, max_size=2).map(tuple),
    context_updates=json_maps,
    notes=texts,
    failure_reason=texts,
    failure_class=texts,
    verification=json_values,
    details=json_values,
    meta=json_maps,
    failure_signature=texts,
    timed_out=st.booleans(),
    verdict=st.booleans(),
    retries=st.integers(min_value=0),
    session=texts,
    output_digest=texts,
    committed=texts,
    loop_file_seen=st.none() | st.booleans(),
    retry_after_s=st.none() | st.floats(min_value=0, max_value=1e6),
)
states = st.builds(
    RunState,
    run_id=texts,
    context=json_maps,
    completed=st.lists(texts, max_size=4).map(tuple),
    outcomes=st.dictionaries(texts, outcomes, max_size=2),
    visits=counts,
    retries=counts,
    failure_signatures=counts,
    routing_outcome=st.none() | outcomes,
    jump_to=texts,
    jump_edge=st.none() | st.integers(min_value=0),
    last_fidelity=texts,
    last_thread_key=texts,
    sessions=st.dictionaries(texts, texts, max_size=2),
    degrade_fidelity=st.booleans(),
    logs=st.lists(texts, max_size=2).map(tuple),
    restart_count=st.integers(min_value=0),
    restart_signatures=counts,
    visits_in_rounds=counts,
    loop_round=st.none() | st.builds(LoopRound, st.integers(min_value=1), st.sampled_from(Turn)),
)


@given(states, st.text(alphabet="0123456789abcdef", max_size=40))
def test_a_state_survives_exactly(tmp_path_factory: pytest.TempPathFactory, state: RunState, sha: str) -> None:
    """Everything that decides what happens next is read back equal, key order of the context included."""
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    save_checkpoint(run, state, git_commit_sha=sha, extra={"artifact_policy_resolved": {"version": 1}})
    loaded = load_checkpoint(run)
    assert loaded.state == state
    assert list(loaded.state.context) == list(state.context)
    assert (loaded.git_commit_sha, loaded.extra) == (sha, {"artifact_policy_resolved": {"version": 1}})


def test_the_property_above_covers_every_field() -> None:
    """A field added to the state or to the outcome must be drawn there, or its loss would go unnoticed."""
    drawn = {field.name for kind in (RunState, Outcome) for field in dataclasses.fields(kind)}
    text = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in drawn if f"    {name}=" not in text} == set()


def test_the_file_has_kilroys_keys(tmp_path: Path) -> None:
    """Kilroy's keys at the top level and in extra (runtime/checkpoint.go); no commit, no key."""
    run = RunDirectory(tmp_path)
    state = RunState("r1", completed=("start", "a"), outcomes={"a": failure("x")}, failure_signatures={"a|deterministic|x": 2})
    save_checkpoint(run, state)
    written = json.loads(run.checkpoint.read_bytes())
    assert list(written) == ["timestamp", "current_node", "completed_nodes", "node_retries", "context", "logs", "extra"]
    assert (written["current_node"], written["completed_nodes"]) == ("a", ["start", "a"])
    assert written["extra"].items() >= {"base_logs_root": str(tmp_path), "restart_count": 0}.items()
    assert written["extra"]["loop_failure_signatures"] == {"a|deterministic|x": 2}
    restart = dataclasses.replace(state, restart_count=3, restart_signatures={"a|transient_infra|x": 1})
    save_checkpoint(run, restart, base=RunDirectory(tmp_path.parent))
    extra = json.loads(run.checkpoint.read_bytes())["extra"]
    assert (extra["restart_count"], extra["base_logs_root"]) == (3, str(tmp_path.parent))
    assert extra["restart_failure_signatures"] == {"a|transient_infra|x": 1}
    save_checkpoint(run, state, git_commit_sha="c0ffee")
    assert json.loads(run.checkpoint.read_bytes())["git_commit_sha"] == "c0ffee"


def test_fidelity_is_saved_under_kilroys_names_and_only_where_there_is_any(tmp_path: Path) -> None:
    """``last_fidelity`` and ``last_thread_key`` in extra, left out when empty: an older checkpoint reads the same way."""
    run = RunDirectory(tmp_path)
    save_checkpoint(run, RunState("r1", last_fidelity="full", last_thread_key="impl", sessions={"impl": "s-1"}))
    extra = json.loads(run.checkpoint.read_bytes())["extra"]
    assert extra.items() >= {"last_fidelity": "full", "last_thread_key": "impl", "thread_sessions": {"impl": "s-1"}}.items()
    save_checkpoint(run, RunState("r1"))
    extra = json.loads(run.checkpoint.read_bytes())["extra"]
    assert not extra.keys() & {"last_fidelity", "last_thread_key", "thread_sessions", "degrade_fidelity", "jump_edge"}
    assert load_checkpoint(run).state == RunState("r1")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"completed_nodes": [', '"completed_nodes": [7, '),
        lambda text: text.replace('"current_node": "a"', '"current_node": "b"'),
        lambda text: text.replace('"run_id": "r1",', ""),
        lambda text: text.replace('"status": "success"', '"status": null'),
    ],
    ids=["torn", "empty", "a list", "a number as node", "current is not last", "no run id", "an outcome without status"],
)
def test_damage_is_told_with_the_file_and_what_to_do(tmp_path: Path, damage: object) -> None:
    """A resume from a damaged checkpoint is refused; the message names file and way out."""
    run = RunDirectory(tmp_path)
    save_checkpoint(run, RunState("r1", completed=("a",), outcomes={"a": success()}))
    text = run.checkpoint.read_text()
    damaged = damage(text)  # type: ignore[operator]
    assert damaged != text
    run.checkpoint.write_text(damaged)
    with pytest.raises(CorruptRecord, match=r"checkpoint\.json is damaged .*\. Restore it") as caught:
        load_checkpoint(run)
    assert caught.value.path == run.checkpoint


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    """No stage was completed: that is not damage."""
    with pytest.raises(RunDirectoryError, match="has completed no stage"):
        load_checkpoint(RunDirectory(tmp_path))
