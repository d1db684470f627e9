"""Money: exact, provider-cached tokens apart, unknown as unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from genai_cache_magic.core.model import Usage
from genai_cache_magic.pricing import price_usd
from genai_cache_magic.scope import total

AT = datetime(2026, 6, 1, tzinfo=UTC)


def price(vendor, model, usage, family="openai"):
    return price_usd(vendor, family, model, usage, at=AT)


def test_a_known_model_has_an_exact_price():
    """A price is a Decimal, not a float."""
    cost = price("openai", "gpt-4.1-mini", Usage(1_000_000, 0))
    assert isinstance(cost, Decimal)
    assert cost == Decimal("0.4")


def test_provider_cached_tokens_are_cheaper():
    """Tokens that the provider had cached are billed at their own rate."""
    full = price("openai", "gpt-4.1-mini", Usage(1000, 10))
    cached = price("openai", "gpt-4.1-mini", Usage(1000, 10, cached_input_tokens=800))
    assert cached < full


@pytest.mark.parametrize(
    ("vendor", "model", "usage"),
    [
        ("openai", "no-such-model", Usage(1, 1)),
        ("", "my-deployment", Usage(1, 1)),
        ("no-such-vendor", "gpt-4.1-mini", Usage(1, 1)),
        ("openai", "gpt-4.1-mini", Usage(None, None)),
        ("openai", "", Usage(1, 1)),
    ],
)
def test_unknown_is_unknown(vendor, model, usage):
    """What has no price or no usage costs None, never 0."""
    assert price(vendor, model, usage) is None


def test_an_unknown_origin_is_priced_by_the_family_of_its_wire_api():
    """A gateway's embedding model is found under the designer of its wire API."""
    assert price("", "text-embedding-3-small", Usage(1000, 0)) is not None


def test_a_sum_with_an_unknown_is_unknown():
    """Totals don't hide what is not known."""
    assert total([Decimal(1), None]) is None
    assert total([Decimal(1), Decimal("0.5")]) == Decimal("1.5")
    assert total([]) == 0
