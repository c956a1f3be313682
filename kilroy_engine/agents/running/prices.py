"""What tokens cost, from a kept table of the providers' prices."""

from __future__ import annotations

from kilroy_engine.agents.running.reports import Tokens


def cost_usd(provider: str, model: str, tokens: Tokens) -> float | None:
    """The price of ``tokens`` in US dollars; None where the table does not know the model, never 0 for that."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - 0.3 s, which only a run with agents has to pay

    usage = Usage(input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cached_input)
    try:
        return float(calc_price(usage, model, provider_id=provider).total_price)
    except LookupError:
        return None
