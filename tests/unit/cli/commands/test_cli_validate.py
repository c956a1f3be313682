"""``kilroy validate``: findings for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_writer import Kilroy

GOOD = """digraph good {
  start [shape=Mdiamond]
  exit [shape=Msquare]
  start -> exit
}
"""
TWO_STARTS = """digraph twice {
  s1 [shape=Mdiamond]
  s2 [shape=Mdiamond]
  exit [shape=Msquare]
  s1 -> exit
  s2 -> exit
}
"""
UNCLOSED = "digraph broken {\n  a -> b [label=\n}\n"


def test_a_file_without_errors_is_ok(kilroy: Kilroy, tmp_path: Path) -> None:
    """The summary names the file, its size and the verdict; exit code 0."""
    (tmp_path / "good.dot").write_text(GOOD)
    done = kilroy("validate", "good.dot")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "ok: good.dot (2 nodes, 1 edge)"


def test_a_finding_is_a_place_a_severity_a_rule_and_a_message(kilroy: Kilroy, tmp_path: Path) -> None:
    """The line reads ``file:line:column severity rule message``, so that editors can jump there."""
    (tmp_path / "twice.dot").write_text(TWO_STARTS)
    done = kilroy("validate", "twice.dot")
    assert done.returncode == 1
    first = next(line for line in done.stdout.splitlines() if " error " in line)
    place, severity, rule, message = first.split(" ", 3)
    assert (place, severity, rule) == ("twice.dot:3:3", "error", "start_node")
    assert message


def test_a_syntax_error_shows_the_line_with_a_caret_and_how_to_mend_it(kilroy: Kilroy, tmp_path: Path) -> None:
    """A file that does not parse is a finding of rule ``dot_syntax`` with the source line."""
    (tmp_path / "broken.dot").write_text(UNCLOSED)
    lines = kilroy("validate", "broken.dot").stdout.splitlines()
    assert lines[0].startswith("broken.dot:3:1 error dot_syntax ")
    assert lines[1].endswith("}")
    assert lines[2].strip(" |") == "^"
    assert lines[3].startswith("    fix: ")


def test_one_bad_file_does_not_stop_the_others(kilroy: Kilroy, tmp_path: Path) -> None:
    """Every file gets its verdict, whether it is missing, broken, a folder, no text or good."""
    (tmp_path / "broken.dot").write_text(UNCLOSED)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.dot").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "good.dot").write_text(GOOD)
    done = kilroy("validate", "missing.dot", "broken.dot", "folder", "binary.dot", "good.dot")
    assert done.returncode == 1
    verdicts = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith(("ok:", "failed:"))]
    assert verdicts == ["failed", "failed", "failed", "failed", "ok"]
    assert done.stdout.splitlines()[-1] == "5 files checked: 4 errors"


def test_json_holds_every_file_with_its_findings(kilroy: Kilroy, tmp_path: Path) -> None:
    """``--json`` is one document on standard output with stable keys, syntax errors included; the exit code is the same."""
    (tmp_path / "broken.dot").write_text(UNCLOSED)
    (tmp_path / "good.dot").write_text(GOOD)
    done = kilroy("validate", "--json", "broken.dot", "good.dot")
    assert done.returncode == 1
    broken, good = json.loads(done.stdout)["files"]
    assert good == {"file": "good.dot", "nodes": 2, "edges": 1, "diagnostics": []}
    [finding] = broken["diagnostics"]
    assert set(finding) == {"rule", "severity", "message", "line", "column", "node", "edge", "fix"}
    assert (finding["rule"], finding["severity"], finding["line"], finding["column"]) == ("dot_syntax", "ERROR", 3, 1)


def test_a_dash_reads_standard_input(kilroy: Kilroy) -> None:
    """A pipeline that another program writes needs no file."""
    done = kilroy("validate", "-", stdin=GOOD.encode())
    assert (done.returncode, done.stdout) == (0, "ok: <stdin> (2 nodes, 1 edge)\n")


@pytest.mark.parametrize(("text", "message"), [(b"", "is empty"), (b"\xff", "is not UTF-8 text")])
def test_standard_input_that_is_no_text_is_a_finding(kilroy: Kilroy, text: bytes, message: str) -> None:
    """Nothing, or bytes, on standard input is told as what it is."""
    done = kilroy("validate", "-", stdin=text)
    assert done.returncode == 1
    assert message in done.stdout


def test_prompt_files_are_looked_up_beside_the_pipeline(kilroy: Kilroy, tmp_path: Path) -> None:
    """``prompt_file`` counts from the pipeline's folder, wherever the command is called; a missing one is an error."""
    (tmp_path / "sub").mkdir()
    text = 'digraph p { start [shape=Mdiamond]; exit [shape=Msquare]; a [prompt_file="a.md"]; start -> a -> exit }'
    (tmp_path / "sub" / "p.dot").write_text(text)
    assert "prompt_file_readable" in kilroy("validate", "sub/p.dot").stdout
    (tmp_path / "sub" / "a.md").write_text("Do it.")
    assert "prompt_file_readable" not in kilroy("validate", "sub/p.dot").stdout
