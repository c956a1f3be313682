"""The ledger of what models have cost."""

from __future__ import annotations

import pickle
from pathlib import Path

from kilroy_engine.rundir.files.usage import Usage, UsageLog, totals_of

ONE = Usage(
    node_id="plan", provider="anthropic", model="m", input_tokens=10, output_tokens=2, cached_input_tokens=4, cost_usd=0.5
)


def test_everybody_reads_on_where_he_stopped(tmp_path: Path) -> None:
    """Another process of the run writes to the same file; each line is counted once."""
    here = UsageLog(tmp_path / "usage.ndjson")
    there = pickle.loads(pickle.dumps(here))
    assert here.news() == ()
    here.append(ONE)
    there.append(ONE)
    assert here.news() == (ONE, ONE)
    there.append(ONE)
    assert here.news() == (ONE,)
    assert there.news() == (ONE, ONE, ONE)


def test_a_line_that_is_not_whole_is_read_when_it_is(tmp_path: Path) -> None:
    """A writer that was killed, or is not done; junk of a stage is passed over."""
    log = UsageLog(tmp_path / "usage.ndjson")
    log.append(ONE)
    with (tmp_path / "usage.ndjson").open("ab") as file:
        file.write(b'junk\n{"node_id":"b","model":"m"')
    assert log.news() == (ONE,)
    with (tmp_path / "usage.ndjson").open("ab") as file:
        file.write(b',"input_tokens":7}\n')
    assert [usage.input_tokens for usage in log.news()] == [7]


def test_totals_are_by_node_and_model(tmp_path: Path) -> None:
    """The cost of a sum is not known where a part's is not."""
    other = ONE.model_copy(update={"model": "new", "cost_usd": None})
    first, second = totals_of([ONE, other, ONE, other.model_copy(update={"cost_usd": 1.0})])
    assert (first.tokens, first.cached_input_tokens, first.cost_usd) == (24, 8, 1.0)
    assert (second.model, second.tokens, second.cost_usd) == ("new", 24, None)
