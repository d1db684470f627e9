"""What the head of an answer says of its body: how long it is, whether its end can be told, whether it may be kept."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import TYPE_CHECKING, Final

import orjson

from genai_cache_magic.core.model import Form

if TYPE_CHECKING:
    from genai_cache_magic.core.model import Headers, Response

_LONGEST_NUMBER: Final = 20
"""Digits of a length; what has more is none."""

_NOT_KEPT: Final = frozenset(
    {
        # Of the wire, not of the answer: recorded bytes are decoded.
        "connection",
        "content-encoding",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # Of the caller who asked first, not of the one who is answered now.
        "retry-after",
        "set-cookie",
        "set-cookie2",
        "www-authenticate",
    },
)
_NOT_KEPT_PARTS: Final = ("ratelimit",)

_MOST_HEADS: Final = 128
"""Of so many heads it is remembered where which field stands: an origin names the same ones each time."""

_NAME_OF: Final = operator.itemgetter(0)
_VALUE_OF: Final = operator.itemgetter(1)


def told_bytes(headers: Headers) -> int:
    """Return the length that the headers tell [bytes]; 0 if none, or none that is a number."""
    told = _value(headers, "content-length")
    return int(told) if told.isascii() and told.isdigit() and len(told) < _LONGEST_NUMBER else 0


def is_framed(headers: Headers) -> bool:
    """Tell whether a body of HTTP/1 that is cut short can be told from a whole one (RFC 9112 §6.3).

    Without a length and without chunks, the end of the connection is the end of the body, whatever ended it.
    """
    return _value(headers, "content-length").isdigit() or "chunked" in _value(headers, "transfer-encoding").lower()


def is_opaque(response: Response) -> bool:
    """Tell whether nothing within the body of `response` says that it is whole, as with sound or plain text."""
    if response.form is Form.STREAM:
        return False
    try:
        orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return True
    return False


def forbids_storing(headers: Headers) -> bool:
    """Tell whether whoever answered says ``cache-control: no-store`` (RFC 9111 §5.2.2.5)."""
    told = ",".join(values_of(headers, "cache-control"))
    return "no-store" in {word.partition("=")[0].strip().lower() for word in told.split(",")}


def values_of(headers: Headers, name: str) -> list[str]:
    """Return the values of the fields of this `name`, which is in lower case."""
    places = _places(tuple(map(_NAME_OF, headers))).get(name)
    return [headers[at][1] for at in places] if places else []


def kept_of(headers: Headers) -> Headers:
    """Return what is kept of `headers`, names in lower case: what belongs to the answer, and to whoever gets it."""
    names, are_kept = _kept(tuple(map(_NAME_OF, headers)))
    return tuple(zip(names, itertools.compress(map(_VALUE_OF, headers), are_kept), strict=True))


def _value(headers: Headers, name: str) -> str:
    return next(iter(values_of(headers, name)), "")


@functools.lru_cache(maxsize=_MOST_HEADS)
def _places(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Return where fields of each name stand, by the name in lower case."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        found.setdefault(name.lower(), []).append(at)
    return found


@functools.lru_cache(maxsize=_MOST_HEADS)
def _kept(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Return the names that are kept, in lower case, and of each field whether it is."""
    lowered = [name.lower() for name in names]
    are_kept = tuple(map(_is_kept, lowered))
    return tuple(itertools.compress(lowered, are_kept)), are_kept


def _is_kept(name: str) -> bool:
    return name not in _NOT_KEPT and not any(part in name for part in _NOT_KEPT_PARTS)
