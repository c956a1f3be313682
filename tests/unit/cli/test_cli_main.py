"""The command as a whole: exit codes, messages, streams, start-up cost."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from run_writer import Kilroy, clean_environment

from kilroy_engine import __version__
from kilroy_engine.cli.errors import ExitCode, exit_code_of, report
from kilroy_engine.errors import RunAlreadyOwned


def test_version_prints_the_version_alone(kilroy: Kilroy) -> None:
    """``--version`` is for scripts too: one line, the version."""
    done = kilroy("--version")
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "run",
        "resume",
        "validate",
        "render",
        "status",
        "follow",
        "runs",
        "runs list",
        "runs show",
        "runs wait",
        "runs prune",
        "server",
    ],
)
def test_help_is_everywhere(kilroy: Kilroy, command: str) -> None:
    """Every command explains itself on standard output and ends with 0."""
    done = kilroy(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Usage: kilroy {command}".rstrip() in done.stdout
    assert done.stderr == ""


def test_the_overview_says_what_each_command_is_for(kilroy: Kilroy) -> None:
    """``kilroy`` alone is the way in: every command with its purpose."""
    shown = kilroy().stdout
    for command in ("run", "validate", "render", "status", "follow", "runs", "server"):
        assert any(line.strip("│ ").startswith(f"{command} ") and len(line.split()) > 4 for line in shown.splitlines()), command


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["nonsense"],
        ["run", "x.dot", "--bogus"],
        ["run", "x.dot", "--human", "nobody"],
        ["run", "x.dot", "--input", "no-value"],
        ["run", "x.dot", "--label", "=x"],
        ["run", "x.dot", "--repo", ".", "--no-git"],
        ["run", "x.dot", "--workdir", ".", "--no-git"],
        ["runs", "list", "--status", "odd"],
        ["validate"],
        ["render", "x.dot"],
    ],
)
def test_a_command_line_that_cannot_be_understood_ends_with_2(kilroy: Kilroy, arguments: list[str]) -> None:
    """Usage errors: a message and where to find help on standard error, nothing on standard output, exit code 2."""
    done = kilroy(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kilroy: ")
    assert "--help" in done.stderr.splitlines()[-1]


def test_an_expected_error_is_its_text_and_nothing_else(kilroy: Kilroy) -> None:
    """A Kilroy error is one message without a traceback, exit code 1."""
    done = kilroy("status", "nosuchrun")
    assert done.returncode == 1
    assert done.stderr.startswith("kilroy: no run 'nosuchrun' in ")
    assert "Traceback" not in done.stderr


def test_an_unexpected_error_is_called_a_bug_and_leaves_its_traceback_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What nobody foresaw is one line with its type; the details are where the line says."""
    monkeypatch.delenv("KILROY_DEBUG", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = report(ZeroDivisionError("half a pipeline\nand more"))
    shown = capsys.readouterr().err
    assert code == ExitCode.FAIL
    assert len(shown.splitlines()) == 1
    assert "ZeroDivisionError: half a pipeline -- this is a bug in Kilroy Engine" in shown
    details = Path(shown.rsplit(" ", 1)[1].strip().rstrip("."))
    assert "ZeroDivisionError: half a pipeline\nand more" in details.read_text()


def test_debug_prints_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``KILROY_DEBUG`` shows where an error comes from."""
    monkeypatch.setenv("KILROY_DEBUG", "1")
    report(RunAlreadyOwned("taken", path=Path("x"), pid=7))
    shown = capsys.readouterr().err
    assert "RunAlreadyOwned: taken" in shown
    assert shown.endswith("kilroy: taken\n")


def test_an_operating_system_error_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk or a missing permission is told with its path."""
    assert report(PermissionError(13, "Permission denied", "/x/y")) == ExitCode.FAIL
    assert capsys.readouterr().err == "kilroy: Permission denied: /x/y\n"


def test_exit_codes_follow_the_final_status() -> None:
    """0 success, 1 fail, 130 canceled; a status that nobody knows is no success."""
    assert [exit_code_of(status) for status in ("success", "fail", "canceled", "odd")] == [0, 1, 130, 1]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """``kilroy … | head -1`` prints no complaint; the exit code is that of a process that got SIGPIPE."""
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / "many" / f"{number}.dot").write_text("digraph { a -> b")
    with subprocess.Popen(
        [sys.executable, "-m", "kilroy_engine.cli.main", "validate", *map(str, (tmp_path / "many").iterdir())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == ExitCode.BROKEN_PIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_of_the_terminal_breaks_the_output(kilroy: Kilroy, tmp_path: Path, encoding: str) -> None:
    """Text that the encoding lacks is shown with ``?``; nothing fails because of it."""
    (tmp_path / "p.dot").write_text('digraph p { start [shape=Mdiamond, label="→ ü"]; start -> "nöde→" }', encoding="utf-8")
    done = kilroy("validate", "p.dot", PYTHONUTF8="0", PYTHONIOENCODING=encoding, LC_ALL="C")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "dot_syntax" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["validate", "p.dot"], ["status"], ["runs", "list"], ["run", "--help"]]
)
def test_looking_costs_no_import_of_prefect(tmp_path: Path, arguments: list[str]) -> None:
    """What runs nothing imports neither Prefect nor its web stack, and answers in half a second of CPU time.

    The limit leaves room for slow and busy machines; Prefect alone would cost more.
    """
    (tmp_path / "p.dot").write_text("digraph p { start -> exit }")
    program = (
        "import sys; from kilroy_engine.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'prefect', 'httpx', 'fastapi', 'sqlalchemy'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr)"
    )
    spent: list[float] = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            timeout=60,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stderr.splitlines()[-1] == "[]"
        if spent[-1] < 1.5:
            return
    pytest.fail(f"CPU seconds of three calls: {spent}")
