"""A desk whose calls are held to budgets: what it sends to a model is reserved first, and settled afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.budgets.budget import STOPPED
from genai_cache_magic.calls.coalesce import Pulse, Released, Seat
from genai_cache_magic.calls.passing import PassingDesk
from genai_cache_magic.calls.steps import Bypass, Follow, Lead

if TYPE_CHECKING:
    from concurrent.futures import Future

    from genai_cache_magic.budgets.budget import Budgets, Held
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.errors import BudgetExceeded
    from genai_cache_magic.providers.base import ModelCall, Origins

_NOTHING = Decimal(0)


class Answers(Protocol):
    """What answers the calls of a scope."""

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""

    @property
    def origins(self) -> Origins:
        """What is known of origins."""


class BudgetedAnswers:
    """The answers of `inner`, whose calls to models `budgets` hold down."""

    def __init__(self, inner: Answers, budgets: Budgets) -> None:
        self._inner = inner
        self._budgets = budgets

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return BudgetedDesk(self._inner.calls, self._budgets)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins


class BudgetedDesk:
    """Begins calls as `inner` does, and lets none go to a model that could cost too much."""

    def __init__(self, inner: Begins, budgets: Budgets) -> None:
        self._inner = inner
        self._budgets = budgets

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`; raises ``ReplayMiss``, ``BudgetExceeded``."""
        return _judged(self._inner.begin(call, scope, is_async=is_async), call, self._budgets)

    def __getattr__(self, name: str) -> object:
        # What else a desk can do, such as name an entry.
        return getattr(self._inner, name)


def _judged(step: Step, call: ModelCall, budgets: Budgets) -> Step:
    if isinstance(step, Lead):
        return _departing(step, budgets)
    if isinstance(step, Follow):
        step.lead.desk = _WaitingDesk(step.lead.desk, call, budgets)
    elif isinstance(step, Bypass):
        budgets.let_pass(call)
    return step


def _departing(lead: Lead, budgets: Budgets) -> Step:
    """Let `lead` go to the model, once what it may cost is reserved."""
    try:
        held = budgets.reserve(lead.call)
    except BaseException:
        lead.desk.stop(lead, STOPPED)
        raise
    asked = []
    for one in held:
        if one.budget.share is not None:
            one.of_run = one.budget.share.reserve(one.amount)
            asked.append(one.of_run)
    paid = lead.desk = _PaidDesk(lead.desk, held)
    if not asked:
        return lead
    lead.desk = _CountedDesk(paid)
    seat = Seat(Pulse())
    _when_all_are_done(asked, seat)
    return Follow(lead, seat)


def _when_all_are_done(asked: list[Future[int | None]], seat: Seat) -> None:
    """End the wait in `seat` with the last of what was `asked`."""
    left = list(asked)

    def done(one: Future[int | None]) -> None:
        left.remove(one)
        if not left and seat.set_running_or_notify_cancel():
            seat.set_result(Released())

    for one in asked:
        one.add_done_callback(done)


@dataclass(slots=True)
class _WaitingDesk(PassingDesk):
    """The desk of a call that waits for another one, or for the team."""

    _call: ModelCall = field(repr=False)
    _budgets: Budgets = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; raises ``BudgetExceeded``."""
        follow.lead.desk = self._desk
        return _judged(self._desk.resume(follow, landing), self._call, self._budgets)


@dataclass(slots=True)
class _PaidDesk(PassingDesk):
    """The desk of a call that is on its way, for which money is held."""

    held: tuple[Held, ...] = field(repr=False)

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer, and count what it cost."""
        self._desk.commit(lead, response)
        self.settle(lead.spent_usd)

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Take note of an answer that was too large to record: nobody knows what it cost."""
        self._desk.commit_too_large(lead, status)
        self.settle(lead.spent_usd)

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up: what was left half-way may be billed in full."""
        self._desk.abort(lead, error, is_origins=is_origins)
        self.settle(_NOTHING if _was_never_sent(error) else lead.spent_usd)

    def drop(self, lead: Lead) -> None:
        """Make sure that nobody waits for `lead`."""
        self._desk.drop(lead)
        self.settle(lead.spent_usd)

    def settle(self, cost: Decimal | None) -> None:
        """Count `cost` [USD] in the place of what was reserved; None is unknown."""
        for one in self.held:
            one.settle(cost)


@dataclass(slots=True)
class _CountedDesk(PassingDesk):
    """The desk of a call that waits until it is counted for its run."""

    _desk: _PaidDesk = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Let the call go if there is enough left; raises ``BudgetExceeded``."""
        del landing  # who can't wait longer goes on with what its own cell may spend
        lead = follow.lead
        exceeded = self._exceeded(lead.call)
        if exceeded is not None:
            self._desk.settle(_NOTHING)
            self._desk.stop(lead, STOPPED)
            raise exceeded
        lead.desk = self._desk
        return lead

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up, which was not sent."""
        self._desk.settle(_NOTHING)
        self._desk.abort(lead, error, is_origins=is_origins)

    def _exceeded(self, call: ModelCall) -> BudgetExceeded | None:
        for one in self._desk.held:
            others = one.of_run.result() if one.of_run is not None and one.of_run.done() else None
            if others is not None:
                one.settle(_NOTHING)
                return one.budget.run_exceeded(call, one.amount, others)
        return None


def _was_never_sent(error: BaseException | None) -> bool:
    """Tell whether nobody was there to take the call: the reason stands below what clients make of it."""
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, ConnectionRefusedError) or type(error).__name__ == "gaierror":
            return True
        error = error.__cause__ or error.__context__
    return False
