"""Queues of work: a thread that takes a piece of it does it in the scope of the cell that put it there.

So a worker thread may live longer than the cell that started it, and keeps none of its options.
"""

from __future__ import annotations

import functools
import threading
from contextlib import suppress
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import Point

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group

MODULES: Final = ("queue",)

_ATTRIBUTE: Final = "_genai_cache_scopes"
"""Of a queue: id of an item that waits in it -> the scopes that it was put there in, oldest first."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `queue`; of use together only.

    Nothing, where gevent's queues stand in its place: they can't be patched, and who works at them is a greenlet, which
    has the scope that it was started in.

    Raises
    ------
    AttributeError
        It is built differently.
    """
    if module.Queue.__module__.startswith("gevent."):
        return []
    return [(Point(module.Queue, "put", _put), Point(module.Queue, "get", _get))]


def _put(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - the library's signature
        here = active.own()
        if here is None or not _is_work(self, item):
            return original(self, item, block, timeout)
        scopes: list[Active] = vars(self).setdefault(_ATTRIBUTE, {}).setdefault(id(item), [])
        scopes.append(here)
        try:
            return original(self, item, block, timeout)
        except BaseException:  # it is full
            with suppress(ValueError):
                scopes.remove(here)
            raise

    return put


def _get(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - the library's signature
        item = original(self, block, timeout)
        if not _is_work(self, item):
            return item
        by_item: dict[int, list[Active]] | None = vars(self).get(_ATTRIBUTE)
        scopes = by_item.get(id(item)) if by_item else None
        here = scopes.pop(0) if scopes else None
        if by_item and not scopes:
            by_item.pop(id(item), None)
        if threading.current_thread() is not threading.main_thread():
            _work_for(here)
        return item

    return get


def _is_work(own: Any, item: Any) -> bool:
    """Tell whether `item` of a queue may be a piece of work.

    What is put in last and taken first is a store of connections, such as urllib3's and redis-py's: whoever takes one
    goes on with what it was doing.
    """
    return item is not None and not isinstance(own, LifoQueue)


def _work_for(here: Active | None) -> None:
    """Let this thread work for `here` from now on; for None not for a cell that is over, but for one that runs."""
    own = active.own()
    if own is not None and own.scope.opener.thread == threading.get_ident():
        return  # the cell's own code, in a thread of its own
    if own is not None and not own.scope.is_over and (here is None or here.scope.is_over):
        return  # of a cell that runs, whoever left there what it takes: clients lie in such queues too
    active.set(here)
