"""Looking at runs from outside: which run is meant, where it stands, its list, its story, its removal."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from run_writer import Kilroy, Writer, append_all, append_stages, stage

from kilroy_engine.cli.commands.follow import terminal_status
from kilroy_engine.cli.find_run import find_run
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import EdgeSelected, RunCompleted
from kilroy_engine.traversal.outcome import FinalStatus

KILROY_SNAPSHOT = {
    "logs_root", "run_id", "state", "current_node_id", "last_event", "last_event_at", "failure_reason", "pid", "pid_alive",
    "current_attempt", "max_attempts", "completed_nodes", "stage_trace",
}  # fmt: skip
"""Keys of Kilroy's status snapshot that apply to a run that failed (Kilroy: attractor status --json)."""


def test_a_run_is_found_by_id_beginning_path_or_as_the_latest(writer: Writer, runs: Path) -> None:
    """An exact id wins over a longer one; letters of any case; without a name the run that was started last."""
    writer("01AAA", age_s=300).ended()
    writer("01AAAB", age_s=200).ended()
    writer("02BBB", age_s=100).ended()
    assert find_run("01AAA", runs).path == runs / "01AAA"
    assert find_run("02b", runs).path == runs / "02BBB"
    assert find_run(str(runs / "01AAAB"), runs).path == runs / "01AAAB"
    assert find_run("", runs).path == runs / "02BBB"


@pytest.mark.parametrize(
    ("reference", "message"),
    [("01", "2 runs begin with '01': 01AAA, 01BBB"), ("zz", "no run 'zz'"), ("./zz", "./zz is no run directory")],
)
def test_a_name_that_fits_no_single_run_is_refused(writer: Writer, runs: Path, reference: str, message: str) -> None:
    """Ambiguous and unknown names are told with what to do."""
    writer("01AAA").ended()
    writer("01BBB").ended()
    with pytest.raises(RunDirectoryError, match=message):
        find_run(reference, runs)


def test_no_runs_at_all_is_told_kindly(kilroy: Kilroy) -> None:
    """A fresh machine has no runs: an empty list is no error, the status of nothing is."""
    listed = kilroy("runs", "list")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "no runs in " in listed.stderr
    assert kilroy("runs", "list", "--json").stdout == "[]\n"
    assert "`kilroy run FILE` starts one" in kilroy("status").stderr


def test_status_is_lines_that_a_shell_can_read(kilroy: Kilroy, writer: Writer) -> None:
    """``key=value`` in Kilroy's order; the exit code is 0 however the run ended."""
    writer("01FAIL").ended(FinalStatus.FAIL, "no route")
    done = kilroy("status", "01FAIL")
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert list(lines)[:4] == ["state", "run_id", "node", "event"]
    assert (lines["state"], lines["node"], lines["failure_reason"]) == ("fail", "exit", "no route")


def test_status_json_has_kilroys_keys(kilroy: Kilroy, writer: Writer) -> None:
    """A tool written for Kilroy's snapshot reads ours."""
    writer("01FAIL").ended(FinalStatus.FAIL, "no route")
    snapshot = json.loads(kilroy("status", "--json").stdout)
    assert set(snapshot) >= KILROY_SNAPSHOT
    assert snapshot["completed_nodes"] == ["start", "build", "exit"]
    assert snapshot["stage_trace"][1] == {"node_id": "build", "status": "success", "attempt": 1, "max_attempts": 1}


@pytest.mark.parametrize(("owned", "state"), [(True, "running"), (False, "unknown")])
def test_a_run_without_an_end_runs_while_its_process_lives(kilroy: Kilroy, writer: Writer, owned: bool, state: str) -> None:
    """The lock tells a run at work from one whose process is gone."""
    one = writer("01LIVE")
    append_all(one.open(), stage("build", "exit status 1", limit=3)[:3])
    lock = one.own()
    if not owned:
        lock.release()
    snapshot = json.loads(kilroy("status", "--json").stdout)
    assert (snapshot["state"], snapshot["pid_alive"]) == (state, owned)
    assert (snapshot["current_node_id"], snapshot["current_attempt"], snapshot["max_attempts"]) == ("build", 2, 3)
    lock.release()


