"""Tasks of the event loop that runs the caller, asyncio's or trio's: which one it is, and how it waits for a future."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future


def current_task() -> object | None:
    """Return the task that the caller runs in, None outside of any."""
    trio = running_trio()
    return _asyncio_task() if trio is None else trio.lowlevel.current_task()


def running_trio() -> Any | None:
    """Return the module `trio` if a task of its runs the caller, else None. It is never imported for that."""
    trio = sys.modules.get("trio")
    if trio is None or _asyncio_task() is not None:
        return None  # asyncio's tasks may run on top of trio, and wait as ever
    try:
        trio.lowlevel.current_task()
    except (AttributeError, RuntimeError):
        return None
    return trio


class Loop:
    """An event loop: what tells it from others, and how it is given something to do once it has run what is ready."""

    def __init__(self, identity: object, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.identity = identity
        self.call_soon = call_soon


def running_loop() -> Loop | None:
    """Return the loop that runs the caller, None outside of any."""
    trio = running_trio()
    if trio is not None:
        token = trio.lowlevel.current_trio_token()
        return Loop(token, token.run_sync_soon)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return Loop(loop, loop.call_soon)


class Waiter:
    """Lets one task wait for `future`, which another thread may fulfil, as often as it likes.

    Raises
    ------
    RuntimeError
        The caller's event loop is of another kind.
    """

    def __init__(self, future: Future[Any]) -> None:
        trio = running_trio()
        self._wait = _in_asyncio(future) if trio is None else _in_trio(trio, future)

    async def wait(self, timeout_s: float | None) -> None:
        """Wait until the future is done, or for so long [s]."""
        await self._wait(timeout_s)


def _asyncio_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _in_asyncio(future: Future[Any]) -> Callable[[float | None], Coroutine[Any, Any, None]]:
    landed = asyncio.wrap_future(future, loop=asyncio.get_running_loop())

    async def wait(timeout_s: float | None) -> None:
        # Not wait_for: before Python 3.12 it may swallow a cancellation.
        await asyncio.wait({landed}, timeout=timeout_s)

    return wait


def _in_trio(trio: Any, future: Future[Any]) -> Callable[[float | None], Coroutine[Any, Any, None]]:
    landed, token = trio.Event(), trio.lowlevel.current_trio_token()

    def land(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(landed.set)

    future.add_done_callback(land)

    async def wait(timeout_s: float | None) -> None:
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            await landed.wait()

    return wait
