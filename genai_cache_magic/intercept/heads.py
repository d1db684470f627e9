"""What the head of an answer says of its body: how long it is, whether its end can be told, whether it may be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from genai_cache_magic.core.model import Form

if TYPE_CHECKING:
    from genai_cache_magic.core.model import Headers, Response

_LONGEST_NUMBER: Final = 20
"""Digits of a length; what has more is none."""


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
    told = ",".join(value for name, value in headers if name.lower() == "cache-control")
    return "no-store" in {word.partition("=")[0].strip().lower() for word in told.split(",")}


def _value(headers: Headers, name: str) -> str:
    return next((value for field, value in headers if field.lower() == name), "")
