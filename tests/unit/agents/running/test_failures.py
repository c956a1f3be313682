"""From a provider's words to the class of the failure."""

from __future__ import annotations

import pytest

from kilroy_engine.agents.running.failures import class_of, retry_after_s
from kilroy_engine.agents.running.prices import cost_usd
from kilroy_engine.agents.running.reports import Tokens, Trouble


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 6m0s", 360.0),
        ("try again in 1h12m", 4320.0),
        ("Please retry in 21.9s", 21.9),
        ("retry-after: 7", 7.0),
        ('"retryDelay": "34s"', 34.0),
        ("retry after 500ms", 0.5),
        ("try again in 5 minutes", 300.0),
        ("try again later", None),
    ],
)
def test_a_wait_is_read_in_every_form_that_providers_use(words: str, seconds: float | None) -> None:
    """OpenAI writes Go's durations, Google seconds with a fraction, headers plain seconds."""
    assert retry_after_s(words) == seconds


def test_a_quota_of_the_minute_is_a_rate() -> None:
    """Google calls both a quota; one that is back in seconds may be waited for, one without a time may not."""
    words = "You exceeded your current quota, please check your plan and billing details."
    assert class_of(Trouble(f"{words} Please retry in 21.9s", 429)) == "transient_infra"
    assert class_of(Trouble(words, 429)) == "quota_exhausted"


def test_more_kept_tokens_than_read_ones_have_a_price() -> None:
    """What a closing event has beyond the answers that were told need not fit together."""
    assert cost_usd("anthropic", "claude-sonnet-4-5", Tokens(0, 39, 1000))
    assert cost_usd("anthropic", "no-such-model", Tokens(1, 1)) is None
