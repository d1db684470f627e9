"""The life of a model call, as a step machine: ``begin``, then ``commit`` or ``abort``.

An interceptor drives it in its caller's own colour. Nothing here waits on an origin or knows an HTTP library; a
follower gets a future and decides itself how to wait. What is kept and what is told of a call is decided next door.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from genai_cache_magic.calls.aside import answered_or
from genai_cache_magic.calls.at_hand import AtHand
from genai_cache_magic.calls.batching import Batching
from genai_cache_magic.calls.chains import FORGOTTEN, is_forgotten
from genai_cache_magic.calls.coalesce import (
    Admitted,
    Caller,
    Failed,
    Flight,
    Flights,
    Landed,
    Landing,
    Likened,
    LookedUp,
    LookedUpMany,
    Promoted,
    Pulse,
    PutTogether,
    Released,
    Seat,
)
from genai_cache_magic.calls.gathering import Gathered
from genai_cache_magic.calls.keeping import Keeper, Limits, Verdict
from genai_cache_magic.calls.keeping_parts import PartsKeeper
from genai_cache_magic.calls.missed import GIVEN_UP, replay_miss, said_of_parts
from genai_cache_magic.calls.reading import read
from genai_cache_magic.calls.steps import Answered, Follow, Lead, Made, Rejected, Step
from genai_cache_magic.calls.telling import Teller, bypass
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.core.policy import Fetch, Why
from genai_cache_magic.entries.entries import Entries, Found
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Outcome, Tier, Trouble
from genai_cache_magic.providers.base import Answer, End, ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genai_cache_magic.calls.alike import Similar
    from genai_cache_magic.calls.batch import Batch
    from genai_cache_magic.calls.recalling import Recollection
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.similar import Likens
    from genai_cache_magic.core.model import EntryId, Metadata, Response
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.link import Looked
    from genai_cache_magic.entries.permits import Permit, Permits
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.errors import ReplayMiss

_STALE = (Why.EXPIRED, Why.INVALIDATED)


class CallDesk:
    """Decides for one namespace what becomes of each model call. Safe to share between threads."""

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        entries: Entries,
        keys: Keys,
        *,
        nearest: Callable[[Metadata], tuple[str, ...]] = lambda _: (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.perf_counter,
        team: Team | None = None,
        permits: Permits | None = None,
        recollection: Recollection | None = None,
        likens: Likens | None = None,
    ) -> None:
        self._keeper = Keeper(
            entries, keys, limits or Limits(), clock=clock, recollection=recollection, likens=likens, team=team
        )
        self._parts = PartsKeeper(entries, self._keeper)
        self._teller = Teller(clock=clock, now_ms=entries.now_ms)
        self._at_hand = AtHand(entries, self._keeper, self._teller, team)
        self._nearest = nearest
        self._clock = clock
        self._flights = Flights()
        self._batching = Batching(self._keeper, self._parts, self._flights)
        self._team = team
        self._look_up = None if team is None else Gathered(team.look_up)
        self._publish = None if team is None else Gathered(team.publish_entries)
        self._permits = permits

    @property
    def max_response_bytes(self) -> int:
        """The largest answer that is stored [bytes]."""
        return self._keeper.limits.max_response_bytes

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Decide what becomes of `call`.

        Raises
        ------
        ReplayMiss
            Mode ``replay`` and the answer is not in the cache.
        """
        started = self._clock()
        if (answered := self._at_hand.answer(call, scope, started)) is not None:
            return answered
        if scope.options.mode is Mode.OFF:
            return bypass(scope, call, "mode off")
        lead = self._lead(call, scope, started, is_async=is_async)
        with Made(self, lead):
            return self._decide(lead)

    def unmake(self, lead: Lead) -> None:
        """Let go of what `lead` holds: of it comes nothing."""
        self._give_back(lead)
        self._let_go(lead)
        self._abandon(lead)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; `landing` None means the wait was given up."""
        lead = follow.lead
        if lead.batch is None or not isinstance(landing, Landed | Failed | Promoted | Released):
            return self._resume(lead, landing)
        with Made(self, lead):
            return self._resume_batch(lead, lead.batch, landing)

    def _resume(self, lead: Lead, landing: Landing | None) -> Step:
        if landing is None and lead.scope.options.mode is Mode.REPLAY:
            landing = GIVEN_UP  # it must not go on alone: what is here answers, or nothing does
        if isinstance(landing, Landed):
            is_same = landing.asked == lead.call.wants.asked
            rendered = landing.value if is_same else lead.call.provider.render(landing.value, lead.call.wants)
            if rendered is not None:
                return self._serve_landed(lead, rendered, is_stored=landing.is_stored)
        elif isinstance(landing, Failed):
            lead.is_done = True
            self._give_back(lead)
            self._teller.asked(lead, Answer(End.ERROR), Outcome.ERROR, "the call that this one waited for failed")
            return Rejected(landing.error)
        elif isinstance(landing, Promoted):
            lead.flight = landing.flight
            return self._lead_on(lead)
        elif isinstance(landing, LookedUp | LookedUpMany | Likened | PutTogether):
            with Made(self, lead):
                return self._decide_with(lead, landing)
        elif isinstance(landing, Admitted):
            lead.permit = landing.permit
            with Made(self, lead):
                return self._admitted(lead, landing.permit)
        return self._leave(lead)

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer: store it if it is admissible, record it, release who waits."""
        if lead.is_done:
            return
        lead.is_done = True
        batch = lead.batch
        received = response if batch is None or batch.part is None else batch.part
        answer = read(lead, received)
        if batch is None:
            verdict = self._keeper.keep(lead, received, answer)
        else:
            verdict = self._batching.keep(lead, batch, received, answer)
        self._let_go(lead)
        if not verdict.is_stored:
            self._give_back(lead)
        flight = _take_flight(lead)
        if flight is not None:
            self._land(flight, response, answer, verdict, asked=lead.call.wants.asked)
        outcome, reason = verdict.outcome, verdict.reason
        if answer.end is End.ERROR:
            outcome, reason = Outcome.ERROR, f"status {response.status}"
            if is_forgotten(lead.call, response):
                reason = f"{reason}: {FORGOTTEN}"
        elif outcome is Outcome.MISS and (because := lead.because or lead.why.value) != Why.ABSENT.value:
            outcome = Outcome.STALE if lead.why in _STALE else Outcome.MISS
            reason = f"{because}; {reason}" if reason else because
        if batch is not None and batch.answer is not None:
            reason = f"{batch.said}; {reason}" if reason else batch.said
        self._teller.asked(lead, answer, outcome, reason, stored=verdict.is_stored)

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up: its client raised `error`, or (None) its caller went away.

        `is_origins` says that the error is the origin's own, so that those who wait would get it too; a
        time-out, an interrupt or a bad argument is the leader's alone, and one of them leads on.
        """
        if lead.is_done:
            return
        lead.is_done = True
        self._give_back(lead)
        self._let_go(lead)
        flight = _take_flight(lead)
        if flight is not None and is_origins:
            self._flights.land(flight, Failed(error))
        elif flight is not None:
            self._flights.abandon(flight)
        if lead.batch is not None:
            self._batching.give_up(lead.batch, is_failed=is_origins)
        name = "closed before its end" if error is None else type(error).__name__
        self._teller.asked(lead, Answer(End.CUT), Outcome.ERROR, name)

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Take note of an answer that was too large to record."""
        if lead.is_done:
            return
        lead.is_done = True
        self._give_back(lead)
        self._let_go(lead)
        if lead.batch is not None:
            self._batching.give_up(lead.batch, is_failed=True)
        self._teller.asked(lead, Answer(End.CUT), Outcome.REFUSED, f"too large (status {status})")

    def drop(self, lead: Lead) -> None:
        """Make sure that nobody waits for `lead`, whatever failed; nothing happens if it came to its end."""
        lead.is_done = True
        self._let_go(lead)
        flight = _take_flight(lead)
        if flight is not None:
            self._flights.land(flight, Released())
        if lead.batch is not None:
            self._batching.give_up(lead.batch, is_failed=True)
        if not lead.is_recorded:
            self._give_back(lead)
            self._teller.asked(lead, Answer(End.UNREADABLE), Outcome.REFUSED, "the cache failed")

    def stop(self, lead: Lead, reason: str) -> None:
        """Give the call up before it was sent; who waits for it decides for itself."""
        if lead.is_done:
            return
        lead.is_done = True
        self._give_back(lead)
        self._let_go(lead)
        self._abandon(lead)
        self._teller.stopped(lead, reason)

    def request_id(self, call: ModelCall, scope: CellScope) -> EntryId:
        """Return the entry id of `call` for its first sample."""
        return self._keeper.request_id(self._keeper.resolved(call, scope), scope)

    def _lead(self, call: ModelCall, scope: CellScope, started: float, *, is_async: bool) -> Lead:
        call = self._keeper.resolved(call, scope)
        first = self._keeper.request_id(call, scope)
        sample = scope.sample_numbers.take(first) if scope.options.samples is Samples.DISTINCT else 0
        target = first if sample == 0 else self._keeper.request_id(call, scope, sample)
        lead = Lead(self, call, scope, target, sample, first, Why.ABSENT, started, is_async)
        if sample == 0:
            lead.batch = self._parts.batch_of(lead)
        return lead

    def _decide(self, lead: Lead) -> Step:
        if lead.scope.options.mode is Mode.REFRESH:
            return self._refresh(lead)
        if self._team is not None and self._look_up is not None and not self._team.is_fresh:
            return self._ask(lead, self._look_up)
        found = self._keeper.find(lead, is_last=self._look_up is None)
        if isinstance(found, Found):
            return self._serve(lead, found)
        how = self._look_up
        return self._served_or(lead, lambda: self._missed(lead, found) if how is None else self._ask(lead, how))

    def _ask(self, lead: Lead, how: Gathered, about: Sequence[EntryId] = ()) -> Follow:
        """Ask the team; the caller waits in its own colour, as for a call in flight."""
        seat = Seat(Pulse())
        if lead.batch is None:
            how.ask(lead.entry_id, seat.looked_up, is_async=lead.is_async)
        else:
            entry_ids = about or [lead.entry_id, *lead.batch.missing]
            how.ask_all(entry_ids, seat.looked_up_many, is_async=lead.is_async)
        return Follow(lead, seat)

    def _decide_with(self, lead: Lead, landing: LookedUp | LookedUpMany | Likened | PutTogether) -> Step:
        """Decide about `lead` with what the team has, or why it can't be asked, or with what is much alike."""
        if isinstance(landing, PutTogether):
            step: Step = landing.go_on()
            return step
        if isinstance(landing, Likened):
            return self._depart(lead) if landing.similar is None else self._serve_similar(lead, landing.similar)
        many = landing.looked if isinstance(landing, LookedUpMany) else {lead.entry_id: landing.looked}
        looked = many[lead.entry_id]
        if looked.trouble:
            lead.scope.emit(Trouble("L2", StoreUnavailable.__name__, looked.says))
        if lead.scope.options.mode is Mode.REFRESH:
            return self._leave(lead)
        found: Found | Fetch = Fetch(Why.ABSENT)
        if looked.envelope is None or not lead.is_missed_here:
            found = self._keeper.find(lead, is_last=looked.envelope is None)
        if looked.envelope is not None and isinstance(found, Fetch):
            found = self._keeper.take_in(lead, looked.envelope)
        if isinstance(found, Found):
            return self._serve(lead, found)
        return self._served_or(lead, lambda: self._missed(lead, found, looked), many)

    def _missed(self, lead: Lead, found: Fetch, looked: Looked | None = None) -> Step:
        lead.why, lead.because = found.why, found.text
        if found.why is not Why.ABSENT:
            lead.life_s = self._keeper.life_s(lead, looked.envelope if looked else None)
        if lead.scope.options.mode is Mode.REPLAY:
            raise self._replay_miss(lead, looked.trouble if looked else "")
        seat = Seat(Pulse())
        return Follow(lead, seat) if self._keeper.look_for_similar(lead, seat.likened) else self._depart(lead)

    def _serve(self, lead: Lead, found: Found) -> Answered:
        lead.is_done = True
        self._let_go(lead)
        if (flight := _take_flight(lead)) is not None:
            self._flights.land(flight, Landed(found.response, asked=lead.call.wants.asked))
        if lead.batch is not None:
            self._batching.give_up(lead.batch, is_failed=True)
        self._teller.hit(lead, found)
        self._keeper.note_question(lead, found.sealed.header)
        return Answered(found.response, found.tier, lead.sample, lead.entry_id)

    def _serve_similar(self, lead: Lead, similar: Similar) -> Answered:
        lead.is_done = True
        self._keeper.described(lead)  # to be explained
        self._teller.similar(lead, similar)
        return Answered(similar.found.response, similar.found.tier, lead.sample, similar.entry_id, is_similar=True)

    def _serve_landed(self, lead: Lead, response: Response, *, is_stored: bool) -> Answered:
        lead.is_done = True
        self._teller.shared(lead, read(lead, response), is_stored=is_stored)
        return Answered(response, Tier.L1, lead.sample, lead.entry_id, not_stored=lead.not_stored)

    def _served_or(
        self, lead: Lead, otherwise: Callable[[], Step], looked: Mapping[EntryId, Looked] | None = None
    ) -> Step:
        """Serve what `lead` asks for of the entries of its items; if they are not all there, do `otherwise`."""
        return answered_or(self, lead, lambda: self._put_together(lead, looked), otherwise)

    def _put_together(self, lead: Lead, looked: Mapping[EntryId, Looked] | None = None) -> Answered | None:
        """Serve what `lead` asks for of the entries of its items, if they are all there."""
        batch = lead.batch
        response = None if batch is None else self._batching.find(lead, batch, looked)
        if batch is None or response is None:
            return None
        lead.is_done = True
        self._let_go(lead)
        self._batching.served(lead, batch, response)
        self._teller.hit_by_parts(lead, batch)
        return Answered(response, batch.tier, lead.sample, lead.entry_id, not_stored=lead.not_stored)

    def _resume_batch(self, lead: Lead, batch: Batch, landing: Landed | Failed | Promoted | Released) -> Step:
        """Decide anew after another call has come to its end that asked about some of the same."""
        if isinstance(landing, Promoted):
            batch.flights[landing.flight.entry_id] = landing.flight
        if not isinstance(landing, Landed):
            batch.waits_left = 0
        return self._served_or(lead, lambda: self._depart(lead))

    def _leave(self, lead: Lead) -> Lead:
        """Send `lead` on its way to its origin."""
        return self._keeper.stamp(lead) if lead.batch is None else self._batching.depart(lead, lead.batch)

    def _refresh(self, lead: Lead) -> Step:
        lead.why = Why.REFRESH
        lead.life_s = self._keeper.life_s(lead)
        outdated = [lead.entry_id] if lead.batch is None else self._batching.to_publish(lead, lead.batch)
        if self._publish is not None:
            return self._ask(lead, self._publish, outdated)
        self._keeper.invalidate_all(lead, outdated)
        # A refresh asks for itself: it waits for no answer that began before it.
        return self._leave(lead)

    def _depart(self, lead: Lead) -> Step:
        if lead.batch is not None:
            return self._depart_batch(lead, lead.batch)
        if lead.flight is not None or lead.scope.options.mode is Mode.READ or self._keeper.is_refused(lead):
            return self._keeper.stamp(lead)
        joined = self._flights.join(lead.entry_id, Caller.current(is_async=lead.is_async))
        if joined is None:
            return self._keeper.stamp(lead)
        if not isinstance(joined, Flight):
            return Follow(lead, joined)
        lead.flight = joined
        return self._lead_on(lead)

    def _depart_batch(self, lead: Lead, batch: Batch) -> Step:
        seat = self._batching.board(lead, batch)
        if seat is not None:
            return Follow(lead, seat)
        return self._lead_on(lead) if batch.flights else self._leave(lead)

    def _lead_on(self, lead: Lead) -> Step:
        """Lead a flight, unless somebody has stored the answer since `lead` looked for it, or asks elsewhere."""
        permits = self._permits
        lead.permit = None if permits is None else permits.try_take(lead.entry_id)
        if (answered := self._found_since(lead)) is not None:
            return answered
        if permits is None or lead.permit is not None:
            return self._leave(lead)
        seat = Seat(Pulse())
        permits.take(lead.entry_id, seat.admitted)
        return Follow(lead, seat)

    def _admitted(self, lead: Lead, permit: Permit) -> Step:
        """Ask now, unless those that had the permit since `lead` looked have left an answer."""
        if (answered := self._found_since(lead)) is not None:
            return answered
        if self._look_up is not None and (permit.has_waited or permit.token is not None):
            return self._ask(lead, self._look_up)
        return self._leave(lead)

    def _found_since(self, lead: Lead) -> Answered | None:
        found = self._keeper.find(lead, is_last=False)  # why it is not there was said when it was looked for
        return self._serve(lead, found) if isinstance(found, Found) else self._put_together(lead)

    def _abandon(self, lead: Lead) -> None:
        """Leave what `lead` leads to the next one who waits for it."""
        if (flight := _take_flight(lead)) is not None:
            self._flights.abandon(flight)
        if lead.batch is not None:
            self._batching.give_up(lead.batch)

    def _let_go(self, lead: Lead) -> None:
        permit, lead.permit = lead.permit, None
        if permit is not None and self._permits is not None:
            self._permits.release(permit)

    def _land(self, flight: Flight, response: Response, answer: Answer, verdict: Verdict, *, asked: str) -> None:
        if verdict.is_shareable:
            self._flights.land(flight, Landed(response, verdict.is_stored, asked))
        elif answer.end is End.CUT or verdict.is_outdated:
            self._flights.abandon(flight)
        elif response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._flights.land(flight, Failed(response))
        else:
            # Other refusals may be the leader's own: its key, its quota. Each follower asks for itself.
            self._flights.land(flight, Released())

    def _give_back(self, lead: Lead) -> None:
        lead.scope.sample_numbers.give_back(lead.request_id, lead.sample)

    def _replay_miss(self, lead: Lead, trouble: str) -> ReplayMiss:
        own = self._keeper.described(lead)
        differs = () if lead.because != Why.ABSENT.value or said_of_parts(lead) else self._nearest(own)
        self._teller.missed_in_replay(lead, differs)
        return replay_miss(lead, differs, trouble)


def _take_flight(lead: Lead) -> Flight | None:
    """Return the flight that `lead` still has to land; it is the caller's from now on."""
    flight, lead.flight = lead.flight, None
    return flight
