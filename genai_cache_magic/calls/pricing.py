"""What an answer costs: by its origin's own bill, else by the price list of `genai-prices`; unknown stays unknown.

`docs/money.md` has the rules, with their sources and tests. A wrong figure is worse than none: what is not understood
of an answer, and every kind of token, tier or fee that the list has no price for, makes the price unknown.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

from genai_cache_magic.calls.rates import rates
from genai_cache_magic.providers.base import Bill
from genai_cache_magic.providers.origins import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genai_cache_magic.core.model import JsonValue, Usage
    from genai_cache_magic.providers.base import Answer, ModelCall

_AZURE: Final = "azure"
_GOOGLE: Final = "google"
_AMAZON: Final = "aws"

_GOVERNMENTS: Final = re.compile(r"\.(us-gov|us-iso[a-z]*|cn)-")
"""Amazon's regions with price lists of their own for everything."""

_BESIDE_CACHE: Final = re.compile(r"([a-z-]+\.)?(anthropic|amazon)\.")
"""Amazon's models whose input in Converse stands beside what was read from a cache and written to it; that of others
may hold both, and then the total counts them twice."""

_PRICED_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[^/]*:(?:foundation-model|inference-profile)/(.+)")
"""Amazon's names of models that are billed by token, in full. What else has an ARN (a custom model, provisioned
throughput, an application's own profile) is billed otherwise, or doesn't say which model it is."""

_FREE_OF_LISTS: Final = frozenset({"ollama"})
"""Wire APIs of servers that people run themselves: a model's price elsewhere says nothing of them."""

_REMOTE: Final = re.compile(r"[-:]cloud$")
"""End of the name of a model that Ollama runs elsewhere, though its own server answers."""

_STANDARD: Final = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})
"""Names of the terms that a list's plain prices are for."""

_SAME_PRICE: Final = frozenset({("groq", "service_tier", "flex")})
"""Terms that cost what the standard ones do, https://console.groq.com/docs/flex-processing."""

_ASKED_TERMS: Final = (
    ("service_tier", "service_tier"),
    ("serviceTier", "service_tier"),
    ("speed", "speed"),
    ("performanceConfig", "latency"),
    ("x-amzn-bedrock-service-tier", "service_tier"),
    ("x-amzn-bedrock-performanceconfig-latency", "latency"),
)
"""Field or header of a request -> the terms that it asks for."""

_GUARDED: Final = ("guardrailConfig", "x-amzn-bedrock-guardrailidentifier")
"""Field, and header, by which Amazon is asked to check what is said, at a price by the text."""

_ROUTERS: Final = re.compile(r"(?i)router|model-optimizer")
"""Names of what chooses a model for each request, for a fee beside that model's price, or at one between the models':
https://learn.microsoft.com/azure/foundry/openai/concepts/model-router."""

_TOLD_FEES: Final = frozenset({"anthropic"})
"""Families whose usage counts what its server's tools did."""

_REGIONAL: Final = {
    "openai": re.compile(r"//[^/.]+\.api\.openai\.com"),
    "x-ai": re.compile(r"//[^/.]+\.api\.x\.ai"),
    _GOOGLE: re.compile(r"/locations/(?!global(/|$))"),
    _AMAZON: re.compile(r"\.(?!(us-east-[12]|us-west-2)\.)[a-z]{2,4}(-[a-z]+)+-[0-9]+\."),
}
"""Vendor -> its origins that answer from one region, at prices that the list doesn't have: surcharges for newer models,
and Amazon's of other regions than the first American ones."""

_SAME_EVERYWHERE: Final = {
    # Released before 5 March 2026, https://developers.openai.com/api/docs/guides/data-residency.
    "openai": re.compile(
        r"(ft:)?(gpt-[34]|chatgpt-4|gpt-5(\.[0-3])?(-|$)|gpt-(audio|image-1|oss)|o[134]|text-|tts|whisper)"
    ),
    # https://cloud.google.com/vertex-ai/generative-ai/pricing
    _GOOGLE: re.compile(r"gemini-([12]\.|embedding)|text-|claude-([123]|instant|(opus|sonnet)-4(-[01])?(@|$))"),
    # https://aws.amazon.com/bedrock/pricing/: Claude's, and profiles that ask wherever there is room.
    _AMAZON: re.compile(r"global\.|([a-z-]+\.)?anthropic\.claude-(?!instant|v[0-9])"),
}
"""Vendor -> models that cost the same in each region."""

