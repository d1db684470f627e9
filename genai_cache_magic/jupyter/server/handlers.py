"""The routes ``<base_url>genai-cache/api/v1/...``: who may ask, and in which form an answer goes out.

Every route is authenticated by the server, asks its authorizer, and wants the XSRF token where it changes anything.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.jupyter.server import answers
from genai_cache_magic.jupyter.server.asked import check_names
from genai_cache_magic.jupyter.server.caches import NotHere, OtherCache
from genai_cache_magic.jupyter.server.workers import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.jupyter.server.caches import Caches
    from genai_cache_magic.jupyter.server.workers import Workers

ROOT = ("genai-cache", "api", "v1")
RESOURCE = "genai-cache"
BODY_RESOURCE = "genai-cache-body"
"""What answers say may be kept from those who may count and invalidate them: an authorizer tells by these names."""

MAX_REQUEST_BYTES = 1024**2
_SERVERS_OWN = frozenset({"token", "_xsrf"})


class Handler(APIHandler):
    """What all routes share.

    Attributes
    ----------
    answer
        What does the work, in a thread.
    """

    answer: ClassVar[Any]
    _track_activity = False  # a status bar that asks now and then keeps no idle server alive

    def initialize(self, caches: Caches, workers: Workers) -> None:
        """Take what all handlers share."""
        self._caches = caches
        self._workers = workers

    async def reply(self, read: Callable[[], dict[str, Any]], **more: Any) -> None:
        """Answer with what `answer` makes of what a request gave, by `read`, or with a sentence."""
        try:
            given = read()
            found = await self._workers.run(partial(type(self).answer, self._caches, given, **more))
        except GenaiCacheError as exc:
            self.set_status(_status(exc))
            found = {"message": str(exc), "reason": type(exc).__name__}
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(found))

    async def reply_to_document(self, **more: Any) -> None:
        """Answer with what `answer` makes of the JSON object that was sent, or with a sentence."""
        await self.reply(self._sent, **more)

    def query(self, entry: str) -> dict[str, Any]:
        """Return what stands in the query, and the `entry` of the path, if there is one in it.

        Raises
        ------
        ConfigurationError
            A parameter is none of this route, or stands there twice.
        """
        names = self._asked_by_query()
        check_names(self.answer.__name__, names)
        for name in names:
            if len(self.request.query_arguments[name]) > 1:
                raise ConfigurationError(f"{name} stands in the query more than once: write it once")
        given: dict[str, Any] = {name: self.get_query_argument(name) for name in names}
        return {**given, "entry": entry} if entry else given

    def _sent(self) -> dict[str, Any]:
        """Return the JSON object that was sent; raises as `query`."""
        if names := self._asked_by_query():
            raise ConfigurationError(f"{names[0][:40]!r} stands in the query: this route is asked by a JSON object")
        given = _document(self.request.body)
        check_names(self.answer.__name__, given)
        return given

    def _asked_by_query(self) -> list[str]:
        """Return the names in the query, without those by which the server itself, and its front end, go."""
        found = self.request.query_arguments.items()
        return [name for name, values in found if name not in _SERVERS_OWN and not _is_cache_buster(name, values)]

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a sentence: what went wrong inside is for the log alone."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, web.HTTPError):
            super().write_error(status_code, **kwargs)
            return
        sentence = "genai-cache failed in an unforeseen way; the log of the Jupyter server says how"
        self.finish(json.dumps({"message": sentence, "reason": type(error).__name__}))


# `authorized` remembers the first resource that it is used with, so each resource and action has a method of its own.


class Read(Handler):
    """A route that changes nothing; what it is asked for stands in its query."""

    @web.authenticated
    @authorized("read", RESOURCE)  # type: ignore[untyped-decorator]  # it has no types
    async def get(self, entry: str = "") -> None:
        """Answer."""
        await self.reply(partial(self.query, entry))


class ReadBody(Handler):
    """A route that shows an answer."""

    @web.authenticated
    @authorized("read", BODY_RESOURCE)  # type: ignore[untyped-decorator]  # it has no types
    async def get(self, entry: str) -> None:
        """Answer."""
        await self.reply(partial(self.query, entry))


class Ask(Handler):
    """A route that changes nothing, and is asked by a JSON document, since a query has no room for it."""

    @web.authenticated
    @authorized("read", RESOURCE)  # type: ignore[untyped-decorator]  # it has no types
    async def post(self) -> None:
        """Answer."""
        await self.reply_to_document()


class Explain(Handler):
    """A route that names what is stored, and shows words of it to those alone who may read answers."""

    @web.authenticated
    @authorized("read", RESOURCE)  # type: ignore[untyped-decorator]  # it has no types
    async def post(self) -> None:
        """Answer."""
        may_read = self.authorizer.is_authorized(self, self.current_user, "read", BODY_RESOURCE)
        await self.reply_to_document(shows_text=await ensure_async(may_read))


class Change(Handler):
    """A route that changes what is valid, and is asked by a JSON document."""

    @web.authenticated
    @authorized("write", RESOURCE)  # type: ignore[untyped-decorator]  # it has no types
    async def post(self) -> None:
        """Answer."""
        await self.reply_to_document()


def _is_cache_buster(name: str, values: list[bytes]) -> bool:
    """Return whether it is the time, which JupyterLab puts into each query, without a value."""
    return name.isascii() and name.isdigit() and not any(values)


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_REQUEST_BYTES:
        raise ConfigurationError(f"a request has at most {MAX_REQUEST_BYTES:,} bytes")
    try:
        given = json.loads(body or b"{}", object_pairs_hook=_object)
    except (ValueError, RecursionError) as exc:
        raise ConfigurationError("a request is a JSON object, and this is no JSON") from exc
    if not isinstance(given, dict):
        raise ConfigurationError("a request is a JSON object")
    return given


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ConfigurationError("a request has a member more than once: write it once")
    return found


def _status(error: GenaiCacheError) -> int:
    if isinstance(error, ConfigurationError):
        return 400
    by_kind = {NotHere: 404, OtherCache: 409, Busy: 429}
    return by_kind.get(type(error), 503)


def _route(kind: type[Handler], answer: Any) -> type[Handler]:
    return type(answer.__name__, (kind,), {"answer": staticmethod(answer)})


ROUTES: dict[tuple[str, ...], type[Handler]] = {
    ("health",): _route(Read, answers.health),
    ("stats",): _route(Read, answers.stats),
    ("usage",): _route(Read, answers.usage),
    ("entries",): _route(Read, answers.entries),
    ("entries", "([0-9A-Za-z]+)"): _route(Read, answers.entry),
    ("entries", "([0-9A-Za-z]+)", "body"): _route(ReadBody, answers.body),
    ("config",): _route(Read, answers.config),
    ("doctor",): _route(Read, answers.doctor),
    ("live",): _route(Ask, answers.live),
    ("explain",): _route(Explain, answers.explain),
    ("invalidate",): _route(Change, answers.invalidate),
}
"""Pattern below `ROOT` -> handler."""


def routes(base_url: str, caches: Caches, workers: Workers) -> Iterator[tuple[str, type[Handler], dict[str, Any]]]:
    """Yield what a web application is given, all of it below `base_url`."""
    for pattern, handler in ROUTES.items():
        yield url_path_join(base_url, *ROOT, *pattern), handler, {"caches": caches, "workers": workers}
