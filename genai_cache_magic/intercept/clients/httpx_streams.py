"""Streams for responses of the httpx family: tees that change nothing, and the player of a stored answer.

`httpx.py` adds each library's own base classes. Both tees are made of iterator classes, since a
generator would change when its source is cleaned up.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from genai_cache_magic.calls.tasks import running_trio
from genai_cache_magic.intercept.clients.little import read_little

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from genai_cache_magic.intercept.recording import Recording


class Tee:
    """Passes a response's bytes on unchanged, and to a recording.

    Parameters
    ----------
    wire
        What the source reads from and nobody else, with ``read(max_bytes, timeout)``; None if there is no such thing.
    """

    def __init__(self, inner: Any, recording: Recording, wire: Any = None) -> None:
        self._inner = inner
        self._recording = recording
        self._wire = wire
        self._reading: weakref.ref[_TeeIterator] | None = None

    def __iter__(self) -> Iterator[bytes]:
        reading = _TeeIterator(self._inner, self._recording, self._wire)
        self._reading = weakref.ref(reading)
        return reading

    def close(self) -> None:
        """Close the source, once the little that remains is read, then note it."""
        try:
            if self._reading is not None and (reading := self._reading()) is not None:
                reading.read_little()
            self._recording.left()
            self._inner.close()
        finally:
            self._recording.closed()

    @property
    def elapsed(self) -> Any:
        """Time that the response took, where the library asks its stream for it."""
        return self._inner.elapsed


class AsyncTee:
    """The same for an asynchronous response."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording
        self._reading: weakref.ref[_AsyncTeeIterator] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        reading = _AsyncTeeIterator(self._inner, self._recording)
        self._reading = weakref.ref(reading)
        return reading

    async def aclose(self) -> None:
        """Close the source, once the little that remains is read, then note it."""
        try:
            if self._reading is not None and (reading := self._reading()) is not None:
                await reading.read_little()
        finally:
            self._recording.left()
            try:
                await self._inner.aclose()
            finally:
                self._recording.closed()

    @property
    def elapsed(self) -> Any:
        """Time that the response took, where the library asks its stream for it."""
        return self._inner.elapsed


class Replay:
    """Plays stored chunks to either kind of client."""

    elapsed = timedelta(0)

    def __init__(self, stored: list[bytes]) -> None:
        self._stored = stored

    def joined(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._stored)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stored)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._stored:
            yield chunk


class _TeeIterator:
    """Passes one iteration on. Nothing but its reader holds it, so that the source ends with its reader."""

    __slots__ = ("__weakref__", "_inner", "_recording", "_stream", "_wire")

    def __init__(self, stream: Any, recording: Recording, wire: Any) -> None:
        self._stream = stream
        self._inner: Iterator[bytes] = iter(stream)
        self._recording = recording
        self._wire = wire

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.read_little()

    def read_little(self) -> None:
        """Read the little that remains, if it is little and can be had in time."""
        recording, wire = self._recording, self._wire
        if wire is None or not recording.lacks_little():
            return
        read = wire.read
        ends_at, left = time.monotonic() + recording.little_s, recording.little_bytes

        def read_in_time(max_bytes: int, timeout: float | None = None) -> bytes:
            left_s = ends_at - time.monotonic()
            if left_s <= 0 or left <= 0:
                raise TimeoutError
            data: bytes = read(min(max_bytes, left), timeout=left_s if timeout is None else min(left_s, timeout))
            return data

        with recording.little():
            wire.read = read_in_time
            try:
                while left > 0 and recording.lacks_little():
                    chunk = next(self._inner, None)
                    if chunk is None:
                        if _is_open(self._stream):
                            recording.ended()
                        break
                    left -= len(chunk)
                    recording.feed(chunk)
            finally:
                del wire.read

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._recording.reading()
        try:
            chunk = next(self._inner)
        except StopIteration:
            self._recording.ended()
            raise
        except BaseException as exc:
            self._recording.broke(exc)
            raise
        self._recording.feed(chunk)
        return chunk


class _AsyncTeeIterator:
    """Passes one asynchronous iteration on, with the methods by which httpx2 closes a generator early."""

    __slots__ = ("__weakref__", "_inner", "_little", "_recording", "_stream")

    def __init__(self, stream: Any, recording: Recording) -> None:
        self._stream = stream
        self._inner: AsyncGenerator[bytes] = aiter(stream)
        self._recording = recording
        self._little: asyncio.Task[None] | None = None

    async def read_little(self) -> None:
        """Read the little that remains, if it is little and can be had in time; once, whoever asks."""
        is_due = self._little is None and self._recording.lacks_little() and not _are_many_closing()
        if is_due and running_trio() is None:
            with suppress(RuntimeError):  # another kind of event loop, in which nothing is read
                self._little = asyncio.get_running_loop().create_task(read_little(self._recording, self._next))
        if self._little is None or self._little.done():
            return  # without a pause, in which others would find their generators running
        try:
            await asyncio.wait({self._little})
        finally:
            if not self._little.done():
                self._little.cancel()
                await asyncio.wait({self._little})

    async def _next(self) -> bytes | None:
        chunk = await anext(self._inner, None)
        if chunk is None and not _is_open(self._stream):
            raise EOFError
        return chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._recording.reading()
        try:
            chunk = await anext(self._inner)
        except StopAsyncIteration:
            self._recording.ended()
            raise
        except BaseException as exc:
            self._recording.broke(exc)
            raise
        self._recording.feed(chunk)
        return chunk

    async def asend(self, value: object) -> bytes:
        """Go on: nothing can be sent into a response."""
        del value
        return await self.__anext__()

    async def athrow(self, error: BaseException) -> bytes:
        """Raise `error` where the source stands."""
        return await self._inner.athrow(error)

    async def aclose(self) -> None:
        """Close the source, if it is a generator as the library's own are."""
        try:
            await self.read_little()
        finally:
            self._recording.left()
            close = getattr(self._inner, "aclose", None)
            if close is not None:
                await close()


def _is_open(stream: Any) -> bool:
    """Tell whether `stream` is surely not closed, of which what ends has come to its own end.

    When garbage is collected, what lies below may be closed before what reads from it.
    """
    is_known = False
    while stream is not None:
        closed = getattr(stream, "_closed", None)
        if closed:
            return False
        is_known |= closed is False
        stream = getattr(stream, "_stream", None) or getattr(stream, "_httpcore_stream", None)
    return is_known


def _are_many_closing() -> bool:
    """Tell whether generators are being closed all at once, as garbage or at the end of a loop.

    Then nothing is awaited: each would be closed while another still reads from it.
    """
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return False
    return sum(type(task.get_coro()).__name__ == "async_generator_athrow" for task in tasks) > 1
