"""What an answer says of its price: tokens of every kind, the terms it was served on, and its origin's own bill.

The rule of it all: what may cost and is not understood is named in `Bill.unclear`, and then there is no price. A field
of a usage that is not known here may cost if it is a number other than zero. `docs/money.md` says what is known.
"""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Bill, End
from genai_cache_magic.providers.reading import as_object, as_text, count, is_success

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from genai_cache_magic.core.model import Headers, JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import Answer

TICKS_PER_USD: Final = 10**10
"""xAI's unit of money, https://docs.x.ai/developers/cost-tracking."""

_LITELLM: Final = "x-litellm-"
_LITELLM_COST: Final = "x-litellm-response-cost"
"""What LiteLLM's proxy bills for a call [USD], https://docs.litellm.ai/docs/proxy/response_headers."""

_GATEWAYS: Final = (_LITELLM, "x-portkey-", "helicone-", "cf-aig-", "x-kong-llm-", "x-bf-")
"""Beginnings of response headers by which gateways to paid models are known."""

_OWN_CACHES: Final = frozenset(
    {"cf-aig-cache-status", "helicone-cache", "x-openrouter-cache-status", "x-portkey-cache-status"}
)
"""Headers by which gateways tell that their own cache answered, so that nobody was asked and nothing is billed:
https://developers.cloudflare.com/ai-gateway/features/caching/, https://docs.helicone.ai/features/advanced-usage/caching,
https://openrouter.ai/docs/guides/features/response-caching, https://portkey.ai/docs/api-reference/response-schema."""

_A_CACHE: Final = re.compile(r"(^|-)cache(-status|-hit)?$|^x-litellm-cache-key$")
_A_PROMPT_CACHE: Final = re.compile(r"prompt|prefix|(^|-)kv-")
_HIT: Final = re.compile(r"(?i)(semantic[ _-]?)?hit\b|true$")

_COSTS: Final = ("cost", "estimated_cost", "total_cost", "cost_usd", "cost_in_usd_ticks")
"""Fields of a usage by which who answers tells that it bills."""

_TIMES: Final = re.compile(r"(?i)latency|timestamp|throughput|(^|_)(time|ttft|tps|per_sec|per_second)(_|$)")
"""Names of measurements, which nobody bills."""

MODALITIES: Final = ("audio", "image", "video")

_NAME_OF: Final = operator.itemgetter(0)
_MOST_HEADS: Final = 128
"""Of the names in so many heads it is remembered what they say."""


class Counted(NamedTuple):
    """What a usage says: the tokens, and what else decides their price."""

    usage: Usage
    bill: Bill


def with_bill(answer: Answer, response: Response) -> Answer:
    """Return `answer` with what `response` says of its price outside of its usage.

    That is a gateway's own bill in a header, the signs of a gateway, the terms, and that it failed after it began.
    """
    bill, headers = answer.bill, response.headers
    signs = _signs(tuple(map(_NAME_OF, headers)))
    stated = bill.stated_usd
    if stated is None and signs.costs and response.form is Form.JSON:
        # The header of a stream was sent before there was a cost.
        stated = _money(headers[signs.costs[0]][1])
    tier = headers[signs.tiers[0]][1] if signs.tiers else ""
    terms = {"service_tier": tier.lower(), **bill.terms} if tier else bill.terms
    cached = _answered_by_a_cache(headers, signs.caches)
    if stated is None and cached in _OWN_CACHES:
        stated = Decimal(0)
    unclear = bill.unclear or cached
    if answer.end is End.ERROR and response.form is Form.STREAM and is_success(response):
        unclear = unclear or "failed after it began"
    told = Bill(bill.units, terms, stated, signs.gateway or bill.gateway, unclear)
    return answer if told == bill else replace(answer, bill=told)


class _Signs(NamedTuple):
    """What the names of an answer's headers say of its price.

    Attributes
    ----------
    gateway
        The first by which a gateway is known; empty if there is none.
    is_litellm
        Whether LiteLLM's proxy answered.
    costs, tiers, caches
        Where headers stand that may tell what is billed, on which terms it was served, and that a cache answered.
    """

    gateway: str
    is_litellm: bool
    costs: tuple[int, ...]
    tiers: tuple[int, ...]
    caches: tuple[int, ...]


