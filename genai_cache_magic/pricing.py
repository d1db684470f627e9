"""What an answer costs, by the price list of `genai-prices`; unknown stays unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from genai_cache_magic.core.model import Usage


def price_usd(vendor: str, family: str, model: str, usage: Usage, *, at: datetime) -> Decimal | None:
    """Return what `usage` of `model` costs at the prices of `at` [USD]; None if that is not known.

    Provider-cached input tokens are billed at their own, lower rate.

    Parameters
    ----------
    vendor
        Provider id of genai-prices that the origin belongs to; empty if that is not known.
    family
        Provider id of those who designed the wire API: without a vendor, a model name that is found
        under no provider by itself is looked up there.
    """
    if usage.input_tokens is None or not model:
        return None
    from genai_prices import Usage as Priced
    from genai_prices import calc_price

    counted = Priced(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cached_input_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )
    for provider in (vendor,) if vendor else (None, family):
        try:
            found = calc_price(counted, model, provider_id=provider, genai_request_timestamp=at)
        except (LookupError, ValueError):
            continue
        return Decimal(found.total_price)
    return None
