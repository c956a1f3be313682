"""A commit that git refuses is the stage's failure: its retries, its fail edge, its feedback. The run goes on."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from lane_walks import Walked, pipeline, walked

from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.workspace import GitWorkspace, plan_git

ENDS = 'a -> done [condition="outcome=success"] a -> b [condition="outcome=fail"] b -> done [condition="outcome=success"]'
REFUSED = "echo secret > x.bin; echo '*.bin filter=lfs' > .gitattributes"
CONFLICT = (
    "git switch -qc theirs && echo theirs > f && git commit -qam theirs && "
    "git switch -q - && echo ours > f && git commit -qam ours; git merge theirs; true"
)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one file, and a filter that lets nothing through until the file ``lfs`` is there."""
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n"
        f'[filter "lfs"]\n\trequired = true\n\tclean = "test -e {tmp_path}/lfs && cat"\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "f").write_text("one\n")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def run(repo: Path, tmp_path: Path, statements: str) -> tuple[Walked, GitWorkspace]:
    workspace = plan_git(repo, run_id="r1").open(tmp_path / "r1" / "worktree")
    # The commands' git needs the same settings as ours.
    settings = f"export GIT_CONFIG_GLOBAL={os.environ['GIT_CONFIG_GLOBAL']}; "
    walk = walked(tmp_path / "r1", pipeline(statements.replace("$GIT; ", settings)), workspace=workspace)
    workspace.close()
    return walk, workspace


