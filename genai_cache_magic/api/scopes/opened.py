"""A scope that is in force, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.api.asking.held import held_to_budget
from genai_cache_magic.api.asking.placeholders import placeholders
from genai_cache_magic.budgets.dry import DryAnswers
from genai_cache_magic.intercept.active import Active, Answers, active
from genai_cache_magic.intercept.patching import patcher

if TYPE_CHECKING:
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.calls.estimates import Estimate
    from genai_cache_magic.calls.scope import CellScope


class OpenCell:
    """A scope that can be put in force. ``close`` ends it; calls still on their way are recorded to it all the same.

    An interrupt may come between any two lines: so at the end what others would notice is undone first.
    """

    def __init__(self, session: Session, scope: CellScope, answers: Active) -> None:
        self.scope = scope
        self._session = session
        self.here = answers
        self._outer = active.own()
        self._is_open = True
        self._fills = False

    @property
    def is_in_force(self) -> bool:
        """Whether model calls of the present context belong to this scope."""
        return active.own() is self.here

    def begin(self) -> None:
        """Put the scope in force for this context and what it starts; whoever is interrupted here has closed it."""
        try:
            if not self.scope.options.sends:
                placeholders.fill()
                self._fills = True
            active.set(self.here)
            # In force already, so that a library whose calls can't be seen is told to this very cell.
            patcher.install()
        except BaseException:  # an interrupt: no scope may stay in force that nobody will end
            self.close()
            raise

    def close(self) -> None:
        """End the scope; may be called twice."""
        # Never reset(token): an asynchronous cell, or a coroutine that the garbage collector closes, ends
        # in another context than it began in, and what is in force there is none of ours.
        if self.is_in_force:
            active.set(self._outer)
        if not self._is_open:
            return
        self._is_open = False
        try:
            self.scope.end()
        finally:
            if self._fills:
                placeholders.take_back()
            self._session.last = self.scope


def scope_to_open(session: Session, scope: CellScope) -> OpenCell:
    """Return `scope`, held to its budgets, to be put in force."""
    return OpenCell(session, scope, Active(_held(session.answers(scope), scope), scope))


def _held(answers: Answers, scope: CellScope) -> Answers:
    """Return `answers`, held to what the scope may spend: nothing for an estimate, which scopes around it hear."""
    if not scope.options.estimate:
        return held_to_budget(answers, scope)
    outer = active.get()
    around = outer.cache.tell if outer is not None and isinstance(outer.cache, DryAnswers) else None

    def tell(entry_id: str, one: Estimate) -> None:
        scope.foresee(entry_id, one)
        if around is not None:
            around(entry_id, one)

    return DryAnswers(answers, tell)
