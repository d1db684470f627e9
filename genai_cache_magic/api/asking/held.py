"""Answers that are held to the budgets of their scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.budgets.budget import Budgets, budgets_of
from genai_cache_magic.budgets.watched import BudgetedAnswers
from genai_cache_magic.intercept.active import active

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.intercept.active import Answers


def held_to_budget(answers: Answers, scope: CellScope) -> Answers:
    """Return `answers` so that no call of `scope` goes beyond the budgets that hold it, its own and those around it."""
    if scope.budgets is None:
        outer = active.get()
        around = outer.scope.budgets if outer is not None else None
        scope.budgets = budgets_of(scope, around.all if isinstance(around, Budgets) else ())
    return BudgetedAnswers(answers, scope.budgets) if isinstance(scope.budgets, Budgets) else answers
