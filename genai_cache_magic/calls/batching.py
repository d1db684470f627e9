"""What becomes of a call that asks about many things: who else asks about some of them, and what is asked for it.

Beside `desk`, which decides about calls as wholes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.calls.coalesce import Caller, Landed, Released
from genai_cache_magic.core.options import Mode
from genai_cache_magic.providers.base import End

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.calls.batch import Batch
    from genai_cache_magic.calls.coalesce import Flights, Seat
    from genai_cache_magic.calls.keeping import Keeper, Verdict
    from genai_cache_magic.calls.keeping_parts import PartsKeeper
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import EntryId, Response
    from genai_cache_magic.entries.link import Looked
    from genai_cache_magic.providers.base import Answer


class Batching:
    """Looks up, joins and leaves for the batches of one desk. Safe to share between threads."""

    def __init__(self, keeper: Keeper, parts: PartsKeeper, flights: Flights) -> None:
        self._keeper = keeper
        self._parts = parts
        self._flights = flights
        self._undivided: set[str] = set()  # origins whose answers did not go together; each operation is atomic

    def find(self, lead: Lead, batch: Batch, looked: Mapping[EntryId, Looked] | None = None) -> Response | None:
        """Look up what is missing, here and in what the team was asked for; return the answer, if it is all there."""
        if batch.missing:
            self._parts.find(lead, batch)
        if looked and batch.missing:
            envelopes = {one: found.envelope for one, found in looked.items() if found.envelope is not None}
            self._parts.take_in(lead, batch, envelopes)
        if batch.missing:
            return None
        joined = batch.joined()
        if joined is None:
            # Of several models, say: none of it would ever go together with the rest.
            batch.outdated.update(batch.ids)
            batch.forget()
        return joined

    def board(self, lead: Lead, batch: Batch) -> Seat | None:
        """Take the lead for all that is missing and that nobody asks about; or return a seat to wait in."""
        if batch.flights or lead.scope.options.mode is Mode.READ or self._keeper.is_refused(lead):
            return None
        caller = Caller.current(is_async=lead.is_async)
        joined = self._flights.join_many(batch.missing, caller, may_wait=batch.waits_left > 0)
        if isinstance(joined, dict):
            batch.flights = joined
            return None
        batch.waits_left -= 1
        return joined

    def depart(self, lead: Lead, batch: Batch) -> Lead:
        """Make `lead` the call that is sent: for what is missing, or for all."""
        for entry_id in [one for one in batch.flights if one in batch.known]:
            # Somebody has stored it just now.
            self._flights.land(batch.flights.pop(entry_id), _landed(batch.known[entry_id], is_stored=True))
        may_divide = lead.call.request.origin not in self._undivided
        if not may_divide:
            batch.outdated.update(batch.known)  # what comes takes its place, and goes together
        options = lead.scope.options
        if batch.outdated and options.sends and options.mode is not Mode.READ:  # else nothing may be written
            self._parts.invalidate(lead, batch.outdated)
        lead.call = batch.depart(may_divide=may_divide)
        if batch.body is not None:
            lead.request_id = self._keeper.request_id(lead.call, lead.scope)
        return self._keeper.stamp(lead)

    def keep(self, lead: Lead, batch: Batch, received: Response, answer: Answer) -> Verdict:
        """Store what was received, tell who waits, and return what became of it."""
        if batch.is_apart:
            self._undivided.add(lead.call.request.origin)
        verdict, fresh = self._parts.keep(lead, batch, received, answer)
        if batch.body is None and verdict.is_stored:
            self._undivided.discard(batch.call.request.origin)
        flights, batch.flights = batch.flights, {}
        for entry_id, flight in flights.items():
            if verdict.is_shareable and entry_id in fresh:
                self._flights.land(flight, _landed(fresh[entry_id], is_stored=verdict.is_stored))
            elif answer.end is End.CUT or verdict.is_outdated:
                self._flights.abandon(flight)
            else:
                # What the origin said of all of them says nothing of one of them.
                self._flights.land(flight, Released())
        return verdict

    def give_up(self, batch: Batch, *, is_failed: bool = False) -> None:
        """Let go of what is led: to the next one who waits, or to each, since what fails here may be ours alone."""
        flights, batch.flights = batch.flights, {}
        for flight in flights.values():
            if is_failed:
                self._flights.land(flight, Released())
            else:
                self._flights.abandon(flight)

    def served(self, lead: Lead, batch: Batch, joined: Response) -> None:
        """Let those have it who wait for what turned out to be known, and keep what was put together of it."""
        flights, batch.flights = batch.flights, {}
        for entry_id, flight in flights.items():
            self._flights.land(flight, _landed(batch.known[entry_id], is_stored=True))
        self._parts.keep_joined(lead, batch, joined)

    def to_publish(self, lead: Lead, batch: Batch) -> list[EntryId]:
        """Return what a refresh publishes to be out of date: the call, and what is stored of each item."""
        return self._parts.to_publish(lead, [lead.entry_id, *batch.ids])


def _landed(response: Response, *, is_stored: bool) -> Landed:
    return Landed(response, is_stored, response.form.value)
