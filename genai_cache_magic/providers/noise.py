"""What of a body decides no answer: who asks, and notes about the call, where the origin's own documentation says so.

Anywhere else such a field is in the key: gateways route by it, and memory proxies answer by it. `spec/key.md` §2.3 is
normative. Configuration has the last word either way.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.providers.origins import vendor_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import HttpCall, ModelCall, Origins

_OPENAI: Final = ("metadata", "safety_identifier", "user")


class _Row(NamedTuple):
    """Top-level fields that decide nothing at the hosts below `domain`, or of `vendor`, on paths that hold `path`."""

    fields: tuple[str, ...]
    domain: str = ""
    vendor: str = ""
    path: str = ""


DOCUMENTED: Final = (
    # platform.openai.com/docs/api-reference: "help detect users of your application that may be violating" policies;
    # metadata is "attached to an object", to query it by.
    _Row(_OPENAI, domain="api.openai.com"),
    # learn.microsoft.com/azure/ai-foundry/openai/reference: "can help to monitor and detect abuse".
    _Row(_OPENAI, domain="openai.azure.com"),
    _Row(_OPENAI, domain="openai.azure.us"),
    _Row(_OPENAI, domain="openai.azure.cn"),
    _Row(_OPENAI, domain="cognitiveservices.azure.com", path="/openai/"),
    _Row(_OPENAI, domain="services.ai.azure.com", path="/openai/"),
    # docs.anthropic.com/en/api/messages: "metadata about the request", an id "to help detect abuse".
    _Row(("metadata",), domain="api.anthropic.com"),
    # cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference: labels "for billing and reporting only".
    _Row(("labels",), vendor="google"),
    # docs.aws.amazon.com/bedrock/latest/APIReference: requestMetadata "to filter invocation logs".
    _Row(("requestMetadata",), vendor="aws", path="/converse"),
)
"""Where which fields decide nothing, and who says so."""


class Told(NamedTuple):
    """What configuration says of the fields of one body.

    Attributes
    ----------
    kept
        Fields that are in the key whatever else is said of them, with their values.
    ignored
        Fields that were there and are left out, sorted. That they were there is part of the key, or who leaves them
        out would give answers to those who don't.
    """

    kept: JsonObject
    ignored: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Told to ignore {', '.join(self.ignored) or 'nothing'}>"


_NOTHING: Final = Told({}, ())


def take(call: HttpCall, body: JsonObject, origins: Origins) -> Told:
    """Take out of `body` what decides no answer of `call`, in place; `restored` puts back what configuration wants."""
    include, exclude = origins.key_include, origins.key_exclude
    kept = {name: body[name] for name in include.intersection(body)} if include else {}
    for name in _silent(call):
        body.pop(name, None)
    ignored = tuple(sorted(exclude.intersection(body) - kept.keys())) if exclude else ()
    for name in ignored:
        del body[name]
    return Told(kept, ignored) if kept or ignored else _NOTHING


def restored(call: ModelCall | None, told: Told) -> ModelCall | None:
    """Return `call` with the fields in its key that configuration wants there, and marked by what it left out."""
    if call is None or told is _NOTHING:
        return call
    body = {**told.kept, **call.request.body}
    return replace(call, request=replace(call.request, body=body, ignored=told.ignored))


def _silent(call: HttpCall) -> Iterable[str]:
    return [name for row in _rows_at(call.host) if row.path in call.path for name in row.fields]


@functools.lru_cache(maxsize=256)
def _rows_at(host: str) -> tuple[_Row, ...]:
    host = host.rstrip(".")
    vendor = vendor_of(host)
    return tuple(row for row in DOCUMENTED if (row.vendor and row.vendor == vendor) or _is_below(host, row.domain))


def _is_below(host: str, domain: str) -> bool:
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))
