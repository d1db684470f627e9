"""A thread that tells the team what is new in the ledger, behind the calls."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.entries.link import within
from genai_cache_magic.entries.team.drain import Retries
from genai_cache_magic.errors import StoreThrottled, StoreUnavailable, WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.disk.locks import FileLock

_GATHER_S: Final = 1.0
"""How long what is new is gathered before it is told [s]."""
_OTHERS_S: Final = 0.5
_IDLE_S: Final = 10.0
_PATIENCE_S: Final = 2.0
"""How long the end of a process waits for what is still to be told [s]."""


class Sharer:
    """Calls `tell` in the background after `poke`. Safe to share between threads and by forked children.

    Parameters
    ----------
    tell
        Tells what is new; raises ``StoreUnavailable`` while that can't be done.
    lock
        Held by the one process of this machine that tells: each reads the ledger and tells what it says under it, so
        none tells what another knows to be old.
    retries
        How to go on when the team can't be told.
    """

    def __init__(self, tell: Callable[[], None], *, lock: FileLock, retries: Retries | None = None) -> None:
        self._tell = tell
        self._file_lock = lock
        self._retries = retries or Retries()
        self._is_closed = False
        self._thread: threading.Thread | None = None  # guarded by _lock
        self._begin_anew()

    def poke(self) -> None:
        """Say that there may be something to tell; returns at once."""
        if self._has_work.is_set() and self._pid == os.getpid():
            return
        if self._pid != os.getpid():
            self._begin_anew()  # the thread is the parent's
        with self._lock:
            self._has_work.set()
            if self._is_closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="genai-cache-sharer", daemon=True)
            with suppress(RuntimeError):  # there may be too many: whoever comes next tries again
                Context().run(self._thread.start)  # it belongs to no cell

    def once(self) -> bool:
        """Tell what is new in this thread; return whether another process is at it instead.

        Raises ``StoreUnavailable``.
        """
        if not self._file_lock.try_acquire():
            return True
        try:
            self._tell()
        finally:
            self._file_lock.release()
        return False

    def close(self) -> None:
        """Tell what is new, for about 2 s at most, and end the thread; may be called twice."""
        if self._is_closed or self._pid != os.getpid():
            return
        self._is_closed = True
        self._stopping.set()
        self._has_work.set()
        with suppress(StoreUnavailable):  # the next process of this machine tells it
            try:
                within(_PATIENCE_S, self.once, overdue=lambda: "the team does not answer in time")
            except RuntimeError:  # the interpreter is ending, and no thread begins any more
                self.once()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = host.process_lock()
        self._has_work = threading.Event()
        self._stopping = threading.Event()
        self._thread = None

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            if not self._has_work.wait(_IDLE_S):
                with self._lock:
                    if not self._has_work.is_set():
                        self._thread = None
                        return
            self._stopping.wait(_GATHER_S)
            if self._stopping.is_set():
                return  # who closes tells
            self._has_work.clear()  # before the ledger is read: whoever comes later says so again
            pause_s = 0.0
            try:
                if self.once():
                    pause_s = _OTHERS_S  # it may have read the ledger before what is new came to it
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                if isinstance(error, WriteRefused) or self._retries.is_last(failures):
                    failures = 0  # it rests until there is something new to tell
                    continue
                asked_s = error.retry_after_s if isinstance(error, StoreThrottled) else None
                pause_s = max(asked_s or 0.0, self._retries.pause_s(failures))
            if pause_s:
                self._has_work.set()
                self._stopping.wait(pause_s)
