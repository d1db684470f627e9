"""Threads and pools that a cell starts carry its scope: they don't inherit context variables."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pool_threads
from typing import TYPE_CHECKING, Any

from genai_cache_magic.intercept.active import active

if TYPE_CHECKING:
    from collections.abc import Callable


def patches() -> list[tuple[type, str, Callable[..., Any]]]:
    """Return (class, attribute, replacement) for the two ways to start work in another thread."""
    return [
        (threading.Thread, "start", _start(threading.Thread.start)),
        (ThreadPoolExecutor, "submit", _submit(ThreadPoolExecutor.submit)),
    ]


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` so that it runs in the scope of whoever calls this, in any thread."""
    here = active.get()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        token = active.set(here)
        try:
            return function(*args, **kwargs)
        finally:
            active.reset(token)

    return run


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    worker = getattr(pool_threads, "_worker", None)

    @functools.wraps(original)
    def start(self: threading.Thread) -> Any:
        # A pool's thread outlives the cell that made it start: there, each submitted call carries its own.
        if active.get() is not None and getattr(self, "_target", None) is not worker:
            self.run = carried(self.run)  # type: ignore[method-assign]  # this one thread's run, not the class's
        return original(self)

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return original(self, fn if active.get() is None else carried(fn), *args, **kwargs)

    return submit
