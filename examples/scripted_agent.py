"""An agent without a model, for the pipeline ``coding-loop.dot`` on the project ``textstats``: ``make demo-agents``.

It is called as any agent is: the prompt comes on standard input, it works in the current folder, leaves its verdict in the file
that the prompt names, and prints its answer. What a model would decide is written down here. Its first change has a mistake
that the project's tests find.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

MODULE, TESTS = Path("textstats/__init__.py"), Path("tests/test_longest_word.py")
FUNCTION = '''

def longest_word(text: str) -> str:
    """The longest word of the text, the first of several; empty for a text without words."""
    return max(text.split(" "), key=len)
'''
TEST = '''"""The longest word of a text."""

import unittest

from textstats import longest_word


class LongestWordTest(unittest.TestCase):
    def test_the_first_of_the_longest(self) -> None:
        self.assertEqual(longest_word("to be or\\nnot"), "not")

    def test_a_text_without_words(self) -> None:
        self.assertEqual(longest_word(""), "")
'''


def main() -> int:
    """Does the task at the end of the prompt. Returns the exit code: 1 for a task that it does not know."""
    prompt = sys.stdin.read()
    task = prompt.rstrip().rsplit("\n\n", 1)[-1]
    work = next((work for words, work in WORK.items() if task.startswith(words)), None)
    if work is None:
        print(f"I do not know this task: {task[:80]}", file=sys.stderr)
        return 1
    verdict = work(prompt)
    place = re.search(r"^\$KILROY_STAGE_STATUS_PATH = (.+)$", prompt, re.MULTILINE)
    if place:
        Path(place[1]).write_text(json.dumps(verdict), encoding="utf-8")
    print(verdict["notes"])
    return 0


def plan(prompt: str) -> dict[str, Any]:
    """Says which files will change."""
    del prompt
    Path("PLAN.md").write_text(f"- {MODULE}: a function `longest_word`\n- {TESTS}: what it promises\n", encoding="utf-8")
    return {"status": "success", "notes": "planned: one function, two tests"}


def implement(prompt: str) -> dict[str, Any]:
    """Adds the function, which forgets line ends and empty texts, and its tests."""
    del prompt
    MODULE.write_text(MODULE.read_text(encoding="utf-8") + FUNCTION, encoding="utf-8")
    TESTS.write_text(TEST, encoding="utf-8")
    return {"status": "success", "notes": "longest_word and its tests are written"}


def fix(prompt: str) -> dict[str, Any]:
    """Reads which tests failed, and mends how the functions split a text."""
    del prompt
    failed = sorted(re.findall(r"^(?:FAIL|ERROR): (\w+)", tests().stdout, re.MULTILINE))
    source = MODULE.read_text(encoding="utf-8").replace('.split(" ")', ".split()")
    MODULE.write_text(source.replace("split(), key=len)", 'split(), key=len, default="")'), encoding="utf-8")
    return {"status": "success", "notes": f"mended: {', '.join(failed)}"}


def review(prompt: str) -> dict[str, Any]:
    """Approves of a change that is there, has tests, and passes them."""
    del prompt
    complete = "def longest_word" in MODULE.read_text(encoding="utf-8") and TESTS.exists()
    label = "approve" if complete and tests().returncode == 0 else "rework"
    return {"status": "success", "preferred_label": label, "notes": f"review: {label}"}


def tests() -> subprocess.CompletedProcess[str]:
    """The project's tests, run once."""
    command = [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


WORK = {"Plan the change": plan, "Implement the change": implement, "Mend the project": fix, "Review the change": review}
"""What is done by how a task begins."""


if __name__ == "__main__":
    sys.exit(main())
