"""Requests as the providers judge them, and answers as they go over the wire, for clients without words for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from genai_cache_magic.core.model import Form
from genai_cache_magic.intercept import replay
from genai_cache_magic.providers.base import HttpCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.model import Headers, Response


def http_call(method: str, url: str, headers: Mapping[str, str | bytes], body: object, route: Headers = ()) -> HttpCall:
    """Return a request as the providers judge it; a body that is a file or a generator is not read."""
    parts = urlsplit(url)
    told, repeated = in_lines((name.lower(), _text(value)) for name, value in headers.items())
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
        repeated=repeated,
        route=route,
    )


def in_lines(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return header fields, names in lower case, by name, and the values of those that have several lines.

    The lines of one header are one value with commas between them (RFC 9110 §5.3).
    """
    lines: dict[str, list[str]] = {}
    for name, value in fields:
        lines.setdefault(name, []).append(value)
    repeated = {name: tuple(values) for name, values in lines.items() if len(values) > 1}
    return {name: ", ".join(values) for name, values in lines.items()}, repeated


def by_proxy(proxy: Any) -> Headers:
    """Return the route by a proxy, its URL without whoever may use it; none for no proxy."""
    if not proxy:
        return ()
    text = str(proxy)
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return (("proxy", f"{parts.scheme}://{host}{f':{port}' if port else ''}"),)


def env_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for `url`, as the standard library reads it."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy and not proxy_bypass(parts.hostname or "") else None


def by_socket(path: Any) -> Headers:
    """Return the route by a socket of the file system; none for no socket."""
    if not path:
        return ()
    return (("socket", path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)),)


def by_name(name: Any) -> Headers:
    """Return the route by another name that TLS asks for; none for no such name."""
    if not name:
        return ()
    return (("sni", (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()),)


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
