"""Pools of `multiprocessing`: each piece of work belongs to the cell that hands it in, whoever made the pool.

A worker of such a pool that dies of what is no ``Exception`` takes its work with it, and whoever waits for that
waits for ever (cpython#101081).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.workers import processes, threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.points import Group

MODULES: Final = ("multiprocessing.pool",)

_METHODS: Final = ("apply_async", "_map_async", "imap", "imap_unordered")
"""By which all others hand in their work."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `multiprocessing.pool`.

    Raises
    ------
    AttributeError
        It is built differently.
    """
    return [(Point(module.Pool, name, _hands_in(module.ThreadPool)),) for name in _METHODS]


def _hands_in(thread_pool: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return functools.partial(_handing_in, thread_pool=thread_pool)


def _handing_in(original: Callable[..., Any], *, thread_pool: type) -> Callable[..., Any]:
    @functools.wraps(original)
    def hand_in(self: Any, func: Any, *rest: Any, **named: Any) -> Any:
        here = active.get()
        if isinstance(self, thread_pool):
            func = threads.carried(func)
        elif here is not None:
            func = processes.carried(func, here.scope)
        return original(self, func, *rest, **named)

    return hand_in
