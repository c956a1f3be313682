"""Work that is on record while the commits that hold it lie after the checkpoint: a resume goes on with it or does it again.

A resumed git run is put back to its checkpoint's commit. What a finished child pipeline, a finished branch or a finished call
has left behind that commit must not be taken for done unless it is brought back too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real_prefect import Prefect
from sweep_run import Place, killed, make_place, parsed

FOLDER = 'shape=folder, dot_file="child.dot"'
HOUSE = 'shape=house, stack.child_dotfile="child.dot", manager.poll_interval="200ms"'
PARENT = """digraph parent {
  node  [shape=parallelogram]
  start [shape=Mdiamond]  done [shape=Msquare]
  a     [tool_command="echo a >> $SIDE; echo a >> a.txt"]
  sub   [CHILD]
  b     [tool_command="echo b >> $SIDE; cat *.txt"]
  start -> a -> sub  sub -> b [condition="outcome=success"]  b -> done
}
"""
CHILD = """digraph child {
  node  [shape=parallelogram]
  start [shape=Mdiamond]  done [shape=Msquare]
  x     [tool_command="echo x >> $SIDE; echo x >> x.txt"]
  y     [tool_command="echo y >> $SIDE; echo y >> y.txt"]
  start -> x -> y -> done
}
"""
FAN = """digraph fan {
  node  [shape=parallelogram]
  start [shape=Mdiamond]  done [shape=Msquare]
  p     [shape=component, max_parallel=1]  j [shape=tripleoctagon]
  a     [tool_command="echo a >> $SIDE; echo a >> a.txt"]
  b     [tool_command="echo b >> $SIDE; echo b >> b.txt"]
  last  [tool_command="echo last >> $SIDE; cat *.txt"]
  start -> p  p -> a -> j  p -> b -> j  j -> last [condition="outcome=success"]  last -> done
}
"""
ONE_EACH = {"a": 1, "x": 1, "y": 1, "b": 1}
CHILD_AGAIN = {"a": 1, "x": 2, "y": 2, "b": 1}
CHILD_IS_OVER = ("conclusion.json@after", "final.json@after", "run_completed@after", "status.json@after:7")
"""The child's conclusion, its end, its terminal line, and the outcome of its node: all before the node's checkpoint."""
SHAPES = {"folder": FOLDER, "house": HOUSE}


@pytest.fixture
def place(prefect: Prefect, tmp_path: Path) -> Place:
    return make_place(tmp_path, prefect.environment)


def write(place: Place, pipeline: str, child: str = "") -> None:
    (place.folder / "sweep.dot").write_text(pipeline, encoding="utf-8")
    if child:
        (place.folder / "child.dot").write_text(child, encoding="utf-8")


def kill_at(place: Place, point: str, *options: str) -> None:
    run = ["run", str(place.folder / "sweep.dot"), "--run-id", "r", *options]
    done = place.kilroy("r", *run, KILROY_FAILPOINT=point)
    assert killed(done), f"was not killed but ended with {done.returncode}: {done.stderr[-600:]}"


def go_on(place: Place, *, code: int = 0) -> str:
    done = place.resume("r")
    assert done.returncode == code, done.stderr[-1000:]
    return done.stderr


def git(place: Place, *arguments: str) -> str:
    command, environment = ["git", *arguments], os.environ | place.environment
    done = subprocess.run(
        command, cwd=place.folder / "repository", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(place: Place) -> dict[str, str]:
    """Files on the run's branch and what is in them."""
    names = git(place, "ls-tree", "-r", "--name-only", "attractor/run/r").split()
    return {name: git(place, "show", f"attractor/run/r:{name}").strip() for name in names}


def forget(place: Place, *branches: str, worktree: str) -> None:
    """Removes the branches with their commits, as ``git branch -D`` and a garbage collection do in time."""
    shutil.rmtree(place.directory("r") / worktree)
    git(place, "worktree", "prune")
    for branch in branches:
        git(place, "branch", "--quiet", "-D", branch)
    git(place, "reflog", "expire", "--expire=now", "--all")
    git(place, "gc", "--quiet", "--prune=now")


def warnings(place: Place) -> list[str]:
    return [event["message"] for event in parsed(place.lines("r"))[0] if event["event"] == "warning"]


def checkpoint(place: Place) -> dict[str, Any]:
    return json.loads((place.directory("r") / "checkpoint.json").read_bytes())


