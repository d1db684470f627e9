"""Prices that are worked out from rates: to the last digit what the price list says, or the list is asked."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import data_snapshot

from genai_cache_magic.calls import pricing, rates
from genai_cache_magic.calls.pricing import price_usd
from genai_cache_magic.calls.rates import Rates
from genai_cache_magic.core.model import Usage
from genai_cache_magic.providers.base import Bill

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
NIGHT = datetime(2026, 11, 1, 18, tzinfo=UTC)
MODEL = {"vendor": "openai", "family": "openai", "model": "gpt-4.1-mini"}


class NoRates(Rates):
    """Learns nothing, so that the list is asked each time."""

    def learn(self, *_):
        """Forget it."""


@pytest.fixture
def learnt(monkeypatch):
    """The rates of a process that has asked for nothing yet."""
    own = Rates()
    monkeypatch.setattr(pricing, "rates", own)
    return own


@pytest.fixture
def asked(monkeypatch):
    """How often the list was asked."""
    calls = []
    calc = pricing._calc
    monkeypatch.setattr(pricing, "_calc", lambda *args: (calls.append(args[-1]), calc(*args))[1])
    return calls


def told(monkeypatch, usage, *, at=AT, bill=None, **who):
    """What the list itself says."""
    with monkeypatch.context() as alone:
        alone.setattr(pricing, "rates", NoRates())
        return price_usd(**who, usage=usage, bill=bill, at=at)


def everything():
    return [(provider.id, model.id) for provider in data_snapshot.get_snapshot().providers for model in provider.models]


@pytest.mark.parametrize(
    ("first", "usage"), list(enumerate([Usage(25, 410), Usage(2000, 7, 300), Usage(1500, 1, 20, 30)]))
)
def test_models_of_the_list(learnt, monkeypatch, first, usage):
    """Whatever is learnt of a model, it costs what the list says: a little of it, much, none, and too much."""
    others = [usage, Usage(0, 0), Usage(3, 0), Usage(10**6, 12345), Usage(999_999, 1, 999_999), Usage(10, 1, 11)]
    known = 0
    for vendor, model in everything()[first::12]:
        who = {"vendor": vendor, "family": "", "model": model}
        for _ in range(3):
            price_usd(**who, usage=usage, at=AT)
        for other in others:
            own = Usage(other.input_tokens, other.output_tokens, other.cached_input_tokens, usage.cache_write_tokens)
            assert price_usd(**who, usage=own, at=AT) == told(monkeypatch, own, **who), (vendor, model, own)
        known += any(one.rates for one in learnt._known.values())
        learnt._known.clear()
    assert known > 10


def test_the_list_is_asked_no_more(learnt, asked):
    """From the third time on a price is multiplied; other kinds of token are asked for anew."""
    cost = [price_usd(**MODEL, usage=Usage(25, 410), at=AT) for _ in range(2)]
    assert cost == [Decimal("0.000666")] * 2
    asked.clear()
    assert price_usd(**MODEL, usage=Usage(50, 820), at=AT) == Decimal("0.001332")
    assert asked == []
    price_usd(**MODEL, usage=Usage(50, 820, 10), at=AT)
    assert len(asked) == 1


def test_another_list_counts_at_once(learnt, monkeypatch):
    """A list that was brought up to date is asked, whatever was learnt of the one before."""
    for _ in range(3):
        price_usd(**MODEL, usage=Usage(25, 410), at=AT)
    dearer = data_snapshot.DataSnapshot(providers=[], from_auto_update=True)
    data_snapshot.set_custom_snapshot(dearer)
    try:
        assert price_usd(**MODEL, usage=Usage(25, 410), at=AT) is None
    finally:
        data_snapshot.set_custom_snapshot(None)


def test_a_price_that_depends_on_the_hour(learnt, monkeypatch):
    """What was learnt at one hour, or before a change of price, is not what another costs."""
    from genai_prices.types import ModelPrice

    varying = [
        (provider.id, model.id)
        for provider in data_snapshot.get_snapshot().providers
        for model in provider.models
        if not isinstance(model.prices, ModelPrice)
    ]
    assert varying
    for vendor, model in varying:
        who = {"vendor": vendor, "family": "", "model": model}
        for at in (AT, AT, AT, NIGHT, datetime(2025, 1, 1, 3, tzinfo=UTC), AT, NIGHT):
            usage = Usage(25, 410)
            assert price_usd(**who, usage=usage, at=at) == told(monkeypatch, usage, at=at, **who), (vendor, model, at)


def test_terms_and_other_kinds_are_the_lists(learnt, asked, monkeypatch):
    """Terms of its own, sound and images: the list is asked each time."""
    for _ in range(3):
        price_usd(**MODEL, usage=Usage(25, 410), at=AT)
    for bill in (Bill(terms={"service_tier": "flex"}), Bill(units={"input_audio_tokens": 5})):
        asked.clear()
        for _ in range(3):
            own = price_usd(**MODEL, usage=Usage(25, 410), bill=bill, at=AT)
            assert own == told(monkeypatch, Usage(25, 410), bill=bill, **MODEL)
        assert len(asked) == 6


@pytest.fixture
def own_list():
    """A list of prices that somebody makes their own: a copy of that of the package."""
    own = data_snapshot.DataSnapshot(
        providers=copy.deepcopy(data_snapshot.get_snapshot().providers), from_auto_update=False
    )
    data_snapshot.set_custom_snapshot(own)
    yield own
    data_snapshot.set_custom_snapshot(None)


def listed(snapshot, vendor, name):
    return snapshot.find_provider_model(name, None, vendor, None)[1]


@pytest.mark.usefixtures("learnt")
def test_a_price_that_is_changed_in_its_place(own_list, monkeypatch):
    """Who writes a price of their own into the list is told that one, also where it has tiers."""
    for who, size in ((MODEL, Usage(25, 410)), ({**MODEL, "vendor": "google", "model": "gemini-2.5-pro"}, Usage(9, 9))):
        for _ in range(3):
            price_usd(**who, usage=size, at=AT)
        prices = listed(own_list, who["vendor"], who["model"]).prices
        if hasattr(prices.input_mtok, "base"):
            prices.input_mtok.base *= 3
        else:
            prices.input_mtok *= 3
        for _ in range(4):
            assert price_usd(**who, usage=size, at=AT) == told(monkeypatch, size, **who)


@pytest.mark.usefixtures("learnt")
def test_prices_of_a_class_of_ones_own(own_list, monkeypatch):
    """What counts otherwise than the package's own classes is asked: a bill in whole cents, say."""

    class InCents(type(listed(own_list, "openai", "gpt-4.1-mini").prices)):
        def calc_price(self, usage):
            return {name: round(value, 2) for name, value in super().calc_price(usage).items()}

    model = listed(own_list, "openai", "gpt-4.1-mini")
    model.prices = InCents(**vars(model.prices))
    for usage in (*[Usage(25, 410)] * 3, Usage(10**5, 10**5)):
        assert price_usd(**MODEL, usage=usage, at=AT) == told(monkeypatch, usage, **MODEL)


