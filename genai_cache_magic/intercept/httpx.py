"""httpx and httpx2, sync and async, through any transport: one table of patch points for both.

``send`` owns a call: it looks up, and serves or leads. ``_send_single_request`` carries that out below
the client's own hooks, cookies, redirects and history: it puts the stored response in the place of
the network, or tees the real one. So a hit passes through the same code of the client as a miss.
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.intercept.active import PASS, active, owner
from genai_cache_magic.intercept.base import Recording, chunks, open_call, replayed, wait, wait_async
from genai_cache_magic.lifecycle import Answered, Follow, Lead, Rejected, Step
from genai_cache_magic.providers.base import HttpCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    from genai_cache_magic.core.model import Headers

MODULES = ("httpx", "httpx2")


def patches(module: ModuleType) -> list[tuple[type, str, Callable[..., Any]]]:
    """Return (class, attribute, replacement) for a module of the httpx family."""
    kit = _Kit(module)
    client, async_client = module.Client, module.AsyncClient
    return [
        (client, "send", _send(client.send, kit)),
        (async_client, "send", _send_async(async_client.send, kit)),
        (client, "_send_single_request", _single(client._send_single_request, kit)),  # noqa: SLF001 - below the hooks
        (
            async_client,
            "_send_single_request",
            _single_async(async_client._send_single_request, kit),  # noqa: SLF001 - below the hooks
        ),
    ]


def _send(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        here = active.get()
        if here is None or request.method != "POST":
            return original(self, request, **options)
        if owner.get() is not None:
            return _owned(PASS, original, self, request, options)
        step = open_call(here, _http_call(request), is_async=False)
        while isinstance(step, Follow):
            step = wait(here, step, _read_timeout(request))
        if not isinstance(step, Lead):
            return _owned(_role(step), original, self, request, _options(step, options))
        recording = Recording(here, step, kit.decode)
        try:
            response = _owned(recording, original, self, request, options)
        except BaseException as exc:
            recording.failed(exc, is_origins=kit.is_origins(exc))
            raise
        recording.returned()
        return response

    return send


def _send_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        here = active.get()
        if here is None or request.method != "POST":
            return await original(self, request, **options)
        if owner.get() is not None:
            return await _owned_async(PASS, original, self, request, options)
        step = open_call(here, _http_call(request), is_async=True)
        while isinstance(step, Follow):
            step = await wait_async(here, step, _read_timeout(request))
        if not isinstance(step, Lead):
            return await _owned_async(_role(step), original, self, request, _options(step, options))
        recording = Recording(here, step, kit.decode)
        try:
            response = await _owned_async(recording, original, self, request, options)
        except BaseException as exc:
            recording.failed(exc, is_origins=kit.is_origins(exc))
            raise
        recording.returned()
        return response

    return send


def _owned(role: object, original: Callable[..., Any], client: Any, request: Any, options: dict[str, Any]) -> Any:
    token = owner.set(role)
    try:
        return original(client, request, **options)
    finally:
        owner.reset(token)


async def _owned_async(
    role: object,
    original: Callable[..., Any],
    client: Any,
    request: Any,
    options: dict[str, Any],
) -> Any:
    token = owner.set(role)
    try:
        return await original(client, request, **options)
    finally:
        owner.reset(token)


def _role(step: Step | None) -> object:
    return replayed(step) if isinstance(step, Answered | Rejected) else PASS


def _options(step: Step | None, options: dict[str, Any]) -> dict[str, Any]:
    # A replay goes above authentication: it must work for a colleague who has no key.
    return {**options, "auth": None} if isinstance(step, Answered) else options


def _single(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_single_request(self: Any, request: Any) -> Any:
        role = owner.get()
        if isinstance(role, Response):
            return kit.response(self, request, role)
        if not isinstance(role, Recording):
            return original(self, request)
        response = original(self, request)
        if not response.has_redirect_location and not _take_whole(role, response):
            response.stream = kit.tee(response.stream, role)
        return response

    return _send_single_request


def _single_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _send_single_request(self: Any, request: Any) -> Any:
        role = owner.get()
        if isinstance(role, Response):
            return kit.response(self, request, role)
        if not isinstance(role, Recording):
            return await original(self, request)
        response = await original(self, request)
        if not response.has_redirect_location and not _take_whole(role, response):
            response.stream = kit.async_tee(response.stream, role)
        return response

    return _send_single_request


def _take_whole(recording: Recording, response: Any) -> bool:
    """Begin to record `response`; return whether its transport delivered it whole, already decoded."""
    headers = tuple(response.headers.multi_items())
    if not response.is_closed:
        recording.attempt(response.status_code, headers)
        return False
    recording.attempt(response.status_code, tuple(h for h in headers if h[0].lower() != "content-encoding"))
    recording.feed(response.content)
    recording.closed()
    return True


def _http_call(request: Any) -> HttpCall:
    url = request.url
    return HttpCall(
        method=request.method,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=url.path,
        query=url.query.decode("ascii", "replace"),
        # A plain dict: the client's own mapping decodes every name again at each look-up.
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers.raw},
        # Only a body that is already buffered: reading a generator would change what is sent.
        body=getattr(request, "_content", None),
    )


def _read_timeout(request: Any) -> float | None:
    timeout: float | None = (request.extensions.get("timeout") or {}).get("read")
    return timeout


class _Tee:
    """Passes a response's bytes on unchanged, and to a recording."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def __iter__(self) -> Iterator[bytes]:
        return _TeeIterator(iter(self._inner), self._recording)

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._recording.closed()

    @property
    def elapsed(self) -> Any:
        return self._inner.elapsed


