"""What must end a cell although the cell's own code never saw it.

A `ReplayMiss` that is raised in the code of the cell itself has reached it. One that is raised in a thread, a
task or a worker may be lost on its way: nobody asks for the result, or a runner swallows it. The scope remembers
it, and whoever ends the scope asks whether it is still to be raised.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host
from genai_cache_magic.errors import CellInterrupt, as_raised

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Directories of libraries."""

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import FrameType


@dataclass(slots=True, eq=False, repr=False)
class _Raised:
    """An interrupt, the task that it was raised in, if any, and the frames of that or of the thread."""

    error: CellInterrupt
    task: asyncio.Task[Any] | None
    frames: tuple[FrameType, ...]


class Interrupts:
    """The interrupts of one scope that were raised elsewhere than in its own code.

    Attributes
    ----------
    stray
        The first that ended its thread, or its task without anyone who asked for that: who waits for work that
        will never be done looks here.
    """

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._raised: list[_Raised] = []  # guarded by _lock
        self.stray: CellInterrupt | None = None

    def note(self, error: CellInterrupt, task: asyncio.Task[Any] | None = None) -> None:
        """Remember `error`, raised in the running thread or in `task`, which runs in it."""
        frames = tuple(_stack(None if task is None else getattr(task.get_coro(), "cr_frame", None)))
        with self._lock:
            known = next((raised for raised in self._raised if raised.error is error), None)
            if known is None:
                self._raised.append(_Raised(error, task, frames))
            else:
                known.frames += frames

    def note_told(self, error: CellInterrupt) -> None:
        """Remember `error`, which was raised in another process."""
        with self._lock:
            self._raised.append(_Raised(error, None, ()))

    def note_stray(self, error: CellInterrupt) -> None:
        """Remember that `error` ended its thread, and that nobody will hear of it there."""
        self.note(error)
        if self.stray is None:
            self.stray = error

    def pending(self) -> CellInterrupt | None:
        """Return what the scope is to end with, None if nothing is outstanding; each is returned once.

        It is called by the code that ends the scope, below its last frames. Of several that came from one
        `gather` or `map` only the first is raised again: whoever caught that knows of them.
        """
        with self._lock:
            raised, self._raised = self._raised, []
        if not raised:
            return None
        closing = frozenset(_stack(None))
        lost = [one.error for one in raised if not _has_arrived(one, closing)]
        if not lost or (len(lost) < len(raised) and self.stray is None):
            return None
        for task in (one.task for one in raised if one.task is not None):
            # It is told here; the complaint of a task about its exception would come at some odd moment later.
            with suppress(AttributeError):  # of a loop that has tasks of another kind
                task._log_traceback = False  # noqa: SLF001 - its own way to be told so
        return as_raised(self.stray or lost[0])


def _stack(top: FrameType | None) -> Iterator[FrameType]:
    """Return the frames of the running code, innermost first, up to and including `top`; not that of who asks.

    That one would hold itself by what is returned here, and with it whatever people's own frames below it hold.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - CPython's documented way to walk a stack
    while frame is not None:
        yield frame
        if frame is top:
            return
        frame = frame.f_back


def _has_arrived(raised: _Raised, closing: frozenset[FrameType]) -> bool:
    """Tell whether the error was raised again in people's own code, which could do with it as it liked.

    The outermost frame that an error has passed stands first in its traceback. A library that runs work, and makes a
    list or a log of its errors, has swallowed it.
    """
    traceback = raised.error.__traceback__
    if traceback is None or traceback.tb_frame in raised.frames:
        return False
    code = traceback.tb_frame.f_code
    if not _INSTALLED.isdisjoint(PurePath(code.co_filename).parts):
        return False
    if code.co_flags & inspect.CO_COROUTINE and code.co_name != "<module>":
        return traceback.tb_frame in closing  # else it may have ended another task that nobody asked for
    return True