@pytest.mark.parametrize(
    ("shape", "point"),
    [
        pytest.param(shape, point, marks=() if (shape, point) == ("folder", CHILD_IS_OVER[0]) else pytest.mark.slow)
        for shape in SHAPES
        for point in CHILD_IS_OVER
    ],
)
def test_the_work_of_a_finished_child_is_on_the_runs_branch(place: Place, shape: str, point: str) -> None:
    """Killed between the child's conclusion and its node's checkpoint: the child does not run again, and what it made is there
    for the next stage."""
    write(place, PARENT.replace("CHILD", SHAPES[shape]), CHILD)
    kill_at(place, point)
    assert checkpoint(place)["completed_nodes"] == ["start", "a"]

    go_on(place)

    assert Counter(place.executions("r")) == ONE_EACH
    assert files(place) == {"a.txt": "a", "x.txt": "x", "y.txt": "y"}
    assert (place.directory("r") / "b" / "stdout.log").read_text().split() == ["a", "x", "y"]
    assert warnings(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_repository_the_folder_has_kept_the_work_of_a_finished_child(place: Place, shape: str) -> None:
    """A plain folder is not put back by a resume."""
    write(place, PARENT.replace("CHILD", SHAPES[shape]), CHILD)
    kill_at(place, CHILD_IS_OVER[0], "--no-git")

    go_on(place)

    assert Counter(place.executions("r")) == ONE_EACH
    assert (place.directory("r") / "b" / "stdout.log").read_text().split() == ["a", "x", "y"]
    assert warnings(place) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "twice"),
    [(CHILD_IS_OVER[0], {"x", "y"}), ("checkpoint.json@after:5", {"x", "y"}), ("checkpoint.json@after:4", {"x"})],
    ids=["finished", "before its exit", "after its first tool"],
)
def test_a_child_whose_commits_are_gone_begins_anew(place: Place, point: str, twice: set[str]) -> None:
    """Its record is no work. A warning names the commit, and the record is kept beside that of the new child."""
    write(place, PARENT.replace("CHILD", FOLDER), CHILD)
    kill_at(place, point)
    lost, saved = git(place, "rev-parse", "attractor/run/r").strip(), checkpoint(place)["git_commit_sha"]
    git(place, "branch", "saved", saved)
    forget(place, "attractor/run/r", worktree="worktree")

    go_on(place)

    assert Counter(place.executions("r")) == Counter(ONE_EACH) + Counter(twice)
    assert files(place) == {"a.txt": "a", "x.txt": "x", "y.txt": "y"}
    [warning] = warnings(place)
    assert lost in warning
    assert saved in warning
    assert "begins anew" in warning
    assert (place.directory("r") / "sub" / "visit_1" / "child" / "manifest.json").exists()


def test_a_run_that_failed_in_its_child_keeps_every_commit(place: Place) -> None:
    """The resume goes on in the child, and the run's branch does not go back to the child's last commit: it may have been
    pushed, and nobody takes a commit back that others have."""
    write(place, PARENT.replace("CHILD", FOLDER), CHILD.replace("echo y >>", "test -e $SIDE.go || exit 1; echo y >>"))
    assert place.run("r").returncode == 1
    failed = git(place, "rev-list", "attractor/run/r").split()
    place.side("r").with_name("r.side.go").touch()

    go_on(place)

    assert Counter(place.executions("r")) == ONE_EACH
    assert git(place, "rev-list", "attractor/run/r").split()[-len(failed) :] == failed
    assert files(place).items() >= {"a.txt": "a", "x.txt": "x", "y.txt": "y"}.items()


@pytest.mark.parametrize(
    ("loss", "again"),
    [
        ("commits", {"a"}),
        pytest.param("copy", {"a"}, marks=pytest.mark.slow),
        pytest.param("worktree", set[str](), marks=pytest.mark.slow),
        pytest.param("nothing", set[str](), marks=pytest.mark.slow),
    ],
)
def test_a_finished_branch_runs_again_where_its_work_is_gone(place: Place, loss: str, again: set[str]) -> None:
    """Its record and its checkpoint are no work. In a git run that is its commits, in a plain run its copy of the folder."""
    write(place, FAN)
    kill_at(place, "result.json@after", *(["--no-git"] if loss == "copy" else []))
    worktree = "parallel/p/pass1/01-a/worktree"
    if loss == "commits":
        forget(place, "attractor/run/parallel/r/p/pass1/a", worktree=worktree)
    elif loss != "nothing":
        shutil.rmtree(place.directory("r") / worktree)

    go_on(place)

    assert Counter(place.executions("r")) == Counter(["a", "b", "last", *again])
    assert (place.directory("r") / "last" / "stdout.log").read_text().split() == ["a"]  # the winner is the first of equals
    assert ["branch a: " in warning and "begins anew" in warning for warning in warnings(place)] == [True] * len(again)


