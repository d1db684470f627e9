"""Streams for responses of the httpx family: tees that change nothing, and the player of a stored answer.

`intercept.httpx` adds each library's own base classes. Both tees are made of iterator classes, since a
generator would change when its source is cleaned up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from genai_cache_magic.intercept.recording import Recording


class Tee:
    """Passes a response's bytes on unchanged, and to a recording."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def __iter__(self) -> Iterator[bytes]:
        return _TeeIterator(iter(self._inner), self._recording)

    def close(self) -> None:
        """Close the source, then note it."""
        try:
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

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncTeeIterator(aiter(self._inner), self._recording)

    async def aclose(self) -> None:
        """Close the source, then note it."""
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

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stored)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._stored:
            yield chunk


class _TeeIterator:
    """Passes one iteration on."""

    __slots__ = ("_inner", "_recording")

    def __init__(self, inner: Iterator[bytes], recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

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

    __slots__ = ("_inner", "_recording")

    def __init__(self, inner: AsyncGenerator[bytes], recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

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
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()
