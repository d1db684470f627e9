"""Threads and pools that a cell starts carry its scope: they don't inherit context variables."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pool_threads
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import CellInterrupt, as_raised
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.interrupts import hand_over
from genai_cache_magic.intercept.points import Point, layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group

MODULES: Final = ("threading", "concurrent.futures")

_LOOK_EVERY_S: Final = 0.05
_INITARGS: Final = 3
"""Where both kinds of pool give their threads the arguments of the initializer, which stands before them."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `module`: the two ways to start work in another thread, and to wait for it.

    Both replacements may run one within another: they carry the same scope.

    Raises
    ------
    AttributeError, TypeError
        What is in the place of its class has no such method.
    """
    if module.__name__ == "threading":
        starts = layers(module.Thread, "start", _start, "threading")
        return [(Point(module.Condition, "wait", _wait),), *((point,) for point in starts)]
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
            try:
                return function(*args, **kwargs)
            except CellInterrupt as error:
                hand_over(None if here is None else here.scope, error)
                raise

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


def _whole_thread(run: Callable[[], Any], here: Active) -> Callable[[], Any]:
    """Return the `run` of a thread so that it belongs to `here`: what ends it, ends the cell, if that still runs."""

    def run_in_scope() -> Any:
        with in_force(here):
            try:
                return run()
            except CellInterrupt as error:
                here.scope.interrupts.note_stray(error)
                if here.scope.has_end and not here.scope.is_over:
                    return None
                hand_over(here.scope, error)
                raise

    return run_in_scope


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    worker = getattr(pool_threads, "_worker", None)

    @functools.wraps(original)
    def start(self: threading.Thread) -> Any:
        here = active.get()
        if here is None:
            return original(self)
        # A pool's thread outlives the cell that made it start, and there each call carries its own scope.
        if getattr(self, "_target", None) is not worker and not _is_of_a_pool(self):
            self.run = _whole_thread(self.run, here)  # type: ignore[method-assign]  # this one thread's, not the class's
        else:
            _carry_initializer(self, here)
        # So it must not inherit this one, as threads do in some builds since Python 3.14; nor is the wait for the
        # thread's first breath a wait of the cell.
        with in_force(None):
            return original(self)

    return start


def _carry_initializer(thread: Any, here: Active) -> None:
    """Let what a pool's thread does before its first call belong to the cell that made it start."""
    arguments = getattr(thread, "_args", None) or ()
    if len(arguments) > _INITARGS and callable(arguments[_INITARGS - 1]):
        initializer, initargs = arguments[_INITARGS - 1 : _INITARGS + 1]
        run = _whole_thread(functools.partial(initializer, *initargs), here)
        thread._args = (*arguments[: _INITARGS - 1], run, (), *arguments[_INITARGS + 1 :])  # noqa: SLF001 - it has no other name


def _is_of_a_pool(thread: threading.Thread) -> bool:
    """Tell whether `thread` works or keeps house for a ``multiprocessing.pool``."""
    target: Any = getattr(thread, "_target", None)
    return getattr(target, "__module__", "") == "multiprocessing.pool"


def _wait(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let nobody in a scope wait for what a `ReplayMiss` or a budget has ended: queues, events, barriers, futures."""

    @functools.wraps(original)
    def wait(self: threading.Condition, timeout: float | None = None) -> Any:
        here = active.get()
        # A wait with a time-out ends by itself, and may be one of the kernel's own, such as for what was printed.
        if timeout is not None or here is None or not here.scope.may_be_stopped:
            return original(self, timeout)
        return _attentive_wait(self, here.scope)

    return wait


def _attentive_wait(condition: Any, scope: CellScope) -> bool:
    """Wait as ``Condition.wait`` of the standard library does, looking now and then whether all is over.

    To wait for a moment, again and again, would lose a notification that comes in between: who returns from a wait
    with a time-out is expected to look for itself, and futures and events don't.
    """
    if not condition._is_owned():  # noqa: SLF001 - this and the next are what its own method does
        raise RuntimeError("cannot wait on un-acquired lock")
    notified = threading.Lock()
    notified.acquire()
    condition._waiters.append(notified)  # noqa: SLF001
    state = condition._release_save()  # noqa: SLF001
    is_notified = False
    try:
        while not is_notified:
            if scope.interrupts.stray is not None and not scope.is_over:
                raise as_raised(scope.interrupts.stray)
            is_notified = notified.acquire(timeout=_LOOK_EVERY_S)
        return True
    finally:
        condition._acquire_restore(state)  # noqa: SLF001
        if not is_notified:
            with suppress(ValueError):  # somebody notifies it at this very moment
                condition._waiters.remove(notified)  # noqa: SLF001


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