_INPUT_RATE: Final = frozenset(
    {"input_image_tokens", "input_video_tokens", "cache_image_read_tokens", "cache_video_read_tokens"}
)
"""Google's one input price is for text, image and video (https://ai.google.dev/gemini-api/docs/pricing)."""

_PARTS: Final = frozenset({"output_reasoning_tokens", "cache_write_5m_tokens"})
"""Units that cost what their whole does, unless the list says otherwise."""

_PRICE_KEYS: Final = {"web_searches": "web_searches_kcount", "audio_seconds": "audio_hours"}
"""Unit of use -> its price in `genai-prices`, where it isn't one of tokens."""


class Priced(Protocol):
    """A call, and what its answer costs once that is worked out; `calls.steps.Lead` is one."""

    call: ModelCall
    priced: tuple[Answer, Decimal | None] | None


def cost_usd(call: ModelCall, answer: Answer, *, now_ms: int) -> Decimal | None:
    """Return what `answer` to `call` costs at `now_ms` [ms since the epoch], in [USD]; None if that is not known."""
    provider, bill = call.provider, answer.bill
    family = provider.surface.partition(".")[0]
    if bill.stated_usd is not None:
        return bill.stated_usd
    if provider.vendor == LOCAL:
        is_own = not bill.gateway and not _REMOTE.search(answer.model or call.request.model)
        return Decimal(0) if is_own else None
    if _has_untold_fees(call, family) or _has_untold_terms(call, bill) or _has_untold_writes(call, answer):
        return None
    model = answer.model or call.request.model
    if _has_surcharge(provider.vendor, call.request.origin, model) or _may_count_twice(provider.surface, model, answer):
        return None
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    return price_usd(provider.vendor, family, answer.model, answer.usage, bill, asked=call.request.model, at=at)


def cost_of(lead: Priced, answer: Answer, *, now_ms: int) -> Decimal | None:
    """Return the same of the `answer` to `lead`; what is worked out of one answer once is what is told of it again."""
    if lead.priced is None or lead.priced[0] is not answer:
        lead.priced = answer, cost_usd(lead.call, answer, now_ms=now_ms)
    return lead.priced[1]


def price_usd(  # noqa: PLR0913 - who is asked, for what, on which terms, when
    vendor: str, family: str, model: str, usage: Usage, bill: Bill | None = None, *, asked: str = "", at: datetime
) -> Decimal | None:
    """Return what `usage` of `model` costs at the prices of `at` [USD]; None if that is not known.

    Parameters
    ----------
    vendor
        Provider id of genai-prices that the origin belongs to; empty if that is not known.
    family
        Provider id of those who designed the wire API: without a vendor, a model name that is found
        under no provider by itself is looked up there.
    model
        The model as the answer names it; empty if it doesn't.
    bill
        What else the answer says of its price: tokens with a rate of their own, tiers, what is unclear.
    asked
        The model as the request or the configuration names it. It counts where the answer names none,
        and at Azure where the answer names what can't be priced: some of its APIs name the deployment.
    """
    bill = bill or Bill()
    counts = _counts(usage, bill)
    if bill.unclear or not counts or (not vendor and family in _FREE_OF_LISTS):
        return None
    terms = _terms(vendor, bill)
    for name in _names(vendor, model, asked):
        for provider in (vendor,) if vendor else (None, family):
            if not terms and (known := rates.usd(provider, name, counts, at)) is not None:
                return known
            calc = functools.partial(_calc, name, provider, at, terms)
            try:
                found = calc(counts)
            except (LookupError, ValueError):
                continue
            if not (_has_prices(found, counts, vendor) and _has_terms(found, terms, at)):
                return None
            if not terms:
                rates.learn(provider, name, counts, found, calc)
            return Decimal(found.total_price)
    return None


def _calc(name: str, provider: str | None, at: datetime, terms: Mapping[str, str], counts: Mapping[str, int]) -> Any:
    """Ask the price list; raises ``LookupError``, ``ValueError``."""
    from genai_prices import Usage as Priced
    from genai_prices import calc_price

    context = dict(terms) or None
    usage = Priced(**counts)
    return calc_price(usage, name, provider_id=provider, genai_request_timestamp=at, price_context=context)


