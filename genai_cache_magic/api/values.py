"""Plain values as they are stored: bytes, text and JSON, each so that it comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import orjson

from genai_cache_magic.core.canonical import check_json
from genai_cache_magic.core.model import Response
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it is stored, for `ttl_s` [s] and under `tags`."""

    kind: str
    body: bytes = field(repr=False)
    ttl_s: int
    tags: tuple[str, ...] = field(repr=False)

    def response(self) -> Response:
        """Return what an entry holds of it."""
        return Response(0, (("kind", self.kind),), self.body)


def encoded(value: Any, *, ttl_s: int, tags: tuple[str, ...]) -> Value:
    """Return `value` as it is stored; raises ``UncacheableRequest`` if it is neither bytes, text nor JSON."""
    if type(value) is bytes:
        return Value("bytes", value, ttl_s, tags)
    if type(value) is str:
        return Value("str", value.encode("utf-8", "surrogatepass"), ttl_s, tags)
    check_json(value, refusal="the value can't be kept", wanted="bytes, text or plain JSON types")
    try:
        return Value("json", orjson.dumps(value), ttl_s, tags)
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits: slower, but it comes back as it was.
        return Value("json-exact", json.dumps(value).encode(), ttl_s, tags)


def pairs_of(items: Any, *, named: str) -> list[tuple[Any, Any]]:
    """Return the pairs of a mapping, or of a list of them, that was given to `named`.

    A pair is anything that gives two things in an order, such as a row of an array; but a text of two characters, a
    set or a dict of two is none, though Python would take it apart as one.

    Raises
    ------
    ConfigurationError
        It is neither.
    """
    found = items.items() if hasattr(items, "items") else items
    pairs = []
    for one in found if isinstance(found, Iterable) else [found]:
        is_row = isinstance(one, Iterable) and not isinstance(one, str | bytes | AbstractSet | Mapping)
        match list(one) if is_row else None:
            case [first, second]:
                pairs.append((first, second))
            case _:
                raise ConfigurationError(f"{named} takes a dict, or pairs: write {named}({{'one': 1, 'other': 2}})")
    return pairs


def several(asked: Any, *, named: str, alone: str) -> list[Any]:
    """Return what `named` was asked for as a list; raises ``ConfigurationError`` for one thing, which `alone` takes."""
    if isinstance(asked, str | bytes) or not isinstance(asked, Iterable):
        what = "one text" if isinstance(asked, str | bytes) else f"of type {type(asked).__name__}"
        raise ConfigurationError(f"{named} takes a list, and this is {what}: write {named}([...]), or {alone}(...)")
    return list(asked)


def decoded(response: Response) -> Any:
    """Return a fresh copy of the value that an entry holds."""
    kind = response.headers[0][1]
    if kind == "bytes":
        return response.body
    if kind == "str":
        return response.body.decode("utf-8", "surrogatepass")
    return json.loads(response.body) if kind == "json-exact" else orjson.loads(response.body)


def as_it_comes_back(value: Any) -> Any:
    """Return a copy of `value` as a look-up will give it, so that the first time is like every other.

    JSON has no tuples: they come back as lists. What is not JSON is never kept, and is returned itself.
    """
    try:
        check_json(value)
    except UncacheableRequest:
        return value
    return _without_tuples(value)


def _without_tuples(value: Any) -> Any:
    if type(value) is dict:
        return {name: _without_tuples(inner) for name, inner in value.items()}
    return [_without_tuples(inner) for inner in value] if type(value) in {list, tuple} else value
