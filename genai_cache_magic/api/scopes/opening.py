"""A cache that is being opened, and what stands in for it meanwhile, or if it can't be.

Whoever guards the key may take its time, so this happens in a thread of its own: a cell that calls no model does not
wait at all, and a model call no longer than a deadline, after which it goes its way uncached.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.calls.coalesce import Pulse, Released, Seat
from genai_cache_magic.calls.steps import Follow, Lead
from genai_cache_magic.calls.telling import bypass
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.options import Mode
from genai_cache_magic.core.policy import Why
from genai_cache_magic.errors import GenaiCacheError, KeyThrottled, KeyUnavailable, ReplayMiss
from genai_cache_magic.events import trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Bypass, Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.providers.base import ModelCall, Origins

DEADLINE_S: Final = 5.0
"""How long model calls wait for a cache that is being opened, all together [s]."""

_REPLAY_DEADLINE_S: Final = 30.0
"""The same where a call that is not answered is an error."""

_LONGEST_PAUSE_S: Final = 30.0
_PAUSE_FACTOR: Final = 10.0
"""What failed is not tried again for so many times as long as it took: a quick attempt at once, a slow one later."""

_NO_ENTRY: Final = EntryId("")


class ClosedDesk:
    """Lets every call pass, visibly, since the cache can't be opened (fail closed for data)."""

    def __init__(self, error: GenaiCacheError) -> None:
        self._error = error

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Bypass:
        """Let the call pass; in mode ``replay`` raise ``ReplayMiss``, since the model is never called."""
        del is_async
        if scope.options.mode is Mode.REPLAY:
            raise ReplayMiss(f"nothing can be replayed, the cache can't be opened: {self._error}")
        return bypass(scope, call, "the cache can't be opened")


@dataclass(frozen=True, slots=True)
class ClosedCache:
    """Stands in for a cache that can't be opened."""

    calls: ClosedDesk
    origins: Origins


