"""Worker processes follow the scope of the cell that gives them work: same options, same settings, same cache."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.api.scopes.opened import scope_to_open
from genai_cache_magic.api.scopes.session import Session, current_session
from genai_cache_magic.budgets.budget import Budget, Budgets
from genai_cache_magic.budgets.purse import Purse
from genai_cache_magic.calls.reports import Reports
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.budgets.budget import Terms
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.settings.model import Settings


class _Sessions:
    """The sessions of this process for the settings of others, and the reports that it writes."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._sessions: list[Session] = []  # guarded by _lock, like the next two
        self._reports: dict[str, Reports] = {}
        self._purses: dict[str, Purse] = {}

    def session(self, settings: Settings) -> Session:
        """Return a session with `settings`: this process's own, if it has the same."""
        try:
            if current_session().settings == settings:
                return current_session()
        except ConfigurationError:
            pass  # in the environment of a worker that was started long ago; what counts is what the cell had
        with self._lock:
            for session in self._sessions:
                if session.settings == settings:
                    return session
            self._sessions.append(Session.of(settings))
            return self._sessions[-1]

    def purse(self, place: str) -> Purse:
        """Return the purse whose file is at `place`."""
        with self._lock:
            return self._purses.setdefault(place, Purse(Path(place)))

    def reports(self, directory: str) -> Reports:
        """Return what writes to `directory`."""
        with self._lock:
            return self._reports.setdefault(directory, Reports(directory))


_sessions = _Sessions()


@dataclass(frozen=True, slots=True, repr=False)
class Passport:
    """What takes a scope to another process; it is pickled.

    Attributes
    ----------
    directory
        Of the scope's `Reports`.
    budgets
        What the calls of the scope are held to.
    """

    options: Options
    cell: str
    settings: Settings
    directory: str
    budgets: tuple[Terms, ...] = ()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the scope in force in this process.

        Raises
        ------
        ReplayMiss, BudgetExceeded
            On leaving: a call was missing in a thread or task of this process, where nobody saw it.
        """
        reports = _sessions.reports(self.directory)
        reports.hello()
        session = _sessions.session(self.settings)
        scope = session.scope(self.options, cell=self.cell)
        scope.reports = reports
        scope.passport = self
        if self.budgets:
            around = [Budget(terms, scope, _sessions.purse(terms.place)) for terms in self.budgets]
            scope.budgets = Budgets(scope, None, around)
        opened = scope_to_open(session, scope)
        try:
            opened.begin()
            yield
        finally:
            opened.close()
        if (lost := scope.outstanding()) is not None:
            raise lost
