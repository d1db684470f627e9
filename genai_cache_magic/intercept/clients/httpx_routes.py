"""What a transport of httpx or httpx2 leads by: a socket, a proxy, another name at TLS.

Others put transports of their own around the library's: to try again, to log. What those lead to is found within them,
as long as they lead to one place; a transport that chooses as it sends is compared as it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.clients.wire import by_name, by_proxy, by_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers

_DEPTH: Final = 4
"""So many transports around one another are looked through."""

_PLAIN: Final = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None)})
"""Types of most of what a transport holds, which lead nowhere."""

_HANDLERS: Final = ("handle_request", "handle_async_request")


def route_of(transport: Any, request: Any) -> Headers:
    """Return how `request` goes to its service by `transport`, beside its URL."""
    pool = getattr(transport, "_pool", None)
    route = _route_of_pool(pool) if pool is not None else _route_within(transport)
    name = request.extensions.get("sni_hostname")
    return (*route, *by_name(name)) if name else route


def _route_of_pool(pool: Any) -> Headers:
    socket = getattr(pool, "_uds", None)
    if socket:
        return by_socket(socket)
    # A class of its own for each kind of proxy, or what the pool was given.
    proxy = getattr(pool, "_proxy_url", None) or getattr(getattr(pool, "_proxy", None), "url", None)
    return () if proxy is None else by_proxy(_url(proxy))


def _route_within(transport: Any) -> Headers:
    """Return the route of the pools within `transport` if it is the same for all of them."""
    routes = {_route_of_pool(pool) for pool in _pools(transport, _DEPTH)}
    return routes.pop() if len(routes) == 1 else ()


def _pools(transport: Any, depth: int) -> Iterator[Any]:
    for held in vars(transport).values() if depth and hasattr(transport, "__dict__") else ():
        kind = type(held)
        if kind in _PLAIN or not any(hasattr(kind, name) for name in _HANDLERS):
            continue
        pool = getattr(held, "_pool", None)
        if pool is None:
            yield from _pools(held, depth - 1)
        else:
            yield pool


def _url(url: Any) -> str:
    """Return a URL of httpcore as text, without whoever may use it."""
    scheme, host = url.scheme.decode("ascii"), url.host.decode("ascii")
    return f"{scheme}://{host}" if url.port is None else f"{scheme}://{host}:{url.port}"
