"""A desk for a dry run: what is stored is served, and of each other call it is told what it may come to, unsent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from genai_cache_magic.calls.estimates import NOT_SENT, UNKNOWN, Estimate, estimate
from genai_cache_magic.calls.keyed import keyed
from genai_cache_magic.calls.passing import PassingDesk
from genai_cache_magic.calls.steps import Bypass, Follow, Lead
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.errors import NotSent, UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.budgets.watched import Answers
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.providers.base import ModelCall, Origins

Tell: TypeAlias = "Callable[[str, Estimate], None]"
"""Hears of each call that would be made: its entry id, empty for one that goes past the cache, and what it may cost."""


class DryAnswers:
    """The answers of `inner`, of which none comes from a model; `tell` hears of each call that would have."""

    def __init__(self, inner: Answers, tell: Tell) -> None:
        self._inner = inner
        self.tell = tell

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return DryDesk(self._inner.calls, self.tell)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins


class DryDesk:
    """Begins calls as `inner` does, and sends none."""

    def __init__(self, inner: Begins, tell: Tell) -> None:
        self._inner = inner
        self._tell = tell

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the stored answer, or what to wait for; raises ``NotSent``."""
        if scope.options.mode is Mode.REFRESH:  # would invalidate what there is
            call = keyed(call, scope.options)
            own_id = getattr(self._inner, "request_id", None)
            is_shared = scope.options.samples is not Samples.DISTINCT
            entry_id = own_id(call, scope) if own_id is not None and is_shared else ""
            raise _not_sent(call, scope, self._tell, entry_id)
        return _judged(self._inner.begin(call, scope, is_async=is_async), call, scope, self._tell)


def _judged(step: Step, call: ModelCall, scope: CellScope, tell: Tell) -> Step:
    if isinstance(step, Follow):
        step.lead.desk = _WaitingDesk(step.lead.desk, call, scope, tell)
        return step
    if not isinstance(step, Lead | Bypass):
        return step
    if isinstance(step, Bypass):
        raise _not_sent(call, scope, tell, "")
    step.desk.stop(step, NOT_SENT)
    if scope.options.samples is Samples.DISTINCT:
        scope.sample_numbers.take(step.request_id)  # it would have been answered, and the next one is another
    raise _not_sent(step.call, scope, tell, step.entry_id)  # of a batch, what of it would be asked


def _not_sent(call: ModelCall, scope: CellScope, tell: Tell, entry_id: str) -> NotSent:
    """Tell of `call`, and return what to raise in the place of sending it."""
    try:
        foreseen = estimate(call, scope.past, now_ms=time.time_ns() // 1_000_000)
    except UncacheableRequest:
        foreseen = UNKNOWN
    tell(entry_id, foreseen)
    named = call.request.model or call.request.surface
    return NotSent(f"{named}: not in the cache, and an estimate sends nothing, so what needs this answer ends here")


@dataclass(slots=True)
class _WaitingDesk(PassingDesk):
    """The desk of a call that waits for another one, or for the team."""

    _call: ModelCall = field(repr=False)
    _scope: CellScope = field(repr=False)
    _tell: Tell = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; raises ``NotSent``."""
        follow.lead.desk = self._desk
        return _judged(self._desk.resume(follow, landing), self._call, self._scope, self._tell)
