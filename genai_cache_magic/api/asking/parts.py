"""Parts of what is to be asked, for workers elsewhere: each is asked by one that opens the cache for itself.

A part takes no setting and no secret with it: a worker has those of its own environment. It says which cache is meant
by a keyed fingerprint, so that nobody warms another one by mistake.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from genai_cache_magic.api.asking.clients import Clients
from genai_cache_magic.api.asking.outcomes import Warmed
from genai_cache_magic.api.asking.rounds import Round
from genai_cache_magic.api.asking.scopes import in_scope, new_scope, recorded, told
from genai_cache_magic.budgets.budget import Budget, Budgets, Terms
from genai_cache_magic.budgets.watched import BudgetedAnswers
from genai_cache_magic.calls.reports import PURSE
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.intercept.active import active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.api.asking.scopes import Warmable
    from genai_cache_magic.api.asking.wanting import Wanting
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.intercept.active import Answers

_RUN_PURSE = f"{PURSE}-of-run"
_WAS_BEGUN = "its worker died, and another was given the same work: what that spent of the budget is not known"


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """Some requests for one worker; it is pickled.

    Attributes
    ----------
    fingerprint, root
        Which cache is meant, and the directory of caches on the machine that asks; empty for one in memory.
    process
        Which process that is.
    name
        By which it is known whether it was begun before.
    options
        Of the scope; its budget is that of the whole.
    person
        Who asks.
    allowance_usd
        What this part may cost [USD]; None for no limit.
    """

    fingerprint: str
    root: str
    process: tuple[int, str]
    name: tuple[str, int]
    options: Options
    wanted: Wanting
    person: str
    allowance_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PartDone:
    """What became of a part.

    Attributes
    ----------
    left
        The lines of the requests that were not asked.
    committed_usd
        What counts against the budget [USD]: what was spent, unknown prices as they were reserved.
    """

    warmed: Warmed = field(repr=False)
    left: frozenset[int] = field(repr=False)
    committed_usd: Decimal = Decimal(0)


class AtHand:
    """What parts are asked with that are made in this process: a worker in the same process uses it."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Warmable, Clients]] = {}

    @contextmanager
    def kept(self, token: str, cache: Warmable) -> Iterator[None]:
        """Let parts with `token` find `cache`, and clients, here."""
        with Clients() as clients:
            self._kept[token] = cache, clients
            try:
                yield
            finally:
                del self._kept[token]

    def get(self, part: Part) -> tuple[Warmable, Clients] | None:
        """Return what `part` is asked with if that was made in this very process, and not in one it is forked from."""
        pid, token = part.process
        return self._kept.get(token) if pid == os.getpid() else None


at_hand = AtHand()


def ask_part(cache: Warmable, clients: Clients, part: Part) -> PartDone:
    """Ask `part`, one request after the other."""
    scope = new_scope(cache, part.options, person=part.person)
    budgets = _budgets(scope, part)
    round_ = Round(part.wanted.different)
    if part.allowance_usd is not None and not _is_first(cache, part):
        lines = frozenset(one.line for one in part.wanted.different)
        return PartDone(Warmed(0, 0, 0, 0, len(lines), None, _WAS_BEGUN), lines, part.allowance_usd)
    answers: Answers = recorded(cache, scope)
    if budgets is not None:
        scope.budgets = budgets
        answers = BudgetedAnswers(answers, budgets)
    with in_scope(part.wanted.only(answers), scope):
        round_.run(clients, 1, lambda _: None)
    left = frozenset(one.line for one in part.wanted.different if round_.is_left(one))
    state = None if budgets is None else budgets.state
    committed = Decimal(0) if state is None else state.spent_usd + state.reserved_usd
    return PartDone(told(scope, round_, part.wanted), left, committed)


def _budgets(scope: CellScope, part: Part) -> Budgets | None:
    """Return what holds the part: its allowance, the budget of its run, and those of a cell that it is asked in."""
    outer = active.get()
    around = outer.scope.budgets if outer is not None else None
    others = list(around.all) if isinstance(around, Budgets) else []
    options = part.options
    if part.allowance_usd is None or options.budget_usd is None:
        return Budgets(scope, None, others) if others else None
    scope.reports.prepare()
    place, unknown = Path(scope.reports.directory), options.budget_unknown_usd
    own = Budget(Terms(part.allowance_usd, unknown, "", str(place / PURSE)), scope)
    if options.run:
        others.insert(0, Budget(Terms(options.budget_usd, unknown, options.run, str(place / _RUN_PURSE)), scope))
    return Budgets(scope, own, others)


def _is_first(cache: Warmable, part: Part) -> bool:
    """Tell whether nobody has begun this part before: what that one spent of its allowance, nobody knows."""
    whole, number = part.name
    try:
        return cache.counts.add(f"genai-cache warm {whole}", str(number), 1) == 1
    except StoreUnavailable:
        return True
