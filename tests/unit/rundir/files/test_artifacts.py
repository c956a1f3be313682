"""Large context values as files: names, content, references, and what is missing of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.graph.conditions import evaluate, parse_condition
from kilroy_engine.rundir.files.artifacts import encoded, keep_artifact, lost_artifacts, require_artifacts, whole_value
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.traversal.artifact import read_artifact_reference
from kilroy_engine.traversal.outcome import Json


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_text_is_kept_as_it_is_and_anything_else_as_json(run: RunDirectory) -> None:
    """A program that gets the path reads what the stage set; size and digest are the file's."""
    text = keep_artifact(run, "plan@1", "report", "größer\n")
    value = keep_artifact(run, "plan@1", "table", {"b": [1, None], "a": "ü"})

    assert (text.id, text.name, text.size_bytes) == ("plan@1.report", "report", len("größer\n".encode()))
    assert text.path == str(run.path / "artifacts" / "plan@1.report.txt")
    content = Path(text.path).read_bytes()
    assert content == "größer\n".encode()
    assert text.content_hash == "sha256:" + hashlib.sha256(content).hexdigest()
    assert value.path.endswith("/artifacts/plan@1.table.json")
    assert json.loads(Path(value.path).read_bytes()) == {"a": "ü", "b": [1, None]}


names = st.text(min_size=1, max_size=120)


@given(names, names)
def test_two_names_never_share_a_file(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    """Whatever the keys are, on file systems that do not tell capitals apart too; the file stays in ``artifacts/``."""
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    first, second = (keep_artifact(run, "plan@1", name, "x") for name in (one, other))

    assert Path(first.path).parent == run.artifacts
    assert ".." not in first.id
    assert len(Path(first.path).name.encode()) < 255
    assert (first.path.lower() == second.path.lower()) == (one == other)


def test_scopes_do_not_meet(run: RunDirectory) -> None:
    """A later visit leaves the value of an earlier one, and a node's name cannot look like another's visit."""
    places = {keep_artifact(run, scope, "x", "y").path for scope in ("a@1", "a@2", "a-1@1", "restart-1/a@1", "input")}
    assert len(places) == 5


def test_a_reference_is_known_by_its_shape(run: RunDirectory) -> None:
    """What was written to the checkpoint is read back; other values are none."""
    reference = keep_artifact(run, "plan@1", "report", "x")
    assert read_artifact_reference(json.loads(json.dumps(reference.as_json()))) == reference
    assert read_artifact_reference({"artifact": "x"}) is None
    assert read_artifact_reference("artifact") is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [("context.report", True), ("context.report=ok", False), ("context.report!=ok", True), ("context.report=", False)],
)
def test_a_condition_sees_a_value_that_is_there_and_equals_no_literal(run: RunDirectory, condition: str, holds: bool) -> None:
    """As it would see the large value itself."""
    context = {"report": keep_artifact(run, "plan@1", "report", "x").as_json()}
    assert evaluate(parse_condition(condition), outcome="success", preferred_label="", context=context) == holds


def test_a_file_that_is_gone_is_missed(run: RunDirectory) -> None:
    """In the context and among the inputs."""
    kept, gone, spec = (keep_artifact(run, "input", name, name) for name in ("kept", "gone", "spec"))
    context = {"a": kept.as_json(), "b": gone.as_json(), "inputs": {"spec": spec.as_json()}, "n": 1}
    assert lost_artifacts(context) == ()
    for reference in (gone, spec):
        Path(reference.path).unlink()
    assert lost_artifacts(context) == (Path(gone.path), Path(spec.path))


def test_what_has_no_json_form_is_refused() -> None:
    """A handler's slip is an error, not a file."""
    with pytest.raises(TypeError):
        encoded({"x": object()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="JSON"):
        encoded(float("nan"))


@pytest.mark.parametrize("value", ["größer\n", {"b": [1, None], "a": "ü"}, "[1]"])
def test_a_reference_gives_its_value_back(run: RunDirectory, value: Json) -> None:
    """Text stays text, whatever it looks like; a value that is no reference is the value itself."""
    assert whole_value(keep_artifact(run, "restart-1/plan@1", "report", value).as_json()) == value
    assert whole_value(value) == value


def test_a_lost_or_damaged_value_is_told_with_its_file(run: RunDirectory) -> None:
    """Nothing stands in for it; a checkpoint that refers to it is refused."""
    reference = keep_artifact(run, "plan@1", "rows", [1])
    Path(reference.path).write_text("[1")
    with pytest.raises(CorruptRecord, match=r"'rows' is damaged in its file .*plan@1\.rows\.json"):
        whole_value(reference.as_json())
    Path(reference.path).unlink()
    with pytest.raises(CorruptRecord, match=r"'rows' is gone with its file .*plan@1\.rows\.json"):
        whole_value(reference.as_json())
    with pytest.raises(CorruptRecord, match=r"checkpoint\.json refers to .*plan@1\.rows\.json"):
        require_artifacts(run, {"rows": reference.as_json()})
