"""The badge while the kernel lives: shown when the cell ends, and again when late calls come in."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any, Protocol

from genai_cache_magic import host
from genai_cache_magic.jupyter.badge import bundle
from genai_cache_magic.jupyter.summary import summarise

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.events import Event

UPDATE_DELAY_S = 0.2


class Publish(Protocol):
    """Shows a mime bundle under the running cell."""

    def __call__(self, data: dict[str, Any], /, *, display_id: str = "", update: bool = False) -> None:
        """Show `data`; with `update`, in place of what `display_id` showed."""


class LiveBadge:
    """The badge of one scope.

    Attributes
    ----------
    quiet
        Show nothing unless there is trouble, or a notice for a cell that called a model.
    automatic
        Nobody asked for this scope by name: show nothing if no model was called.
    """

    def __init__(self, publish: Publish, *, quiet: bool = False, automatic: bool = False, updates: bool = True) -> None:
        self.quiet = quiet
        self.automatic = automatic
        self._publish = publish
        self._updates = updates
        self._display_id = secrets.token_hex(8)
        self._lock = host.process_lock()
        self._shown: CellScope | None = None  # guarded by _lock
        self._is_due = False  # guarded by _lock

    def show(self, scope: CellScope) -> None:
        """Show what `scope` holds now; from here on its events bring the badge up to date."""
        if self._is_hidden(scope):
            return
        with self._lock:  # before the calls are read, so that none falls between
            self._shown = scope if self._updates else None
        self._publish(bundle(summarise(scope)), display_id=self._display_id)

    def note(self, _event: Event, /) -> None:
        """Event hook: bring a badge that is shown up to date soon, once for many events."""
        with self._lock:
            if self._shown is None or self._is_due:
                return
            self._is_due = True
        timer = threading.Timer(UPDATE_DELAY_S, self._update)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the interpreter is shutting down: nobody will look
            with self._lock:
                self._shown = None

    def _update(self) -> None:
        # The timer's thread has no context of the cell's, so the message counts as the running cell's: tools
        # that execute a notebook ignore messages of cells that are done.
        with self._lock:
            self._is_due = False
            scope = self._shown
        if scope is not None:
            self._publish(bundle(summarise(scope)), display_id=self._display_id, update=True)

    def _is_hidden(self, scope: CellScope) -> bool:
        if scope.troubles or (scope.notices and scope.calls):
            return False
        return self.quiet or (self.automatic and not scope.calls)
