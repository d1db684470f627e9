"""Threads and pools that a cell starts carry its scope: they don't inherit context variables."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pool_threads
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import layers

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group


MODULES: Final = ("threading", "concurrent.futures")


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `module`: the two ways to start work in another thread.

    Both replacements may run one within another: they carry the same scope.

    Raises
    ------
    AttributeError, TypeError
        What is in the place of its class has no such method.
    """
    if module.__name__ == "threading":
        return [(point,) for point in layers(module.Thread, "start", _start, "threading")]
    return [(point,) for point in layers(module.ThreadPoolExecutor, "submit", _submit, "concurrent")]


@contextmanager
def in_force(here: Active | None) -> Iterator[None]:
    """Let model calls of this context belong to `here` meanwhile."""
    token = active.set(here)
    try:
        yield
    finally:
        # A coroutine that the garbage collector closes ends in another context: nothing is to restore there.
        with suppress(ValueError):
            active.reset(token)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` so that it runs in the scope of whoever calls this, in any thread."""
    here = active.get()

    def run(*args: Any, **kwargs: Any) -> Any:
        with in_force(here):
            return function(*args, **kwargs)

    return run


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, synchronous or not, as `carried`, with its name and signature."""
    if not inspect.iscoroutinefunction(function):
        return functools.wraps(function)(carried(function))
    here = active.get()

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with in_force(here):
            return await function(*args, **kwargs)

    return run


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    worker = getattr(pool_threads, "_worker", None)

    @functools.wraps(original)
    def start(self: threading.Thread) -> Any:
        if active.get() is None:
            return original(self)
        if getattr(self, "_target", None) is worker:
            # A pool's thread outlives the cell that made it start, and there each call carries its own scope.
            # So it must not inherit this one, as threads do in some builds since Python 3.14.
            with in_force(None):
                return original(self)
        self.run = carried(self.run)  # type: ignore[method-assign]  # this one thread's run, not the class's
        return original(self)

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        is_carried = active.get() is not None and not _pickles_its_work(self)
        return original(self, carried(fn) if is_carried else fn, *args, **kwargs)

    return submit


def _pickles_its_work(pool: ThreadPoolExecutor) -> bool:
    """Tell whether `pool` runs its calls in other interpreters, where no scope of ours is (Python 3.14)."""
    kind: type | None = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
    return kind is not None and isinstance(pool, kind)
