"""aiohttp, as far as Google's and Azure's asynchronous clients need it: requests of a client session.

``ClientSession._request`` owns a call, with its redirects: it looks up, and serves or leads. A stored answer
takes the place of the connection, below everything that the library does with an answer, its parser included.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import importlib
import zlib
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.steps import Bypass, Follow, Step
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import open_call, open_unowned, wait_async
from genai_cache_magic.intercept.clients.aiohttp_parts import Asked, read_aside, send_part
from genai_cache_magic.intercept.clients.little import read_little
from genai_cache_magic.intercept.clients.wire import by_name, by_proxy, by_socket, env_proxy, framed, http_call
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.portions import CODINGS
from genai_cache_magic.intercept.turns import Turn, current_turn, turn_for
from genai_cache_magic.providers.unrecognised import ASK_NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.core.model import Headers
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.recording import Recording
    from genai_cache_magic.providers.base import HttpCall

MODULES: Final = ("aiohttp",)

_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in aiohttp.

    Raises
    ------
    AttributeError
        This release of it is built differently.
    """
    kit = _Kit(module)
    return [
        (
            Point(module.ClientSession, "_request", functools.partial(_request, kit=kit)),  # all its methods come here
            Point(module.BaseConnector, "connect", functools.partial(_connect, kit=kit)),
            # Below middlewares, traces, and whoever holds what was given as a body.
            Point(module.ClientRequest, "send", functools.partial(_sent, kit=kit)),
            Point(module.ClientResponse, "read", functools.partial(_read, kit=kit)),  # `json` and `text` read by it
            Point(module.ClientResponse, "__aexit__", functools.partial(_leave, kit=kit)),
        )
    ]


