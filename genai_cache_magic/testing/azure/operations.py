"""The operations of Key Vault's REST interface on keys: which request asks for which, and what it does."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.azure.errors import bad_parameter
from genai_cache_magic.testing.azure.key_material import generate, imported
from genai_cache_magic.testing.azure.tokens import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.testing.azure.key_store import KeyStore
    from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

API_VERSIONS = ("2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01")
_FIRST_WITH_ROTATION = API_VERSIONS.index("7.3")
_ROTATION = frozenset({"rotate", "getRotationPolicy", "setRotationPolicy"})
_CRYPTOGRAPHY = {name.lower(): name for name in ("encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify")}
_DEFAULT_PAGE = 25


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request asks for.

    Attributes
    ----------
    name : str
        In Key Vault's words: ``create``, ``get``, ``versions``, ``unwrapKey``, ...
    key, version : str
        Empty where there is none.
    """

    name: str
    key: str = ""
    version: str = ""


def operation_of(request: ReceivedRequest) -> Operation | None:
    """Return what a request asks for, by its method and path; None for what is no operation on keys."""
    for method, path, name in _ROUTES:
        found = path.fullmatch(request.path) if method == request.method else None
        if found is not None:
            parts = {part: urllib.parse.unquote(text or "") for part, text in found.groupdict().items()}
            return Operation(_CRYPTOGRAPHY.get(parts.pop("operation", "").lower(), name), **parts)
    return None


_KEY = "(?P<key>[^/]+)"
# A version that is left out leaves two slashes, or one at the end: the latest is meant.
_VERSION = "(?P<version>[^/]*)"
_ROUTES = tuple(
    (method, re.compile(path), name)
    for method, path, name in (
        ("GET", "/keys/?", "list"),
        ("GET", "/deletedkeys/?", "listDeleted"),
        ("GET", f"/deletedkeys/{_KEY}", "getDeleted"),
        ("DELETE", f"/deletedkeys/{_KEY}", "purge"),
        ("POST", f"/deletedkeys/{_KEY}/recover", "recover"),
        ("POST", f"/keys/{_KEY}/create", "create"),
        ("POST", f"/keys/{_KEY}/rotate", "rotate"),
        ("GET", f"/keys/{_KEY}/versions", "versions"),
        ("GET", f"/keys/{_KEY}/rotationpolicy", "getRotationPolicy"),
        ("PUT", f"/keys/{_KEY}/rotationpolicy", "setRotationPolicy"),
        ("GET", f"/keys/{_KEY}(?:/{_VERSION})?", "get"),
        ("PATCH", f"/keys/{_KEY}(?:/{_VERSION})?", "update"),
        ("PUT", f"/keys/{_KEY}/?", "import"),
        ("DELETE", f"/keys/{_KEY}/?", "delete"),
        ("POST", f"/keys/{_KEY}/{_VERSION}/(?P<operation>(?i:{'|'.join(_CRYPTOGRAPHY)}))", ""),
    )
)


def require_api_version(request: ReceivedRequest, operation: Operation) -> None:
    """Refuse a request that names no version of the interface, or one that has not this operation."""
    version = urllib.parse.parse_qs(request.query).get("api-version", [""])[0]
    if not version:
        raise bad_parameter("The request does not specify api-version.")
    known = version.partition("-preview")[0]
    if known not in API_VERSIONS:
        raise bad_parameter(
            f"The specified version ({version}) is not recognized. Consider using the latest supported version "
            f"({API_VERSIONS[-1]})."
        )
    if operation.name in _ROTATION and API_VERSIONS.index(known) < _FIRST_WITH_ROTATION:
        raise bad_parameter(f"Method {operation.name} is not supported by api-version {version}.")


def perform(operation: Operation, request: ReceivedRequest, store: KeyStore) -> dict[str, Any] | None:
    """Do what was asked for and return the answer's JSON, None for an answer without any.

    Raises
    ------
    VaultRefusalError
        It can't be done.
    """
    if operation.key:
        store.require_name(operation.key)
    if operation.name in _CRYPTOGRAPHY.values():
        return _use_key(operation, _body(request), store)
    return _PERFORMED[operation.name](operation, request, store)


