"""What ``usageMetadata`` says: tokens of every kind, and on which terms they were served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Usage
from genai_cache_magic.providers.base import Bill
from genai_cache_magic.providers.billing import Counted, first, leftover, units
from genai_cache_magic.providers.fields import objects
from genai_cache_magic.providers.reading import as_text, count

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject

_COUNTS: Final = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)
_ANSWERED: Final = frozenset({"candidatesTokenCount", "thoughtsTokenCount"})
_DETAILS: Final = {
    "promptTokensDetails": "input_{}_tokens",
    "toolUsePromptTokensDetails": "input_{}_tokens",
    "cacheTokensDetails": "cache_{}_read_tokens",
    "candidatesTokensDetails": "output_{}_tokens",
}
"""List of counts by modality -> unit of each."""

_MODALITIES: Final = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}

_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
}
"""``trafficType`` of Vertex AI -> service tier. What is not here (provisioned throughput) is not billed by token."""


def read_usage(usage: JsonObject) -> Counted:
    """Return what `usage` says; counts of zero are left out of it, and thoughts are counted apart."""
    prompt, tools, cached, said, thought, total = (count(usage.get(name)) for name in _COUNTS)
    asked = None if prompt is None else prompt + (tools or 0)
    is_told = any(name in usage for name in _ANSWERED) or prompt is None  # what is zero is left out
    answered = None if said is None and thought is None and is_told else (said or 0) + (thought or 0)
    if asked is not None and total is not None and total - asked > (answered or 0):
        answered = total - asked
    kinds, unclear = _kinds(usage)
    is_split = "cacheTokensDetails" in usage
    counted = Usage(asked, answered, cached_input_tokens=cached or 0)
    bill = Bill(
        units={**kinds, **units({"output_reasoning_tokens": thought})},
        terms=_terms(usage),
        unclear=first(
            unclear,
            "kind of cached tokens" if cached and "input_audio_tokens" in kinds and not is_split else "",
            leftover(usage, {*_COUNTS, *_DETAILS}),
        ),
    )
    return Counted(counted, bill)


def _kinds(usage: JsonObject) -> tuple[dict[str, int], str]:
    """Return the tokens that are no text, and the name of a modality that is not known."""
    found: dict[str, int] = {}
    for name, unit in _DETAILS.items():
        for one in objects(usage.get(name)):
            modality, n = as_text(one.get("modality")), count(one.get("tokenCount"))
            if not n or modality == "TEXT":
                continue
            if modality not in _MODALITIES:
                return found, f"modality {modality}"
            key = unit.format(_MODALITIES[modality])
            found[key] = found.get(key, 0) + n
    return found, ""


def _terms(usage: JsonObject) -> dict[str, str]:
    traffic = as_text(usage.get("trafficType"))
    tier = as_text(usage.get("serviceTier")) or (_TRAFFIC.get(traffic, traffic) if traffic else "")
    return {"service_tier": tier.lower()} if tier else {}
