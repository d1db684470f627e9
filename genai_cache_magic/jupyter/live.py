"""What stands under a cell while the kernel lives: progress while it runs, its badge at its end, then late calls."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from genai_cache_magic import host
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import bundle
from genai_cache_magic.jupyter.shown.call_report import MIME
from genai_cache_magic.jupyter.shown.progress import Progress
from genai_cache_magic.jupyter.shown.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.events import Event

UPDATE_DELAY_S = 0.2
FIRST_PROGRESS_S = 2.0
"""A cell that is through by then shows nothing before its end."""
NEXT_PROGRESS_S = 0.5


class Publish(Protocol):
    """Shows a mime bundle under the running cell."""

    def __call__(self, data: dict[str, Any], /, *, display_id: str = "", update: bool = False) -> None:
        """Show `data`; with `update`, in place of what `display_id` showed."""


class View(Protocol):
    """A widget that draws a report."""

    report: dict[str, Any]
    """What it draws: setting it draws anew."""

    @property
    def model_id(self) -> str:
        """By what a front end knows it."""


class Clears(Protocol):
    """Hears whether a cell clears its outputs."""

    has_been: bool

    def end(self) -> None:
        """Listen no longer."""


class LiveBadge:
    """What stands under the cell of one scope.

    Parameters
    ----------
    updates
        Whether what was shown can be shown anew in its place.
    make_view
        Makes a widget of a scope and its report, to be shown with the badge; None where the badge is all.
    expected
        How many calls the cell made when it ran before; 0 if that is not known.
    is_captured
        Whether what is published now would not be seen.
    clearing
        Hears whether what was shown is gone, since the cell has cleared its outputs.

    Attributes
    ----------
    quiet
        Show nothing unless there is trouble, or a notice for a cell that called a model.
    automatic
        Nobody asked for this scope by name: show nothing if no model was called.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        publish: Publish,
        *,
        quiet: bool = False,
        automatic: bool = False,
        updates: bool = True,
        make_view: Callable[[CellScope, dict[str, Any]], View] | None = None,
        expected: int = 0,
        is_captured: Callable[[], bool] = lambda: False,
        clearing: Clears | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quiet = quiet
        self.automatic = automatic
        self._publish = publish
        self._updates = updates
        self._make_view = make_view
        self._expected = expected
        self._is_captured = is_captured
        self._clearing = clearing
        self._clock = clock
        self._started = clock()
        self._display_id = secrets.token_hex(8)
        self._lock = host.process_lock()
        self._presenting = host.process_lock()  # held while something is shown, so that the last is shown last
        self._is_over = False  # guarded by _presenting, like the next two
        self._is_there = False
        self._view: View | None = None
        self._shown: CellScope | None = None  # guarded by _lock
        self._is_due = False  # guarded by _lock

    def start(self, scope: CellScope) -> None:
        """Show how far `scope` is if it takes long, from now until `show` or `stop`."""
        if self._updates and not self.quiet:
            self._later(FIRST_PROGRESS_S, lambda: self._tick(scope))

    def stop(self) -> None:
        """Show no progress any more."""
        with self._presenting:
            self._is_over = True
            if self._clearing is not None:
                self._clearing.end()
                self._is_there = self._is_there and not self._clearing.has_been

    def show(self, scope: CellScope) -> None:
        """Show what `scope` holds now; from here on its events bring the badge up to date."""
        self.stop()
        if self._is_hidden(scope):
            return
        with self._lock:  # before the calls are read, so that none falls between
            self._shown = scope if self._updates else None
        self._present(scope)

    def note(self, _event: Event, /) -> None:
        """Event hook: bring a badge that is shown up to date soon, once for many events."""
        with self._lock:
            if self._shown is None or self._is_due:
                return
            self._is_due = True
        if not self._later(UPDATE_DELAY_S, self._update):
            with self._lock:
                self._shown = None

    def _update(self) -> None:
        # The timer's thread has no context of the cell's, so the message counts as the running cell's: tools
        # that execute a notebook ignore messages of cells that are done.
        with self._lock:
            self._is_due = False
            scope = self._shown
        if scope is not None:
            self._present(scope)

    def _tick(self, scope: CellScope) -> None:
        """Show progress, unless the cell is through; not of hits alone, which are saved as the same bytes each time."""
        calls = scope.calls
        is_worth_it = bool(calls) if self._make_view else any(call.outcome is not Outcome.HIT for call in calls)
        with self._presenting:
            if self._is_over or (self._clearing is not None and self._clearing.has_been):
                return  # who clears the outputs shows something of their own there
        if is_worth_it and not self._is_captured():
            self._present(scope, Progress.of(scope, expected=self._expected, elapsed_s=self._clock() - self._started))
        self._later(NEXT_PROGRESS_S, lambda: self._tick(scope))

    def _present(self, scope: CellScope, progress: Progress | None = None) -> None:
        shown = bundle(summarise(scope), progress)
        with self._presenting:
            if progress is not None and self._is_over:
                return
            is_first, self._is_there = not self._is_there, True
            if self._make_view is None:
                self._publish(shown, display_id=self._display_id, update=not is_first)
                return
            if self._view is None:
                self._view = self._make_view(scope, shown[MIME])
            else:
                self._view.report = shown[MIME]
            if is_first:
                from genai_cache_magic.jupyter.anywidget import VIEW_MIME

                # First, since some front ends take the first form that they know.
                model = {"model_id": self._view.model_id, "version_major": 2, "version_minor": 0}
                self._publish({VIEW_MIME: model, **shown}, display_id=self._display_id)

    def _later(self, delay_s: float, act: Callable[[], None]) -> bool:
        """Do `act` after `delay_s` [s] in a thread; return False if the interpreter shuts down: nobody will look."""
        timer = threading.Timer(delay_s, act)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return False
        return True

    def _is_hidden(self, scope: CellScope) -> bool:
        if scope.troubles or (scope.notices and scope.calls):
            return False
        return self.quiet or (self.automatic and not scope.calls)
