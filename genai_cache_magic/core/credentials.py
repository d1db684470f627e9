"""Which parts of a request say who asks. SECURITY: where people can read a request, a digest stands in their place.

So calls of two credentials stay two, and neither can be read. `spec/run-file.md` §3 is normative.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

_NAMES: Final = frozenset({"cookie", "helicone-auth", "set-cookie", "x-functions-key"})
_ENDS: Final = (
    "api-key",  # Azure, Anthropic, Google, gateways
    "apikey",
    "authorization",  # proxies and gateways put a word before it
    "-password",
    "-secret",
    "-access-key",  # Amazon's
    "subscription-key",  # Azure API Management
    "-token",  # Amazon's sessions, Google's, bearers under other names
)
_FIELDS: Final = frozenset({"bearer", "credential", "credentials", "password", "secret", "token"})
_FIELD_ENDS: Final = (
    *("-virtual-key", "-credentials", "service-account-json", "private-key"),
    "connection-string",  # Azure's data sources
    "api-key-string",  # Google's retrieval from others
)
_HEADERS: Final = frozenset({"extra-headers", "headers", "http-headers"})
_SCHEMAS: Final = frozenset({"$defs", "definitions", "properties"})
"""What lies in these is what a value looks like, and none."""
_BENEATH: Final = {"key": "authentication", "value": "domain-secrets"}
"""Ordinary words, but in an object of that name, or in a list of it: of Azure's data sources, OpenAI's containers."""
_ADDRESSES: Final = ("url", "uri", "endpoint", "api-base")
_ADDRESS: Final = re.compile(r"(https?|wss?)://", re.IGNORECASE)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_credential(name: str) -> bool:
    """Tell whether a header, `name` in lower case, says who asks: such a header is in no key as it stands."""
    return name in _NAMES or name.endswith(_ENDS)


def digest_of(text: str) -> str:
    """Return what stands in the place of a credential."""
    return f"sha256={hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def readable(value: Any, name: str = "", *, is_header: bool = False, holder: str = "") -> Any:
    """Return a part of a body as people may read it; itself if nothing of it is hidden.

    It is called `name`, and lies in what is called `holder`, be that an object or a list.
    """
    kind = type(value)
    if kind is str:
        is_hidden = is_header or (name in _BENEATH and _plain(holder) == _BENEATH[name])
        return digest_of(value) if is_hidden else _text(name, value)
    if kind is not dict and kind is not list:
        return value
    is_of_headers = is_header or (kind is dict and holder not in _SCHEMAS and _plain(name) in _HEADERS)
    changed = {}
    places: Any = value if kind is dict else range(len(value))
    for at in places:
        own = at if kind is dict else ""
        shown = readable(value[at], own, is_header=is_of_headers, holder=name or holder)
        if shown is not value[at]:
            changed[at] = shown
    if not changed:
        return value
    copy = value.copy()
    for at, shown in changed.items():
        copy[at] = shown
    return copy


def readable_header(name: str, text: str) -> str:
    """Return the value of a header as people may read it: one of a gateway may hold credentials of others."""
    field = name.lower()
    is_hidden = field.endswith(_FIELD_ENDS) or text.lstrip().startswith(("{", "["))
    return digest_of(text) if is_hidden and not text.startswith("sha256=") else readable_address(text)


def readable_address(text: str) -> str:
    """Return an address as people may read it: of a user in it, and of its query, there is a digest."""
    start = _ADDRESS.match(text)
    if start is None:
        return text
    address, mark, query = text[start.end() :].partition("?")
    host, slash, path = address.partition("/")
    user, at, host = host.rpartition("@")
    user = f"{digest_of(user)}@" if at else ""
    return f"{start[0]}{user}{host}{slash}{path}" + (f"?{digest_of(query)}" if mark else "")


def _text(name: str, text: str) -> str:
    plain = _plain(name)
    if plain in _FIELDS or plain.endswith(_FIELD_ENDS) or is_credential(plain):
        return digest_of(text)
    return readable_address(text) if plain.endswith(_ADDRESSES) else text


def _plain(name: str) -> str:
    """Return the name of a field as that of a header would be written."""
    return _HUMP.sub("-", name).lower().replace("_", "-")
