"""How far a batch is: a bar where somebody looks at it, in a terminal or under a cell, and nothing elsewhere.

A bar never breaks what it is about: whatever fails in showing it is the end of the bar alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAP = "map"
_SHOW_EVERY_S = 0.2
"""How often a notebook's bar is drawn [s]."""


class Bar(Protocol):
    """Shows how many are done."""

    def show(self, done: int, equal: int = 0) -> None:
        """Show that so many are done, those that were known from the start included.

        `equal` of them needed no work, since another that is equal was computed.
        """

    def close(self) -> None:
        """Show how it ended."""


@contextlib.contextmanager
def bar_of(
    total: int,
    known: int,
    progress: bool | Callable[[int, int], None] | None,  # noqa: FBT001 - the user's own choice
    *,
    name: str = MAP,
) -> Iterator[Bar]:
    """Show the progress of `total` items, equal ones counted each, of which `known` need no work, in the block.

    Parameters
    ----------
    progress
        False for none, None or True for the bar that fits the place, or a function of the user's own.
    name
        What is done. Of ``map`` it is shown at the end how many were computed.
    """
    if callable(progress):
        bar: Bar = _Told(total, progress)
        bar.show(known)
        yield bar
        return
    with contextlib.ExitStack() as stack:
        bar = _Calm(None if progress is False else _fitting(name, total, known))
        bar.show(known)
        stack.callback(bar.close)
        yield bar


def _fitting(name: str, total: int, known: int) -> Bar | None:
    """Return the bar that can be seen here, if any can."""
    if multiprocessing.parent_process() is not None:
        return None  # a pool's workers would write over each other, and over whoever looks at them
    shell = _shell()
    if getattr(shell, "kernel", None) is not None:
        return _NotebookBar(name, total, known)
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _TerminalBar(name, total)
    return None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


class _Told:
    """A function of the user's own; what it raises is the user's."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self._total = total
        self._tell = tell

    def show(self, done: int, equal: int = 0) -> None:
        del equal
        self._tell(done, self._total)

    def close(self) -> None:
        """Nothing is shown."""


class _Calm:
    """A bar that is given up when it fails, or none."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar

    def show(self, done: int, equal: int = 0) -> None:
        self._try(lambda bar: bar.show(done, equal))

    def close(self) -> None:
        self._try(lambda bar: bar.close())

    def _try(self, work: Callable[[Bar], None]) -> None:
        if self._bar is not None:
            try:
                work(self._bar)
            except Exception:  # noqa: BLE001 - a terminal that went away, another bar that is there already
                self._bar = None


class _TerminalBar:
    """A line on standard error that is gone afterwards."""

    def __init__(self, name: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn(f"llm_cache {name}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=Console(file=sys.stderr), transient=True)
        self._task = self._progress.add_task("", total=total)
        self._is_started = False

    def show(self, done: int, equal: int = 0) -> None:
        del equal
        if not self._is_started:
            self._is_started = True
            self._progress.start()
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()


class _NotebookBar:
    """An element of HTML under the cell. What stays in the saved notebook are counts: no time, no speed."""

    def __init__(self, name: str, total: int, known: int) -> None:
        self._name = name
        self._total = total
        self._known = known
        self._done = known
        self._equal = 0
        self._handle: Any = None
        self._next = 0.0

    def show(self, done: int, equal: int = 0) -> None:
        self._done, self._equal = done, equal
        if time.monotonic() >= self._next:
            self._draw(f"{done} of {self._total}")

    def close(self) -> None:
        if self._name != MAP:
            self._draw(f"{self._done} of {self._total}")
            return
        computed = f"{self._known} from the cache, {self._done - self._known - self._equal} computed"
        if self._equal:
            computed += f", {self._equal} equal to one of these"
        if self._done == self._total:
            self._draw(f"{self._total} of {self._total}: {computed}")
        else:
            self._draw(f"stopped at {self._done} of {self._total}: {computed}, which are kept")

    def _draw(self, text: str) -> None:
        from IPython.display import display

        self._next = time.monotonic() + _SHOW_EVERY_S
        data = {
            "text/plain": f"llm_cache {self._name}: {text}",
            "text/html": f'<div class="genai-cache"><progress value="{self._done}" max="{self._total}"></progress> '
            f"llm_cache {self._name}: {text}</div>",
        }
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # IPython has no types
        else:
            self._handle.update(data, raw=True)
