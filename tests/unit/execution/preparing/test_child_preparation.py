"""What refuses a child pipeline before it begins, and what it has of the run around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidInput, InvalidPipeline, PipelineNotFound
from kilroy_engine.execution.preparing.pipeline_file import find_child
from kilroy_engine.execution.preparing.places import GuestPlan, facts_of, open_place
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_child, prepare_run
from kilroy_engine.graph.children import MAX_DEPTH
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.workspace.plain import PlainWorkspace

GOOD = "digraph c { s [shape=Mdiamond] x [shape=Msquare] s -> x }"
NESTS = 'digraph p { s [shape=Mdiamond] x [shape=Msquare] a [shape=folder, dot_file="c.dot"] s -> a -> x }'
SETTINGS = RunSettings(run_timeout_s=60.0, push_remote="origin", setup_commands=("make",), human="auto-approve")


def child(file: Path, *, around: tuple[str, ...] = ("",), settings: RunSettings = SETTINGS) -> PreparedRun:
    return prepare_child(RunParameters(str(file), inputs={"k": "v"}), settings, around=around)


def test_a_child_has_the_settings_of_the_run_around_it_but_for_that_runs_own_business(tmp_path: Path) -> None:
    """Who answers gates, who works, limits of stages: yes. Deadline, push, set-up, the worktree's fate: no."""
    (tmp_path / "c.dot").write_text(GOOD, encoding="utf-8")
    prepared = child(tmp_path / "c.dot")
    assert prepared.settings.human == "auto-approve"
    assert (prepared.settings.run_timeout_s, prepared.settings.push_remote, prepared.settings.setup_commands) == (None, "", ())
    assert prepared.settings.keep_worktree == "always"
    assert prepared.inputs == {"k": "v"}
    assert prepared.pipelines == ("", str((tmp_path / "c.dot").resolve()))


def test_a_pipeline_that_contains_itself_is_refused_when_it_comes_to_that(tmp_path: Path) -> None:
    """Also where the check could not see it: the file was written later, or the first pipeline was given as text."""
    file = tmp_path / "c.dot"
    file.write_text(GOOD, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"a pipeline cannot contain itself: c\.dot -> b\.dot -> c\.dot"):
        child(file, around=("", str(file.resolve()), str(tmp_path / "b.dot")))
    with pytest.raises(InvalidInput, match=f"more than {MAX_DEPTH} pipelines are nested"):
        child(file, around=tuple(str(tmp_path / f"{n}.dot") for n in range(MAX_DEPTH + 1)))


def test_a_run_is_refused_for_an_error_in_its_child(tmp_path: Path) -> None:
    """With the child's file, line and column; a child that is not there refuses nothing."""
    (tmp_path / "p.dot").write_text(NESTS, encoding="utf-8")
    parameters = RunParameters("p.dot", options=Options(workspace="plain"))
    prepare_run(parameters, environ={}, base=tmp_path)
    (tmp_path / "c.dot").write_text("digraph c {\n a -- b }", encoding="utf-8")
    with pytest.raises(InvalidPipeline, match=r"child pipeline c\.dot:2:4"):
        prepare_run(parameters, environ={}, base=tmp_path)


def test_a_child_file_is_looked_for_beside_its_parent_first(tmp_path: Path) -> None:
    """Then in the work folder; an absolute path is one place only."""
    beside, work = tmp_path / "pipelines", tmp_path / "work"
    for folder in (beside, work):
        folder.mkdir()
        (folder / "c.dot").write_text(GOOD, encoding="utf-8")
    (work / "written.dot").write_text(GOOD, encoding="utf-8")
    assert find_child("c.dot", beside, work) == beside / "c.dot"
    assert find_child("written.dot", beside, work) == work / "written.dot"
    assert find_child(str(work / "c.dot"), beside, work) == work / "c.dot"
    assert find_child("absent.dot", beside, work) is None
    with pytest.raises(PipelineNotFound, match="the child pipeline work is a folder; name the DOT file in it"):
        find_child("work", tmp_path)


def test_a_child_works_where_the_run_around_it_works(tmp_path: Path) -> None:
    """In the same folder; nothing is made for it."""
    plan = GuestPlan(PlainWorkspace(tmp_path), "")
    place = open_place(plan, worktree=tmp_path / "child" / "worktree", exclude_globs=())
    assert place.path == tmp_path
    assert facts_of(plan, run_id="R1", worktree=tmp_path / "child" / "worktree").worktree == tmp_path
    assert list(tmp_path.iterdir()) == []
