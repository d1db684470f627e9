"""A budget: what the calls of one scope, or of one run, may cost in all.

For each call that goes out it is first reserved what it may cost at most, as far as that can be foretold
(`calls/estimates.py`). When its price is known, that takes the place of what was reserved. A call for which there is
not enough left is not made.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic.budgets.purse import Purse
from genai_cache_magic.budgets.run_share import RunShare
from genai_cache_magic.calls.estimates import Estimate, Range, estimate
from genai_cache_magic.calls.reports import PURSE
from genai_cache_magic.calls.spending import Spending, in_cents
from genai_cache_magic.errors import BudgetExceeded, UncacheableRequest
from genai_cache_magic.events import CallRecord, Outcome, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from genai_cache_magic.budgets.purse import Sums
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.providers.base import ModelCall

_DIGITS: Final = 9
STOPPED: Final = "stopped by the budget"
_TO_GO_ON: Final = "what was answered is cached, so run it again with a larger --budget to go on from here"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget says; it is pickled, for processes that work for its scope.

    Attributes
    ----------
    limit_usd, unknown_usd
        As the options of a scope.
    run
        The run whose budget it is; empty for the scope's alone.
    place
        The file of its purse.
    """

    limit_usd: Decimal
    unknown_usd: Decimal | None
    run: str
    place: str = field(repr=False)


class Budget:
    """One budget, as one process sees it."""

    def __init__(self, terms: Terms, scope: CellScope, purse: Purse | None = None) -> None:
        self.terms = terms
        self._limit = _nano(terms.limit_usd)
        self._purse = purse or Purse(Path(terms.place))
        self._purse.tells(lambda said: scope.emit(Trouble("budget", "NotShared", said)))
        self.share = RunShare(terms.run, self._limit, scope) if terms.run else None

    @property
    def state(self) -> Spending:
        """What it has come to, as far as this scope's own calls go."""
        sums = self._purse.read()
        money = (_usd(sums.spent), _usd(sums.reserved))
        return Spending(self.terms.limit_usd, *money, sums.stopped, sums.unknown, self.terms.run)

    def reserve(self, call: ModelCall | None, foreseen: Estimate | None) -> Held:
        """Set aside what `call` may cost.

        Raises
        ------
        BudgetExceeded
            There is not enough left, or nobody knows what it costs.
        """
        most = foreseen.usd.most if foreseen is not None else None
        if most is None:
            most = self.terms.unknown_usd
        if most is None:
            raise self._refused(call)
        amount = _nano(most)
        is_reserved, before = self._purse.reserve(amount, limit=self._limit)
        if not is_reserved:
            raise self._exceeded(call, most, before)
        return Held(self, amount)

    def settle(self, held: Held, cost: Decimal | None) -> None:
        """Put what a call has cost [USD] in the place of what was reserved for it."""
        known = None if cost is None else max(0, _nano(cost))
        self._purse.settle(held.amount, known)
        if self.share is not None and held.of_run is not None and known is not None:
            self.share.correct(held.of_run, known - held.amount)

    def run_exceeded(self, call: ModelCall | None, amount: int, committed: int) -> BudgetExceeded:
        """Return what to raise where the whole run would cost too much; `amount` is not reserved any more."""
        sums = self._purse.stop()
        limit, others = self.terms.limit_usd, max(0, committed - sums.spent - sums.reserved)
        told = (
            f"{_named(call)} was not sent: it may cost up to {in_cents(_usd(amount))}, and of the budget of "
            f"{in_cents(limit)} for run {self.terms.run}, {in_cents(_usd(committed))} is spent or reserved, "
            f"{in_cents(_usd(others))} of it by other cells, processes and machines; {_TO_GO_ON}"
        )
        return BudgetExceeded(told, _usd(committed), _usd(sums.reserved), limit)

    def _exceeded(self, call: ModelCall | None, most: Decimal, sums: Sums) -> BudgetExceeded:
        spent, reserved, limit = _usd(sums.spent), _usd(sums.reserved), self.terms.limit_usd
        flying = "1 call" if sums.in_flight == 1 else f"{sums.in_flight} calls"
        taken = f"{in_cents(spent)} is spent" + (
            f" and {in_cents(reserved)} reserved for {flying} on the way" * (reserved > 0)
        )
        fewer = "; fewer calls at a time, or a smaller limit such as max_tokens, reserve less" * (reserved > 0)
        told = (
            f"{_named(call)} was not sent: it may cost up to {in_cents(most)}, and of the budget of {in_cents(limit)} "
            f"{taken}; {_TO_GO_ON}{fewer}"
        )
        return BudgetExceeded(told, spent, reserved, limit)

    def _refused(self, call: ModelCall | None) -> BudgetExceeded:
        sums, limit = self._purse.stop(), self.terms.limit_usd
        told = (
            f"{_named(call)} was not sent: nobody knows what it costs, so the budget of {in_cents(limit)} can't be "
            f"kept; {in_cents(_usd(sums.spent))} is spent and {in_cents(_usd(sums.reserved))} reserved. Say what such "
            "a call counts as, --budget-unknown 0.01 (0: nothing), or leave the budget out"
        )
        return BudgetExceeded(told, _usd(sums.spent), _usd(sums.reserved), limit)


