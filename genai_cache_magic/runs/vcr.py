"""Cassettes of vcrpy: a list of requests and their answers, in YAML or JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.exchanges import Exchange
from genai_cache_magic.runs.pyyaml import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers

MAX_CASSETTE_BYTES: Final = 64 << 20
_DAMAGED: Final = "an interaction that can't be read"


def exchanges_in(content: bytes) -> Iterator[Exchange | str]:
    """Return what a cassette holds, in its order; a text stands for what can't be read.

    Raises
    ------
    ConfigurationError
        It is no cassette.
    """
    cassette = _parsed(content)
    interactions = cassette.get("interactions") if isinstance(cassette, dict) else None
    if not isinstance(interactions, list):
        old = isinstance(cassette, list) and cassette and isinstance(cassette[0], dict) and "request" in cassette[0]
        raise ConfigurationError(
            "it is a cassette of vcrpy before 1.0: let vcrpy migrate it first (python -m vcr.migration)"
            if old
            else "it is no cassette of vcrpy: it holds no list of interactions"
        )
    return map(_exchange, interactions)


def _parsed(content: bytes) -> Any:
    if content.lstrip()[:1] == b"{":  # what the JSON serializer writes; YAML of vcrpy never begins so
        try:
            return json.loads(content)  # as vcrpy does: half a surrogate is no damage to all the rest
        except (ValueError, RecursionError) as exc:
            raise ConfigurationError(f"it is no JSON that can be read: {exc}") from None
    try:
        return read_yaml(content.decode())
    except UnicodeDecodeError:
        raise ConfigurationError("it is neither YAML nor JSON: it is not in UTF-8") from None


def _exchange(interaction: Any) -> Exchange | str:
    try:
        request, response = interaction["request"], interaction["response"]
        status = response["status"] if "status" in response else response["status_code"]
        code = status["code"] if isinstance(status, Mapping) else status
        headers = _headers(request.get("headers"))
        asked = request.get("body")
        if isinstance(asked, (dict, list)):  # aiohttp's json=..., of which vcrpy keeps what was given
            asked = orjson.dumps(asked)
            headers = (*headers, ("content-type", "application/json"))
        answer = response["body"] if "body" in response else response.get("content")
        if isinstance(answer, Mapping):
            answer = base64.b64decode(answer["base64_string"]) if "base64_string" in answer else answer.get("string")
        if type(code) is not int:
            return _DAMAGED
        method, url = request["method"], request["uri"]
        if not (isinstance(method, str) and isinstance(url, str)):
            return _DAMAGED
        return Exchange(method, url, headers, _bytes(asked), code, _headers(response.get("headers")), _bytes(answer))
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return _DAMAGED


def _headers(found: Any) -> Headers:
    """Return headers, of which vcrpy has each value in a list, or alone."""
    lines = []
    for name, values in (found or {}).items():
        for value in values if isinstance(values, list) else [values]:
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            lines.append((str(name), text))
    return tuple(lines)


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    raise TypeError