def subjects(repo: Path) -> list[str]:
    command = ["git", "log", "--reverse", "--format=%s", "main..attractor/run/r1"]
    return subprocess.run(command, cwd=repo, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_refused_commit_is_taken_over_the_fail_edge(repo: Path, tmp_path: Path) -> None:
    """The stage's own success does not count; the next stage's commit takes its work along."""
    mended = "rm x.bin; cat f > g"
    walk, _ = run(repo, tmp_path, f'a [tool_command="{REFUSED}"] b [tool_command="{mended}"] start -> a {ENDS}')

    assert walk.finish.status == "success"
    (first,) = [event for event in walk.events("stage_attempt_end") if event["node_id"] == "a"]
    assert first["status"] == "fail"
    assert str(first["failure_reason"]).startswith("its work could not be committed: git add failed")
    assert subjects(repo) == ["attractor(r1): start (success)", "attractor(r1): b (success)", "attractor(r1): done (success)"]
    assert "could not be committed" in str(walk.warnings[0])


def test_a_refused_commit_is_tried_again(repo: Path, tmp_path: Path) -> None:
    """With the retries that the stage has; the attempt that is committed is the one that counts."""
    command = f"test -e ../again && touch {tmp_path}/lfs; touch ../again; {REFUSED}"
    walk, _ = run(repo, tmp_path, f'a [tool_command="{command}", max_retries=2] b [tool_command="true"] start -> a {ENDS}')

    statuses = [event["status"] for event in walk.events("stage_attempt_end") if event["node_id"] == "a"]
    assert statuses == ["fail", "success"]
    assert subjects(repo) == ["attractor(r1): start (success)", "attractor(r1): a (success)", "attractor(r1): done (success)"]


def test_allow_partial_accepts_no_work_that_is_not_committed(repo: Path, tmp_path: Path) -> None:
    """There is nothing to accept."""
    stage = f'a [tool_command="{REFUSED}", allow_partial=true, max_retries=1, "retry.backoff.initial_delay_ms"=1]'
    walk, _ = run(repo, tmp_path, f'{stage} b [tool_command="rm x.bin"] start -> a {ENDS}')

    assert walk.finish.status == "success"
    assert load_checkpoint(walk.lane.directory).state.outcomes["a"].status == "fail"


def test_without_a_fail_edge_the_run_fails_and_says_why(repo: Path, tmp_path: Path) -> None:
    """The checkpoint names the last commit that there is."""
    walk, workspace = run(repo, tmp_path, f'a [tool_command="{REFUSED}"] start -> a a -> done [condition="outcome=success"]')

    assert walk.finish.status == "fail"
    assert "its work could not be committed" in walk.finish.reason
    assert load_checkpoint(walk.lane.directory).git_commit_sha == workspace.head() == workspace.committed


def test_files_in_conflict_fail_the_stage_and_the_next_one_finds_both_sides(repo: Path, tmp_path: Path) -> None:
    """The reason names the files. The failed stage's commit holds them as they are."""
    mend = "grep -q theirs f && grep -q ours f && echo both > f"
    walk, _ = run(repo, tmp_path, f'a [tool_command="$GIT; {CONFLICT}"] b [tool_command="{mend}"] start -> a {ENDS}')

    assert walk.finish.status == "success"
    outcome = load_checkpoint(walk.lane.directory).state.outcomes["a"]
    assert outcome.failure_reason.startswith("its work could not be committed: files are in conflict: f;")
    assert subjects(repo)[-3:] == ["attractor(r1): a (fail)", "attractor(r1): b (success)", "attractor(r1): done (success)"]


def test_a_walk_costs_one_git_process_per_stage_and_one_more_where_files_changed(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As git counts them, over the whole walk: four stages, one of which changes files. The rest is asked for once per run."""
    workspace = plan_git(repo, run_id="r1").open(tmp_path / "r1" / "worktree")
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
    graph = pipeline('a [tool_command="echo x > x"] b [tool_command="true"] start -> a -> b -> done')
    walk = walked(tmp_path / "r1", graph, workspace=workspace)
    workspace.close()
    monkeypatch.delenv("GIT_TRACE2_EVENT")

    assert walk.finish.status == "success"
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    started = Counter(event["name"] for event in events if event["event"] == "cmd_name")
    assert (started.pop("add"), started.pop("write-tree")) == (4, 1)
    assert started == {"var": 2, "ls-tree": 1, "rev-parse": 1, "update-ref": 1}


def test_a_branch_that_the_stage_left_is_told(repo: Path, tmp_path: Path) -> None:
    """In the stream, with the node's name."""
    command = "git checkout -q -b feature/x; echo hi > new.txt"
    walk, workspace = run(repo, tmp_path, f'a [tool_command="{command}"] start -> a -> done')

    (warning,) = walk.warnings
    assert str(warning).startswith("a: the stage left the worktree on branch feature/x")
    assert subjects(repo) == ["attractor(r1): start (success)", "attractor(r1): a (success)", "attractor(r1): done (success)"]
    assert load_checkpoint(walk.lane.directory).git_commit_sha == workspace.head()


def test_a_lock_that_an_attempt_left_does_not_fail_the_next_one(repo: Path, tmp_path: Path) -> None:
    """Its processes are gone, and nothing of it is committed between the two attempts."""
    command = "test -e ../again || { touch ../again $(git rev-parse --git-path index.lock); exit 1; }; touch new; git add new"
    stage = f'a [tool_command="{command}", max_retries=1, "retry.backoff.initial_delay_ms"=1]'
    walk, _ = run(repo, tmp_path, f"{stage} start -> a -> done")

    assert walk.finish.status == "success"
    assert subjects(repo)[1] == "attractor(r1): a (success)"


def test_a_lock_that_a_killed_command_left_is_removed(repo: Path, tmp_path: Path) -> None:
    """The time limit has ended everything that the stage had started."""
    command = "touch $(git rev-parse --git-path index.lock); sleep 60"
    stages = f'a [tool_command="{command}", timeout="500ms"] b [tool_command="true"] start -> a {ENDS}'
    walk, _ = run(repo, tmp_path, stages)

    assert walk.finish.status == "success"
    assert subjects(repo)[1:3] == ["attractor(r1): a (fail)", "attractor(r1): b (success)"]
