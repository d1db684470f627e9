"""The life of a model call, as a step machine: ``begin``, then ``commit`` or ``abort``.

An interceptor drives it in its caller's own colour. Nothing here waits on an origin or knows an HTTP
library; a follower gets a future and decides itself how to wait.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING

from genai_cache_magic.coalesce import Caller, Failed, Flight, Flights, Landed, Landing, Promoted, Released
from genai_cache_magic.core.canonical import canonical_bytes, component_digests
from genai_cache_magic.core.key import entry_id, keyed_digest
from genai_cache_magic.core.model import Entry, EntryId, KeySpace, Metadata, Response, Stamp
from genai_cache_magic.core.policy import Fetch, Refuse, Why, admissible
from genai_cache_magic.entries import Entries, Found, Keys, trouble
from genai_cache_magic.errors import EntryUndecodable, ReplayMiss, StoreUnavailable
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.pricing import price_usd
from genai_cache_magic.providers.base import Answer, End, ModelCall
from genai_cache_magic.scope import CellScope, Mode, Samples
from genai_cache_magic.steps import Answered, Bypass, Follow, Lead, Rejected, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.key import TagKind


_STALE = (Why.EXPIRED, Why.INVALIDATED)

_SHOWN = 5
"""How many differing components a message names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Default time to live [s] and the largest answer that is stored [bytes]."""

    ttl_s: int = 30 * 86_400
    max_response_bytes: int = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an answer: stored or why not, and whether those who wait may have it."""

    outcome: Outcome
    reason: str = ""
    is_stored: bool = False
    is_shareable: bool = False


