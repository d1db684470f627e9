"""gevent: greenlets carry the scope of whoever starts them, as threads do, and so does work for its pool of threads.

gevent's own notice of a start is used where there is one: its class of greenlets is compiled and can't be patched.
"""

from __future__ import annotations

import functools
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import Callback, Point
from genai_cache_magic.intercept.workers.threads import carried

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.points import Group

MODULES: Final = ("gevent", "gevent.threadpool")


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `module`.

    Raises
    ------
    AttributeError
        This release of it is built differently.
    """
    if module.__name__ == "gevent.threadpool":
        return [(Point(module.ThreadPool, "spawn", _spawn_in_thread),)]
    greenlet = module.Greenlet
    _ = greenlet.gr_context  # its context is what carries the scope
    started = Callback(
        functools.partial(greenlet.add_spawn_callback, _started),
        functools.partial(greenlet.remove_spawn_callback, _started),
    )
    return [(started,), (Point(module, "spawn_raw", _spawn_raw),)]


def _started(greenlet: Any) -> None:
    """Put the scope of whoever starts `greenlet` in force in it; a context that someone gave it has one, or none."""
    here = active.get()
    if here is None or greenlet.gr_context is not None:
        return
    context = Context()
    context.run(active.set, here)
    greenlet.gr_context = context


def _spawn_raw(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def spawn_raw(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        is_carried = active.get() is not None and callable(function)  # what is not callable is told as ever
        return original(carried(function) if is_carried else function, *args, **kwargs)

    return spawn_raw


def _spawn_in_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def spawn(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return original(self, func if active.get() is None else carried(func), *args, **kwargs)

    return spawn
