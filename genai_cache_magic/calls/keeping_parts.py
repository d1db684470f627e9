"""What is kept of a call that asks about many things: an entry for each of them, and one for the whole answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.batch import Batch, as_old_as, is_divided, shared_cost
from genai_cache_magic.calls.keeping import Verdict
from genai_cache_magic.calls.keyed import keyed
from genai_cache_magic.calls.pricing import cost_of
from genai_cache_magic.core.model import Usage
from genai_cache_magic.core.options import Mode
from genai_cache_magic.core.policy import Filled, Serve
from genai_cache_magic.core.validity import MAX_ENTRY_RECORDS
from genai_cache_magic.entries.entries import Entries, Found
from genai_cache_magic.entries.filling import Wanted
from genai_cache_magic.errors import EntryUndecodable, StoreUnavailable
from genai_cache_magic.events import Outcome, trouble
from genai_cache_magic.providers.batches import shares_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.calls.keeping import Keeper
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import Entry, EntryId, Response
    from genai_cache_magic.providers.base import Answer


_APART: Final = "stored text by text alone"
_TOO_LARGE: Final = f"{_APART}: the whole is larger than max_response"

_MOST_RECORDS: Final = MAX_ENTRY_RECORDS // 4
"""So many records of entries that texts may add to."""


class PartsKeeper:
    """Finds and stores the items of calls, beside what `keeper` does for whole ones. Safe to share between threads."""

    def __init__(self, entries: Entries, keeper: Keeper) -> None:
        self._entries = entries
        self._keeper = keeper

    def batch_of(self, lead: Lead) -> Batch | None:
        """Return how `lead` is looked up item by item; None if it is one call and nothing else."""
        call, division = lead.call, lead.call.division
        if division is None or not is_divided(call, lead.scope):
            return None
        ids = self._keeper.part_ids(call, division, lead.scope)
        if set(ids) == {lead.entry_id}:
            return None  # one text, asked for as it is stored
        return Batch(call, division, ids)

    def find(self, lead: Lead, batch: Batch) -> None:
        """Look up what is missing, in one read. Never raises: trouble is told, and is a miss."""
        found = self._entries.find_many(
            batch.missing,
            ttl_s=lead.scope.options.ttl_s,
            scope_tags=self._keeper.scope_tags(lead),
            tell=lead.scope.emit,
        )
        for entry_id, one in found.items():
            if isinstance(one, Found):
                self._take(lead, batch, entry_id, one)

    def take_in(self, lead: Lead, batch: Batch, envelopes: Mapping[EntryId, bytes]) -> None:
        """Take what the team has stored of what is missing, and store it here too."""
        for entry_id in [one for one in batch.missing if one in envelopes]:
            found = self._entries.take_in(
                entry_id,
                envelopes[entry_id],
                ttl_s=lead.scope.options.ttl_s,
                scope_tags=self._keeper.scope_tags(lead),
                tell=lead.scope.emit,
            )
            if isinstance(found, Found):
                self._take(lead, batch, entry_id, found)

    def _take(self, lead: Lead, batch: Batch, entry_id: EntryId, found: Found) -> None:
        try:
            # Who invalidates an answer means what it was put together of.
            decision = self._entries.judge.decide(lead.entry_id, found.sealed.header)
            if not isinstance(decision, Serve):
                batch.outdated.add(entry_id)
            else:
                batch.take(entry_id, found)
        except (EntryUndecodable, StoreUnavailable) as exc:
            lead.scope.emit(trouble("L1", exc))

    def to_publish(self, lead: Lead, entry_ids: Iterable[EntryId]) -> list[EntryId]:
        """Return those of `entry_ids` of which it is to be published that they are out of date.

        Records of entries are few, or all of the namespace becomes invalid. Beyond that it is said of the call alone,
        and what comes takes the place of what is stored here.
        """
        ids = list(dict.fromkeys(entry_ids))
        try:
            room = _MOST_RECORDS - len(self._entries.generations.current().entries)
        except StoreUnavailable:
            room = 0  # publishing will say why
        return ids if len(ids) <= room else [one for one in ids if one == lead.entry_id]

    def invalidate(self, lead: Lead, entry_ids: Iterable[EntryId]) -> None:
        """Publish that `entry_ids` are out of date, as far as there is room for that."""
        if ids := self.to_publish(lead, entry_ids):
            self._keeper.invalidate_all(lead, ids)

    def keep(
        self, lead: Lead, batch: Batch, received: Response, answer: Answer
    ) -> tuple[Verdict, dict[EntryId, Response]]:
        """Store what was `received` of what was asked about; return what became of it, and what it says of each.

        An answer that can't be told apart is stored as it is, if it is that to the whole call.
        """
        limit_bytes = batch.limit_bytes(self._keeper.limits.max_response_bytes)
        left = self._keeper.left_out(lead, received, answer, limit_bytes)
        fresh = batch.fresh
        if batch.body is None:
            each = batch.division.split(received, range(len(batch.ids)))
            fresh = {} if each is None else dict(zip(batch.ids, each, strict=True))
        if left is not None:
            return left, fresh
        if not fresh:
            return self._keeper.keep(lead, received, answer), fresh
        return self._store(lead, batch, received, answer, fresh), fresh

    def keep_joined(self, lead: Lead, batch: Batch, joined: Response) -> None:
        """Store what was put together of what is stored, if anything may be: next time it is one read.

        What a report or a run says of the call is under its entry id then, as for every other call.
        """
        options = lead.scope.options
        may_write = options.sends and options.mode is not Mode.READ and not self._keeper.is_refused(lead)
        is_small = len(joined.body) <= self._keeper.limits.max_response_bytes
        lead.not_stored = _APART if is_small else _TOO_LARGE
        if not may_write or not is_small or self._keeper.stamp(lead).stamp is None:
            return
        try:
            entry = self._keeper.entry(lead, joined, lead.call.provider.read(joined))
            header = as_old_as(entry.header, batch.headers.values())
            if header is not None:
                usage, cost = batch.saved()
                metadata = replace(entry.metadata, usage=usage, cost_usd=cost)
                self._entries.fill(lead.entry_id, replace(entry, header=header, metadata=metadata))
                lead.not_stored = ""
        except (EntryUndecodable, StoreUnavailable) as exc:
            lead.scope.emit(trouble("L1", exc))

    def _store(
        self, lead: Lead, batch: Batch, received: Response, answer: Answer, fresh: Mapping[EntryId, Response]
    ) -> Verdict:
        is_anew = lead.scope.options.mode is Mode.REFRESH or bool(batch.outdated)
        wanted = Wanted(lead.scope.options.ttl_s, self._keeper.scope_tags(lead), lambda _: is_anew)
        try:
            entries = self._items(lead, batch, answer, fresh)
            whole = self._whole(lead, batch, received, answer, fresh)
            lead.not_stored = _TOO_LARGE if whole is None else ""
            filled = self._entries.fill_many(entries if whole is None else {**entries, lead.entry_id: whole}, wanted)
        except EntryUndecodable:
            return Verdict(Outcome.REFUSED, "can't be stored faithfully")
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
            return Verdict(Outcome.REFUSED, "cache unavailable", is_shareable=True)
        outcomes = {filled[one] for one in fresh}
        if Filled.OUTDATED in outcomes:
            return Verdict(Outcome.MISS, Filled.OUTDATED.value, is_outdated=True)
        return Verdict(Outcome.MISS, is_stored=True, is_shareable=True)

    def _items(
        self, lead: Lead, batch: Batch, answer: Answer, fresh: Mapping[EntryId, Response]
    ) -> dict[EntryId, Entry]:
        places = batch.places_of(fresh)
        weights = batch.division.weights(places)
        costs = shared_cost(cost_of(lead, answer, now_ms=self._entries.now_ms()), weights)
        told = answer.usage.input_tokens
        tokens = [None] * len(places) if told is None else shares_of(told, weights)
        entries = {}
        for entry_id, place, cost, count in zip(fresh, places, costs, tokens, strict=True):
            entry = self._keeper.entry(self._part(lead, batch, entry_id, place), fresh[entry_id], answer)
            shared = replace(entry.metadata, cost_usd=cost, usage=Usage(count, 0))
            entries[entry_id] = replace(entry, metadata=shared)
        return entries

    def _part(self, lead: Lead, batch: Batch, entry_id: EntryId, place: int) -> Lead:
        call = keyed(batch.division.call_of(batch.call, [place]), lead.scope.options)
        item = batch.division.items[place]
        if type(item) is str:
            call = replace(call, preview=" ".join(item[:160].split())[:80])
        return replace(lead, call=call, entry_id=entry_id, request_id=entry_id, batch=None, flight=None, is_part=True)

    def _whole(
        self, lead: Lead, batch: Batch, received: Response, answer: Answer, fresh: Mapping[EntryId, Response]
    ) -> Entry | None:
        """Return what is stored of the answer to the call itself; None if it can't be told, or is too large.

        Of an answer that was put together, its counts are those of all its items, and so is its price.
        """
        whole: Response | None = received
        usage, cost = answer.usage, cost_of(lead, answer, now_ms=self._entries.now_ms())
        if batch.body is not None:
            both = {**batch.known, **fresh}
            whole = batch.division.join([both[one] for one in batch.ids])
            told, saved = batch.saved()
            counts = (usage.input_tokens, told.input_tokens)
            usage = replace(usage, input_tokens=None if None in counts else sum(n or 0 for n in counts))
            cost = None if cost is None or saved is None else cost + saved
        if whole is None or len(whole.body) > self._keeper.limits.max_response_bytes:
            return None
        entry = self._keeper.entry(replace(lead, call=batch.call, request_id=lead.entry_id), whole, answer)
        header = as_old_as(entry.header, batch.headers.values())
        if header is None:
            return None
        return replace(entry, header=header, metadata=replace(entry.metadata, usage=usage, cost_usd=cost))