class CallDesk:
    """Decides for one namespace what becomes of each model call. Safe to share between threads."""

    def __init__(
        self,
        entries: Entries,
        keys: Keys,
        *,
        nearest: Callable[[Metadata], tuple[str, ...]] = lambda _: (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._entries = entries
        self._keys = keys
        self._nearest = nearest
        self._limits = limits or Limits()
        self._clock = clock
        self._flights = Flights()

    @property
    def max_response_bytes(self) -> int:
        """The largest answer that is stored [bytes]."""
        return self._limits.max_response_bytes

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Decide what becomes of `call`.

        Raises
        ------
        ReplayMiss
            Mode ``replay`` and the answer is not in the cache.
        """
        started = self._clock()
        if scope.options.mode is Mode.OFF:
            return bypass(scope, call, "mode off")
        lead = self._lead(call, scope, started)
        try:
            return self._decide(lead, is_async=is_async)
        except BaseException:
            # An interrupt, a replay's miss, or a failure of ours: this call is not made.
            self._give_back(lead)
            if (flight := _take_flight(lead)) is not None:
                self._flights.abandon(flight)
            raise

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; `landing` None means the wait was given up."""
        lead = follow.lead
        if isinstance(landing, Landed):
            rendered = lead.call.provider.render(landing.value, lead.call.wants)
            if rendered is not None:
                return self._serve_landed(lead, rendered, is_stored=landing.is_stored)
        elif isinstance(landing, Failed):
            lead.is_done = True
            self._give_back(lead)
            self._record(lead, Answer(End.ERROR), Outcome.ERROR, "the call that this one waited for failed")
            return Rejected(landing.error)
        elif isinstance(landing, Promoted):
            lead.flight = landing.flight
        return self._stamped(lead)

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer: store it if it is admissible, record it, release who waits."""
        if lead.is_done:
            return
        lead.is_done = True
        answer = lead.call.provider.read(response)
        verdict = self._judge(lead, response, answer)
        if not verdict.is_stored:
            self._give_back(lead)
        flight = _take_flight(lead)
        if flight is not None:
            self._land(flight, response, answer, verdict)
        outcome, reason = verdict.outcome, verdict.reason
        if answer.end is End.ERROR:
            outcome, reason = Outcome.ERROR, f"status {response.status}"
        elif verdict.is_stored and lead.why is not Why.ABSENT:
            outcome = Outcome.STALE if lead.why in _STALE else Outcome.MISS
            reason = lead.why.value
        self._record(lead, answer, outcome, reason, stored=verdict.is_stored)

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up: its client raised `error`, or (None) its caller went away.

        `is_origins` says that the error is the origin's own, so that those who wait would get it too; a
        time-out, an interrupt or a bad argument is the leader's alone, and one of them leads on.
        """
        if lead.is_done:
            return
        lead.is_done = True
        self._give_back(lead)
        flight = _take_flight(lead)
        if flight is not None and is_origins:
            self._flights.land(flight, Failed(error))
        elif flight is not None:
            self._flights.abandon(flight)
        name = "closed before its end" if error is None else type(error).__name__
        self._record(lead, Answer(End.CUT), Outcome.ERROR, name)

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Take note of an answer that was too large to record."""
        if lead.is_done:
            return
        lead.is_done = True
        self._give_back(lead)
        self._record(lead, Answer(End.CUT), Outcome.REFUSED, f"too large (status {status})")

    def abandon(self, flight: Flight) -> None:
        """Pass the lead of `flight` on: whoever was promoted went away."""
        self._flights.abandon(flight)

    def drop(self, lead: Lead) -> None:
        """Make sure that nobody waits for `lead`, whatever failed; nothing happens if it came to its end."""
        lead.is_done = True
        flight = _take_flight(lead)
        if flight is not None:
            self._flights.land(flight, Released())
        if not lead.is_recorded:
            self._give_back(lead)
            self._record(lead, Answer(End.UNREADABLE), Outcome.REFUSED, "the cache failed")

    def request_id(self, call: ModelCall, scope: CellScope, sample: int = 0) -> EntryId:
        """Return the entry id of `call` for a sample index."""
        space = KeySpace(self._keys.namespace, scope.options.salt, sample)
        return entry_id(canonical_bytes(call.request, space), self._keys.id_key)

    def _lead(self, call: ModelCall, scope: CellScope, started: float) -> Lead:
        first = self.request_id(call, scope)
        sample = scope.sample_numbers.take(first) if scope.options.samples is Samples.DISTINCT else 0
        target = first if sample == 0 else self.request_id(call, scope, sample)
        return Lead(call, scope, target, sample, first, Why.ABSENT, started)

    def _decide(self, lead: Lead, *, is_async: bool) -> Step:
        mode = lead.scope.options.mode
        if mode is Mode.REFRESH:
            return self._refresh(lead)
        found = self._find(lead)
        if isinstance(found, Found):
            return self._serve(lead, found)
        lead.why = found.why
        if mode is Mode.REPLAY:
            raise self._replay_miss(lead)
        return self._depart(lead, is_async=is_async)

    def _find(self, lead: Lead) -> Found | Fetch:
        options = lead.scope.options
        tags = [self._keys.tag("user", tag) for tag in options.tags]
        found = self._entries.find_call(lead.entry_id, ttl_s=options.ttl_s, scope_tags=tags, tell=lead.scope.emit)
        if isinstance(found, Fetch):
            return found
        rendered = lead.call.provider.render(found.response, lead.call.wants)
        if rendered is found.response:
            return found
        return Fetch(Why.UNSUITED) if rendered is None else replace(found, response=rendered)

    def _serve(self, lead: Lead, found: Found) -> Answered:
        lead.is_done = True
        account = found.sealed.account()
        usage = account.usage
        lead.scope.emit(
            CallRecord(
                Outcome.HIT,
                tier=found.tier,
                stored=True,
                provider=lead.call.provider.surface,
                model=account.model,
                input_tokens=usage.input_tokens,
                cached_input_tokens=usage.cached_input_tokens,
                output_tokens=usage.output_tokens,
                spent_usd=Decimal(0),
                saved_usd=account.cost_usd,
                latency_s=self._clock() - lead.started,
                sample=lead.sample,
                entry_id=lead.entry_id,
            ),
        )
        return Answered(found.response, found.tier)

    def _serve_landed(self, lead: Lead, response: Response, *, is_stored: bool) -> Answered:
        lead.is_done = True
        answer = lead.call.provider.read(response)
        self._record(lead, answer, Outcome.HIT, "shared a call in flight", stored=is_stored)
        return Answered(response, Tier.L1)

    def _refresh(self, lead: Lead) -> Lead:
        lead.why = Why.REFRESH
        try:
            # Published before the origin is asked, or this very answer would be born invalid.
            self._entries.generations.change(
                lambda g: g.invalidating_entries([lead.entry_id], now_ms=self._entries.now_ms()),
            )
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
        # A refresh asks for itself: it waits for no answer that began before it.
        return self._stamped(lead)

    def _depart(self, lead: Lead, *, is_async: bool) -> Step:
        options = lead.scope.options
        if options.mode is Mode.READ or self._refused_before(lead):
            return self._stamped(lead)
        joined = self._flights.join(lead.entry_id, Caller.current(is_async=is_async))
        if joined is None:
            return self._stamped(lead)
        if not isinstance(joined, Flight):
            return Follow(lead, joined)
        lead.flight = joined
        # Between the look-up and the join another leader may have stored the answer.
        found = self._find(lead)
        if isinstance(found, Found):
            lead.flight = None
            self._flights.land(joined, Landed(found.response))
            return self._serve(lead, found)
        return self._stamped(lead)

    def _stamped(self, lead: Lead) -> Lead:
        try:
            lead.stamp = self._entries.stamp()
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
        return lead

    def _refused_before(self, lead: Lead) -> bool:
        decision = admissible(End.COMPLETE, lead.call.refused, lead.scope.options.store)
        return isinstance(decision, Refuse)

    def _judge(self, lead: Lead, response: Response, answer: Answer) -> Verdict:
        options = lead.scope.options
        decision = admissible(answer.end, lead.call.refused, options.store)
        if isinstance(decision, Refuse):
            return Verdict(Outcome.REFUSED, decision.reason)
        if options.mode is Mode.READ:
            return Verdict(Outcome.MISS, "mode read stores nothing")
        if len(response.body) > self._limits.max_response_bytes:
            return Verdict(Outcome.REFUSED, "too large", is_shareable=True)
        return self._store(lead, response, answer)

    def _store(self, lead: Lead, response: Response, answer: Answer) -> Verdict:
        if lead.stamp is None:
            return Verdict(Outcome.REFUSED, "cache unavailable", is_shareable=True)
        try:
            self._entries.put(lead.entry_id, self._entry(lead, lead.stamp, response, answer))
        except EntryUndecodable:
            return Verdict(Outcome.REFUSED, "can't be stored faithfully")
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
            return Verdict(Outcome.REFUSED, "cache unavailable", is_shareable=True)
        return Verdict(Outcome.MISS, is_stored=True, is_shareable=True)

    def _entry(self, lead: Lead, stamp: Stamp, response: Response, answer: Answer) -> Entry:
        call, scope, options = lead.call, lead.scope, lead.scope.options
        model = answer.model or call.request.model
        named: dict[TagKind, str] = {"run": options.run, "cell": scope.cell, "model": model, "person": scope.person}
        tags = [self._keys.tag("user", tag) for tag in options.tags]
        tags += [self._keys.tag(kind, name) for kind, name in named.items() if name]
        header = self._entries.header(stamp, ttl_s=options.ttl_s or self._limits.ttl_s, tags=tags)
        metadata = Metadata(
            surface=call.request.surface,
            provider=call.provider.vendor,
            model=model,
            origin=call.request.origin,
            tags=options.tags,
            run=options.run,
            cell=scope.cell,
            person=scope.person,
            sample=lead.sample,
            usage=answer.usage,
            cost_usd=self._cost(lead, answer),
            latency_s=round(self._clock() - lead.started, 6),
            preview=call.preview,
            components=self._components(lead),
        )
        return Entry(header, metadata, response)

    def _components(self, lead: Lead) -> dict[str, str]:
        space = KeySpace(self._keys.namespace, lead.scope.options.salt, lead.sample)
        return component_digests(lead.call.request, space, lambda data: keyed_digest(data, self._keys.id_key))

    def _land(self, flight: Flight, response: Response, answer: Answer, verdict: Verdict) -> None:
        if verdict.is_shareable:
            self._flights.land(flight, Landed(response, verdict.is_stored))
        elif answer.end is End.CUT:
            self._flights.abandon(flight)
        elif response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._flights.land(flight, Failed(response))
        else:
            # Other refusals may be the leader's own: its key, its quota. Each follower asks for itself.
            self._flights.land(flight, Released())

    def _give_back(self, lead: Lead) -> None:
        lead.scope.sample_numbers.give_back(lead.request_id, lead.sample)

    def _cost(self, lead: Lead, answer: Answer) -> Decimal | None:
        provider = lead.call.provider
        family = provider.surface.partition(".")[0]
        at = datetime.fromtimestamp(self._entries.now_ms() / 1000, UTC)
        asked = lead.call.request.model
        return price_usd(provider.vendor, family, answer.model, answer.usage, asked=asked, at=at)

    def _record(self, lead: Lead, answer: Answer, outcome: Outcome, reason: str, *, stored: bool = False) -> None:
        lead.is_recorded = True
        cost = Decimal(0) if answer.end is End.ERROR else self._cost(lead, answer)
        is_hit = outcome is Outcome.HIT
        lead.scope.emit(
            CallRecord(
                outcome,
                stored=stored,
                reason=reason,
                provider=lead.call.provider.surface,
                model=answer.model or lead.call.request.model,
                input_tokens=answer.usage.input_tokens,
                cached_input_tokens=answer.usage.cached_input_tokens,
                output_tokens=answer.usage.output_tokens,
                spent_usd=Decimal(0) if is_hit else cost,
                saved_usd=cost if is_hit else Decimal(0),
                latency_s=self._clock() - lead.started,
                sample=lead.sample,
                entry_id=lead.entry_id,
            ),
        )

    def _replay_miss(self, lead: Lead) -> ReplayMiss:
        self._record(lead, Answer(End.ERROR), Outcome.ERROR, f"replay: {lead.why.value}")
        request = lead.call.request
        own = Metadata(surface=request.surface, cell=lead.scope.cell, components=self._components(lead))
        differs = self._nearest(own) if lead.why is Why.ABSENT else ()
        near = f"; the nearest stored call differs in {', '.join(differs[:_SHOWN])}" if differs else ""
        return ReplayMiss(
            f"{request.model or request.surface}: {lead.why.value}{near}. "
            "Mode replay never calls the model: run the cell once in mode use, with a key",
        )


def bypass(scope: CellScope, call: ModelCall | None, reason: str) -> Bypass:
    """Record that a call goes past the cache, and why."""
    provider = call.provider.surface if call else ""
    model = call.request.model if call else ""
    scope.emit(CallRecord(Outcome.BYPASS, reason=reason, provider=provider, model=model))
    return Bypass()


def _take_flight(lead: Lead) -> Flight | None:
    """Return the flight that `lead` still has to land; it is the caller's from now on."""
    flight, lead.flight = lead.flight, None
    return flight
