"""Requests as the providers judge them, and answers as they go over the wire, for clients without words for them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from genai_cache_magic.core.model import Form
from genai_cache_magic.intercept import replay
from genai_cache_magic.providers.base import HttpCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.core.model import Response


def http_call(method: str, url: str, headers: Mapping[str, str | bytes], body: object) -> HttpCall:
    """Return a request as the providers judge it; a body that is a file or a generator is not read."""
    parts = urlsplit(url)
    told = {name.lower(): _text(value) for name, value in headers.items()}
    if "content-type" not in told and getattr(body, "is_multipart", False) is True:
        told["content-type"] = "multipart/form-data"  # aiohttp makes header and body of a form when it sends it
    return HttpCall(
        method=method,
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port,
        path=parts.path,
        query=parts.query,
        headers=told,
        body=_buffered(body),
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _buffered(body: object) -> bytes | None:
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, bytes | bytearray) else None


def framed(stored: Response) -> tuple[bytes, bytes]:
    """Return the header that tells how the body ends, and the body as it goes over the wire."""
    if stored.form is not Form.STREAM:
        return b"content-length: %d" % len(stored.body), stored.body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in replay.chunks(stored))
    return b"transfer-encoding: chunked", chunks + b"0\r\n\r\n"
