"""A scope that is in force, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.api.held import held_to_budget
from genai_cache_magic.api.placeholders import placeholders
from genai_cache_magic.budgets.dry import DryAnswers
from genai_cache_magic.intercept.active import Active, Answers, active
from genai_cache_magic.intercept.patching import patcher

if TYPE_CHECKING:
    from genai_cache_magic.api.session import Session
    from genai_cache_magic.calls.estimates import Estimate
    from genai_cache_magic.calls.scope import CellScope


class OpenCell:
    """A scope that is in force. ``close`` ends it; calls still on their way are recorded to it all the same."""

    def __init__(self, session: Session, scope: CellScope, answers: Active) -> None:
        self.scope = scope
        self._session = session
        self.here = answers
        self._outer = active.own()
        self._is_open = True
        if not scope.options.sends:
            placeholders.fill()
        active.set(answers)

    @property
    def is_in_force(self) -> bool:
        """Whether model calls of the present context belong to this scope."""
        return active.own() is self.here

    def close(self) -> None:
        """End the scope; may be called twice."""
        if self._is_open:
            self._is_open = False
            self.scope.end()
            # Never reset(token): an asynchronous cell, or a coroutine that the garbage collector closes, ends
            # in another context than it began in, and what is in force there is none of ours.
            if self.is_in_force:
                active.set(self._outer)
            if not self.scope.options.sends:
                placeholders.take_back()
            self._session.last = self.scope


def put_in_force(session: Session, scope: CellScope) -> OpenCell:
    """Put `scope` in force for this context and what it starts."""
    opened = OpenCell(session, scope, Active(_held(session.answers(scope), scope), scope))
    try:
        # In force already, so that a library whose calls can't be seen is told to this very cell.
        patcher.install()
    except BaseException:  # an interrupt: no scope may stay in force that nobody will end
        opened.close()
        raise
    return opened


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
