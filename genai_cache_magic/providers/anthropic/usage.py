"""What a ``usage`` of the Messages API says: tokens of each price, the terms, and what its server's own tools cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.base import Bill
from genai_cache_magic.providers.billing import Counted, first, leftover, stated_usd, units
from genai_cache_magic.providers.fields import objects
from genai_cache_magic.providers.reading import as_object, as_text, count, usage_beside_cache

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject, JsonValue

_KNOWN: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "output_tokens_details",
        "server_tool_use",
        "iterations",
    }
)
_KNOWN_DETAILS: Final = frozenset({"thinking_tokens"})  # among the output's tokens, at their price
_KNOWN_WRITES: Final = frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"})

_COUNTED_TOOLS: Final = frozenset({"web_search_requests", "web_fetch_requests"})
"""Searches have a price each; to fetch costs nothing beside the tokens."""

_PRICED_TOOLS: Final = ("web_search", "web_fetch", "tool_search_tool")
"""Beginnings of the names of server tools whose price is known: counted in the usage, or nothing."""

_EVERYWHERE: Final = frozenset({"", "global", "not_available"})
"""`inference_geo` without the surcharge of inference in one country."""


def read_usage(usage: JsonObject, blocks: Iterable[JsonValue] = (), vendor: str = "") -> Counted:
    """Return what `usage` says of an answer whose content is `blocks`, served by `vendor`."""
    written = as_object(usage.get("cache_creation"))
    five, hour = (count(written.get(f"ephemeral_{ttl}_input_tokens")) or 0 for ttl in ("5m", "1h"))
    details, tools = as_object(usage.get("output_tokens_details")), as_object(usage.get("server_tool_use"))
    counted = usage_beside_cache(
        usage.get("input_tokens"),
        usage.get("output_tokens"),
        read=usage.get("cache_read_input_tokens"),
        written=usage.get("cache_creation_input_tokens"),
    )
    is_split = not written or five + hour == counted.cache_write_tokens
    unclear = first(
        "" if is_split else "cache writes that don't add up",
        *(f"tool {name}" for name in _unpriced_tools(blocks)),
        # Iterations of another kind are billed beside the counts of the whole.
        *(f"iteration {kind}" for kind in _iterations(usage) if kind != "message"),
        "" if as_text(usage.get("inference_geo")).lower() in _EVERYWHERE else "inference_geo",
        leftover(tools, _COUNTED_TOOLS),
        leftover(details, _KNOWN_DETAILS),
        leftover(written, _KNOWN_WRITES),
        leftover(usage, _KNOWN),
    )
    searches = count(tools.get("web_search_requests"))
    return Counted(
        counted,
        Bill(
            units=units({"cache_write_5m_tokens": five, "cache_write_1h_tokens": hour, "web_searches": searches}),
            terms=_terms(usage),
            stated_usd=stated_usd(usage, vendor),
            unclear=unclear,
        ),
    )


def _terms(usage: JsonObject) -> dict[str, str]:
    told = {name: as_text(usage.get(name)).lower() for name in ("service_tier", "speed")}
    if told["service_tier"] == "batch":
        told["service_tier"], told["processing"] = "", "batch"
    return {name: value for name, value in told.items() if value}


def _unpriced_tools(blocks: Iterable[JsonValue]) -> Iterable[str]:
    """Yield the names of the tools that the server ran and whose price is not known, such as code execution."""
    for block in map(as_object, blocks):
        name = as_text(block.get("name"))
        if block.get("type") == "server_tool_use" and not name.startswith(_PRICED_TOOLS):
            yield name or "unnamed"


def _iterations(usage: JsonObject) -> Iterable[str]:
    return (as_text(one.get("type")) for one in objects(usage.get("iterations")))