class _AsyncTee:
    """The same for an asynchronous response."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncTeeIterator(aiter(self._inner), self._recording)

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._recording.closed()

    @property
    def elapsed(self) -> Any:
        return self._inner.elapsed


class _Replay:
    """Plays stored chunks to either kind of client."""

    elapsed = timedelta(0)

    def __init__(self, stored: list[bytes]) -> None:
        self._stored = stored

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stored)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._stored:
            yield chunk


class _Kit:
    """What is made once per module: stream classes of its kind, and its way to build a response."""

    def __init__(self, module: ModuleType) -> None:
        sync, async_ = module.SyncByteStream, module.AsyncByteStream
        self._module = module
        self.tee = type("Tee", (_Tee, sync), {})
        self.async_tee = type("AsyncTee", (_AsyncTee, async_), {})
        self._replay = type("Replay", (_Replay, sync, async_), {})
        self._is_elapsed_kept_on_response = module.Response.elapsed.fset is not None

    def response(self, client: Any, request: Any, stored: Response) -> Any:
        """Return `stored` as a response that `client` has just received for `request`."""
        length = [] if stored.form is Form.STREAM else [("content-length", str(len(stored.body)))]
        response = self._module.Response(
            stored.status,
            headers=[*stored.headers, *length],
            stream=self._replay(chunks(stored)),
            request=request,
            extensions={"http_version": b"HTTP/1.1"},
        )
        response.default_encoding = client._default_encoding  # noqa: SLF001 - as the client itself does
        if self._is_elapsed_kept_on_response:
            response.elapsed = timedelta(0)
        return response

    def decode(self, headers: Headers, body: bytes) -> bytes:
        """Undo the wire's compression with the module's own decoders."""
        encoding = [(name, value) for name, value in headers if name.lower() == "content-encoding"]
        decoded: bytes = self._module.Response(200, headers=encoding, content=body).content if encoding else body
        return decoded

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        return isinstance(error, self._module.NetworkError | self._module.RemoteProtocolError)


class _TeeIterator:
    """An iterator class, since a generator would change when its source is cleaned up."""

    __slots__ = ("_inner", "_recording")

    def __init__(self, inner: Iterator[bytes], recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._inner)
        except StopIteration:
            raise
        except BaseException as exc:
            self._recording.broke(exc)
            raise
        self._recording.feed(chunk)
        return chunk


class _AsyncTeeIterator:
    """The same for an asynchronous source."""

    __slots__ = ("_inner", "_recording")

    def __init__(self, inner: AsyncIterator[bytes], recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._inner)
        except StopAsyncIteration:
            raise
        except BaseException as exc:
            self._recording.broke(exc)
            raise
        self._recording.feed(chunk)
        return chunk