def _counts(usage: Usage, bill: Bill) -> dict[str, int]:
    """Return what is billed by its names in genai-prices; empty if the input or the output is not known."""
    if usage.input_tokens is None:
        return {"audio_seconds": bill.units["audio_seconds"]} if "audio_seconds" in bill.units else {}
    if usage.output_tokens is None:
        return {}
    plain = {
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        **{name: n for name, n in plain.items() if n},
        **bill.units,
    }


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


def _has_prices(found: Any, counts: Mapping[str, int], vendor: str) -> bool:
    """Tell whether all that was used has a price of its own: no token at another kind's rate, no fee for a request."""
    price = found.model_price
    at_input_rate = _INPUT_RATE if vendor == _GOOGLE else frozenset()
    used = [name for name, n in counts.items() if n and name not in _PARTS and name not in at_input_rate]
    is_complete = all(
        getattr(price, _PRICE_KEYS.get(name, name.replace("_tokens", "_mtok"))) is not None for name in used
    )
    return is_complete and price.requests_kcount is None


def _terms(vendor: str, bill: Bill) -> dict[str, str]:
    """Return the terms that make a price another than the standard one."""
    return {
        name: value
        for name, value in bill.terms.items()
        if value not in _STANDARD and (vendor, name, value) not in _SAME_PRICE
    }


def _has_terms(found: Any, terms: Mapping[str, str], at: datetime) -> bool:
    """Tell whether the list has prices for all of `terms`; it leaves out those that it doesn't know without a word."""
    if not terms:
        return True
    is_its_own = any(found.model is model for model in found.provider.models)  # what it sells of others has no terms
    met = [
        variant.when
        for variant in found.model.price_variants or ()
        if variant.when.items() <= terms.items() and (variant.constraint is None or variant.constraint.active(at))
    ]
    return is_its_own and all(any(name in when for when in met) for name in terms)


def _has_untold_fees(call: ModelCall, family: str) -> bool:
    """Tell whether `call` may cost more than its tokens, and no answer says how much."""
    request = call.request
    is_guarded = _GUARDED[0] in request.body or any(name == _GUARDED[1] for name, _ in request.headers)
    is_routed = _ROUTERS.search(request.model) is not None
    return is_guarded or is_routed or ("server-tools" in call.refused and family not in _TOLD_FEES)


def _has_untold_terms(call: ModelCall, bill: Bill) -> bool:
    """Tell whether `call` asked for other terms than the standard ones and its answer doesn't say which it got."""
    return any(term not in bill.terms for term in asked_terms(call))


def asked_terms(call: ModelCall) -> dict[str, str]:
    """Return the terms other than the standard ones that `call` asks for."""
    said = {**call.request.body, **dict(call.request.headers)}
    asked = {term: _term_of(said[field]) for field, term in _ASKED_TERMS if field in said}
    return {term: value for term, value in asked.items() if value not in _STANDARD}


def _has_untold_writes(call: ModelCall, answer: Answer) -> bool:
    """Tell whether the prompt cache was written to, maybe for an hour, and the answer doesn't say for how long."""
    is_told = any(name.startswith("cache_write_") for name in answer.bill.units)
    return call.keeps_an_hour and answer.usage.cache_write_tokens > 0 and not is_told


def _has_surcharge(vendor: str, origin: str, model: str) -> bool:
    """Tell whether `model` may cost more at `origin`, which answers from one region, than the list says."""
    here = _REGIONAL.get(vendor)
    if here is None or not here.search(origin):
        return False
    if vendor == _AMAZON and _GOVERNMENTS.search(origin):
        return True
    same = _SAME_EVERYWHERE.get(vendor)
    return same is None or not same.match(model.rpartition("/")[2])


def _may_count_twice(surface: str, model: str, answer: Answer) -> bool:
    """Tell whether the input of an answer may hold what stands beside it as read from a cache, or written to it."""
    usage = answer.usage
    beside = usage.cached_input_tokens + usage.cache_write_tokens
    return (
        surface == "aws.converse"
        and beside > 0
        and (usage.input_tokens or 0) >= 2 * beside
        and not _BESIDE_CACHE.match(model.rpartition("/")[2])
    )


def _term_of(value: JsonValue) -> str:
    """Return what a request says of its terms, as a text or as an object with one field."""
    if type(value) is dict:
        value = next(iter(value.values()), None)
    return value.lower() if type(value) is str else ""