@functools.lru_cache(maxsize=_MOST_HEADS)
def _signs(names: tuple[str, ...]) -> _Signs:
    """Return what `names` of headers say, in lower case; an origin's are the same from answer to answer."""
    places = range(len(names))
    return _Signs(
        next((name for name in names if name.startswith(_GATEWAYS)), ""),
        any(name.startswith(_LITELLM) for name in names),
        tuple(at for at in places if names[at] == _LITELLM_COST),
        tuple(at for at in places if names[at] == "x-gemini-service-tier"),
        tuple(at for at in places if _A_CACHE.search(names[at]) and not _A_PROMPT_CACHE.search(names[at])),
    )


def _answered_by_a_cache(headers: Headers, places: Iterable[int]) -> str:
    """Return the name of a header by which a cache on the way says that the answer is its own; empty if none does."""
    for name, value in (headers[at] for at in places):
        if _HIT.match(value.strip()) or name == "x-litellm-cache-key":
            return name
    return ""


def leftover(fields: JsonObject, known: Collection[str]) -> str:
    """Return the name of a field of `fields` that is not `known` and may cost something; empty if there is none."""
    return next((name for name, value in fields.items() if name not in known and _may_cost(name, value)), "")


def _may_cost(name: str, value: JsonValue) -> bool:
    if type(value) is dict:
        return any(_may_cost(inner, one) for inner, one in value.items())
    if type(value) is list:
        return any(_may_cost(name, one) for one in value)
    return type(value) in {int, float} and value != 0 and not _TIMES.search(name)


def units(counts: Mapping[str, int | None]) -> dict[str, int]:
    """Return `counts` without those of nothing."""
    return {name: n for name, n in counts.items() if n}


def first(*reasons: str) -> str:
    """Return the first of `reasons` that is not empty."""
    return next(filter(None, reasons), "")


# --- an origin's own bill


def stated_usd(usage: JsonObject, vendor: str) -> Decimal | None:
    """Return what the origin bills for an answer [USD], if it says so in `usage` where its documentation says.

    Parameters
    ----------
    vendor
        Whose bill it is, as `Provider.vendor` has it; ``litellm`` where its proxy answered.
    """
    ticks = count(usage.get("cost_in_usd_ticks"))
    if ticks is not None:  # the name says its unit, whoever passes it on
        return Decimal(ticks) / TICKS_PER_USD
    cost = usage.get("cost")
    match vendor:
        case "openrouter":
            return _openrouter_usd(usage, cost)
        case "perplexity":
            return _money(as_object(cost).get("total_cost"))
        case "litellm":
            return _money(cost)
    return None


def _openrouter_usd(usage: JsonObject, cost: JsonValue) -> Decimal | None:
    """Return OpenRouter's charge; with the caller's own key at the maker's, what that one bills comes on top."""
    charged = _money(cost)
    upstream = _money(as_object(usage.get("cost_details")).get("upstream_inference_cost"))
    own_key = usage.get("is_byok")
    if own_key is True:
        return None if charged is None or upstream is None else charged + upstream
    is_sure = own_key is False or upstream in {None, charged}
    return charged if is_sure else None


def _money(value: JsonValue) -> Decimal | None:
    """Return an amount that is told as a number or a text; None for what is none, or less than nothing."""
    if type(value) not in {int, float, str}:
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


# --- OpenAI and everything compatible

_CACHED: Final = ("cached_tokens", "cache_read_input_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
_WRITTEN: Final = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
_WRITTEN_BY_TTL: Final = ("cache_creation", "cache_creation_token_details")
_ASKED_DETAILS: Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "prompt_token_details",
)
_SAID_DETAILS: Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
    "completion_token_details",
)
_MODAL: Final = tuple((kind, f"{kind}_tokens") for kind in MODALITIES)
_KNOWN: Final = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "reasoning_tokens",
        "prompt_cache_miss_tokens",
        *_CACHED,
        *_WRITTEN,
        *_WRITTEN_BY_TTL,
        *_ASKED_DETAILS,
        *_SAID_DETAILS,
    }
)
_KNOWN_DETAILS: Final = frozenset(
    {
        "text_tokens",
        "reasoning_tokens",
        "accepted_prediction_tokens",  # both are among the completion's tokens, at their price
        "rejected_prediction_tokens",
        "cached_tokens_details",
        "cache_write_tokens_details",
        *_CACHED,
        *_WRITTEN,
        *_WRITTEN_BY_TTL,
        *(f"{modality}_tokens" for modality in MODALITIES),
    }
)


