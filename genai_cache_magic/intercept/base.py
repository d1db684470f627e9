"""What all interceptors share: opening a call safely, recording an answer, preparing a replay."""

from __future__ import annotations

import asyncio
import copy
from concurrent.futures import CancelledError as FutureCancelledError
from typing import TYPE_CHECKING, Final

from genai_cache_magic.coalesce import Promoted
from genai_cache_magic.core.model import Form, Headers, Response
from genai_cache_magic.entries import trouble
from genai_cache_magic.errors import ReplayMiss, UncacheableRequest
from genai_cache_magic.lifecycle import Answered, Follow, Lead, Rejected, Step, bypass
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.scope import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from genai_cache_magic.coalesce import Landing
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.providers.base import HttpCall

MAX_RECORDED_BYTES: Final = 32 * 1024**2
"""An answer that grows beyond this is passed on and not recorded."""

MAX_WAIT_S: Final = 120.0
"""A follower waits no longer for its leader [s]: then it goes alone."""

_NOT_KEPT: Final = frozenset(
    {
        # Of the wire, not of the answer: recorded bytes are decoded.
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # Of the caller who asked first, not of the one who is answered now.
        "retry-after",
        "set-cookie",
        "set-cookie2",
        "www-authenticate",
    },
)
_NOT_KEPT_PARTS: Final = ("ratelimit",)


class Guarded:
    """Keep a failure of ours away from the user's call: it becomes an event.

    This is the one place that swallows any `Exception`: users' calls are sacred.
    """

    __slots__ = ("_here",)

    def __init__(self, here: Active) -> None:
        self._here = here

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        if not isinstance(exc, Exception):
            return False
        self._here.scope.emit(trouble("intercept", exc))
        return True


def open_call(here: Active, http: HttpCall, *, is_async: bool) -> Step | None:
    """Decide what becomes of an HTTP request; None is no model call, or one that we failed to judge.

    Raises
    ------
    ReplayMiss
        Mode ``replay`` and the answer can't be served: the model is never called.
    """
    with Guarded(here):
        try:
            call = recognise(http, here.cache.origins)
            return None if call is None else here.cache.calls.begin(call, here.scope, is_async=is_async)
        except UncacheableRequest as exc:
            bypass(here.scope, None, str(exc))
    if here.scope.options.mode is Mode.REPLAY:
        raise ReplayMiss("a model call can't be answered in mode replay: the status of the cell says why")
    return None


def wait(here: Active, follow: Follow, timeout_s: float | None) -> Step | None:
    """Wait in this thread for the call in flight, no longer than the caller itself would."""
    try:
        landing: Landing | None = follow.future.result(_bounded(timeout_s))
    except TimeoutError:
        landing = _give_up(follow.future)
    except BaseException:
        _pass_on(here, _give_up(follow.future))
        raise
    return _resume(here, follow, landing)


async def wait_async(here: Active, follow: Follow, timeout_s: float | None) -> Step | None:
    """Await the call in flight, no longer than the caller itself would."""
    try:
        waiting = asyncio.wrap_future(follow.future)
        landing: Landing | None = await asyncio.wait_for(waiting, _bounded(timeout_s))
    except TimeoutError:
        landing = _give_up(follow.future)
    except BaseException:
        _pass_on(here, _give_up(follow.future))
        raise
    return _resume(here, follow, landing)


def _bounded(timeout_s: float | None) -> float:
    return MAX_WAIT_S if timeout_s is None else min(timeout_s, MAX_WAIT_S)


def _give_up(future: Future[Landing]) -> Landing | None:
    """Stop waiting; if the outcome came at this very moment, return it."""
    if future.cancel():
        return None
    try:
        return future.result()
    except FutureCancelledError:
        return None


def _pass_on(here: Active, landing: Landing | None) -> None:
    if isinstance(landing, Promoted):
        here.cache.calls.abandon(landing.flight)