class Opening:
    """One attempt to open a cache, in a thread of its own.

    Parameters
    ----------
    build
        Opens it; what it raises is told to all who wait.
    clock
        Seconds that never run backwards.
    """

    def __init__(self, build: Callable[[], Cache], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._build = build
        self._clock = clock
        self._pid = os.getpid()
        self._lock = host.process_lock()
        self._seats: list[Seat] = []  # guarded by _lock, like the next two
        self._is_watched = self._is_overdue = False
        self._is_unwanted = False
        self._retry_at = 0.0
        self._done: Future[Cache] = Future()
        self._start(self._run, "genai-cache-opening")

    @property
    def cache(self) -> Cache | None:
        """The cache, once it is open."""
        done = self._done
        return done.result() if done.done() and done.exception() is None else None

    @property
    def error(self) -> GenaiCacheError | None:
        """Why it could not be opened, once that is known."""
        error = self._done.exception() if self._done.done() else None
        if error is None or isinstance(error, GenaiCacheError):
            return error
        failed = KeyUnavailable(f"the cache can't be opened ({type(error).__name__})")
        failed.__cause__ = error
        return failed

    @property
    def is_spent(self) -> bool:
        """Whether another attempt makes sense: this one has failed a while ago, or was left behind by a fork."""
        if self._pid != os.getpid():
            return not self._done.done()
        return self.error is not None and self._clock() >= self._retry_at

    def wait(self) -> Cache:
        """Return the cache as soon as it is open; raises what opening it raised."""
        self._done.exception()
        error = self.error
        if error is not None:
            raise error
        return self._done.result()

    def seat(self, deadline_s: float) -> Seat:
        """Return what ends when the cache is open or can't be, or its callers have waited for `deadline_s` [s]."""
        seat = Seat(Pulse())
        with self._lock:
            if not (self._done.done() or self._is_overdue):
                if not self._is_watched:
                    self._start(lambda: self._watch(deadline_s), "genai-cache-opening-watch")
                    self._is_watched = True
                self._seats.append(seat)
                return seat
        seat.set_result(Released())
        return seat

    def forget(self) -> None:
        """Close the cache as soon as it is open, since nobody wants it any more."""
        with self._lock:
            self._is_unwanted = True
        cache = self.cache
        if cache is not None:
            cache.close()

    def _run(self) -> None:
        started = self._clock()
        try:
            cache = self._build()
        except BaseException as error:  # noqa: BLE001 - told to all who wait
            took_s = self._clock() - started
            asked_s = error.retry_after_s if isinstance(error, KeyThrottled) else None
            self._retry_at = self._clock() + (
                min(took_s * _PAUSE_FACTOR, _LONGEST_PAUSE_S) if asked_s is None else asked_s
            )
            self._done.set_exception(error)
        else:
            self._done.set_result(cache)
            with self._lock:
                is_unwanted = self._is_unwanted
            if is_unwanted:
                cache.close()
        self._release()

    def _watch(self, deadline_s: float) -> None:
        ended = threading.Event()
        self._done.add_done_callback(lambda _: ended.set())
        if not ended.wait(deadline_s):
            with self._lock:
                self._is_overdue = True
            self._release()

    def _release(self) -> None:
        with self._lock:
            seats, self._seats = self._seats, []
        for seat in seats:
            if seat.set_running_or_notify_cancel():
                seat.set_result(Released())

    @staticmethod
    def _start(work: Callable[[], None], name: str) -> None:
        # It belongs to no cell: threads carry the scope of whoever starts them.
        Context().run(threading.Thread(target=work, name=name, daemon=True).start)


class OpeningCache:
    """Stands in for a cache that is being opened, in one scope, and is that cache once it is there.

    Parameters
    ----------
    opening
        The attempt.
    scope
        Whose calls come here.
    origins
        What is known of origins until then.
    """

    def __init__(self, opening: Opening, scope: CellScope, origins: Origins) -> None:
        self._opening = opening
        self._scope = scope
        self._origins = origins
        self._waiting = OpeningDesk(opening)

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        cache = self._opening.cache
        if cache is None:
            return self._waiting
        acquaint(self._scope, cache)
        return cache.calls

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        cache = self._opening.cache
        return self._origins if cache is None else cache.origins


def acquaint(scope: CellScope, cache: Cache) -> None:
    """Tell `scope` which cache answers it: where its calls are booked and counted, and which store they name."""
    scope.books, scope.store = cache.ledger.books, cache.fingerprint
    if scope.options.estimate:
        scope.books = None  # nothing is spent, and what is looked up saves nothing
    scope.past, scope.counts = cache.ledger.past, cache.counts


class OpeningDesk:
    """Lets the model calls of one scope wait for the cache, and then go to its desk."""

    max_response_bytes = 0

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._lock = host.process_lock()
        self._is_told = False  # guarded by _lock

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the step of a call that waits."""
        mode = scope.options.mode
        if mode is Mode.OFF:
            return bypass(scope, call, "mode off")
        lead = Lead(
            self, call, scope, _NO_ENTRY, 0, _NO_ENTRY, Why.ABSENT, 0.0, is_async, is_done=True, is_recorded=True
        )
        return Follow(lead, self._opening.seat(_REPLAY_DEADLINE_S if mode is Mode.REPLAY else DEADLINE_S))

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Go to the desk of the cache if it is open; else let the call pass, and say why."""
        del landing
        lead = follow.lead
        cache = self._opening.cache
        if cache is not None:
            acquaint(lead.scope, cache)
            return cache.calls.begin(lead.call, lead.scope, is_async=lead.is_async)
        error = self._opening.error or KeyUnavailable(
            "whoever guards the key of the cache has not answered yet, so calls go uncached until it has"
        )
        self._tell_once(lead.scope, error)
        return ClosedDesk(error).begin(lead.call, lead.scope, is_async=lead.is_async)

    def _tell_once(self, scope: CellScope, error: GenaiCacheError) -> None:
        with self._lock:
            is_told, self._is_told = self._is_told, True
        if not is_told:
            scope.emit(trouble("cache", error))

    def request_id(self, call: ModelCall, scope: CellScope) -> EntryId:
        """Return no id: none can be made without the key."""
        del call, scope
        return _NO_ENTRY

    def commit(self, lead: Lead, response: Response) -> None:
        """Never called: nobody leads before the cache is open."""

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Never called, as `commit`."""

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """The caller has given up waiting."""

    def drop(self, lead: Lead) -> None:
        """Nobody waits for it."""

    def stop(self, lead: Lead, reason: str) -> None:
        """Never called, as `commit`."""
