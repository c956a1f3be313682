"""failure_dossier.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.dossier import (
    FailedStage,
    ToolFacts,
    WrittenDossier,
    build_dossier,
    read_tool_facts,
    write_dossier,
)
from kilroy_engine.traversal.outcome import failure


def stage(reason: str = "exit status 1", stderr: str = "", command: str = "", output: str = "") -> FailedStage:
    tool = ToolFacts(command=command, exit_code=1, stderr_excerpt=stderr)
    return FailedStage("build", "tool", failure(reason), "deterministic", 2, 3, Path("/run/build"), output=output, tool=tool)


def built(failed: FailedStage, existing: tuple[str, ...] = ()) -> dict[str, object]:
    return build_dossier(
        failed,
        work_dir=Path("/work"),
        snapshot_dir=Path("/snapshot"),
        generated_at="2026-01-02T03:04:05Z",
        exists=lambda path: str(path) in existing,
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("bash: line 1: cd: web: No such file or directory", "web"),
        ("test: conf/app.yml: no such file or directory", "conf/app.yml"),
        ("cp: cannot stat 'dist/app.js': No such file or directory", "dist/app.js"),
        ("tail: cannot open 'x.log' for reading: No such file or directory", "x.log"),
        ("panic: open data/in.csv: no such file or directory", "data/in.csv"),
    ],
)
def test_missing_paths_are_found_in_what_tools_say(text: str, path: str) -> None:
    """Kilroy's four shell idioms, in the error output, the reason or the tool's output."""
    for failed in (stage(stderr=f"first\n{text}\nlast"), stage(reason=text), stage(output=text)):
        dossier = built(failed, existing=(f"/work/{path}",))
        assert dossier["missing_paths"] == [
            {
                "path": path,
                "absolute_path": f"/work/{path}",
                "inside_repo": True,
                "exists_now": True,
                "exists_in_input_snapshot": False,
            }
        ]


def test_a_path_outside_the_work_folder_is_said_to_be() -> None:
    """Absolute and climbing paths; the snapshot is not asked for those."""
    text = "cat: cannot open '/etc/x'\ncp: cannot stat '../y'\ncp: cannot stat 'in'"
    paths = built(stage(stderr=text), existing=("/snapshot/in",))["missing_paths"]
    assert isinstance(paths, list)
    assert [(p["path"], p["inside_repo"], p["exists_in_input_snapshot"]) for p in paths] == [
        ("../y", False, False),
        ("/etc/x", False, False),
        ("in", True, True),
    ]


def test_missing_commands_are_found() -> None:
    """bash's and dash's wording, sorted, each once; ordinary text that ends in "not found" is none."""
    text = "bash: line 1: pnpm: command not found\nsh: 1: cargo: not found\nsh: 1: cargo: not found\nno tests found"
    assert built(stage(stderr=text))["missing_executables"] == ["cargo", "pnpm"]
    assert "missing_executables" not in built(stage(stderr="error: file: index.html was not found"))


def test_the_dossier_has_kilroys_fields_and_summary() -> None:
    """version 1; counts appear in the summary only when there are some; the reason is cut after 120 characters."""
    dossier = built(stage(reason="r" * 200, command="make", stderr="make: x: command not found"))
    assert dossier == {
        "version": 1,
        "generated_at": "2026-01-02T03:04:05Z",
        "failed_node_id": "build",
        "handler_type": "tool",
        "status": "fail",
        "failure_class": "deterministic",
        "failure_reason": "r" * 200,
        "attempts_used": 2,
        "max_attempts": 3,
        "stage_dir": "/run/build",
        "missing_executables": ["x"],
        "tool": {"command": "make", "exit_code": 1, "stderr_excerpt": "make: x: command not found"},
        "summary": f"node=build; class=deterministic; attempt=2/3; missing_tools=1; reason={'r' * 120}",
    }
    agent = FailedStage("plan", "codergen", failure("no"), "structural", 1, 1, Path("/run/plan"))
    assert "tool" not in built(agent)


def test_it_is_written_to_the_run_and_to_the_work_folder(tmp_path: Path) -> None:
    """The event's path is relative to the work folder, or the run directory's file when there is no work folder."""
    run, work = RunDirectory(tmp_path / "run"), tmp_path / "work"
    run.path.mkdir()
    work.mkdir()
    assert write_dossier(run, stage(), run_id="r1", work_dir=work).path == ".ai/runs/r1/failure_dossier.json"
    copy = json.loads((work / ".ai/runs/r1/failure_dossier.json").read_bytes())
    assert copy == json.loads(run.dossier.read_bytes())
    assert write_dossier(run, stage(), run_id="r1", work_dir=None) == WrittenDossier(str(run.dossier), copy["summary"])


def test_tool_facts_come_from_the_stages_files(tmp_path: Path) -> None:
    """Missing or damaged files leave blanks; the error output is cut after 4000 characters."""
    assert read_tool_facts(tmp_path) == ToolFacts()
    (tmp_path / "tool_invocation.json").write_text('{"command":"make","working_dir":"/w"}')
    (tmp_path / "tool_timing.json").write_text('{"exit_code":2}')
    (tmp_path / "stderr.log").write_text("e" * 5000)
    assert read_tool_facts(tmp_path) == ToolFacts("make", "/w", 2, "e" * 4000)
    (tmp_path / "tool_timing.json").write_text("{")
    assert read_tool_facts(tmp_path).exit_code == 0
