"""Stored streams as an SDK's own, whose events are made as they are asked for.

The stream is the SDK's, over a response of its HTTP client that plays what is stored. The first time it makes the
events, too; the second time each of them is compared with what pydantic reads of it; where all were alike, pydantic
makes them from then on, of the data of the events alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.stainless.shapes import is_own
from genai_cache_magic.providers.formats import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from genai_cache_magic.intercept.stainless.answers import Answers

_MOST_TRIED: Final = 256
"""So many streams are remembered as tried."""

_LONGEST: Final = 1 << 18
"""Of longer ones the SDK makes all events [bytes]."""

_PING: Final = b"ping"


class Trial:
    """What is known of one stream: the data of its events, and whether those are read as the SDK makes them."""

    __slots__ = ("agrees", "data")

    def __init__(self, body: bytes) -> None:
        self.agrees: bool | None = None
        self.data: tuple[bytes, ...] = tuple(_told(body))

    def conclude(self, *, agrees: bool) -> None:
        """Note how it came out; what is not read has no use for its data."""
        self.agrees = agrees
        if not agrees:
            self.data = ()


class Streams:
    """The streams of one SDK."""

    def __init__(self, package: str, answers: Answers) -> None:
        module = sys.modules[f"{package}._streaming"]
        ways = (_ways_of(module.Stream), _ways_of(module.AsyncStream))
        self._own = [way for way in ways if is_own(way, package)]
        self._are_alike = answers.are_alike
        self._adapter = sys.modules["pydantic"].TypeAdapter
        self._readers: dict[Any, Callable[[bytes], Any]] = {}  # each operation on it is atomic, and on this
        self._tried: dict[tuple[Any, ...], Trial | None] = {}

    def quicken(self, stream: Any, options: Any, body: bytes) -> None:
        """Let `stream`, an SDK's stream of `body`, make its events in the quickest way that is known to be right."""
        if len(body) > _LONGEST or _ways_of(type(stream)) not in self._own:
            return
        cast_to = stream._cast_to  # noqa: SLF001 - what the stream makes of each event
        modes = (getattr(options, "stream_mode", ""), getattr(options, "synthesize_event_and_data", None))
        key = (cast_to, hash(body), len(body), *modes)
        if key not in self._tried:
            if len(self._tried) >= _MOST_TRIED:
                self._tried.clear()
            self._tried[key] = None
            return
        trial = self._tried[key]
        if trial is None:
            trial = self._tried[key] = Trial(body)
        if trial.agrees is False:
            return
        is_async = hasattr(type(stream), "__anext__")
        read, response = self._reader(cast_to), stream.response
        # Made here, and never begun where ours take its place.
        theirs = stream._iterator  # noqa: SLF001 - what the stream itself goes through
        if trial.agrees:
            stream._iterator = (_read_async if is_async else _read)(theirs, response, trial.data, read)  # noqa: SLF001
        else:
            tried = _Tried(trial, read, self._are_alike)
            stream._iterator = (_try_async if is_async else _try)(theirs, tried)  # noqa: SLF001

    def _reader(self, cast_to: Any) -> Callable[[bytes], Any]:
        reader = self._readers.get(cast_to)
        if reader is None:
            reader = self._readers[cast_to] = self._adapter(cast_to).validate_json
        return reader


class _Tried:
    """Compares the events of one stream, as they are made, with what is read of its data."""

    def __init__(self, trial: Trial, read: Callable[[bytes], Any], are_alike: Callable[[Any, Any], bool]) -> None:
        self._trial = trial
        self._read = read
        self._are_alike = are_alike
        self._seen = 0

    def saw(self, event: Any) -> None:
        """Compare the next event, before its caller gets it."""
        if self._trial.agrees is not None:
            return
        try:
            is_alike = self._are_alike(self._read(self._trial.data[self._seen]), event)
        except (IndexError, ValueError):
            is_alike = False
        self._seen += 1
        if not is_alike:
            self._trial.conclude(agrees=False)

    def ended(self) -> None:
        """Note that there was no other event."""
        if self._trial.agrees is None:
            self._trial.conclude(agrees=self._seen == len(self._trial.data))


def _ways_of(kind: type) -> tuple[Any, ...]:
    """Return by what streams of a `kind` make their events."""
    return tuple([getattr(kind, name, None) for name in ("__stream__", "_iter_events")])


def _told(body: bytes) -> Iterator[bytes]:
    """Yield the data of the events that become objects: not of what keeps a connection open, nor of what ends it."""
    for event in sse.events(body):
        if event.data.startswith(sse.DONE):
            return
        if event.name != _PING:
            yield event.data


def _try(theirs: Any, tried: _Tried) -> Iterator[Any]:
    try:
        for event in theirs:
            tried.saw(event)
            yield event
        tried.ended()
    finally:
        theirs.close()


async def _try_async(theirs: Any, tried: _Tried) -> AsyncIterator[Any]:
    try:
        async for event in theirs:
            tried.saw(event)
            yield event
        tried.ended()
    finally:
        await theirs.aclose()


def _read(theirs: Any, response: Any, data: tuple[bytes, ...], read: Callable[[bytes], Any]) -> Iterator[Any]:
    if response.is_closed or response.is_stream_consumed:
        yield from theirs  # which says what is wrong
        return
    try:
        next(response.iter_raw(), None)  # as if all of it had been read by this
        for told in data:
            yield read(told)
    finally:
        response.close()


async def _read_async(
    theirs: Any, response: Any, data: tuple[bytes, ...], read: Callable[[bytes], Any]
) -> AsyncIterator[Any]:
    if response.is_closed or response.is_stream_consumed:
        async for event in theirs:  # which says what is wrong
            yield event
        return
    try:
        await anext(response.aiter_raw(), None)  # as if all of it had been read by this
        for told in data:
            yield read(told)
    finally:
        await response.aclose()
