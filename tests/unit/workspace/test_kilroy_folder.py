"""The files in ``.kilroy`` that tools and agents read (Kilroy: ``.kilroy`` files)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.graph.model import Attribute, Node, Position
from kilroy_engine.traversal.outcome import failure, success
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.copying import copy_entries
from kilroy_engine.workspace.kilroy_folder import KilroyFolder, require_usable

PLACE = Position(1, 1)


def node(node_id: str, **attributes: str) -> Node:
    """A node with text attributes."""
    return Node(node_id, PLACE, {key: Attribute(key, value, PLACE, PLACE) for key, value in attributes.items()})


def test_inputs_are_listed_by_name(tmp_path: Path) -> None:
    """``# Input``, then one section per input; values that are no text are JSON."""
    folder = KilroyFolder(tmp_path)
    folder.prepare({"name": "Ada", "count": 3, "a.b": ["x"]})

    text = (tmp_path / ".kilroy" / "INPUT.md").read_text()
    assert text == '# Input\n\n## a.b\n\n["x"]\n\n## count\n\n3\n\n## name\n\nAda\n'
    assert folder.data.is_dir()


def test_a_run_without_inputs_says_so(tmp_path: Path) -> None:
    """The file is there in any case, so that a command may read it."""
    KilroyFolder(tmp_path).prepare({})

    assert (tmp_path / ".kilroy" / "INPUT.md").read_text().startswith("# Input\n\nThis run")


def test_a_stage_finds_what_was_done_and_what_it_is_to_do(tmp_path: Path) -> None:
    """Completed nodes in order, each once with its latest outcome and reason; then the node and its task."""
    state = RunState(
        "R1",
        completed=("start", "build", "check", "build"),
        outcomes={"start": success("start"), "build": success(), "check": failure("exit status 1")},
    )
    folder = KilroyFolder(tmp_path)
    folder.begin_stage(node("fix", label="Fix it", prompt="Mend the test."), state)

    context = (folder.path / "CONTEXT.md").read_text()
    assert context.startswith("# Run Context\n")
    assert "- **start**: success\n- **build**: success\n- **check**: fail — exit status 1\n" in context
    assert "## Current Node\n\n**fix**" in context
    assert (folder.path / "TASK.md").read_text() == "# Task: fix\n\nMend the test.\n"


def test_a_node_without_a_prompt_has_its_label_for_a_task(tmp_path: Path) -> None:
    """Kilroy: prompt or label."""
    folder = KilroyFolder(tmp_path)
    folder.begin_stage(node("check", label="Check it"), RunState("R1"))

    assert (folder.path / "TASK.md").read_text() == "# Task: check\n\nCheck it\n"


def test_feedback_lasts_until_the_next_stage_begins(tmp_path: Path) -> None:
    """It is for the next attempt at the same node alone."""
    folder = KilroyFolder(tmp_path)
    folder.write_feedback("check", attempt=1, reason="exit status 1", details="line 3")
    text = (folder.path / "FEEDBACK.md").read_text()
    folder.begin_stage(node("next"), RunState("R1"))

    assert text == "# Feedback: check (attempt 1)\n\n## Failure Reason\n\nexit status 1\n\n## Details\n\nline 3\n"
    assert not (folder.path / "FEEDBACK.md").exists()


def test_a_folder_that_a_stage_cleaned_away_comes_back(tmp_path: Path) -> None:
    """``git clean -fdx`` in a stage must not stop the run; the folder still hides itself afterwards."""
    folder = KilroyFolder(tmp_path)
    folder.prepare({})
    shutil.rmtree(folder.path)
    folder.begin_stage(node("next"), RunState("R1"))

    assert (folder.path / "TASK.md").exists()
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_a_package_is_unpacked_and_its_shell_scripts_can_be_run(tmp_path: Path) -> None:
    """``.kilroy/package/``, ``*.sh`` and ``*.bash`` executable as in Kilroy, any other file as it was; nothing stale stays."""
    package, work_dir = tmp_path / "package", tmp_path / "work"
    work_dir.mkdir()
    (package / "scripts" / "deep").mkdir(parents=True)
    for name in ("a.sh", "deep/b.bash", "c.py"):
        (package / "scripts" / name).write_text("x")
        (package / "scripts" / name).chmod(0o644)
    stale = work_dir / ".kilroy" / "package" / "stale.sh"
    stale.parent.mkdir(parents=True)
    stale.touch()

    KilroyFolder(work_dir).prepare({}, package)

    unpacked = work_dir / ".kilroy" / "package" / "scripts"
    modes = {name: (unpacked / name).stat().st_mode & 0o777 for name in ("a.sh", "deep/b.bash", "c.py")}
    assert modes == {"a.sh": 0o755, "deep/b.bash": 0o755, "c.py": 0o644}
    assert not stale.exists()
    assert (work_dir / ".kilroy" / ".gitignore").read_text() == "*\n"