def test_a_list_that_is_replaced_while_it_is_asked(learnt, monkeypatch):
    """A price is told, and nothing learnt, of a list that is gone by then; the next one is learnt of as ever."""
    usage, expected = Usage(25, 410), Decimal("0.000666")
    empty = data_snapshot.DataSnapshot(providers=[], from_auto_update=True)
    dearer = data_snapshot.DataSnapshot(
        providers=copy.deepcopy(data_snapshot.get_snapshot().providers), from_auto_update=True
    )
    listed(dearer, "openai", "gpt-4.1-mini").prices.input_mtok = Decimal(4)
    calc = pricing._calc
    for after, other in ((1, empty), (1, dearer), (2, dearer)):
        learnt._known.clear()
        price_usd(**MODEL, usage=usage, at=AT)
        asked = []

        def replaced(*args, after=after, other=other, asked=asked):
            if len(asked) == after:
                data_snapshot.set_custom_snapshot(other)
            asked.append(args)
            return calc(*args)

        try:
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(pricing, "_calc", replaced)
                assert price_usd(**MODEL, usage=usage, at=AT) == expected
            assert len(asked) > after
        finally:
            data_snapshot.set_custom_snapshot(None)
        assert not any(one.rates for one in learnt._known.values())
        for _ in range(4):
            assert price_usd(**MODEL, usage=usage, at=AT) == expected
        assert any(one.rates for one in learnt._known.values())


@pytest.mark.parametrize("error", [ImportError, AttributeError, TypeError])
def test_a_release_that_is_built_differently(learnt, asked, monkeypatch, error):
    """What is not there of a list to learn from is not missed: it is asked each time."""

    def nothing():
        raise error

    monkeypatch.setattr(rates, "_list", nothing)
    for _ in range(4):
        assert price_usd(**MODEL, usage=Usage(25, 410), at=AT) == Decimal("0.000666")
    assert len(asked) == 4
