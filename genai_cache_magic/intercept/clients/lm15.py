"""`lm15`, which speaks HTTP by itself, and which DSPy carries along as the engine of its language models.

A transport's ``stream`` owns a call, above its connections. What it returns is made of the library's own response
class, whose iterator of chunks and whose release are ours: around those of the network, or of a stored answer.
"""

from __future__ import annotations

import functools
import http.client
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.steps import Follow, Step
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import open_call, wait, wait_async
from genai_cache_magic.intercept.clients.httpx_streams import AsyncTee, Tee
from genai_cache_magic.intercept.clients.wire import by_proxy, env_proxy, http_call
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.turns import Turn, current_turn, turn_for
from genai_cache_magic.providers.unrecognised import ASK_NOTHING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.recording import Recording
    from genai_cache_magic.providers.base import HttpCall

MODULES: Final = ("lm15.transports", "dspy._vendor.lm15.transports")


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in the library's package of transports.

    Raises
    ------
    AttributeError
        This release of it is built differently.
    """
    kit = _Kit(module)
    return [
        (Point(module.StdlibTransport, "stream", functools.partial(_stream, kit=kit)),),
        # What `stream` of the asynchronous one puts off until it is entered or awaited.
        (Point(module.StdlibAsyncTransport, "_do_stream", functools.partial(_do_stream, kit=kit)),),
    ]


def _stream(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def stream(self: Any, request: Any) -> Any:
        here = active.get()
        step = None if here is None else kit.begin(here, self, request, is_async=False)
        if here is None or step is None:
            return original(self, request)
        while isinstance(step, Follow):
            step = wait(here, step, _read_timeout(self, request))
        turn = turn_for(here, request, step, is_origins=kit.is_origins, play=kit.play)
        if turn.outcome is not None:
            return kit.delivered(turn.outcome, kit.played)
        with turn:
            response = original(self, request)
            return kit.recorded(turn, kit.call(self, request), response, kit.taped)

    return stream


def _do_stream(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _do_stream(self: Any, request: Any) -> Any:
        here = active.get()
        step = None if here is None else kit.begin(here, self, request, is_async=True)
        if here is None or step is None:
            return await original(self, request)
        while isinstance(step, Follow):
            step = await wait_async(here, step, _read_timeout(self, request))
        turn = turn_for(here, request, step, is_origins=kit.is_origins, play=kit.play)
        if turn.outcome is not None:
            return kit.delivered(turn.outcome, kit.played_async)
        with turn:
            response = await original(self, request)
            recorded = kit.recorded(turn, kit.call(self, request), response, kit.taped_async)
        if turn.is_unended:
            await turn.end()
        return recorded

    return _do_stream


def _read_timeout(transport: Any, request: Any) -> float | None:
    """Return how long the caller waits for an answer [s], None if it did not say so."""
    timeout = request.read_timeout or getattr(transport, "_read_timeout", None)
    return timeout if isinstance(timeout, int | float) else None


class _Kit:
    """What is made once: the library's responses and errors."""

    def __init__(self, module: ModuleType) -> None:
        self._response = module.TransportResponse
        self._async_response = module.AsyncTransportResponse
        self._error = module.TransportError
        self._connect_error = module.ConnectError
        # Nobody else would get these: the caller's own time-outs.
        self._own = (module.ConnectTimeout, module.ReadTimeout, module.WriteTimeout)

    def begin(self, here: Active, transport: Any, request: Any, *, is_async: bool) -> Step | None:
        """Decide what becomes of `request`; None if it is to be left alone altogether."""
        if request.method.upper() in ASK_NOTHING or current_turn() is not None:
            return None
        return open_call(here, self.call(transport, request), is_async=is_async)

    def call(self, transport: Any, request: Any) -> Callable[[], HttpCall]:
        """Return what tells of `request` as the providers judge it."""
        return functools.partial(self._http_call, transport, request)

    def _http_call(self, transport: Any, request: Any) -> HttpCall:
        headers = {"user-agent": str(getattr(transport, "_user_agent", "")), **dict(request.headers)}
        proxy = getattr(transport, "_proxy", None)
        if proxy is None and getattr(transport, "_trust_env", False):
            proxy = env_proxy(request.url)
        return http_call(request.method.upper(), request.url, headers, request.body, by_proxy(proxy))

    def play(self, stored: Response | BaseException) -> Response | BaseException:
        """Return `stored`, to be delivered to either kind of caller, or an error like it."""
        if isinstance(stored, Response):
            return stored
        kind = type(stored) if isinstance(stored, self._error) else self._connect_error
        error: BaseException = kind(*stored.args)
        return error

    def delivered(self, outcome: Response | BaseException, play: Callable[[Response], Any]) -> Any:
        """Return a stored response as the library's own, or raise what another caller got."""
        if isinstance(outcome, BaseException):
            raise outcome
        return play(outcome)

    def played(self, stored: Response) -> Any:
        """Return `stored` to read synchronously."""
        return self._response(**_head_of(stored), chunks=iter(replay.chunks(stored)), release=lambda _: None)

    def played_async(self, stored: Response) -> Any:
        """Return `stored` to read asynchronously."""
        return self._async_response(**_head_of(stored), chunks=_each(stored), release=_nothing)

    def recorded(
        self, turn: Turn, sent: Callable[[], HttpCall], response: Any, tape: Callable[[Any, Recording], Any]
    ) -> Any:
        """Return `response`, so that the turn's recording has what the caller reads of it."""
        recording = turn.recording
        if recording is None:
            return response
        recording.sent(sent)
        with recording.guarded():
            # What the library hands out is unpacked already.
            headers = tuple(field for field in response.headers if field[0].lower() != "content-encoding")
            taped = tape(response, recording)
            recording.attempt(response.status, headers)
            return taped
        return response

    def taped(self, response: Any, recording: Recording) -> Any:
        """Return `response` with a recording between it and its reader."""
        tee = Tee(response, recording)
        return self._response(**_head(response), chunks=iter(tee), release=lambda _: tee.close())

    def taped_async(self, response: Any, recording: Recording) -> Any:
        """Return the same for an asynchronous response."""
        tee = AsyncTee(response, recording)
        return self._async_response(**_head(response), chunks=aiter(tee), release=lambda _: tee.aclose())

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        return isinstance(error, self._error) and not isinstance(error, self._own)


async def _each(stored: Response) -> AsyncIterator[bytes]:
    for chunk in replay.chunks(stored):
        yield chunk


async def _nothing(_: bool) -> None:  # noqa: FBT001 - the library's interface
    """Release nothing: there was no connection."""


def _head(response: Any) -> dict[str, Any]:
    """Return what a response tells before its body."""
    return {name: getattr(response, name) for name in ("status", "reason", "headers", "http_version")}


def _head_of(stored: Response) -> dict[str, Any]:
    told = {"status": stored.status, "reason": http.client.responses.get(stored.status, "")}
    return {**told, "headers": list(replay.headers(stored)), "http_version": "HTTP/1.1"}
