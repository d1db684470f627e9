"""Recordings of pycachy: answers by a digest of their requests, and the log that tells what was asked.

``cachy.jsonl`` holds no requests. What was asked stands in the log that pycachy writes where ``CACHY_LOG`` names one:
a line of it counts only if the digest of what it says is the one that it names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.exchanges import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers

MAX_RECORD_BYTES: Final = 128 << 20
_KEY_DIGITS: Final = 8
_WITHOUT_NOISE: Final = re.compile(r"ipykernel_N|<ipython-input>|/tmp/tmp[XT]\b|0xMEM|line N, in")
"""What pycachy puts in the place of addresses and temporary paths: what was really sent is not known then."""

_UNKNOWN: Final = "answers of which the log doesn't say what was asked"
_DAMAGED: Final = "a line that can't be read"
_NOISY: Final = "asked with addresses or temporary paths in it, which pycachy leaves out"
_ANTHROPIC: Final = ("2023-06-01", "2026-10-21")
"""The versions of its API that Anthropic's SDKs ask for, by a header; pycachy keeps none, and answers either."""


def exchanges_in(content: bytes, log: bytes) -> Iterator[Exchange | str]:
    """Return what `content`, a ``cachy.jsonl``, holds, by what `log` says was asked.

    Raises
    ------
    ConfigurationError
        It is no such file, or no such log.
    """
    asked = _asked(log)
    lines = content.splitlines()
    records = [record for raw in lines if raw.strip() and (record := _object(raw)) is not None]
    if lines and not any("key" in record and "response" in record for record in records):
        raise ConfigurationError("it is no cachy.jsonl: none of its lines holds a key and a response")
    damaged = sum(bool(raw.strip()) for raw in lines) - len(records)
    yield from [_DAMAGED] * damaged
    for record in records:
        exchange = _exchange(record, asked)
        if isinstance(exchange, Exchange) and urlsplit(exchange.url).path.endswith("/messages"):
            for version in _ANTHROPIC:
                yield replace(exchange, headers=(*exchange.headers, ("anthropic-version", version)))
        else:
            yield exchange


def _asked(log: bytes) -> dict[str, dict[str, Any]]:
    """Return the requests in a log, by their keys; what does not bear its key out is left out."""
    said = [line for raw in log.splitlines() if (line := _object(raw)) is not None]
    if log.strip() and not any("key" in line and "url" in line for line in said):
        raise ConfigurationError("the log is none of pycachy's: none of its lines holds a key and a url")
    return {line["key"]: line for line in said if line.get("key") and line["key"] == _key(line)}


def _key(line: dict[str, Any]) -> str:
    parts = f"{line.get('url')}{line.get('stream')}{line.get('accept')}{line.get('body')}"
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_DIGITS]


def _exchange(record: dict[str, Any], asked: dict[str, dict[str, Any]]) -> Exchange | str:
    key, status = record.get("key"), record.get("status_code", 200)
    if not isinstance(key, str) or type(status) is not int:
        return _DAMAGED
    request = asked.get(key)
    if request is None:
        return _UNKNOWN
    url, body = request.get("url"), request.get("body")
    if not (isinstance(url, str) and isinstance(body, str)):
        return _DAMAGED
    if _WITHOUT_NOISE.search(url) or _WITHOUT_NOISE.search(body):
        return _NOISY
    try:
        text = record["response"]
        answer = (
            base64.b64decode(text, validate=True) if record.get("binary") else text.encode("utf-8", "surrogatepass")
        )
    except (KeyError, TypeError, AttributeError, binascii.Error, ValueError):
        return _DAMAGED
    sent: Headers = (("content-type", "application/json"), ("accept", str(request.get("accept") or "")))
    return Exchange("POST", url, sent, body.encode("utf-8", "surrogatepass"), status, _answered(record, answer), answer)


def _answered(record: dict[str, Any], answer: bytes) -> Headers:
    told = record.get("headers")
    if isinstance(told, dict) and told:
        return tuple((str(name), str(value)) for name, value in told.items())
    # Older ones have kept none.
    is_json = answer.lstrip()[:1] in {b"{", b"["}
    return (("content-type", "application/json" if is_json else "text/event-stream"),)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if type(found) is dict else None