class Held:
    """What is set aside for one call in one budget [1e-9 USD].

    Attributes
    ----------
    of_run
        What comes of setting it aside for the whole run, None where that was not begun.
    """

    __slots__ = ("amount", "budget", "is_settled", "of_run")

    def __init__(self, budget: Budget, amount: int) -> None:
        self.budget = budget
        self.amount = amount
        self.of_run: Future[int | None] | None = None
        self.is_settled = False

    def settle(self, cost: Decimal | None) -> None:
        """Say what the call has cost [USD], None if nobody knows; the first to say so counts."""
        if not self.is_settled:
            self.is_settled = True
            self.budget.settle(self, cost)

    def __del__(self) -> None:
        # Forgotten, whatever went wrong: it may have been paid for.
        with suppress(Exception):
            self.settle(None)


class Budgets:
    """The budgets that the calls of one scope are held to: its own, and those of the scopes that it lies in."""

    def __init__(self, scope: CellScope, own: Budget | None, outer: Sequence[Budget] = ()) -> None:
        self._scope = scope
        self._own = own
        self.all = (*(() if own is None else (own,)), *outer)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """What all of them say."""
        return tuple(budget.terms for budget in self.all)

    @property
    def state(self) -> Spending | None:
        """What the scope's own has come to."""
        return None if self._own is None else self._own.state

    def reserve(self, call: ModelCall | None) -> tuple[Held, ...]:
        """Set aside, in each of them, what `call` may cost; raises ``BudgetExceeded``."""
        foreseen = self._foreseen(call)
        held: list[Held] = []
        try:
            for budget in self.all:
                held.append(budget.reserve(call, foreseen))  # noqa: PERF401 - what is held is given back
        except BaseException:
            for one in held:
                one.settle(Decimal(0))
            raise
        return tuple(held)

    def _foreseen(self, call: ModelCall | None) -> Estimate | None:
        if call is None:
            return None
        try:
            return estimate(call, self._scope.past, now_ms=time.time_ns() // 1_000_000)
        except UncacheableRequest:
            return Estimate(0, 0, Range(None, None, None), is_bounded=False)

    def let_pass(self, call: ModelCall | None) -> None:
        """Count a call that goes its way unwatched as what it may cost at most; raises ``BudgetExceeded``."""
        try:
            held = self.reserve(call)
        except BudgetExceeded:
            self._scope.emit(_not_made(call))
            raise
        for one in held:
            if one.budget.share is not None:
                one.of_run = one.budget.share.count(one.amount)
            one.settle(None)

    def settled(self) -> None:
        """Wait, for a moment at most, until what calls have cost is counted for their runs."""
        for budget in self.all:
            if budget.share is not None:
                budget.share.wait()


def budgets_of(scope: CellScope, outer: Sequence[Budget]) -> Budgets | None:
    """Return what holds the calls of `scope`: the budget that its options ask for, and those it lies in, if any."""
    options = scope.options
    own = None
    if options.budget_usd is not None:
        scope.reports.prepare()
        place = str(Path(scope.reports.directory, PURSE))
        own = Budget(Terms(options.budget_usd, options.budget_unknown_usd, options.run, place), scope)
    return Budgets(scope, own, outer) if own is not None or outer else None


def _not_made(call: ModelCall | None) -> CallRecord:
    surface, model = (call.provider.surface, call.request.model) if call else ("", "")
    nothing = Decimal(0)
    return CallRecord(
        Outcome.ERROR, reason=STOPPED, provider=surface, model=model, spent_usd=nothing, saved_usd=nothing
    )


def _nano(amount: Decimal) -> int:
    """Return an amount [USD] in [1e-9 USD], rounded up."""
    return int(amount.scaleb(_DIGITS).to_integral_value(ROUND_CEILING))


def _usd(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-_DIGITS).normalize() if amount else Decimal(0)


def _named(call: ModelCall | None) -> str:
    if call is None:
        return "a request that may ask a model"
    return f"the call of {call.request.model or call.request.surface}"