@pytest.mark.slow
def test_a_branch_whose_commits_are_gone_half_way_begins_anew(place: Place) -> None:
    """Killed after its first stage, of which only the checkpoint is left."""
    write(place, FAN.replace("p -> a -> j", "p -> a -> c -> j").replace("  last ", '  c [tool_command="cat a.txt"]\n  last '))
    kill_at(place, "checkpoint.json@after:2")
    forget(place, "attractor/run/parallel/r/p/pass1/a", worktree="parallel/p/pass1/01-a/worktree")

    go_on(place)

    assert Counter(place.executions("r")) == {"a": 2, "b": 1, "last": 1}
    assert files(place) == {"a.txt": "a"}


@pytest.mark.parametrize(
    "options", [pytest.param((), id="git"), pytest.param(("--no-git",), id="plain", marks=pytest.mark.slow)]
)
def test_branches_that_shared_the_runs_folder_run_again_where_it_was_put_back(place: Place, options: tuple[str, ...]) -> None:
    """They have committed nothing. A plain folder is not put back: there a finished branch stays finished."""
    write(place, FAN.replace("max_parallel=1", "max_parallel=1, branch_workspace=shared"))
    kill_at(place, "result.json@after", *options)

    go_on(place)

    again = [] if options else ["a"]
    assert Counter(place.executions("r")) == Counter(["a", "b", "last", *again])
    assert (place.directory("r") / "last" / "stdout.log").read_text().split() == ["a", "b"]
    assert ["so they begin anew" in warning for warning in warnings(place)] == [True] * len(again)


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["winner", "all"])
def test_a_fan_in_says_whose_work_is_gone(place: Place, merge: str) -> None:
    """The fan-out is over, so no branch can run again: the run fails and names the branch and its commit. Once that is back, a
    resume goes on."""
    write(place, FAN.replace("shape=tripleoctagon", f"shape=tripleoctagon, merge={merge}"))
    kill_at(place, "checkpoint.json@after:4")
    assert checkpoint(place)["completed_nodes"] == ["start", "p"]
    branch = "attractor/run/parallel/r/p/pass1/a"
    lost = git(place, "rev-parse", branch).strip()
    git(place, "clone", "--quiet", "--mirror", ".", str(place.folder / "mirror"))
    forget(place, branch, worktree="parallel/p/pass1/01-a/worktree")

    go_on(place, code=1)

    reason = json.loads((place.directory("r") / "final.json").read_bytes())["failure_reason"]
    assert "the work of branch a is gone" in reason
    assert f"commit {lost}" in reason

    git(place, "fetch", "--quiet", str(place.folder / "mirror"), f"{branch}:{branch}")
    go_on(place)
    assert files(place).get("a.txt") == "a"


@pytest.mark.slow
@pytest.mark.parametrize("point", ["merge@after", "merge@after:2", "checkpoint.json@before:5"])
def test_a_fan_in_whose_merges_were_made_but_not_recorded_merges_again(place: Place, point: str) -> None:
    """The run's branch was put back to where the branches began, and their commits are still there."""
    write(place, FAN.replace("shape=tripleoctagon", "shape=tripleoctagon, merge=all"))
    kill_at(place, point)
    assert checkpoint(place)["completed_nodes"] == ["start", "p"]

    go_on(place)

    assert Counter(place.executions("r")) == {"a": 1, "b": 1, "last": 1}
    assert files(place) == {"a.txt": "a", "b.txt": "b"}
    assert warnings(place) == []


@pytest.mark.slow
def test_a_call_whose_result_is_on_record_is_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node is not in the checkpoint, and the files that it made were dropped with its commit."""
    (place.folder / "repository" / "work.py").write_text(
        "import os\nfrom pathlib import Path\n\nfrom prefect import task\n\n\n@task\ndef make(folder: str) -> int:\n"
        "    with open(os.environ['SIDE'], 'a') as side:\n        print('call', file=side)\n"
        "    Path(folder, 'called.txt').write_text('called')\n    return 7\n"
    )
    write(
        place,
        PARENT.replace("CHILD", 'type="prefect.task", ref="work:make", param.folder="WORKTREE"').replace(
            "WORKTREE", str(place.directory("r") / "worktree")
        ),
    )
    kill_at(place, "commit@after:3")
    assert json.loads((place.directory("r") / "sub" / "prefect_call.json").read_bytes())["state"] == "Completed"
    assert checkpoint(place)["completed_nodes"] == ["start", "a"]

    go_on(place)

    assert Counter(place.executions("r")) == {"a": 1, "call": 2, "b": 1}
    assert files(place) == {"a.txt": "a", "called.txt": "called"}
