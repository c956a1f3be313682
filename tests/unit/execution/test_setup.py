"""Set-up commands: before the first stage of every start, in the place of work."""

from __future__ import annotations

import json
from pathlib import Path

from whole_runs import SLEEPS, Place

from kilroy_engine.errors import StopKind
from kilroy_engine.rundir.ending.cancel import request_cancel

READS = 'a [tool_command="cat made.txt"] start -> a -> done'


def config(place: Place, *commands: str, timeout_ms: int = 300_000) -> str:
    """A settings file with these commands."""
    file = place.folder / "run.yaml"
    file.write_text(
        json.dumps({"version": 1, "setup": {"commands": list(commands), "timeout_ms": timeout_ms}}), encoding="utf-8"
    )
    return str(file)


def test_they_run_one_after_the_other_in_the_place_of_work(place: Place) -> None:
    """Each with its output on record; the stages find what they made."""
    ran = place.runs(READS, config=config(place, "echo one > made.txt; echo said", "echo two >> made.txt"))

    assert ran.end == ("success", "")
    assert ran.file("a/stdout.log") == "one\ntwo\n"
    assert ran.file("run.setup/0/stdout.log") == "said\n"
    told = [(event["event"], event["index"]) for event in ran.events("setup_command_start", "setup_command_ok")]
    assert told == [("setup_command_start", 0), ("setup_command_ok", 0), ("setup_command_start", 1), ("setup_command_ok", 1)]


def test_one_that_fails_fails_the_run_before_its_first_stage(place: Place) -> None:
    """The reason names the command and its exit; the next one is not run."""
    ran = place.runs(READS, config=config(place, "echo broken >&2; exit 4", "touch second"))

    assert ran.end == ("fail", "setup command 0 failed: exit status 4: echo broken >&2; exit 4")
    assert ran.orchestrator.performed == []
    (failed,) = ran.events("setup_command_failed")
    assert (failed["error"], failed["stderr"]) == ("exit status 4", "broken")
    assert not (ran.run.worktree / "second").exists()


def test_together_they_have_one_limit(place: Place) -> None:
    """``setup.timeout_ms``; past it the command is ended."""
    ran = place.runs(READS, config=config(place, "true", SLEEPS, timeout_ms=700))

    assert ran.final.failure_reason == f"setup command 1 failed: timed out after 0.7s: {SLEEPS}"


def test_a_limit_of_zero_is_no_limit(place: Place) -> None:
    """As for all other limits."""
    assert place.runs(READS, config=config(place, "echo one > made.txt", timeout_ms=0)).end == ("success", "")


def test_a_stop_ends_them(place: Place) -> None:
    """As it ends a stage; the run is canceled, not failed."""
    log = place.run.path / "run.setup" / "0" / "stdout.log"
    place.meanwhile(
        lambda: log.exists() and log.read_text(), lambda: request_cancel(place.run, StopKind.PERSON, "by kilroy stop")
    )
    ran = place.runs(READS, config=config(place, SLEEPS))

    assert ran.end == ("canceled", "canceled: by kilroy stop")
    assert ran.events("setup_command_failed") == []


def test_each_start_runs_them_again(place: Place) -> None:
    """A resume is on another machine, or after a clean-up: what they make may be gone."""
    first = 'a [tool_command="test $(wc -l < made.txt) -ge 2"] start -> a  a -> done [condition="outcome=success"]'
    assert place.runs(first, config=config(place, "echo x >> made.txt")).final.status == "fail"
    Path(place.folder / "run.yaml").unlink()

    assert place.resumes().end == ("success", "")
