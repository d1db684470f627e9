"""Values that are set: in place of whatever is there, here and with the team."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.filling import ANY, held_many
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from genai_cache_magic.core.model import Entry, Stamp
    from genai_cache_magic.entries.filling import Shares
    from genai_cache_magic.entries.placing import Placed, Places

_ATTEMPTS = 20
"""How often it begins again after another process was faster."""


class Own(Protocol):
    """The entries of one machine; ``entries.Entries`` says more."""

    places: Places

    def now_ms(self) -> int:
        """Return the time by which entries are dated [ms since the epoch]."""

    def stamp(self) -> Stamp:
        """Return the birth of what begins now."""

    def encoded(self, entry_id: EntryId, entry: Entry) -> bytes:
        """Return the bytes to store; raises ``EntryUndecodable`` if they would not come back."""

    def placed(self, entries: Mapping[EntryId, Entry]) -> dict[EntryId, Placed]:
        """Return entries as they are stored; raises ``EntryUndecodable``."""

    def publish(self, entry_ids: Iterable[EntryId]) -> Stamp:
        """Publish, or queue, that entries are invalid; return the birth of what takes their place."""

    def drop(self, ids: Collection[EntryId]) -> int:
        """Remove what was published as invalid."""


class Overwriting:
    """Sets entries of one machine. Safe to share between threads.

    Parameters
    ----------
    entries
        Those here.
    team
        Who is to know, None without a team.
    """

    def __init__(self, entries: Own, team: Shares | None) -> None:
        self._entries = entries
        self._team = team

    def overwrite(self, entries: Mapping[EntryId, Entry], removed: Collection[EntryId]) -> int:
        """Store `entries` in place of whatever is there; that, and `removed`, is published as invalid, all at once.

        Their births are set here. Of two that overwrite the same entry, the one that published last stays. Returns how
        many are not kept: something has made them invalid meanwhile, or a team can't be reached and they would not hold
        here. Raises as `fill`.
        """
        pending, doomed, outdated = dict(entries), list(removed), 0
        for _ in range(_ATTEMPTS):
            there = [*self._there(list(pending)), *doomed]
            if there:
                for entry_id, entry in pending.items():
                    self._entries.encoded(entry_id, entry)  # raises before anything is lost
            birth = self._published(map(EntryId, there)) if there else self._entries.stamp()
            if birth is None:
                return outdated + self._set_away(pending, doomed)
            self._entries.drop(doomed)
            doomed = []
            now_ms = self._entries.now_ms()  # what the tier's clock shows was heard a moment ago
            born = {entry_id: entry.born(birth, now_ms=now_ms) for entry_id, entry in pending.items()}
            for entry_id, filled in self._fill(born).items():
                outdated += filled is Filled.OUTDATED
                if filled is not Filled.KEPT:
                    del pending[entry_id]
            if not pending:
                return outdated
        raise StoreUnavailable("an entry changes faster than it can be written: try again")

    def _set_away(self, entries: Mapping[EntryId, Entry], removed: Collection[EntryId]) -> int:
        """Set values here alone for now; return how many are not kept, what is there being queued as invalid."""
        if removed:
            self._entries.publish(removed)
            self._entries.drop(removed)
        birth, now_ms = self._entries.stamp(), self._entries.now_ms()
        envelopes = {
            one: self._entries.encoded(one, entry.born(birth, now_ms=now_ms)) for one, entry in entries.items()
        }
        kept = () if self._team is None else self._team.set_away(envelopes)
        if lost := [entry_id for entry_id in entries if entry_id not in kept]:
            self._entries.publish(lost)
        return len(lost)

    def _there(self, entry_ids: Collection[EntryId]) -> list[str]:
        """Return those of `entry_ids` that are there: here, or with the team, as far as that can be asked.

        What is invalid already counts as gone, as it will be soon: it takes no second record.
        """
        there: list[str] = [*self._entries.places.not_invalid(entry_ids)]
        others = set(entry_ids).difference(map(EntryId, there))
        if self._team is not None and others:
            # What the team has must not stay; where it can't be asked, that may be anything.
            unsettled = self._team.unsettled
            looked = self._team.looked_up(others).items()
            there += [
                one
                for one, found in looked
                if found.envelope is not None or found.trouble or found.is_away or one in unsettled
            ]
        return there

    def _published(self, entry_ids: Iterable[EntryId]) -> Stamp | None:
        """Publish that these entries are invalid; None if a team can't be told now, and nothing is queued."""
        if self._team is None:
            return self._entries.publish(entry_ids)
        change = Change(self._entries.now_ms(), entry_ids=frozenset(entry_ids))
        published = self._team.try_invalidate(change.apply, change)
        return None if published is None else published.stamp

    def _fill(self, entries: Mapping[EntryId, Entry]) -> dict[EntryId, Filled]:
        """Store entries as `Entries.fill_many`; values that were set while the team was away, and wait, give way."""
        placed, places = self._entries.placed(entries), self._entries.places
        if self._team is None or not placed:
            return places.place(placed, ANY)
        envelopes = {entry_id: one.envelope for entry_id, one in placed.items()}
        withdraw = self._team.begin(envelopes)  # before it lies here: what would never be told nobody could know
        stored: dict[EntryId, bytes] = {}
        try:
            filled = places.place(placed, ANY)
            stored = {one: envelope for one, envelope in envelopes.items() if filled[one] is Filled.STORED}
            if len(stored) < len(envelopes):
                withdraw(one for one in envelopes if one not in stored)
        except StoreUnavailable:
            withdraw(self._not_here(envelopes))
            raise
        finally:  # after an interrupt, too: what has begun waits, and lies here, perhaps
            self._team.keep(stored, are_set=True)
        return filled

    def _not_here(self, envelopes: Mapping[EntryId, bytes]) -> list[EntryId]:
        """Return which of these do not lie here, after trouble with some; of what can't be looked at nobody knows."""
        with suppress(StoreUnavailable):
            held = held_many(self._entries.places.fills, envelopes)
            return [one for one, envelope in envelopes.items() if one not in held or held[one].blob != envelope]
        return []
