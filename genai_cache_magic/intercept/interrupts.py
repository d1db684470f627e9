"""Where a `ReplayMiss` is raised in a thread, task or worker: remember it, and let nobody wait for what it ended."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.tasks import current_task
from genai_cache_magic.errors import CellInterrupt, as_raised, make_ordinary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.calls.scope import CellScope

_LOOK_EVERY_S: Final = 0.05
_WAITING_ROOMS: Final = ("asyncio.locks", "asyncio.queues")
"""Who waits in a function of these waits for other tasks, not for the world."""


def note(scope: CellScope, error: CellInterrupt) -> None:
    """Take note of `error` where it is raised, unless that is in the code of the cell itself."""
    if scope.reports.is_elsewhere and not error.token:  # once, through however many guards it passes
        scope.reports.tell_lost(error)
    if not _is_elsewhere(scope):
        return
    task = _asyncio_task()
    scope.interrupts.note(error, task)
    if task is not None:
        task.add_done_callback(lambda done: _ended(scope, error, done))


def hand_over(scope: CellScope | None, error: CellInterrupt) -> None:
    """Prepare `error`, at the top of work that a runner does: it is one that every runner hands on."""
    if scope is not None:
        if not _is_elsewhere(scope):
            return
        scope.interrupts.note(error)
    make_ordinary(error)


def _is_elsewhere(scope: CellScope) -> bool:
    return threading.get_ident() != scope.opener.thread or current_task() is not scope.opener.task


def _asyncio_task() -> asyncio.Task[Any] | None:
    task = current_task()
    return task if isinstance(task, asyncio.Task) else None


def _ended(scope: CellScope, error: CellInterrupt, task: asyncio.Task[Any]) -> None:
    """Look after those who may wait for `task`, which `error` has perhaps ended."""
    if _exception(task) is error:
        make_ordinary(error)
        # Whoever awaits the task takes its exception in one of the loop's next rounds.
        task.get_loop().call_later(_LOOK_EVERY_S, _wake, scope, error, task)


def _exception(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the exception of `task`; its own method would count as having asked for it."""
    found: BaseException | None = getattr(task, "_exception", None)
    return found


def _wake(scope: CellScope, error: CellInterrupt, task: asyncio.Task[Any]) -> None:
    """End the wait of the cell's own code for work that the lost `task` has left undone."""
    if scope.is_over or not getattr(task, "_log_traceback", False):
        return
    loop = task.get_loop()
    for root in _roots(scope, loop):
        for future in _waits(root):
            future.set_exception(as_raised(error))
    if scope.interrupts.stray is None:
        scope.interrupts.stray = error  # a thread may wait too
    loop.call_later(_LOOK_EVERY_S, _wake, scope, error, task)


def _roots(scope: CellScope, loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """Return the tasks of `loop` that are the cell's own code: the one that opened the scope, or what it runs."""
    opener = scope.opener.task
    if isinstance(opener, asyncio.Task):
        return [opener] if opener.get_loop() is loop else []
    return [task for task in asyncio.all_tasks(loop) if any(map(_runs_the_loop, getattr(task, "_callbacks", ()) or ()))]


def _runs_the_loop(callback: tuple[Any, ...]) -> bool:
    return getattr(callback[0], "__name__", "") == "_run_until_complete_cb"


def _waits(task: asyncio.Task[Any]) -> Iterator[asyncio.Future[Any]]:
    """Return the futures at which `task`, or a task that it awaits, waits for what other tasks do."""
    future: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    if future is None or future.done():
        return
    if isinstance(future, asyncio.Task):
        yield from _waits(future)
    elif children := getattr(future, "_children", None):
        for child in children:
            if isinstance(child, asyncio.Task) and not child.done():
                yield from _waits(child)
    elif _innermost_module(task) in _WAITING_ROOMS:
        yield future


def _innermost_module(task: asyncio.Task[Any]) -> str:
    """Return the module of the function in which `task` is suspended."""
    coroutine: Any = task.get_coro()
    frame = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))
