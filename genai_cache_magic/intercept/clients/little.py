"""The little that remains of a stream once everything was said: awaited for a moment, or left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from genai_cache_magic.calls.tasks import running_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from genai_cache_magic.intercept.recording import Recording


async def read_little(
    recording: Recording, read: Callable[[], Awaitable[bytes | None]], *, is_taped: bool = False
) -> None:
    """Read what remains into `recording`, if it is little and comes in time.

    Parameters
    ----------
    read
        Returns the next bytes, None at the end. It is cancelled if it takes too long.
    is_taped
        Whether `read` gives them to `recording` itself.
    """
    if not recording.lacks_little():
        return
    with recording.little():
        if running_trio() is not None:
            return
        loop = asyncio.get_running_loop()
        ends_at, left = loop.time() + recording.little_s, recording.little_bytes
        while left > 0 and recording.lacks_little():
            chunk = await _within(ends_at - loop.time(), read)
            if chunk is None:
                recording.ended()
                return
            left -= len(chunk)
            if not is_taped:
                recording.feed(chunk)


async def _within(timeout_s: float, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
    async def once() -> bytes | None:
        return await read()

    # In a task of its own: a cancellation of ours must not look like one of the caller's.
    step = asyncio.ensure_future(once())
    try:
        await asyncio.wait({step}, timeout=max(0.0, timeout_s))
    finally:
        if not step.done():
            step.cancel()
            await asyncio.wait({step})
    if step.cancelled():
        raise TimeoutError
    return step.result()
