"""A few threads that ask a service side by side, and die with the process: no answer that trickles holds up its end."""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from genai_cache_magic import host

if TYPE_CHECKING:
    from collections.abc import Callable

_G = TypeVar("_G")
_R = TypeVar("_R")

_IDLE_S = 30.0
"""After so long without work a thread ends [s]."""


class Workers:
    """Up to `most` threads called `name`. Safe to share between threads and by forked children.

    Those of a ``ThreadPoolExecutor`` are waited for when the interpreter ends, and are missing in a forked child.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._threads: list[threading.Thread] = []  # guarded by _lock, like the next
        self._unfinished = 0
        self._begin_anew()

    @property
    def unfinished(self) -> int:
        """How much was submitted here and is not done."""
        return self._unfinished if self._pid == os.getpid() else 0

    def submit(self, work: Callable[[_G], _R], given: _G, /) -> Future[_R]:
        """Let a thread call `work` with `given`; return what will hold what comes of it."""
        if self._pid != os.getpid():
            self._begin_anew()  # threads are the parent's
        asked: Future[_R] = Future()
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) < min(self._most, self._unfinished + 1):
                thread = threading.Thread(target=self._run, args=(self._queue,), name=self._name, daemon=True)
                # In an empty context: threads carry the scope of the cell that starts them, and these serve all cells.
                Context().run(thread.start)
                self._threads.append(thread)
            self._unfinished += 1
            self._queue.put((asked, work, given))
        return asked

    def close(self) -> None:
        """Begin nothing more of what was submitted, and wait for nobody; may be called twice, and used again."""
        with self._lock:
            left, threads = self._queue, self._threads
            self._empty()
        while True:
            try:
                item = left.get_nowait()
            except queue.Empty:
                break
            if item is not None and item[0].cancel():
                item[0].set_running_or_notify_cancel()  # which tells who waits
        for _ in threads:
            left.put(None)

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = host.process_lock()
        self._empty()

    def _empty(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any] | None] = queue.SimpleQueue()
        self._threads = []
        self._unfinished = 0

    def _run(self, mine: queue.SimpleQueue[tuple[Future[Any], Callable[[Any], Any], Any] | None]) -> None:
        while True:
            try:
                item = mine.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if mine.empty():
                        if threading.current_thread() in self._threads:
                            self._threads.remove(threading.current_thread())
                        return
                continue
            if item is None:
                return
            _carry_out(*item)
            del item  # an answer may be large
            with self._lock:
                if mine is self._queue:
                    self._unfinished -= 1


def _carry_out(asked: Future[Any], work: Callable[[Any], Any], given: Any) -> None:
    if not asked.set_running_or_notify_cancel():
        return
    try:
        asked.set_result(work(given))
    except BaseException as error:  # noqa: BLE001 - passed on to who waits
        asked.set_exception(error)