def test_a_damaged_record_is_named_with_what_to_do(kilroy: Kilroy, writer: Writer) -> None:
    """A run that cannot be read is an error of ``status`` and a row of the list that says what is wrong with it."""
    writer("01GOOD").ended()
    damaged = writer("02BAD").ended()
    damaged.final.write_text("{")
    assert "final.json is damaged" in kilroy("status", "02BAD").stderr
    listed = kilroy("runs", "list")
    assert listed.returncode == 0
    rows = [line.split()[:2] for line in listed.stdout.splitlines()]
    assert rows == [["RUN", "STATE"], ["01GOOD", "success"], ["02BAD", "damaged"]]
    assert "final.json is damaged" in listed.stdout
    (record,) = json.loads(kilroy("runs", "list", "--status", "damaged", "--json").stdout)
    assert (record["run_id"], record["status"]) == ("02BAD", "damaged")
    assert "final.json is damaged" in record["problem"]
    assert "02BAD" not in kilroy("runs", "list", "--status", "success").stdout


def test_the_list_is_newest_first_and_can_be_narrowed(kilroy: Kilroy, writer: Writer) -> None:
    """Labels, state, part of the pipeline's name and a limit, alone and together."""
    writer("01A", labels={"team": "x"}).ended()
    writer("02B", graph_name="Deploy").ended(FinalStatus.FAIL, "broken")
    writer("03C", labels={"team": "x", "env": "dev"}).ended(FinalStatus.CANCELED, "canceled: by kilroy stop")

    def ids(*arguments: str) -> list[str]:
        return [record["run_id"] for record in json.loads(kilroy("runs", "list", "--json", *arguments).stdout)]

    assert ids() == ["03C", "02B", "01A"]
    assert ids("--label", "team=x") == ["03C", "01A"]
    assert ids("--label", "team=x", "--label", "env=dev") == ["03C"]
    assert ids("--status", "fail") == ["02B"]
    assert ids("--graph", "depl") == ["02B"]
    assert ids("--limit", "1") == ["03C"]


def test_a_list_record_has_kilroys_keys(kilroy: Kilroy, writer: Writer) -> None:
    """Kilroy: runs list --json. Duration is text in milliseconds."""
    writer("01A", labels={"team": "x"}).ended()
    [record] = json.loads(kilroy("runs", "list", "--json").stdout)
    assert set(record) == {
        "run_id", "graph_name", "goal", "started_at", "logs_root", "worktree_dir", "labels", "status", "duration"
    }  # fmt: skip
    assert record["duration"].endswith("ms")


def test_a_list_in_a_pipe_is_never_cut(kilroy: Kilroy, writer: Writer) -> None:
    """Programs read whole cells; only a terminal cuts them to its width."""
    reason = "because " * 60
    writer("01A").ended(FinalStatus.FAIL, reason.strip())
    assert reason.strip() in kilroy("runs", "list").stdout


def test_show_tells_facts_visits_path_and_files(kilroy: Kilroy, writer: Writer) -> None:
    """One page about a run: every visit with its attempts and reason, the path, and where to look."""
    one = writer("01A", labels={"team": "x"})
    log = one.open()
    one.own().release()
    append_stages(log, "start")
    append_all(log, stage("build", "exit status 1", "exit status 2", limit=4))
    append_stages(log, "exit")
    one.end(log)
    shown = kilroy("runs", "show", "01A").stdout
    assert "state     success" in shown
    assert "labels    team=x" in shown
    assert any(line.split()[:4] == ["build", "1", "success", "3/4"] for line in shown.splitlines())
    assert "start -> build -> exit" in shown
    assert str(one.run.progress) in shown


