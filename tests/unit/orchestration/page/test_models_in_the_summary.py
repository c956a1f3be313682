"""What models have cost, in the run's summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from played_claude import play_claude
from whole_runs import Place

from kilroy_engine.orchestration.page.summary import summary


def test_the_summary_has_a_row_for_each_node_and_model_and_one_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three answers of 1,000 tokens read and 100 written; a model without a known price makes the total unknown."""
    play_claude(tmp_path, monkeypatch)
    ran = Place(tmp_path).runs(
        'a [shape=box, prompt="A", llm_model="claude-sonnet-4-5"] b [shape=box, prompt="B", llm_model="claude-of-tomorrow"] '
        "start -> a -> b -> done"
    )
    text = summary(ran.run, ran.final)
    models = text[text.index("## Models") :].splitlines()[4:]
    assert models == [
        "| a | claude-sonnet-4-5 | 3,000 | 0 | 300 | 0.0135 |",
        "| b | claude-of-tomorrow | 3,000 | 0 | 300 | not known |",
        "| **all** |  | 6,000 | 0 | 600 | not known |",
    ]


def test_a_run_without_agents_has_no_such_table(tmp_path: Path) -> None:
    """Nothing was spent, and nothing is said."""
    ran = Place(tmp_path).runs('a [tool_command="true"] start -> a -> done')
    assert "## Models" not in summary(ran.run, ran.final)
