"""What is told of a model call: the one place that makes call records."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.estimates import UNKNOWN
from genai_cache_magic.calls.missed import said_of_parts
from genai_cache_magic.calls.pricing import cost_of
from genai_cache_magic.calls.steps import Bypass
from genai_cache_magic.core.model import Usage
from genai_cache_magic.errors import NotSent, ReplayMiss
from genai_cache_magic.events import CallRecord, Outcome, Tier, model_name, record_of
from genai_cache_magic.providers.base import Answer, End, ModelCall
from genai_cache_magic.providers.origins import is_own, is_private
from genai_cache_magic.providers.unrecognised import described

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.alike import Similar
    from genai_cache_magic.calls.batch import Batch
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.entries import Found
    from genai_cache_magic.providers.base import HttpCall


_NOTHING: Final = Decimal(0)
_NOT_SIMILAR: Final = ((), 0.0, "", "")
"""What the record of a plain hit ends with: it differs from nothing, and is like nothing else."""


class Teller:
    """Tells scopes what became of their calls.

    Parameters
    ----------
    clock
        Measures latencies [s].
    now_ms
        The wall clock [ms since the epoch], which prices depend on.
    """

    def __init__(self, *, clock: Callable[[], float], now_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._now_ms = now_ms

    def hit(self, lead: Lead, found: Found) -> None:
        """Tell that `lead` was answered by a stored entry, and what that saved."""
        account = found.sealed.account()
        self._tell(
            lead, Outcome.HIT, account.model, account.usage, tier=found.tier, stored=True, saved=account.cost_usd
        )

    def at_hand(self, told: tuple[object, ...], scope: CellScope, started: float) -> None:
        """Tell, as `hit`, what `told_of` a hit of which nothing else was to be decided."""
        scope.add(record_of(told, self._clock() - started))

    def hit_by_parts(self, lead: Lead, batch: Batch) -> None:
        """Tell that `lead` was answered by the entries of its items, and what they saved."""
        usage, saved = batch.saved()
        self._tell(lead, Outcome.HIT, batch.model, usage, tier=batch.tier, stored=True, saved=saved)

    def similar(self, lead: Lead, similar: Similar) -> None:
        """Tell that `lead` got the answer to another question, and what that saved."""
        account = similar.found.sealed.account()
        self._tell(
            lead,
            Outcome.SIMILAR,
            account.model,
            account.usage,
            reason=f"similar {similar.shown}",
            tier=similar.found.tier,
            saved=account.cost_usd,
            similar=similar,
        )

    def shared(self, lead: Lead, answer: Answer, *, is_stored: bool) -> None:
        """Tell that `lead` got the answer of another call that was on its way."""
        self._tell(
            lead,
            Outcome.HIT,
            answer.model,
            answer.usage,
            reason="shared a call in flight",
            stored=is_stored,
            saved=self._cost(lead, answer),
        )

    def asked(self, lead: Lead, answer: Answer, outcome: Outcome, reason: str, *, stored: bool = False) -> None:
        """Tell that the origin was asked for `lead`, and what came of it."""
        saved: Decimal | None = Decimal(0)
        if lead.batch is not None and lead.batch.answer is not None:
            saved = lead.batch.saved()[1]
        is_free = answer.end is End.ERROR and not answer.bill.unclear  # an answer that failed after it began is billed
        cost = Decimal(0) if is_free else self._cost(lead, answer)
        self._tell(lead, outcome, answer.model, answer.usage, reason=reason, stored=stored, spent=cost, saved=saved)

    def missed_in_replay(self, lead: Lead, differs: tuple[str, ...]) -> None:
        """Tell that nobody was asked for `lead`, which of its items are known, or what the nearest differs in."""
        reason = f"replay: {lead.because}{said_of_parts(lead)}"
        self._tell(lead, Outcome.ERROR, "", Usage(), reason=reason, differs=differs)

    def stopped(self, lead: Lead, reason: str) -> None:
        """Tell that nobody was asked for `lead`."""
        self._tell(lead, Outcome.ERROR, "", Usage(), reason=reason)

    def _cost(self, lead: Lead, answer: Answer) -> Decimal | None:
        return cost_of(lead, answer, now_ms=self._now_ms())

    def _tell(  # noqa: PLR0913 - what differs between the three above, by name
        self,
        lead: Lead,
        outcome: Outcome,
        model: str,
        usage: Usage,
        *,
        reason: str = "",
        tier: Tier | None = None,
        stored: bool = False,
        spent: Decimal | None = Decimal(0),
        saved: Decimal | None = Decimal(0),
        differs: tuple[str, ...] = (),
        similar: Similar | None = None,
    ) -> None:
        lead.is_recorded, lead.spent_usd, lead.outcome = True, spent, outcome
        if not stored:
            lead.not_stored = reason or "not stored"
        lead.scope.emit(
            CallRecord(
                outcome,
                tier=tier,
                stored=stored,
                reason=reason,
                provider=lead.call.provider.surface,
                model=model or lead.call.request.model,
                input_tokens=usage.input_tokens,
                cached_input_tokens=usage.cached_input_tokens,
                output_tokens=usage.output_tokens,
                spent_usd=spent,
                saved_usd=saved,
                latency_s=self._clock() - lead.started,
                sample=lead.sample,
                entry_id=lead.entry_id,
                differs=differs,
                similarity=similar.similarity if similar else 0.0,
                similar_to=similar.entry_id if similar else "",
                similar_text=similar.preview if similar else "",
            ),
            closes=lead.ticket,
        )


def told_of(call: ModelCall, entry_id: EntryId, found: Found) -> tuple[object, ...]:
    """Return what the record of a hit of `call` holds but for the time that it took, as `record_of` wants it.

    Raises
    ------
    EntryUndecodable
        What the entry tells can't be read.
    """
    account = found.sealed.account()
    usage = account.usage
    model = model_name(account.model or call.request.model)
    tokens = usage.input_tokens, usage.cached_input_tokens, usage.output_tokens
    money = _NOTHING, account.cost_usd
    return (
        Outcome.HIT,
        found.tier,
        True,
        "",
        call.provider.surface,
        model,
        *tokens,
        *money,
        0,
        entry_id,
        *_NOT_SIMILAR,
    )


def opened(lead: Lead) -> None:
    """Tell that the origin is about to be asked for `lead`; what came of it is told in the place of this."""
    call = lead.call
    lead.ticket = lead.scope.opened(
        CallRecord(
            Outcome.OPEN,
            reason="its answer is not at its end",
            provider=call.provider.surface,
            model=call.request.model,
            sample=lead.sample,
            entry_id=lead.entry_id,
        ),
    )


def unrecognised(scope: CellScope, call: HttpCall) -> Bypass:
    """Record that `call` may have asked a model in a way that we don't know.

    Raises
    ------
    ReplayMiss
        Mode ``replay``: it is not sent.
    """
    host = "a private host" if is_private(call.host) and not is_own(call.host) else call.host
    is_sent = scope.options.sends
    cost = None if is_sent else Decimal(0)
    scope.emit(CallRecord(Outcome.UNRECOGNISED, reason=described(call), provider=host, spent_usd=cost, saved_usd=cost))
    if not is_sent:
        scope.foresee("", UNKNOWN)
        kind, what = (NotSent, "estimated") if scope.options.estimate else (ReplayMiss, "replayed")
        raise kind(
            f"{call.method} {call.path} to {call.host} is no call that is known, so it can't be {what} and was not "
            "sent: take it out of this cell, or put it in a block 'with llm_cache(mode=\"off\"):'",
        )
    return Bypass()


def not_sent(scope: CellScope, call: ModelCall | None, reason: str) -> None:
    """Record that a call is not made, and why."""
    provider = call.provider.surface if call else ""
    model = call.request.model if call else ""
    nothing = Decimal(0)
    scope.emit(
        CallRecord(
            Outcome.ERROR,
            reason=reason,
            provider=provider,
            model=model,
            spent_usd=nothing,
            saved_usd=nothing,
        ),
    )


def bypass(scope: CellScope, call: ModelCall | None, reason: str) -> Bypass:
    """Record that a call goes past the cache, and why."""
    provider = call.provider.surface if call else ""
    model = call.request.model if call else ""
    scope.emit(CallRecord(Outcome.BYPASS, reason=reason, provider=provider, model=model))
    return Bypass()