def read_openai(
    usage: JsonValue, vendor: str = "", *, tier: JsonValue = None, headers: Headers = (), fee: str = ""
) -> Counted:
    """Return what an OpenAI-compatible `usage` says; what it does not state is unknown.

    Chat and completions say ``prompt_tokens``, Responses ``input_tokens``; both count the cached ones in. What was
    thought is among ``completion_tokens`` with some servers, beside them with others, and stands in the total alone
    with a third kind. So the total decides: the output is what it holds beside the input, if that is more.

    Parameters
    ----------
    vendor
        Whose bill a stated cost is.
    tier
        ``service_tier`` of the answer.
    headers
        Headers of the response, which tell LiteLLM's proxy.
    fee
        What else the answer tells that may cost; empty if nothing does.
    """
    fields = as_object(usage)
    asked_of, said_of = _details(fields, _ASKED_DETAILS), _details(fields, _SAID_DETAILS)
    cached, written = _agreed(fields, asked_of, _CACHED), _agreed(fields, asked_of, _WRITTEN)
    asked, said, beside_unclear = _both_sides(fields, cached, written)
    thought = count(said_of.get("reasoning_tokens")) or count(fields.get("reasoning_tokens")) or 0
    counted = Usage(asked, said, max(cached, default=0), max(written, default=0))
    hour = next((n for n in (_in_an_hour(holder) for holder in (asked_of, fields)) if n), 0)
    kinds = _kinds(asked_of, said_of)
    is_split = "cached_tokens_details" in asked_of
    unclear = first(
        beside_unclear,
        "cached tokens" if len(cached) > 1 or len(written) > 1 else "",
        "reasoning beside a total that is not told" if thought and count(fields.get("total_tokens")) is None else "",
        "reasoning beyond the output" if thought > (said or 0) else "",
        "kind of cached tokens" if cached and not is_split and any(k.startswith("input_") for k in kinds) else "",
        "ttl_12h_tokens" if as_object(asked_of.get("cache_write_tokens_details")).get("ttl_12h_tokens") else "",
        leftover(asked_of, _KNOWN_DETAILS),
        leftover(said_of, _KNOWN_DETAILS),
        leftover(fields, _KNOWN),
        fee,
    )
    bill = Bill(
        units={**kinds, **units({"output_reasoning_tokens": thought, "cache_write_1h_tokens": hour})},
        terms=_terms(tier if tier is not None else fields.get("service_tier")),
        stated_usd=stated_usd(fields, _biller(vendor, headers)),
        gateway=first(*(name for name in _COSTS if fields.get(name))),
        unclear=unclear,
    )
    return Counted(counted, bill)


def _biller(vendor: str, headers: Headers) -> str:
    return "litellm" if _signs(tuple(map(_NAME_OF, headers))).is_litellm else vendor


def _details(fields: JsonObject, names: Iterable[str]) -> JsonObject:
    return next(filter(None, (as_object(fields.get(name)) for name in names)), {})


def _agreed(fields: JsonObject, details: JsonObject, names: Iterable[str]) -> set[int]:
    """Return the counts that are told under any of `names`, each once; more than one contradict each other."""
    return {n for holder in (details, fields) for name in names if name in holder and (n := count(holder[name]))}


def _both_sides(fields: JsonObject, cached: set[int], written: set[int]) -> tuple[int | None, int | None, str]:
    """Return the tokens of the input and of the output, and what is unclear about them."""
    asked, said = (
        next((n for n in (count(fields.get(name)) for name in names) if n is not None), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    total = count(fields.get("total_tokens"))
    if total is None or asked is None:
        return asked, said, ""
    rest = total - asked
    # As Anthropic counts: what was read from and written to the cache stands beside the input.
    beside = sum(count(fields.get(name)) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    if beside and rest - (said or 0) == beside:
        return asked + beside, said, ""
    impossible = "cached tokens beyond the input" if max(cached, default=0) + max(written, default=0) > asked else ""
    return asked, said if rest <= (said or 0) else rest, impossible


def _in_an_hour(holder: JsonObject) -> int:
    told = [as_object(holder[name]) for name in _WRITTEN_BY_TTL if name in holder]
    return sum(count(one.get("ephemeral_1h_input_tokens")) or 0 for one in told) if told else 0


def _kinds(asked_of: JsonObject, said_of: JsonObject) -> dict[str, int]:
    """Return the tokens that are no text."""
    cached_of = as_object(asked_of.get("cached_tokens_details"))
    found: dict[str, int | None] = {}
    for kind, name in _MODAL:
        if name in asked_of:
            found[f"input_{kind}_tokens"] = count(asked_of[name])
        if name in said_of:
            found[f"output_{kind}_tokens"] = count(said_of[name])
        if name in cached_of:
            found[f"cache_{kind}_read_tokens"] = count(cached_of[name])
    return units(found)


def _terms(tier: JsonValue) -> dict[str, str]:
    name = as_text(tier).lower()
    return {"service_tier": name} if name else {}
