"""What an answer costs, by the price list of `genai-prices`; unknown stays unknown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Usage
    from genai_cache_magic.providers.base import Answer, ModelCall

_AZURE: Final = "azure"
_GOOGLE: Final = "google"

_PRICED_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[^/]*:(?:foundation-model|inference-profile)/(.+)")
"""Amazon's names of models that are billed by token, in full. What else has an ARN (a custom model, provisioned
throughput, an application's own profile) is billed otherwise, or doesn't say which model it is."""

_FREE_OF_LISTS: Final = frozenset({"ollama"})
"""Wire APIs of servers that people run themselves: a model's price elsewhere says nothing of them."""


def cost_usd(call: ModelCall, answer: Answer, *, now_ms: int) -> Decimal | None:
    """Return what `answer` to `call` costs at `now_ms` [ms since the epoch], in [USD]; None if that is not known."""
    provider = call.provider
    family = provider.surface.partition(".")[0]
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    return price_usd(provider.vendor, family, answer.model, answer.usage, asked=call.request.model, at=at)


def price_usd(  # noqa: PLR0913 - who is asked, for what, when
    vendor: str, family: str, model: str, usage: Usage, *, asked: str = "", at: datetime
) -> Decimal | None:
    """Return what `usage` of `model` costs at the prices of `at` [USD]; None if that is not known.

    Provider-cached input tokens are billed at their own, lower rate.

    Parameters
    ----------
    vendor
        Provider id of genai-prices that the origin belongs to; empty if that is not known.
    family
        Provider id of those who designed the wire API: without a vendor, a model name that is found
        under no provider by itself is looked up there.
    model
        The model as the answer names it; empty if it doesn't.
    asked
        The model as the request or the configuration names it. It counts where the answer names none,
        and at Azure where the answer names what can't be priced: some of its APIs name the deployment.
    """
    if usage.input_tokens is None or (not vendor and family in _FREE_OF_LISTS):
        return None
    from genai_prices import Usage as Priced
    from genai_prices import calc_price

    counted = Priced(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cached_input_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )
    for name in _names(vendor, model, asked):
        for provider in (vendor,) if vendor else (None, family):
            try:
                found = calc_price(counted, name, provider_id=provider, genai_request_timestamp=at)
            except (LookupError, ValueError):
                continue
            return Decimal(found.total_price) if _is_by_token(found.model_price, usage) else None
    return None


def _names(vendor: str, model: str, asked: str) -> Iterator[str]:
    """Yield the names under which the model may stand in the price list, best first."""
    candidates = (model, asked) if vendor == _AZURE else (model or asked,)
    for name in filter(None, candidates):
        if name.startswith("arn:"):
            if (priced := _PRICED_ARN.fullmatch(name)) is not None:
                yield priced[1]
        else:
            # Google's names come with their publisher, or as a path.
            yield name.rpartition("/")[2] if vendor == _GOOGLE else name


def _is_by_token(price: Any, usage: Usage) -> bool:
    """Tell whether every kind of token in `usage` has a price: others are billed by hour, page or search."""
    return (not usage.input_tokens or price.input_mtok is not None) and (
        not usage.output_tokens or price.output_mtok is not None
    )
