"""httpx and httpx2, sync and async, through any transport: one table of patch points for both.

``send`` owns a call: it looks up, and serves or leads. ``_send_single_request`` carries that out below
the client's own hooks, cookies, redirects and history: it puts the stored response in the place of
the network, or tees the real one. So a hit passes through the same code of the client as a miss.

All requests of a process come by here. The way of one that is none of ours makes as few calls as it can.
"""

from __future__ import annotations

import functools
import io
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.steps import Answered, Bypass, Follow, Step
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import open_call, wait, wait_async
from genai_cache_magic.intercept.clients import httpx_bodies
from genai_cache_magic.intercept.clients.httpx_parts import send_part, send_part_async
from genai_cache_magic.intercept.clients.httpx_sent import as_sent, by_transport, needs_a_look, of_spelt, spelt
from genai_cache_magic.intercept.clients.httpx_streams import AsyncTee, Replay, Tee
from genai_cache_magic.intercept.heads import values_of
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.recording import LookedUp
from genai_cache_magic.intercept.turns import Turn, active_turn, decided, turn_for
from genai_cache_magic.providers.unrecognised import ASK_NOTHING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

    from genai_cache_magic.core.model import Form, Headers
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.clients.httpx_sent import Spelt
    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.recording import Recording

MODULES: Final = ("httpx", "httpx2")

_CLIENTS: Final = frozenset(f"{name}._client" for name in MODULES)

_FRAMED: Final = (b"HTTP/2", b"HTTP/3")

_ALONE: Final = (None, None)

_DECODED_AT_ONCE_BYTES: Final = 1 << 16
"""So much of a compressed body is unpacked before its size is looked at: at most 64 MiB of gzip."""


_MOST_HEADS: Final = 128
"""Of so many answers the headers are kept as the library has them: to make them takes longer than all that follows."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in a module of the httpx family.

    Raises
    ------
    AttributeError
        This release of the library is built differently.
    """
    kit = _kit_of(module)
    return [
        (
            Point(kind, "send", functools.partial(send, kit=kit)),
            Point(kind, "_send_single_request", functools.partial(single, kit=kit)),  # below the hooks
            Point(transport, way, handle),  # below transports that others put around the library's own
        )
        for kind, send, single, transport, way, handle in (
            (module.Client, _send, _single, module.HTTPTransport, "handle_request", _handle),
            (
                module.AsyncClient,
                _send_async,
                _single_async,
                module.AsyncHTTPTransport,
                "handle_async_request",
                _handle_async,
            ),
        )
    ]


