"""Each model of the price list, right to the last digit: cached input, writes, sound, images, tiers and batches.

The expected figures are summed up here from the rates of the list itself; its own arithmetic takes no part in them.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from genai_prices.data import providers
from genai_prices.types import TieredPrices

from genai_cache_magic.calls.pricing import price_usd
from genai_cache_magic.core.model import Usage
from genai_cache_magic.providers.base import Bill

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ASKED, SAID, CACHED, WRITTEN, FOR_AN_HOUR, OF_A_KIND = 7000, 300, 2000, 1500, 500, 100
LISTS = {provider.id: provider for provider in providers}
VENDORS = ("anthropic", "aws", "azure", "cohere", "deepseek", "google", "groq", "mistral", "openai", "x-ai")
KINDS = {
    "input_audio_mtok": "input_mtok",
    "input_image_mtok": "input_mtok",
    "output_audio_mtok": "output_mtok",
    "output_image_mtok": "output_mtok",
}
"""Rate of a kind of tokens -> that of the tokens that they are among."""


def rates_of(priced, when):
    """The rates of a model on the terms `when` [USD per million tokens]; a variant leaves some as they are."""
    found = dict(vars(priced.get_prices(AT)))
    for variant in getattr(priced, "price_variants", None) or ():
        if variant.when == when and (variant.constraint is None or variant.constraint.active(AT)):
            found |= {name: rate for name, rate in vars(variant.prices).items() if rate is not None}
            break
    return {name: rate.base if isinstance(rate, TieredPrices) else rate for name, rate in found.items()}


def terms_of(priced):
    """The terms that a model has prices for now."""
    yield {}
    for variant in getattr(priced, "price_variants", None) or ():
        if variant.constraint is None or variant.constraint.active(AT):
            yield dict(variant.when)


def models(vendor):
    """The models of a list that a name leads to, and that are paid for by the token alone, below any step."""
    for priced in LISTS[vendor].models:
        listed = vars(priced.get_prices(AT))
        steps = [rate.tiers[0].start for rate in listed.values() if isinstance(rate, TieredPrices)]
        is_by_token = listed.get("input_mtok") is not None and listed.get("output_mtok") is not None
        is_plain = listed.get("requests_kcount") is None and all(start > ASKED for start in steps)
        if is_by_token and is_plain and LISTS[vendor].find_model(priced.id) is priced:
            yield priced


def paid(vendor, model, usage, terms, **units):
    return price_usd(vendor, vendor, model, usage, Bill(terms=terms, units=units), at=AT)


@pytest.mark.parametrize("vendor", VENDORS)
def test_cached_input_and_what_was_written(vendor):
    """Read from a cache, written to it for five minutes and for an hour, on every tier and in a batch."""
    tried = 0
    for priced in models(vendor):
        for terms in terms_of(priced):
            rates = rates_of(priced, terms)
            cached = CACHED if rates.get("cache_read_mtok") is not None else 0
            written = WRITTEN if rates.get("cache_write_mtok") is not None else 0
            an_hour = FOR_AN_HOUR if written and rates.get("cache_write_1h_mtok") is not None else 0
            expected = (ASKED - cached - written) * rates["input_mtok"] + SAID * rates["output_mtok"]
            expected += cached * (rates.get("cache_read_mtok") or 0)
            expected += (written - an_hour) * (rates.get("cache_write_mtok") or 0)
            expected += an_hour * (rates.get("cache_write_1h_mtok") or 0)
            usage = Usage(ASKED, SAID, cached_input_tokens=cached, cache_write_tokens=written)
            units = {"cache_write_1h_tokens": an_hour} if an_hour else {}
            cost = paid(vendor, priced.id, usage, terms, **units)
            assert cost == expected / 1_000_000, (priced.id, terms)
            tried += 1
    assert tried


@pytest.mark.parametrize("kind", KINDS)
def test_sound_and_images(kind):
    """Tokens of a kind at their own rate, where the list has one."""
    tried = 0
    for vendor in VENDORS:
        for priced in models(vendor):
            rates = rates_of(priced, {})
            if rates.get(kind) is None:
                continue
            expected = ASKED * rates["input_mtok"] + SAID * rates["output_mtok"]
            expected += OF_A_KIND * (rates[kind] - rates[KINDS[kind]])
            cost = paid(vendor, priced.id, Usage(ASKED, SAID), {}, **{kind.replace("_mtok", "_tokens"): OF_A_KIND})
            assert cost == expected / 1_000_000, priced.id
            tried += 1
    assert tried


def test_what_the_list_has_no_terms_for_is_unknown():
    """No model is priced on terms that somebody made up, nor a batch of one that has no price for batches."""
    for vendor in VENDORS:
        for priced in models(vendor):
            known = list(terms_of(priced))
            for terms in ({"processing": "batch"}, {"service_tier": "gold"}):
                if terms not in known:
                    assert paid(vendor, priced.id, Usage(ASKED, SAID), terms) is None, (priced.id, terms)
