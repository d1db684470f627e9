"""A process that only replays: with ``GENAI_CACHE_MODE=replay`` no call of it goes to a model, wherever it is made."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.api.asking.placeholders import placeholders
from genai_cache_magic.api.scopes.following import Passport
from genai_cache_magic.api.scopes.opening import ClosedCache, ClosedDesk
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.calls.coalesce import Caller
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.errors import GenaiCacheError
from genai_cache_magic.intercept.active import Active, active
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.providers.base import Origins

if TYPE_CHECKING:
    from genai_cache_magic.api.scopes.session import Session


class ReplayingProcess:
    """What every call belongs to that no cell or block asked for: made when the first such call is."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._is_on = False  # guarded by _lock, like all below
        self._has_cells = False
        self._is_opening = False
        self._session: Session | None = None
        self._here: Active | None = None

    def put_in_force(self, *, has_cells: bool = False) -> None:
        """Let nothing of this process reach a model, but in a scope of another mode; may be called again.

        `has_cells` says that a shell gives each of its cells a scope of its own, which ends with what was missing.
        """
        with self._lock:
            self._has_cells = self._has_cells or has_cells
            if self._is_on:
                return
            self._is_on = True
            placeholders.fill()
            active.put_in_force(self._belonging)
        patcher.install()

    def end(self) -> None:
        """End that; may be called again."""
        with self._lock:
            if self._is_on:
                self._is_on = self._has_cells = False
                self._here = self._session = None
                active.put_in_force(None)
                placeholders.take_back()

    def _belonging(self) -> Active | None:
        with self._lock:
            if self._is_opening:
                return None  # this very thread is opening the cache: what it starts for that belongs to nobody
            session = current_session()
            if self._here is None or self._session is not session:
                self._is_opening = True
                try:
                    self._session, self._here = session, _opened(session)
                finally:
                    self._is_opening = False
                # Nobody ends it; in a shell nobody waits in it either, but the shell itself.
                self._here.scope.has_end = False
                self._here.scope.is_over = self._has_cells
                self._here.scope.opener = Caller(threading.main_thread().ident or 0, None, is_async=False)
            return self._here


def _opened(session: Session) -> Active:
    try:
        options = session.options(mode=Mode.REPLAY)
        scope = session.scope(options)
        scope.passport = Passport(options, "", session.settings, scope.reports.directory)
        return Active(session.answers(scope), scope)
    except GenaiCacheError as exc:  # a setting is wrong: said by each call, which is not made
        return Active(ClosedCache(ClosedDesk(exc), Origins({}, "", frozenset())), CellScope(Options(mode=Mode.REPLAY)))


process = ReplayingProcess()
"""One, as there is one environment."""