def test_a_run_without_a_package_has_none_of_another_run(tmp_path: Path) -> None:
    """Two runs in one folder, in place: the second must not call the first one's scripts."""
    (tmp_path / "package").mkdir()
    KilroyFolder(tmp_path).prepare({}, tmp_path / "package")
    assert (tmp_path / ".kilroy" / "package").is_dir()

    KilroyFolder(tmp_path).prepare({}, tmp_path / "absent")

    assert not (tmp_path / ".kilroy" / "package").exists()


def test_a_link_in_the_place_of_the_folder_gives_way_and_its_target_stays(tmp_path: Path) -> None:
    """A checkout brings a link to a folder of the user's: nothing is written or removed there, and a warning says so."""
    victim, work, told = tmp_path / "victim", tmp_path / "work", list[str]()
    (victim / "package").mkdir(parents=True)
    (victim / "package" / "work.txt").write_text("precious")
    work.mkdir()
    (work / ".kilroy").symlink_to(victim)
    folder = KilroyFolder(work, told.append)

    folder.prepare({"a": "b"})
    folder.begin_stage(node("fix"), RunState("R1"))

    assert [path.relative_to(victim).as_posix() for path in victim.rglob("*")] == ["package", "package/work.txt"]
    assert folder.path.is_dir()
    assert not folder.path.is_symlink()
    assert (folder.path / "TASK.md").is_file()
    assert told == [f"{folder.path} was a link, where the engine writes for the stages: {GONE}"]


GONE = "the link was removed, what it leads to is as it was"


def test_links_pipes_and_folders_in_the_folder_give_way(tmp_path: Path) -> None:
    """Each of the engine's own names may be taken by anything; only what is no link is kept, under another name."""
    told = list[str]()
    folder = KilroyFolder(tmp_path / "work", told.append)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "rc").write_text("precious")
    folder.path.mkdir(parents=True)
    (folder.path / "TASK.md").symlink_to(victim / "rc")
    (folder.path / "CONTEXT.md").mkdir()
    (folder.path / "FEEDBACK.md").symlink_to(victim / "rc")
    (folder.path / ".gitignore").symlink_to("nowhere")
    (folder.path / "package").symlink_to(victim)
    (folder.path / "data").write_text("a file")
    os.mkfifo(folder.path / "INPUT.md")

    folder.prepare({})
    folder.begin_stage(node("fix"), RunState("R1"))

    assert (victim / "rc").read_text() == "precious"
    assert all((folder.path / name).is_file() for name in ("TASK.md", "CONTEXT.md", "INPUT.md", ".gitignore"))
    assert folder.data.is_dir()
    assert not (folder.path / "FEEDBACK.md").exists()
    assert len(told) == 6


def test_a_package_is_copied_with_its_links_and_without_pipes(tmp_path: Path) -> None:
    """A link stays a link, also one that goes in a circle; what cannot be copied is left out."""
    package, work = tmp_path / "package", tmp_path / "work"
    (package / "scripts").mkdir(parents=True)
    work.mkdir()
    (package / "scripts" / "run.sh").write_text("true\n")
    (package / "scripts" / "same.sh").symlink_to("run.sh")
    (package / "scripts" / "up").symlink_to("..")
    os.mkfifo(package / "scripts" / "pipe")

    KilroyFolder(work).prepare({}, package)

    scripts = work / ".kilroy" / "package" / "scripts"
    assert sorted(path.name for path in scripts.iterdir()) == ["run.sh", "same.sh", "up"]
    assert ((scripts / "same.sh").readlink(), (scripts / "up").readlink()) == (Path("run.sh"), Path(".."))
    assert os.access(scripts / "run.sh", os.X_OK)


@pytest.mark.parametrize("name", [".kilroy", ".kilroy/TASK.md", ".kilroy/package"])
def test_a_folder_of_the_users_with_a_link_in_the_way_is_refused(name: str, tmp_path: Path) -> None:
    """In place the link is no copy of anything, so it stays and the run does not begin."""
    require_usable(tmp_path)
    KilroyFolder(tmp_path).prepare({})
    require_usable(tmp_path)  # what a run leaves does not refuse the next one
    shutil.rmtree(tmp_path / ".kilroy")
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path)
    with pytest.raises(WorkspaceError, match=r"is a link, and a run in .* writes there"):
        require_usable(tmp_path)


def test_nothing_is_copied_through_a_link_into_a_branchs_place(tmp_path: Path) -> None:
    """A branch's worktree has the link of the repository where the run's place of work has a folder already."""
    victim, run, branch = tmp_path / "victim", tmp_path / "run", tmp_path / "branch"
    for folder in (victim, branch, run / ".kilroy" / "data", run / "cache"):
        folder.mkdir(parents=True)
    (run / ".kilroy" / "TASK.md").write_text("task")
    (run / "cache" / "x").write_text("x")
    (branch / ".kilroy").symlink_to(victim)
    (branch / "cache").symlink_to(victim)

    copy_entries(run, branch, [".kilroy/", "cache/x"])

    assert list(victim.iterdir()) == []
    assert (branch / ".kilroy" / "TASK.md").read_text() == "task"
