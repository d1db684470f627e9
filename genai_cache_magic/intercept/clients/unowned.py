"""`urllib3` used bare, and the standard library's HTTP: clients that we can't answer for, so what they ask is said.

What stands on them and is served, such as `requests` and `botocore`, has a turn of its own: nothing is said twice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import open_unowned
from genai_cache_magic.intercept.clients.wire import http_call
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.turns import Turn, current_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.providers.base import HttpCall

MODULES: Final = ("http.client", "urllib3.connectionpool")

_HTTPS_PORT: Final = 443
_PLACES: Final = ("method", "url", "body", "headers")


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `module`.

    Raises
    ------
    AttributeError
        This release of it is built differently.
    """
    if module.__name__ == "http.client":
        return [(Point(module.HTTPConnection, "request", _request),)]
    return [(Point(module.HTTPConnectionPool, "urlopen", _urlopen),)]


def _urlopen(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def urlopen(self: Any, *args: Any, **options: Any) -> Any:
        def sent() -> HttpCall:
            asked = _asked(args, options)
            headers = asked.get("headers") or self.headers
            return _http_call(self.scheme, (self.host, self.port), {**asked, "headers": headers})

        return _said(functools.partial(original, self, *args, **options), sent, "urllib3")

    return urlopen


def _request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, *args: Any, **options: Any) -> Any:
        def sent() -> HttpCall:
            scheme = "https" if self.default_port == _HTTPS_PORT else "http"
            where = getattr(self, "_tunnel_host", None) or self.host, getattr(self, "_tunnel_port", None) or self.port
            return _http_call(scheme, where, _asked(args, options))

        return _said(functools.partial(original, self, *args, **options), sent, "http.client")

    return request


def _asked(args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return what both methods are called with, by place or by name."""
    return {**dict(zip(_PLACES, args, strict=False)), **options}


def _said(send: Callable[[], Any], sent: Callable[[], HttpCall], client: str) -> Any:
    """Send a request, and say so if it is a model call; raises ``ReplayMiss`` where it must not be sent."""
    here = active.get()
    if here is None or current_turn() is not None:
        return send()
    if open_unowned(here, sent, f"sent by {client}, which can't be answered for") is None:
        return send()
    with Turn(None):  # it may be sent again, or go through the other of the two
        return send()


def _http_call(scheme: str, where: tuple[str, int | None], asked: dict[str, Any]) -> HttpCall:
    host, port = where
    host = f"[{host.strip('[]')}]" if ":" in host else host
    target = asked["url"]
    url = target if urlsplit(target).scheme else f"{scheme}://{host}{f':{port}' if port else ''}{target}"
    return http_call(asked["method"].upper(), url, asked.get("headers") or {}, asked.get("body"))
