"""A few threads of our own for what blocks, so that the server's event loop, and with it every kernel, goes on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from genai_cache_magic.errors import GenaiCacheError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

THREADS = 3
"""Each keeps connections to databases of its own."""
MOST_WAITING = 64
LONGEST_S = 60.0


class Busy(GenaiCacheError):  # noqa: N818 - the state of the server
    """There is more to do than can be done soon: ask again later."""


class Workers:
    """Runs blocking work in threads; used by one event loop, which alone touches the count."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="genai-cache-server")
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; raises `Busy` instead of queueing without bound or waiting for ever."""
        if self._waiting >= MOST_WAITING:
            raise Busy("the cache has too many questions to answer at once: try again in a moment")
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work)
        self._waiting += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), LONGEST_S)
        except TimeoutError as exc:
            raise Busy("the cache takes too long to answer: look whether its disk and its L2 are well") from exc

    def close(self) -> None:
        """Take no more work; what is being done comes to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self) -> None:
        self._waiting -= 1
