"""A desk for a dry run: what is stored is served, and of each other call it is told what it may come to, unsent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.calls.estimates import Estimate, Range, estimate
from genai_cache_magic.calls.passing import PassingDesk
from genai_cache_magic.calls.steps import Bypass, Follow, Lead
from genai_cache_magic.errors import NotSent, UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.budgets.watched import Answers
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.providers.base import ModelCall, Origins

_NOT_SENT = "dry run"
_NOTHING_KNOWN = Estimate(0, 0, Range(None, None, None), is_bounded=False)


class DryAnswers:
    """The answers of `inner`, of which none comes from a model; `tell` hears of each call that would have."""

    def __init__(self, inner: Answers, tell: Callable[[Estimate], None]) -> None:
        self._inner = inner
        self._tell = tell

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return DryDesk(self._inner.calls, self._tell)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins


class DryDesk:
    """Begins calls as `inner` does, and sends none."""

    def __init__(self, inner: Begins, tell: Callable[[Estimate], None]) -> None:
        self._inner = inner
        self._tell = tell

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the stored answer, or what to wait for; raises ``NotSent``."""
        return _judged(self._inner.begin(call, scope, is_async=is_async), call, scope, self._tell)


class DryBudgets:
    """Stands where budgets do in a dry run, so that what goes past the desk is not sent either.

    That is what has no certain key, what is not recognised, and whatever we fail to judge.
    """

    terms = ()
    state = None

    def __init__(self, tell: Callable[[Estimate], None]) -> None:
        self._tell = tell

    def let_pass(self, call: ModelCall | None) -> None:
        """Raise ``NotSent``."""
        self._tell(_NOTHING_KNOWN)
        raise _not_sent(call)

    def settled(self) -> None:
        """Nothing is spent."""


def _judged(step: Step, call: ModelCall, scope: CellScope, tell: Callable[[Estimate], None]) -> Step:
    if isinstance(step, Follow):
        step.lead.desk = _WaitingDesk(step.lead.desk, call, scope, tell)
        return step
    if not isinstance(step, Lead | Bypass):
        return step
    if isinstance(step, Lead):
        step.desk.stop(step, _NOT_SENT)
    try:
        foreseen = estimate(call, scope.past, now_ms=time.time_ns() // 1_000_000)
    except UncacheableRequest:
        foreseen = _NOTHING_KNOWN
    tell(foreseen)
    raise _not_sent(call)


def _not_sent(call: ModelCall | None) -> NotSent:
    named = "a request" if call is None else call.request.model or call.request.surface
    return NotSent(f"{named}: not in the cache, and not sent in a dry run")


@dataclass(slots=True)
class _WaitingDesk(PassingDesk):
    """The desk of a call that waits for another one, or for the team."""

    _call: ModelCall = field(repr=False)
    _scope: CellScope = field(repr=False)
    _tell: Callable[[Estimate], None] = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; raises ``NotSent``."""
        follow.lead.desk = self._desk
        return _judged(self._desk.resume(follow, landing), self._call, self._scope, self._tell)