def _resume(here: Active, follow: Follow, landing: Landing | None) -> Step | None:
    with Guarded(here):
        return here.cache.calls.resume(follow, landing)
    return None


class Recording:
    """Collects one answer as it passes to its caller, and hands it over once it is whole.

    An answer is handed over when its stream was closed *and* the client returned this very response to
    its caller: what a redirect or an authentication round received is superseded.

    Parameters
    ----------
    decode
        Undoes the wire's encoding: (headers, raw body) -> body; may raise anything.
    """

    def __init__(self, here: Active, lead: Lead, decode: Callable[[Headers, bytes], bytes]) -> None:
        self._here = here
        self._lead = lead
        self._decode = decode
        self.is_returned = False
        self.attempt(0, ())

    def attempt(self, status: int, headers: Headers) -> None:
        """Start over with a new response head."""
        self._status = status
        self._headers = headers
        self._chunks: list[bytes] | None = []
        self._size = 0
        self._error: BaseException | None = None
        self._is_closed = False

    def feed(self, chunk: bytes) -> None:
        """Keep a chunk that is on its way to the caller."""
        if self._chunks is not None:
            self._size += len(chunk)
            self._chunks.append(chunk)
            if self._size > MAX_RECORDED_BYTES:
                self._chunks = None

    def broke(self, error: BaseException) -> None:
        """Note that the stream raised `error` to its caller."""
        self._error = error

    def closed(self) -> None:
        """Note that the stream was closed, by whoever."""
        self._is_closed = True
        if self.is_returned:
            self._hand_over()

    def returned(self) -> None:
        """Note that the client returned the response to its caller."""
        self.is_returned = True
        if self._is_closed:
            self._hand_over()

    def failed(self, error: BaseException, *, is_origins: bool) -> None:
        """Note that the client raised `error` instead of returning a response."""
        with Guarded(self._here):
            self._here.cache.calls.abort(self._lead, error, is_origins=is_origins)

    def _hand_over(self) -> None:
        desk = self._here.cache.calls
        with Guarded(self._here):
            if self._error is not None:
                desk.abort(self._lead, self._error)
            elif self._chunks is None:
                desk.commit_too_large(self._lead, self._status)
            else:
                body = self._decode(self._headers, b"".join(self._chunks))
                desk.commit(self._lead, recorded(self._status, self._headers, body))
        # If anything above failed, those who wait must not wait for ever.
        desk.drop(self._lead)


def recorded(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Response:
    """Return the response to keep: decoded, without what belongs to the wire or to the first caller."""
    kept = tuple((n, v) for n, v in ((n.lower(), v) for n, v in headers) if _is_kept(n))
    content_type = next((v for n, v in kept if n == "content-type"), "")
    is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
    return Response(status, kept, body, Form.STREAM if is_stream else Form.JSON)


def _is_kept(name: str) -> bool:
    return name not in _NOT_KEPT and not any(part in name for part in _NOT_KEPT_PARTS)


def replayed(step: Answered | Rejected) -> Response:
    """Return the response to give to the caller, marked if it comes from the cache.

    Raises
    ------
    BaseException
        A copy of the error that the origin gave to the call that this one waited for.
    """
    if isinstance(step, Rejected):
        if isinstance(step.error, Response):
            return step.error
        raise copy.copy(step.error)
    response = step.response
    mark = (("x-genai-cache", "hit"), ("x-genai-cache-tier", step.tier.value))
    return Response(response.status, (*response.headers, *mark), response.body, response.form)


def chunks(response: Response) -> list[bytes]:
    """Return the body as it is to be replayed: an event stream event by event, JSON at once."""
    if response.form is Form.JSON:
        return [response.body] if response.body else []
    separator = b"\r\n\r\n" if b"\r\n\r\n" in response.body else b"\n\n"
    *events, rest = response.body.split(separator)
    return [event + separator for event in events] + ([rest] if rest else [])
