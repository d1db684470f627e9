"""``Cache.map``: one function over many items, each computed once, a few at a time, and kept as soon as it is done."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from genai_cache_magic.api.function_names import function_name
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.api.values import as_it_comes_back
from genai_cache_magic.calls.tasks import Waiter, running_trio
from genai_cache_magic.core.options import Mode, checked_tags
from genai_cache_magic.errors import ConfigurationError, NotSent
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.workers.threads import carried
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from genai_cache_magic.core.model import Stamp

MAX_WORKERS = 8
_KEEP_EVERY_S = 0.5
"""How long a result may wait to be kept together with others [s]."""
_KEEP_AT_ONCE = 64
_MISSING = object()
_NOT_ASYNC = (
    "the function returned a coroutine and is none itself, so nothing was awaited: define it with async def, and "
    "write await cache.map(...)"
)


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
        _check(options)
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
        # What was computed is put here by whoever computed it, and taken away once it is kept: wherever an interrupt
        # comes, it finds it in one of the two places. Each step is one of a dictionary's own, so it takes no lock,
        # which an interrupt could leave locked.
        self._unkept: dict[str, Any] = {}
        self._keeps = self._mode not in {Mode.OFF, Mode.READ}
        self._is_left = False
        self._keep_at = 0.0
        self._not_sent: NotSent | None = None
        self._birth: Stamp | None = None

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

        def compute(key: str) -> Any:
            result = work(self._items[key])
            if type(result) is CoroutineType:
                result.close()
                raise ConfigurationError(_NOT_ASYNC)
            self._bring(key, result)
            return result

        left = iter(missing)
        going: dict[Future[Any], str] = {}
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="genai-cache-map")
        try:
            while True:
                while failure is None and len(going) < 2 * self._workers and (key := next(left, None)) is not None:
                    going[pool.submit(compute, key)] = key
                if not going:
                    break
                done, _ = wait(going, return_when=FIRST_COMPLETED)
                for future in done:
                    failure = _first(failure, self._took(future, going.pop(future)))
                    if self._is_due:
                        self._keep()
                if failure is not None:
                    for future in [future for future in going if future.cancel()]:
                        del going[future]
            self._keep()
        finally:
            # Of an interrupt: what is under way can't be stopped, and what it brings was paid for.
            self._leave()
            pool.shutdown(wait=False, cancel_futures=True)
        self._raise(failure)

    async def _compute_in_tasks(self, missing: list[str]) -> None:
        async def compute(key: str) -> Any:
            result = await self._function(self._items[key])
            self._bring(key, result)
            return result

        left = iter(missing)
        going: dict[asyncio.Task[Any], str] = {}
        failure: BaseException | None = None
        try:
            while True:
                while failure is None and len(going) < self._workers and (key := next(left, None)) is not None:
                    going[asyncio.ensure_future(compute(key))] = key
                if not going:
                    break
                done, _ = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    failure = _first(failure, self._took(task, going.pop(task)))
                if self._is_due:
                    await self._keep_aside()
            await self._keep_aside()
        except GeneratorExit:  # closed, perhaps with its loop: nothing can be awaited any more
            with suppress(RuntimeError):
                _end(going)
            raise
        except BaseException:
            _end(going)
            if going:
                await asyncio.wait(going)
            await self._keep_aside()
            raise
        finally:
            self._leave()
        self._raise(failure)

    def _raise(self, failure: BaseException | None) -> None:
        """Raise what a call failed with, or that one was not sent."""
        if (error := _first(failure, self._not_sent)) is not None:
            raise error

    async def _compute_one_by_one(self, missing: list[str]) -> None:
        try:
            for key in missing:
                try:
                    result = await self._function(self._items[key])
                except NotSent as error:
                    self._not_sent = self._not_sent or error
                    continue
                self._bring(key, result)
                self._take(key, result)
                if self._is_due:
                    await self._keep_aside()
            await self._keep_aside()
        finally:
            self._leave()
        self._raise(None)

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
        self._done += self._asked[key]
        self._equal += self._asked[key] - 1
        self._bar.show(self._done, self._equal)

    def _bring(self, key: str, result: Any) -> None:
        """Put a result where it will be kept, in the thread or task that has it; what comes late is kept at once."""
        if self._keeps:
            self._unkept[key] = result
            if self._is_left:
                self._keep()

    @property
    def _is_due(self) -> bool:
        return len(self._unkept) >= _KEEP_AT_ONCE or time.monotonic() >= self._keep_at

    def _keep(self) -> None:
        """Keep what was computed and is not kept yet. What an interrupt breaks off can be kept once more."""
        results = self._unkept.copy()
        self._keep_at = time.monotonic() + _KEEP_EVERY_S
        if results:
            self._cache.fill_many(
                results, birth=self._birth, ttl=self._ttl_s, tags=self._tags, overwrites=self._mode is Mode.REFRESH
            )
        for key in results:
            self._unkept.pop(key, None)

    async def _keep_aside(self) -> None:
        """Keep it, in another thread where that asks the team: to overwrite is to invalidate first."""
        if self._cache.is_remote and self._mode is Mode.REFRESH:
            await _elsewhere(self._keep)
        else:
            self._keep()

    def _leave(self) -> None:
        """Keep what is there, whatever comes in between; what is still under way is kept when it comes."""
        self._is_left = True
        try:
            self._keep()
        except BaseException:  # one more interrupt
            threading.Thread(target=self._keep, name="genai-cache-map").start()
            raise


def _check(options: MapOptions) -> None:
    """Raise ``ConfigurationError`` unless each option is one, and of its kind."""
    for name in options:
        if name not in MapOptions.__annotations__:
            close = difflib.get_close_matches(name, MapOptions.__annotations__, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(MapOptions.__annotations__)}"
            raise ConfigurationError(f"map has no option {name!r}: {hint}")
    workers = options.get("max_workers", MAX_WORKERS)
    if type(workers) is not int or workers < 1:
        raise ConfigurationError(f"max_workers is {workers!r}: write a whole number, 1 or more")
    under: object = options.get("name")
    if under is not None and (type(under) is not str or not under):
        raise ConfigurationError(f"name is {under!r}: write a text, what to keep the results under")
    progress: object = options.get("progress")
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ConfigurationError(f"progress is {progress!r}: write True, False or a function of two numbers")


def _first(failure: BaseException | None, error: BaseException | None) -> BaseException | None:
    """Return the one that is there; an exception may be false."""
    return error if failure is None else failure


def _end(going: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what is under way. What it ends in is nobody's concern any more, and not to be complained of."""
    for task in going:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()


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