def _send(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        here = active.get()
        step, looked_up = _ALONE if here is None else _begin(here, self, request, is_async=False)
        if here is None or step is None:
            return original(self, request, **options)
        while isinstance(step, Follow):
            step = wait(here, step, _read_timeout(self, request))
        turn = turn_for(here, request, step, looked_up=looked_up, **kit.ways)
        if turn.lead is not None:
            return send_part(functools.partial(original, self), kit.module, here, turn, options)
        with turn:
            return original(self, request, **kit.options(turn, self, options))

    return send


def _send_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        here = active.get()
        step, looked_up = _ALONE if here is None else _begin(here, self, request, is_async=True)
        if here is None or step is None:
            return await original(self, request, **options)
        while isinstance(step, Follow):
            step = await wait_async(here, step, _read_timeout(self, request))
        turn = turn_for(here, request, step, looked_up=looked_up, **kit.ways)
        if turn.lead is not None:
            return await send_part_async(functools.partial(original, self), kit.module, here, turn, options)
        with turn:
            response = await original(self, request, **kit.options(turn, self, options))
        if turn.is_unended:
            await turn.end()
        return response

    return send


def _begin(here: Active, client: Any, request: Any, *, is_async: bool) -> tuple[Step | None, LookedUp | None]:
    """Decide what becomes of `request`, unless it is to be left alone altogether, and say of what that was decided."""
    above = active_turn.get()
    if above is not None and not above.is_over:
        # Sent in the course of another call, such as a token that an authentication fetches. The very
        # same request comes by again where someone wraps a client's method around ours.
        return (None if above.request is request else Bypass()), None
    if (foretold := decided.get()) is not None and (step := foretold.take(client, where(request.url))) is not None:
        return step, foretold.looked_up
    asked = None
    try:
        # The public property of the path would decode it anew each time that it is asked.
        if request.method in ASK_NOTHING or not (needs_a_look(request) or here.cache.origins.rules):
            return _ALONE
        asked = _spelt(here, client, request)
    except Exception:  # noqa: BLE001, S110 - not swallowed: `open_call` looks closer, is guarded, and says what is wrong
        pass
    sent = functools.partial(as_sent, client, request)
    step = open_call(here, sent, is_async=is_async, asked=asked, divides=True)
    if asked is None or isinstance(step, Answered):
        return step, None  # nothing is sent of which it would be known again
    return step, LookedUp(asked, functools.partial(of_spelt, asked, request.url))


def where(url: Any) -> Any:
    """Return what a URL is compared by: its parts, since the library would spell two of them to compare them."""
    return getattr(url, "_uri_reference", url)


def _spelt(here: Active, client: Any, request: Any) -> Spelt | None:
    transport = client._transport_for_url(request.url)  # noqa: SLF001 - proxies and mounts count
    return spelt(request, transport, here.cache.origins.uploads.version)


def _spelt_by(here: Active, transport: Any, request: Any) -> Spelt | None:
    return spelt(request, transport, here.cache.origins.uploads.version)


def _single(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_single_request(self: Any, request: Any) -> Any:
        turn = active_turn.get()
        if turn is None or turn.is_over:
            return original(self, request)
        if turn.outcome is not None:
            return kit.deliver(turn.outcome, self, request)
        _check_sent(turn, request, self)
        response = original(self, request)
        kit.record(turn.recording, response, kit.tee)
        return response

    return _send_single_request


def _single_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_single_request(self: Any, request: Any) -> Awaitable[Any]:
        turn = active_turn.get()
        # The coroutine of the original, not one of our own around it.
        return original(self, request) if turn is None or turn.is_over else taken(turn, self, request)

    async def taken(turn: Turn, client: Any, request: Any) -> Any:
        if turn.outcome is not None:
            return kit.deliver(turn.outcome, client, request)
        _check_sent(turn, request, client)
        response = await original(client, request)
        kit.record(turn.recording, response, kit.async_tee)
        return response

    return _send_single_request


def _handle(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        _check_at_wire(self, request)
        return original(self, request)

    return handle_request


def _handle_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_async_request(self: Any, request: Any) -> Awaitable[Any]:
        _check_at_wire(self, request)
        # The coroutine of the original, not one of our own around it.
        awaitable: Awaitable[Any] = original(self, request)
        return awaitable

    return handle_async_request


def _check_sent(turn: Turn, request: Any, client: Any) -> None:
    if turn.recording is not None:
        spelt_as = functools.partial(_spelt, client=client, request=request)
        turn.recording.sent(functools.partial(as_sent, client, request), spelt_as)


def _check_at_wire(transport: Any, request: Any) -> None:
    turn = active_turn.get()
    if turn is not None and not turn.is_over and turn.recording is not None:
        spelt_as = functools.partial(_spelt_by, transport=transport, request=request)
        turn.recording.sent(functools.partial(by_transport, request, transport), spelt_as)


def _read_timeout(client: Any, request: Any) -> float | None:
    try:
        timeout = request.extensions.get("timeout")
        read: float | None = client.timeout.read if timeout is None else timeout.get("read")
    except AttributeError:
        return None  # of another shape: the client itself will say so
    return read


def _read(outcome: Any) -> None:
    """Leave a response of ours as the library does once it has read it, which it does itself only once.

    What it goes through for that, decoder, chunker and streams, is half of what a hit costs beyond the library's own
    work. Only for a caller that gets it read, and if nobody looks at it before.
    """
    stream = getattr(outcome, "stream", None)
    if isinstance(stream, Replay):
        outcome._content = content = stream.joined()  # noqa: SLF001 - tried out by `_Kit`, in the release that is there
        outcome._num_bytes_downloaded = len(content)  # noqa: SLF001 - the same
        outcome.is_stream_consumed = outcome.is_closed = True


def played(client: Any, request: Any, stored: Response, *, is_read: bool = False) -> Any:
    """Return the response that `client` would have received for `request` if it had been sent; unread, or read."""
    library = next(kind.__module__.partition(".")[0] for kind in type(client).__mro__ if kind.__module__ in _CLIENTS)
    kit = _kit_of(sys.modules[library])
    response = kit.deliver(kit.play(stored), client, request)
    if is_read:
        response.read()
    return response


@functools.cache
def _kit_of(module: ModuleType) -> _Kit:
    return _Kit(module)


class _Kit:
    """What is made once per module: stream classes of its kind, and its way to build a response."""

    def __init__(self, module: ModuleType) -> None:
        sync, async_ = module.SyncByteStream, module.AsyncByteStream
        self.module = module
        self.tee = type("Tee", (Tee, sync), {})
        self.async_tee = type("AsyncTee", (AsyncTee, async_), {})
        self._replay = type("Replay", (Replay, sync, async_), {})
        self._reads_at_once = self._can_read_at_once()
        self._head = functools.lru_cache(maxsize=_MOST_HEADS)(self._made_head)
        self.ways: dict[str, Any] = {"is_origins": self.is_origins, "play": self.play, "decode": self.decode}

    def play(self, stored: Response | BaseException) -> Any:
        """Return a response, or an error, of this module like `stored`."""
        return self._response(stored) if isinstance(stored, Response) else self._error(stored)

    def _can_read_at_once(self) -> bool:
        """Tell whether a response that `_read` has read is what the library makes of reading it."""
        body = b"{}"
        names = ("content", "text", "is_closed", "is_stream_consumed", "num_bytes_downloaded")
        with suppress(Exception):  # whatever a release that is built differently makes of it
            by_us, by_it = (self.module.Response(200, stream=self._replay([body])) for _ in range(2))
            by_it.read()
            _read(by_us)
            return by_us.read() == body and all(getattr(by_us, name) == getattr(by_it, name) for name in names)
        return False

    def _response(self, stored: Response) -> Any:
        response = self.module.Response(
            stored.status,
            headers=self._head(stored.headers, stored.form, len(stored.body)),  # of which it makes a copy
            stream=self._replay(replay.chunks(stored)),
            extensions={"http_version": b"HTTP/1.1"},
        )
        response.elapsed = timedelta(0)
        return response

    def _made_head(self, kept: Headers, form: Form, size_bytes: int) -> Any:
        # Bytes, since the client would not take a value that is not ASCII.
        told = replay.told(kept, form, size_bytes)
        return self.module.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in told])

    def _error(self, error: BaseException) -> Any:
        """Return a new error of this module like `error`, which may be of the other one and has a traceback."""
        kind: Any = getattr(self.module, type(error).__name__, None)
        if not (isinstance(kind, type) and issubclass(kind, self.module.TransportError)):
            kind = self.module.NetworkError
        return kind(str(error))

    def options(self, turn: Turn, client: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of `client.send` with which `turn` is carried out."""
        if turn.outcome is None:
            return options
        if self._reads_at_once and not options.get("stream") and not client.event_hooks["response"]:
            _read(turn.outcome)
        # A replay goes above authentication: it must work for a colleague who has no key.
        return {**options, "auth": None}

    def deliver(self, outcome: Any, client: Any, request: Any) -> Any:
        """Return, or raise, `outcome` as what `client` has just received for `request`."""
        outcome.request = request
        if isinstance(outcome, BaseException):
            raise outcome
        httpx_bodies.pass_over(request)
        outcome.default_encoding = client._default_encoding  # noqa: SLF001 - as the client itself does
        return outcome

    def record(self, recording: Recording | None, response: Any, tee: type[Tee | AsyncTee]) -> None:
        """Let `recording` have what passes through `response`."""
        if recording is None:
            return
        with recording.guarded():
            headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw)
            if not response.is_closed:
                version = response.extensions.get("http_version", b"")
                recording.attempt(response.status_code, headers, is_framed=version.startswith(_FRAMED))
                response.stream = self._taped(tee, response, recording)
                return
            # Its transport delivered it whole, already decoded.
            headers = tuple(h for h in headers if h[0].lower() != "content-encoding")
            recording.attempt(response.status_code, headers, is_framed=True)
            recording.feed(response.content)
            recording.ended()
            recording.closed()

    def _taped(self, tee: type[Tee | AsyncTee], response: Any, recording: Recording) -> Any:
        if not issubclass(tee, Tee):
            return tee(response.stream, recording)
        # A connection of HTTP/2 is read for other requests too.
        is_alone = response.extensions.get("http_version") in {b"HTTP/1.0", b"HTTP/1.1"}
        wire = response.extensions.get("network_stream")
        return tee(response.stream, recording, wire if is_alone and hasattr(wire, "__dict__") else None)

    def decode(self, headers: Headers, packed: bytes, limit: int) -> bytes | None:
        """Undo the wire's compression with the module's own decoders; None if it is beyond `limit` [bytes].

        A body that is cut short gives what could be decoded of it.
        """
        encoding = [("content-encoding", value) for value in values_of(headers, "content-encoding")]
        if not encoding:
            return packed
        step = _DECODED_AT_ONCE_BYTES
        pieces = (packed[i : i + step] for i in range(0, len(packed), step))
        decoded = io.BytesIO()  # gives its bytes away without a copy
        try:
            for piece in self.module.Response(200, headers=encoding, stream=self._replay(pieces)).iter_bytes():
                decoded.write(piece)
                if decoded.tell() > limit:
                    return None
        except self.module.DecodingError:
            pass
        return decoded.getvalue()

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        return isinstance(error, self.module.NetworkError | self.module.RemoteProtocolError)
