"""What tokens cost and which models there are, from a kept table of the providers' prices."""

from __future__ import annotations

import re

from kilroy_engine.agents.running.reports import Tokens


def cost_usd(provider: str, model: str, tokens: Tokens) -> float | None:
    """The price of ``tokens`` in US dollars; None where the table does not know the model, never 0 for that."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - 0.3 s, which only a run with agents has to pay

    cached = min(tokens.cached_input, tokens.input)
    usage = Usage(input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=cached)
    try:
        return float(calc_price(usage, model, provider_id=provider).total_price)
    except (LookupError, ValueError):
        return None


def is_known_model(provider: str, model: str) -> bool | None:
    """Whether the table knows the provider's model. None where that says nothing: a provider that the table does not have, or
    a name without a number, such as ``opus``, which the provider's program reads itself."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.3 s, which only a run with models has to pay

    snapshot = get_snapshot()
    if not re.search(r"\d", model) or not any(known.id == provider for known in snapshot.providers):
        return None
    try:
        snapshot.find_provider_model(model, None, provider, None)
    except LookupError:
        return False
    return True