def test_show_json_has_visits_and_times(kilroy: Kilroy, writer: Writer) -> None:
    """For programs: Kilroy's keys, and every visit."""
    writer("01A").ended()
    shown = json.loads(kilroy("runs", "show", "--json").stdout)
    assert {"completed_at", "duration_ms", "final_sha", "failure_reason", "inputs", "outputs"} <= set(shown)
    assert [visit["node_id"] for visit in shown["visits"]] == ["start", "build", "exit"]


def test_the_path_can_be_drawn_as_text(kilroy: Kilroy, writer: Writer) -> None:
    """From top to bottom, with the condition that led on."""
    one = writer("01A")
    log = one.open()
    append_stages(log, "start")
    log.append(
        EdgeSelected(
            from_node="start", to_node="build", label="go", condition="", hop_source="edge_selection",
            selection_method="only_edge", candidates_evaluated=1, conditions_matched=0,
        )
    )  # fmt: skip
    append_stages(log, "build")
    one.own().release()
    one.end(log)
    lines = kilroy("runs", "show", "--path").stdout.splitlines()
    assert [line.strip() for line in lines[1:3]] == ["|  go", "v"]
    assert lines[0].startswith("[start] success")
    assert lines[3].startswith("[build] success")


@pytest.mark.parametrize(("status", "code"), [(FinalStatus.SUCCESS, 0), (FinalStatus.FAIL, 1), (FinalStatus.CANCELED, 130)])
def test_follow_and_wait_end_with_the_runs_code(kilroy: Kilroy, writer: Writer, status: FinalStatus, code: int) -> None:
    """Of a run that is over: all its events, then its exit code. Kilroy's follow ends with 0 always."""
    writer("01A").ended(status, "why" if code else "")
    followed = kilroy("follow", "01A")
    assert followed.returncode == code
    assert "build: success" in followed.stdout
    assert followed.stdout.splitlines()[-1].endswith(f"run {status}{': why' if code else ''}")
    assert kilroy("runs", "wait", "01A").returncode == code


def test_follow_raw_prints_the_files_lines(kilroy: Kilroy, writer: Writer) -> None:
    """``--raw`` is the stream itself, byte for byte as the engine wrote it."""
    run = writer("01A").ended()
    assert kilroy("follow", "--raw").stdout == run.progress.read_text()


def test_follow_prints_what_comes_until_the_terminal_line(kilroy: Kilroy, writer: Writer) -> None:
    """A live run: events written while the command looks on appear, and the terminal line ends it."""
    one = writer("01A")
    log = one.open()
    lock = one.own()

    def go_on() -> None:
        append_stages(log, "late")
        one.end(log)
        lock.release()

    timer = threading.Timer(1.5, go_on)
    timer.start()
    followed = kilroy("follow", "01A")
    timer.join()
    assert followed.returncode == 0
    assert "late: success" in followed.stdout


def test_follow_of_an_abandoned_run_ends_with_1(kilroy: Kilroy, writer: Writer) -> None:
    """A run whose process has been gone for a while and has no end does not keep anybody waiting."""
    one = writer("01A")
    append_stages(one.open(), "start")
    one.own().release()
    hour_ago = time.time() - 3600
    os.utime(one.run.progress, (hour_ago, hour_ago))
    followed = kilroy("follow", "01A")
    assert followed.returncode == 1
    assert "is gone and has left no end" in followed.stderr
    assert kilroy("runs", "wait", "01A").returncode == 1


def test_wait_gives_up_with_2_when_the_time_is_up(kilroy: Kilroy, writer: Writer) -> None:
    """Kilroy: runs wait ends with 2 on time-out."""
    one = writer("01A")
    one.open()
    lock = one.own()
    done = kilroy("runs", "wait", "01A", "--timeout", "300ms")
    lock.release()
    assert done.returncode == 2
    assert "still running after 300ms" in done.stderr
    assert "a time such as" in kilroy("runs", "wait", "01A", "--timeout", "soon").stderr