def _create(asked: Operation, request: ReceivedRequest, store: KeyStore) -> dict[str, Any]:
    body = _body(request)
    return store.add(asked.key, generate(body), body)


def _import(asked: Operation, request: ReceivedRequest, store: KeyStore) -> dict[str, Any]:
    body = _body(request)
    material = imported(body.get("key"), is_hsm=bool(body.get("Hsm")))
    options = {"key_ops": body["key"].get("key_ops"), "attributes": body.get("attributes"), "tags": body.get("tags")}
    return store.add(asked.key, material, options)


def _rotate(asked: Operation, _: ReceivedRequest, store: KeyStore) -> dict[str, Any]:
    return store.rotate(asked.key, store.material_of_latest(asked.key).renewed())


def _purge(asked: Operation, _: ReceivedRequest, store: KeyStore) -> None:
    store.purge(asked.key)


_PERFORMED: dict[str, Callable[[Operation, ReceivedRequest, KeyStore], dict[str, Any] | None]] = {
    "get": lambda asked, _, store: store.get(asked.key, asked.version),
    "create": _create,
    "import": _import,
    "update": lambda asked, request, store: store.update(asked.key, asked.version, _body(request)),
    "rotate": _rotate,
    "list": lambda _, request, store: _page(request, store.list_keys()),
    "versions": lambda asked, request, store: _page(request, store.list_versions(asked.key)),
    "getRotationPolicy": lambda asked, _, store: store.policy(asked.key),
    "setRotationPolicy": lambda asked, request, store: store.set_policy(asked.key, _body(request)),
    "delete": lambda asked, _, store: store.delete(asked.key),
    "listDeleted": lambda _, request, store: _page(request, store.list_deleted()),
    "getDeleted": lambda asked, _, store: store.deleted(asked.key),
    "recover": lambda asked, _, store: store.recover(asked.key),
    "purge": _purge,
}


def _use_key(operation: Operation, body: dict[str, Any], store: KeyStore) -> dict[str, Any]:
    algorithm = body.get("alg")
    if not isinstance(algorithm, str):
        raise bad_parameter("Property alg is missing.")
    material, kid = store.usable(operation.key, operation.version, operation.name)
    if operation.name == "verify":
        return {"value": material.verify(algorithm, _bytes(body, "digest"), _bytes(body, "value"))}
    value = _bytes(body, "value")
    match operation.name:
        case "encrypt" | "wrapKey":
            result = material.encrypt(algorithm, value)
        case "decrypt" | "unwrapKey":
            result = material.decrypt(algorithm, value)
        case _:
            result = material.sign(algorithm, value)
    return {"kid": kid, "value": base64url(result)}


def _page(request: ReceivedRequest, items: list[dict[str, Any]]) -> dict[str, Any]:
    query = urllib.parse.parse_qs(request.query)
    try:
        start = int(query.get("$skiptoken", ["0"])[0])
        size = int(query.get("maxresults", [str(_DEFAULT_PAGE)])[0])
    except ValueError as exc:
        raise bad_parameter("maxresults and $skiptoken are numbers.") from exc
    if not 1 <= size <= _DEFAULT_PAGE or start < 0:
        raise bad_parameter(f"maxresults is from 1 to {_DEFAULT_PAGE}.")
    after = start + size
    link = None
    if after < len(items):
        more = {"api-version": query["api-version"][0], "$skiptoken": str(after), "maxresults": str(size)}
        link = f"https://{request.headers['host']}{request.path}?{urllib.parse.urlencode(more)}"
    return {"value": items[start:after], "nextLink": link}


def _body(request: ReceivedRequest) -> dict[str, Any]:
    if not isinstance(request.json, dict):
        raise bad_parameter("The request body is no JSON object.")
    return request.json


def _bytes(body: dict[str, Any], name: str) -> bytes:
    try:
        return from_base64url(body[name])
    except (KeyError, AttributeError, ValueError, TypeError) as exc:
        raise bad_parameter(f"Property {name} is missing or no base64url.") from exc
