"""``Cache.map``: one function over many items, each computed once, a few at a time, and kept as soon as it is done."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from genai_cache_magic.api.function_names import function_name
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.api.values import as_it_comes_back
from genai_cache_magic.calls.tasks import Waiter, running_trio
from genai_cache_magic.core.options import Mode, checked_tags
from genai_cache_magic.errors import ConfigurationError, NotSent
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.threads import carried
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from genai_cache_magic.core.model import Stamp

MAX_WORKERS = 8
_KEEP_EVERY_S = 0.5
"""How long a result may wait to be kept together with others [s]."""
_KEEP_AT_ONCE = 64
_MISSING = object()


class MapOptions(TypedDict, total=False):
    """What ``Cache.map`` can be told."""

    ttl: str | float | None
    tags: Iterable[str]
    max_workers: int
    name: str
    progress: bool | Callable[[int, int], None] | None


class Results(Protocol):
    """The part of a cache that keeps results."""

    @property
    def is_remote(self) -> bool:
        """Whether a look-up may wait for a network."""

    def key_for(self, request: Any) -> str:
        """Return a key for a JSON value."""

    def mget(self, keys: Iterable[str], default: Any = None) -> list[Any]:
        """Return the values of `keys`, by one look-up."""

    def birth(self) -> Stamp | None:
        """Return a stamp to take before values are computed."""

    def fill_many(
        self,
        values: Mapping[str, Any],
        *,
        birth: Stamp | None,
        ttl: str | float | None = None,
        tags: Iterable[str] = (),
        overwrites: bool = False,
    ) -> int:
        """Keep computed values where there are none, or in place of those that are there."""


def mapped(
    cache: Results, function: Callable[[Any], Any], items: Iterable[Any], options: MapOptions
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    """Return the results of ``Cache.map``, of a coroutine function a coroutine that returns them."""
    batch = _Batch(cache, function, list(items), options)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004 - not whether it can be called
        return batch.run_async()
    return batch.run()


class _Batch:
    """One run over items: what is known, what is to be computed, and what was computed and is not kept yet."""

    def __init__(self, cache: Results, function: Callable[[Any], Any], items: list[Any], options: MapOptions) -> None:
        self._cache = cache
        self._function = function
        here = active.get()
        asked = None if here is None else here.scope.options
        self._mode = Mode.USE if asked is None else asked.mode
        own = checked_tags(options.get("tags", ()))
        self._tags = checked_tags(dict.fromkeys([*own, *(asked.tags if asked else ())]))
        ttl = options.get("ttl")
        self._ttl_s = (asked.ttl_s if asked else None) if ttl is None else parse_seconds(ttl, name="ttl")
        self._workers = options.get("max_workers", MAX_WORKERS)
        if type(self._workers) is not int or self._workers < 1:
            raise ConfigurationError(f"max_workers is {self._workers!r}: write a whole number, 1 or more")
        self._progress = options.get("progress")
        name = options.get("name")
        if name is None:
            name = function_name(function, instead="define it with def, or give name=...")
        self._keys = [f"map:{name}:{cache.key_for(item)}" for item in items]
        self._items = dict(zip(self._keys, items, strict=True))
        self._asked = Counter(self._keys)  # equal items are computed once, and are as many all the same
        self._done = 0
        self._equal = 0
        self._known: dict[str, Any] = {}
        self._unkept: dict[str, Any] = {}
        self._keep_at = 0.0
        self._not_sent: NotSent | None = None
        self._birth: Stamp | None = None
        self._lock = threading.Lock()

    def run(self) -> list[Any]:
        self._look_up()
        missing = self._missing()
        if missing:
            self._done = sum(self._asked[key] for key in self._known)
            with bar_of(len(self._keys), self._done, self._progress) as self._bar:
                self._compute(missing)
        return [self._known[key] for key in self._keys]

    async def run_async(self) -> list[Any]:
        if self._cache.is_remote:
            await _elsewhere(self._look_up)
        else:
            self._look_up()
        missing = self._missing()
        if missing:
            self._done = sum(self._asked[key] for key in self._known)
            with bar_of(len(self._keys), self._done, self._progress) as self._bar:
                if running_trio() is None:
                    await self._compute_in_tasks(missing)
                else:
                    await self._compute_one_by_one(missing)
        return [self._known[key] for key in self._keys]

    def _look_up(self) -> None:
        if self._mode not in {Mode.OFF, Mode.REFRESH}:
            keys = list(self._items)
            found = zip(keys, self._cache.mget(keys, _MISSING), strict=True)
            self._known = {key: value for key, value in found if value is not _MISSING}
        self._birth = self._cache.birth()

    def _missing(self) -> list[str]:
        return [key for key in self._items if key not in self._known]

    def _compute(self, missing: list[str]) -> None:
        """Compute in threads, a few more being handed over than there are, so that none waits for work."""
        work = carried(self._function)
        left = iter(missing)
        going: dict[Future[Any], str] = {}
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="genai-cache-map")
        try:
            while True:
                while failure is None and len(going) < 2 * self._workers and (key := next(left, None)) is not None:
                    going[pool.submit(work, self._items[key])] = key
                if not going:
                    break
                done, _ = wait(going, return_when=FIRST_COMPLETED)
                for future in done:
                    failure = self._took(future, going.pop(future)) or failure
                if failure is not None:
                    for future in [future for future in going if future.cancel()]:
                        del going[future]
        finally:
            self._keep()
            # Of an interrupt: what is under way can't be stopped, and what it brings was paid for.
            for future, key in going.items():
                future.add_done_callback(partial(self._came_late, key))
            pool.shutdown(wait=False, cancel_futures=True)
        self._raise(failure)

    async def _compute_in_tasks(self, missing: list[str]) -> None:
        left = iter(missing)
        going: dict[asyncio.Task[Any], str] = {}
        failure: BaseException | None = None
        try:
            while True:
                while failure is None and len(going) < self._workers and (key := next(left, None)) is not None:
                    going[asyncio.ensure_future(self._function(self._items[key]))] = key
                if not going:
                    break
                done, _ = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    failure = self._took(task, going.pop(task)) or failure
        except BaseException:
            for task in going:
                task.cancel()
            if going:
                await asyncio.wait(going)
            for task, key in going.items():
                self._took(task, key)
            raise
        finally:
            self._keep()
        self._raise(failure)

    def _raise(self, failure: BaseException | None) -> None:
        """Raise what a call failed with, or that one was not sent."""
        if (error := failure or self._not_sent) is not None:
            raise error

    async def _compute_one_by_one(self, missing: list[str]) -> None:
        try:
            for key in missing:
                self._take(key, await self._function(self._items[key]))
        finally:
            self._keep()

    def _took(self, done: Future[Any] | asyncio.Future[Any], key: str) -> BaseException | None:
        """Take what a call brought; return the error that it ended in."""
        if done.cancelled():
            return asyncio.CancelledError()
        error = done.exception()
        if error is None:
            self._take(key, done.result())
        if isinstance(error, NotSent):  # of an estimate: others may be looked up all the same
            self._not_sent = self._not_sent or error
            return None
        return error

    def _take(self, key: str, result: Any) -> None:
        self._known[key] = as_it_comes_back(result)
        self._unkept[key] = result
        self._done += self._asked[key]
        self._equal += self._asked[key] - 1
        self._bar.show(self._done, self._equal)
        if len(self._unkept) >= _KEEP_AT_ONCE or time.monotonic() >= self._keep_at:
            self._keep()

    def _came_late(self, key: str, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            with self._lock:
                self._unkept[key] = future.result()
            self._keep()

    def _keep(self) -> None:
        """Keep what was computed and is not kept yet."""
        with self._lock:
            results, self._unkept = self._unkept, {}
        self._keep_at = time.monotonic() + _KEEP_EVERY_S
        if not results or self._mode in {Mode.OFF, Mode.READ}:
            return
        self._cache.fill_many(
            results, birth=self._birth, ttl=self._ttl_s, tags=self._tags, overwrites=self._mode is Mode.REFRESH
        )


async def _elsewhere(work: Callable[[], None]) -> None:
    """Do `work` in another thread while other tasks go on."""
    ended: Future[None] = Future()

    def run() -> None:
        try:
            work()
            ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 - passed on to who waits
            ended.set_exception(error)

    Context().run(threading.Thread(target=run, name="genai-cache-map", daemon=True).start)
    await Waiter(ended).wait(None)
    ended.result()