def test_prune_only_says_what_it_would_do(kilroy: Kilroy, writer: Writer) -> None:
    """Without ``--yes`` nothing is removed, and without a choice nothing is even listed."""
    run = writer("01A").ended()
    assert kilroy("runs", "prune").returncode == 1
    done = kilroy("runs", "prune", "--keep", "0")
    assert done.returncode == 0
    assert "1 run would be removed; add --yes to remove" in done.stderr
    assert run.final.exists()


def test_prune_removes_finished_runs_only(kilroy: Kilroy, writer: Writer, runs: Path) -> None:
    """A live run, a run without an end and a damaged one stay, however the choice reads."""
    for number, run_id in enumerate(("01OLD", "02OLD", "03NEW")):
        writer(run_id, age_s=(3 - number) * 86400).ended()
    live, lost, damaged = writer("04LIVE"), writer("05LOST"), writer("06BAD").ended()
    live.open()
    lock = live.own()
    lost.open()
    lost.own().release()
    damaged.final.write_text("{")
    done = kilroy("runs", "prune", "--older-than", "36h", "--yes")
    assert sorted(path.name for path in runs.iterdir()) == ["03NEW", "04LIVE", "05LOST", "06BAD"]
    assert "never removed: 1 running, 1 without an end, 1 damaged" in done.stderr
    kilroy("runs", "prune", "--keep", "0", "--yes")
    lock.release()
    assert sorted(path.name for path in runs.iterdir()) == ["04LIVE", "05LOST", "06BAD"]


def test_prune_keeps_the_newest(kilroy: Kilroy, writer: Writer, runs: Path) -> None:
    """``--keep N`` counts finished runs from the newest."""
    for run_id in ("01A", "02B", "03C"):
        writer(run_id).ended()
    kilroy("runs", "prune", "--keep", "2", "--yes")
    assert sorted(path.name for path in runs.iterdir()) == ["02B", "03C"]


def test_prune_takes_the_worktree_out_of_its_repository_and_leaves_the_branch(
    kilroy: Kilroy, writer: Writer, tmp_path: Path
) -> None:
    """The repository forgets the worktree; the run's commits stay on its branch."""
    repo = tmp_path / "repo"

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repo), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    repo.mkdir()
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "first")
    sha = git("rev-parse", "HEAD").strip()
    one = writer("01A", repo_path=str(repo), run_branch="attractor/run/01A", base_sha=sha)
    log = one.open()
    one.own().release()
    one.run.worktree.rmdir()
    git("worktree", "add", "-q", "-b", "attractor/run/01A", str(one.run.worktree), sha)
    one.end(log, FinalStatus.FAIL, "no route")
    done = kilroy("runs", "prune", "--keep", "0", "--yes")
    assert done.returncode == 0, done.stderr
    assert not one.run.path.exists()
    assert str(one.run.worktree) not in git("worktree", "list")
    assert "attractor/run/01A" in git("branch", "--list", "attractor/run/01A")


def test_prune_leaves_a_run_whose_repository_is_gone_to_nobody(kilroy: Kilroy, writer: Writer) -> None:
    """Without its repository a worktree is a folder like any other, read-only folders in it included."""
    one = writer("01A", repo_path="/nowhere", run_branch="x", base_sha="abc")
    log = one.open()
    one.own().release()
    cache = one.run.worktree / "cache"
    cache.mkdir()
    (cache / "module").write_text("x")
    cache.chmod(0o500)
    one.end(log)
    done = kilroy("runs", "prune", "--keep", "0", "--yes")
    assert done.returncode == 0, done.stderr
    assert not one.run.path.exists()


def test_the_terminal_event_names_are_the_contracts() -> None:
    """``follow`` recognises the end by the names of the contract."""
    assert terminal_status({"event": RunCompleted.event, "status": "success"}) == "success"
    assert terminal_status({"event": "stage_attempt_end", "status": "success"}) == ""