def _request(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _request(self: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        here = active.get()
        if here is not None and isinstance(lent := current_turn(), Lent):
            return await kit.lend(lent, original, self, (method, str_or_url), options)
        step = None if here is None else kit.begin(here, self, (method, str_or_url), options)
        if here is None or step is None:
            return await original(self, method, str_or_url, **options)
        while isinstance(step, Follow):
            step = await wait_async(here, step, _read_timeout(self, options))
        turn = turn_for(here, None, step, is_origins=kit.is_origins, play=kit.play, decode=decode)
        if isinstance(turn.outcome, BaseException):
            raise turn.outcome
        if turn.lead is not None:
            send = functools.partial(original, self, method, str_or_url)
            record = functools.partial(kit.record, is_decoded=_is_decoded(self, options))
            return await send_part(send, kit, here, turn, Asked(self, options, record))
        with turn:
            response = await original(self, method, str_or_url, **options)
            if turn.recording is not None:
                kit.record(turn.recording, response, is_decoded=_is_decoded(self, options))
        if turn.is_unended:
            await turn.end()
        return response

    return _request


def _connect(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def connect(self: Any, req: Any, *args: Any, **options: Any) -> Any:
        turn = current_turn()
        if turn is None or turn.outcome is None:
            return await original(self, req, *args, **options)
        return kit.connection(self, req, turn.outcome)

    return connect


def _sent(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, conn: Any) -> Any:
        turn = current_turn()
        # A turn with a request is that of a client above this one, which compares by itself.
        is_own = turn is not None and (turn.request is None or isinstance(turn, Lent))
        if turn is None or not is_own or turn.recording is None or turn.outcome is not None:
            return await original(self, conn)
        recording = turn.recording
        if (status := getattr(turn.last, "status", None)) is not None:
            recording.attempt(status, ())  # it was a redirect, or someone above tries again
        recording.sent(functools.partial(kit.on_its_way, self, conn))
        turn.last = response = await original(self, conn)
        return response

    return send


def _read(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def read(self: Any) -> Any:
        recording = content.recording if isinstance(content := self.content, kit.tee) else None
        if recording is None or not recording.is_much:
            return await original(self)
        return await read_aside(functools.partial(original, self), recording)

    return read


def _leave(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def __aexit__(self: Any, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:  # noqa: N807 - the one replaced
        if isinstance(content := self.content, kit.tee):
            await read_little(content.recording, content.next_of_little, is_taped=True)
        await original(self, exc_type, exc_val, exc_tb)

    return __aexit__


def _read_timeout(session: Any, options: dict[str, Any]) -> float | None:
    """Return how long the caller waits for an answer [s], None if it did not say so."""
    timeout = options.get("timeout") or session.timeout
    limits = (getattr(timeout, name, None) for name in ("sock_read", "total"))
    return min((limit for limit in limits if isinstance(limit, int | float)), default=None)


def _is_decoded(session: Any, options: dict[str, Any]) -> bool:
    """Tell whether the library undoes the wire's compression before the caller reads."""
    told = options.get("auto_decompress")
    return bool(session.auto_decompress if told is None else told)


def _route(session: Any, url: Any, options: dict[str, Any]) -> Headers:
    """Return how a request goes to its service, beside its URL."""
    proxy = options.get("proxy") or getattr(session, "_default_proxy", None)
    if proxy is None and session.trust_env:
        proxy = env_proxy(str(url))
    return (*_by_connector(session.connector), *by_proxy(proxy), *by_name(options.get("server_hostname")))


def _by_connector(connector: Any) -> Headers:
    return by_socket(getattr(connector, "path", None))


class Lent(Turn):
    """The turn of a client that stands on this one, for as long as its request is here: to be answered, or recorded.

    Its `outcome` is an answer as it comes over the wire (`on_the_wire`). Begin and end of the call are that client's.
    """

    __slots__ = ()

    def _end(self, recording: Recording, error: BaseException | None) -> None:
        """Tell nothing: it may be sent again."""


class _Kit:
    """What is made once: the library's classes, a tee of its streams, and its way to a connection."""

    def __init__(self, module: ModuleType) -> None:
        # Here, since both are of the library.
        self._protocol = importlib.import_module("aiohttp.client_proto").ResponseHandler
        self._connection = importlib.import_module("aiohttp.connector").Connection
        self._module = module
        self._connector = module.BaseConnector
        self._reader = module.StreamReader
        self.tee: Any = type("Tee", (Tee, module.StreamReader), {"__slots__": (), "plain": module.StreamReader})

    def begin(self, here: Active, session: Any, target: tuple[str, Any], options: dict[str, Any]) -> Step | None:
        """Decide what becomes of a request; None if it is to be left alone altogether."""
        if current_turn() is not None:
            return Bypass()  # sent in the course of another call
        if target[0].upper() in ASK_NOTHING:
            return None
        asked = functools.partial(self._http_call, session, target, options)
        if type(session.connector).connect is not self._connector.connect:
            # It could not be given a stored answer.
            return open_unowned(here, asked, "its connector connects in a way of its own")
        return open_call(here, asked, is_async=True, divides=True)

    async def lend(
        self, lent: Lent, original: Callable[..., Any], session: Any, target: tuple[str, Any], options: dict[str, Any]
    ) -> Any:
        """Send the request of another client's turn; `connect` plays its answer, if it has one already."""
        response = await original(session, *target, **options)
        if lent.recording is not None:
            self.record(lent.recording, response, is_decoded=_is_decoded(session, options))
        return response

    def on_its_way(self, request: Any, connection: Any) -> HttpCall:
        """Return what is written to a connection, as the providers judge it."""
        payload = getattr(request, "body", None)
        body = getattr(payload, "_value", payload)
        connector = getattr(connection, "_connector", None)
        route = (*_by_connector(connector), *by_proxy(request.proxy), *by_name(request.server_hostname))
        return http_call(request.method, str(request.url), request.headers, body, route)

    def _http_call(self, session: Any, target: tuple[str, Any], options: dict[str, Any]) -> HttpCall:
        method, str_or_url = target
        url = session._build_url(str_or_url)  # noqa: SLF001 - with the session's own base
        if params := options.get("params"):
            url = url.extend_query(params)
        headers = session._prepare_headers(options.get("headers"))  # noqa: SLF001
        body, json = options.get("data"), options.get("json")
        if json is not None:
            body = session.json_serialize(json)
            headers.setdefault("content-type", "application/json")
        return http_call(
            method.upper(), str(url), headers, b"" if body is None else body, _route(session, url, options)
        )

    def exchanged(self, received: Any, answer: Response) -> Any:
        """Return what was `received`, read, with the body of `answer`."""
        headers = received.headers.copy()
        for name in CODINGS:
            headers.popall(name, None)
        headers["Content-Length"] = str(len(answer.body))
        protocol, loop = self._protocol(asyncio.get_running_loop()), asyncio.get_running_loop()
        protocol.connection_made(_Nowhere())
        content = self._reader(protocol, len(answer.body) + 1, loop=loop)
        content.feed_data(answer.body)
        content.feed_eof()
        received._headers = type(received.headers)(headers)  # noqa: SLF001 - what `headers` gives
        getattr(received, "_cache", {}).pop("headers", None)  # what it remembers of it
        received.content, received._body = content, None  # noqa: SLF001 - what has been read
        return received

    def play(self, stored: Response | BaseException) -> bytes | BaseException:
        """Return `stored` as it comes on the wire, or an error of the library's like it."""
        if isinstance(stored, Response):
            return on_the_wire(stored)
        if self.is_origins(stored):
            return type(stored)(*stored.args)
        error: BaseException = self._module.ClientConnectionError(str(stored))
        return error

    def connection(self, connector: Any, req: Any, answer: bytes) -> Any:
        """Return a connection that leads nowhere, and on which `answer` has come already."""
        loop = asyncio.get_running_loop()
        protocol = self._protocol(loop)
        protocol.connection_made(_Nowhere())
        protocol.data_received(answer)
        return self._connection(_Unpooled(connector), req.connection_key, protocol, loop)

    def record(self, recording: Recording, response: Any, *, is_decoded: bool) -> None:
        """Let `recording` have what the caller reads of `response`."""
        with recording.guarded():
            content = response.content
            if type(content) is not self._reader:
                return
            headers = tuple(response.headers.items())
            if is_decoded:
                headers = tuple(field for field in headers if field[0].lower() != "content-encoding")
            recording.attempt(response.status, headers)
            if (broken := content.exception()) is not None:
                # It came with the head, and nobody will say so again.
                recording.broke(broken)
                recording.closed()
                return
            content._timer = _Watch(content._timer, recording)  # noqa: SLF001 - what it awaits data with
            content.__class__ = self.tee
            content.on_eof(functools.partial(self.tee.came_to_its_end, content))

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        module = self._module
        own = (TimeoutError, module.ClientSSLError, module.ClientProxyConnectionError)
        return isinstance(error, module.ClientConnectionError) and not isinstance(error, own)


class _Watch:
    """Stands where a stream has its timer, the one attribute of a slotted class that can hold something more."""

    __slots__ = ("is_taking", "recording", "timer")

    def __init__(self, timer: Any, recording: Recording) -> None:
        self.timer = timer
        self.recording = recording
        self.is_taking = False

    def __enter__(self) -> Any:
        self.recording.reading()
        return self.timer.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> Any:
        if error is not None:
            self.recording.broke(error)
        return self.timer.__exit__(kind, error, traceback)

    def assert_timeout(self) -> None:
        """Do what the timer does."""
        self.timer.assert_timeout()


class Tee:
    """A stream of aiohttp whose bytes go to a recording too, as the caller takes them."""

    __slots__ = ()

    plain: Any
    _timer: Any
    _eof: Any
    _buffer: Any

    def _read_nowait_chunk(self, n: int) -> bytes:
        watch = self._timer
        watch.is_taking = True
        # This makes room, so more may come in, and the end too, before it returns.
        data: bytes = super()._read_nowait_chunk(n)  # type: ignore[misc]  # the library's class comes after this
        watch.is_taking = False
        watch.recording.feed(data)
        self.came_to_its_end()
        return data

    def came_to_its_end(self) -> None:
        """Hand the recording over if the caller has taken everything, and there is no more."""
        watch = self._timer
        if isinstance(watch, _Watch) and self._eof and not self._buffer and not watch.is_taking:
            watch.recording.ended()
            self._let_go(watch)

    @property
    def recording(self) -> Recording:
        """What has what its caller takes."""
        recording: Recording = self._timer.recording
        return recording

    async def next_of_little(self) -> bytes | None:
        """Return what comes next; None at the end."""
        data: bytes = await self.readany()  # type: ignore[attr-defined]  # the library's own
        return data or None

    def read_little(self) -> None:
        """Take what has come already of the little that remains."""
        recording, left = self.recording, self.recording.little_bytes
        while left > 0 and self._buffer and recording.lacks_little():
            with recording.little():
                left -= len(self._read_nowait_chunk(left))

    def set_exception(self, exc: BaseException, *args: Any) -> None:
        """Note that nothing more will come: the response was closed, or its connection broke."""
        watch = self._timer
        self.read_little()
        if self._timer is not watch:
            super().set_exception(exc, *args)  # type: ignore[misc]  # as above
            return  # that was all
        super().set_exception(exc, *args)  # type: ignore[misc]  # as above
        watch.recording.broke(exc)
        self._let_go(watch)

    def _let_go(self, watch: _Watch) -> None:
        """Be the library's own stream again."""
        self._timer = watch.timer
        self.__class__ = self.plain
        watch.recording.closed()


class _Nowhere(asyncio.Transport):
    """A transport of a connection that leads nowhere: what is sent is forgotten."""

    def write(self, data: object) -> None:
        """Forget `data`."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    abort = close

    def pause_reading(self) -> None:
        """All has come already."""

    resume_reading = pause_reading


class _Unpooled:
    """The connector as a connection sees it that leads nowhere, and that must not get into the pool."""

    def __init__(self, connector: Any) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def _release(self, *_: object, **__: object) -> None:
        """Forget the connection."""


def on_the_wire(stored: Response) -> bytes:
    """Return `stored` as a server would send it."""
    framing, body = framed(stored)
    # SECURITY: a stored header can't add a line.
    fields = [f"{n}: {v}" for n, v in replay.headers(stored) if n != "content-length" and not {"\r", "\n"} & {*n, *v}]
    head = "\r\n".join([f"HTTP/1.1 {stored.status} {_reason(stored.status)}", *fields])
    return head.encode("latin-1") + b"\r\n" + framing + b"\r\n\r\n" + body


def _reason(status: int) -> str:
    return http.client.responses.get(status, "")


def decode(headers: Headers, packed: bytes, limit: int) -> bytes | None:
    """Undo the compression of what came as it was on the wire; None if it is beyond `limit` [bytes].

    A body that is cut short gives what could be decoded of it.
    """
    encoding = next((value.lower() for name, value in headers if name.lower() == "content-encoding"), "")
    if encoding not in _WINDOW_BITS:
        return packed
    unpacking = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        decoded = unpacking.decompress(packed, limit)
    except zlib.error:
        return packed  # not what its header says
    return None if unpacking.unconsumed_tail else decoded
