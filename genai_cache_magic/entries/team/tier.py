"""What a team shares, as one machine sees it: how fresh it is, what a look-up brings, what is still to be told."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.link import AWAY, DEADLINE_S, UNREAD, Link, Looked, within
from genai_cache_magic.entries.pruning import prune
from genai_cache_magic.entries.rows import View
from genai_cache_magic.entries.team.copies import sift
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.rulings import LONGEST_MS
from genai_cache_magic.entries.team.settling import Settling
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable, WriteRefused
from genai_cache_magic.stores.base import SupportsEdge, SupportsFill
from genai_cache_magic.stores.breaker import Circuit
from genai_cache_magic.stores.guarded import GuardedDocument, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.placing import Places
    from genai_cache_magic.entries.pruning import Pruned
    from genai_cache_magic.entries.team.clock import TeamClock
    from genai_cache_magic.entries.team.drain import Retries
    from genai_cache_magic.entries.team.outbox import Outbox, SetValue, Waiting
    from genai_cache_magic.entries.team.pending import Pending
    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Document, LookUp, SharedTier, Store
    from genai_cache_magic.stores.breaker import Breaker
    from genai_cache_magic.stores.disk.locks import FileLock
    from genai_cache_magic.stores.snapshot import SnapshotDocument

GENERATIONS = "generations"
"""The name of the document that rules what is valid."""


class Team:
    """The shared tier of one namespace behind its breaker. Safe to share between threads and by forked children.

    Parameters
    ----------
    tier, breaker
        What is shared, and what keeps it from being asked while it fails.
    snapshot, generations
        The document that rules what is valid, as last seen, and the laws over it.
    shared
        The entries in the tier's store.
    outbox, pending
        What is still to be told, and what of it holds here already.
    clock
        Hears the tier's time.
    max_stale_s
        How old the snapshot may be for an answer from L1 alone [s].
    lock
        Held by the process of this machine that tells.
    retries
        How to go on when it can't be told.
    emptied
        Called when the tier has lost the document that rules, and probably more, be it that another one stands there
        by now.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        tier: SharedTier,
        breaker: Breaker,
        *,
        snapshot: SnapshotDocument,
        generations: LiveGenerations,
        shared: Entries,
        outbox: Outbox,
        pending: Pending,
        clock: TeamClock,
        max_stale_s: float,
        lock: FileLock | None = None,
        retries: Retries | None = None,
        emptied: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = tier.name
        self._tier = tier
        self._breaker = breaker
        self._snapshot = snapshot
        self._generations = generations
        self._shared = shared
        self._outbox = outbox
        self._pending = pending
        self._clock = clock
        self._max_stale_s = max_stale_s
        self._emptied = emptied
        self._link = Link(self._ask, overdue=self._overdue, round_size=tier.round_size)
        self._refreshes = Link(self._publish, overdue=self._overdue)
        self._settling = Settling(
            outbox,
            generations,
            shared,
            look=self._look,
            published=lambda ids: self._forget_near(Change(shared.now_ms(), entry_ids=frozenset(ids))),
            is_known=lambda: not snapshot.is_provisional,
            set_ms=clock.earliest_ms,
        )
        self._drain = Drain(outbox, self, lock=lock, told=pending.read, retries=retries)

    @property
    def is_fresh(self) -> bool:
        """Whether what is valid was seen a moment ago, so that L1 may answer alone.

        A record that was lost was not: it is made anew by the next look, for which callers wait in their own colour.
        """
        return self._snapshot.age_s <= self._max_stale_s and self._generations.is_known

    @property
    def is_reader(self) -> bool:
        """Whether the tier is only read: what is new here, and what is invalidated, is told to nobody."""
        return self._breaker.rights.is_reader

    @property
    def store(self) -> Store:
        """The tier's store, behind the breaker."""
        return self._shared.store

    def seen(self) -> View:
        """Return what is valid, seen a moment ago or now; raises ``StoreUnavailable``."""
        if not self.is_fresh:
            self._look()
            self._generations.ensure()
        return View(self._generations.current(), self._shared.now_ms())

    def ensure_seen(self) -> None:
        """See what is valid if this machine never has; trouble is told by the first look-up."""
        if self._snapshot.load() is None:
            self.trouble()

    def look_anew(self) -> Generations:
        """Return what is valid now, by the tier itself and not by what was last seen; raises ``StoreUnavailable``."""
        self._look()
        return self._generations.ensure()

    def document(self, name: str) -> Document:
        """Return a document of the tier, behind the breaker."""
        return GuardedDocument(self._tier.document(name), self._breaker)

    @property
    def places(self) -> Places:
        """Where entries go in the tier."""
        return self._shared.places

    def look_up(self, asked: Iterable[tuple[EntryId, Callable[[Looked], None]]], /) -> None:
        """Look entries up in one round, and what is valid with them; each is told from another thread, soon."""
        self._link.look_up_many(asked)

    def looked_up(self, entry_ids: Iterable[EntryId]) -> dict[EntryId, Looked]:
        """Look many up in one round, and wait for what comes of it in this thread."""
        asked: dict[EntryId, Future[Looked]] = {entry_id: Future() for entry_id in entry_ids}
        self._link.look_up_many((entry_id, future.set_result) for entry_id, future in asked.items())
        return {entry_id: future.result() for entry_id, future in asked.items()}

    def trouble(self) -> str:
        """Ask the tier what is valid; return why it can't be asked, empty if it could."""
        try:
            return within(DEADLINE_S, lambda: self._ask(())[1], overdue=self._overdue)
        except StoreUnavailable as error:
            return str(error)

    def publish_entries(self, asked: Iterable[tuple[EntryId, Callable[[Looked], None]]], /) -> None:
        """Publish that entries are invalid, together with others of this moment; each is told soon.

        If it can't be published it is queued, and who asked is told why.
        """
        if not self._breaker.rights.is_tried:
            for _, deliver in asked:
                deliver(Looked(trouble=f"not refreshed for the team: {self._breaker.rights.says}", is_offline=False))
            return
        self._refreshes.look_up_many(asked)

    def keep(self, envelopes: Mapping[EntryId, bytes], *, are_set: bool = False) -> None:
        """Give entries to the team as soon as it can be reached; raises ``StoreUnavailable`` if they can't wait.

        Those that `are_set` have begun. Where the tier is only read they are this machine's alone.
        """
        if not self._breaker.rights.is_tried:
            return
        # What has begun waits already, unless it was told meanwhile: then it was compared with what lay here before it.
        (self._outbox.add_begun if are_set else self._outbox.add_entries)(envelopes)
        self._drain.poke()

    def begin(self, envelopes: Mapping[EntryId, bytes]) -> Callable[[Iterable[EntryId]], None]:
        """Queue what is about to be set here; who is killed before `keep` has set it. See `filling.Shares`."""
        return self._outbox.begin(envelopes) if self._breaker.rights.is_tried else lambda _: None

    def set_away(self, envelopes: Mapping[EntryId, bytes]) -> Collection[EntryId]:
        """Store values here that can't be told now, and queue them; see `Settling.keep`."""
        self._pending.read_more()  # another process of this machine may have invalidated what is set now
        kept = self._settling.keep(envelopes)
        self._drain.poke()
        return kept

    @property
    def unsettled(self) -> Collection[EntryId]:
        """The ids of values that were set here while the team was away, and wait, other processes' included."""
        self._settling.read()
        return self._settling.waiting

    def guards(self, own: Entries, tell: Callable[[Event], None]) -> None:
        """Let `own` be the entries here, and `tell` hear how many values that were set are not kept."""
        self._settling.guards(own, tell)

    def invalidate(self, how: Callable[[Generations], Generations], change: Change) -> Generations | None:
        """Publish an invalidation and return what is valid then, or None: it could not be published and is queued.

        Raises
        ------
        StoreUnavailable
            It could be neither published nor queued; ``WriteRefused``: it may not be published from here.
        """
        published = self.try_invalidate(how, change)
        if published is None:
            self._outbox.add_change(change)
            self._pending.read_more()
            self._drain.poke()
        return published

    def try_invalidate(self, how: Callable[[Generations], Generations], change: Change) -> Generations | None:
        """Publish an invalidation and return what is valid then, or None: it could not be published.

        Raises
        ------
        WriteRefused
            It may not be published from here.
        """
        self._breaker.rights.ensure_tried()

        def publish() -> Generations:
            self._look()
            changed = self._generations.change(how)
            self._forget_near(change)
            return changed

        try:
            published = within(DEADLINE_S, publish, overdue=self._overdue)
        except WriteRefused:
            raise
        except StoreUnavailable:
            return None
        self._settling.forget(change, published)
        return published

    def prune(self, *, lowest: int | None) -> Pruned:
        """Remove from the tier what is invalid, and records that nothing depends on; see `pruning.prune`."""
        self._snapshot.look()
        self._generations.ensure()
        return prune(self._shared, lowest=lowest)

    @property
    def circuit(self) -> Circuit:
        """Whether the tier is asked now."""
        return self._breaker.state

    def waiting(self) -> tuple[int, int]:
        """Return how many invalidations and how many entries wait to be told; raises ``StoreUnavailable``."""
        return self._outbox.count()

    @property
    def is_behind(self) -> bool:
        """Whether invalidations are queued that the team has not heard of."""
        return bool(self._pending())

    def is_away(self, entry_ids: Sequence[EntryId]) -> bool:
        """Return whether the tier can't be asked for any of these entries; waits in this thread."""
        # What is only too much to be sent in time is there, and its holder is about to give its lease back.
        return any(looked.trouble and looked.is_offline for looked in self.looked_up(entry_ids).values())

    def is_told(self, entry_id: EntryId) -> bool:
        """Return whether the team was told of what is stored for `entry_id`, as far as it will be soon."""
        if self.circuit is not Circuit.CLOSED:
            return True
        try:
            return not self._outbox.has_entry(entry_id)
        except StoreUnavailable:
            return True

    def tell_past_breaker(self, entry_id: EntryId) -> None:
        """Store what waits for `entry_id` where nothing is, though the tier is left alone for now.

        Its lease is about to be given back, and who gets that looks for it. What fails waits on.
        """
        store = self._tier.store
        with suppress(StoreUnavailable, DecryptionError, EntryUndecodable):
            envelope = self._outbox.envelope(entry_id)
            if envelope is None or not isinstance(store, SupportsFill):
                return
            header = self._shared.places.opened(entry_id, envelope).header
            if self._generations.current().is_valid(entry_id, header):
                store.put_if(entry_id, envelope, ttl_s=self._shared.judge.remaining_s(header), held=None)

    def tell(self, *, within_s: float) -> bool:
        """Tell the team what waits, for at most about `within_s` [s]; return whether nothing is left."""
        finish = partial(self._drain.finish, within_s=within_s)
        try:
            return within(within_s + DEADLINE_S, finish, overdue=self._overdue)
        except StoreUnavailable:
            return False
        except RuntimeError:  # the interpreter is ending, and no thread begins any more
            return finish()

    def close(self) -> None:
        """Tell what waits, for up to 5 s, and give up connections; may be called twice."""
        with ExitStack() as each:  # the last one first
            each.callback(self._tier.close)
            each.callback(self._outbox.close)
            each.callback(self._drain.close)
            self.tell(within_s=5.0)

    def publish(self, changes: Sequence[Change]) -> None:
        """Publish queued invalidations; see `Receives`."""

        def how(generations: Generations) -> Generations:
            for change in changes:
                generations = change.apply(generations)
            return generations

        self._look()
        self._generations.change(how)
        for change in changes:
            self._forget_near(change)

    def settle(self, values: Sequence[SetValue], own_changes: Sequence[Change]) -> None:
        """Compare values that were set with what the team has; see `Receives`."""
        self._settling.settle(values, own_changes)

    def fill(self, waiting: Sequence[Waiting]) -> None:
        """Store queued entries in the tier; see `Receives`."""
        if not self.is_fresh:
            self.look_anew()
        envelopes = {one.entry_id: one.envelope for one in waiting}
        filled = self._shared.fill_envelopes(envelopes, longest_ms=LONGEST_MS, look=self.look_anew)
        stopped = [
            one for one in waiting if one.is_set and filled.get(one.entry_id, Filled.STORED) is not Filled.STORED
        ]
        if stopped:
            self._settling.contest(stopped)

    def _ask(self, entry_ids: Sequence[EntryId]) -> tuple[Mapping[EntryId, bytes], str]:
        tier, settling = self._tier, self._settling
        if settling.waiting:
            settling.read()
        unsettled = settling.waiting  # before the look: what the team has is told as soon as it counts
        try:
            if entry_ids and isinstance(tier, SupportsEdge):
                found = self._look_near(tier, entry_ids)
            else:
                found = self._look(entry_ids)
            self._generations.ensure()
        except StoreUnavailable as error:
            self._pending.read_more()
            settling.read()
            return {}, str(error)
        self._drain_if_waiting()
        missing = dict.fromkeys(map(EntryId, found.unread), UNREAD) | dict.fromkeys(map(EntryId, found.away), AWAY)
        brought = {EntryId(key): blob for key, blob in found.blobs.items() if blob} | missing
        return {one: blob for one, blob in brought.items() if one not in unsettled}, ""

    def _look(self, entry_ids: Sequence[EntryId] = ()) -> LookUp:
        """Ask for what is valid now, the tier's time and some entries, in one round; raises ``StoreUnavailable``."""
        return self._seen_by(partial(self._tier.look_up, GENERATIONS, entry_ids))

    def _look_near(self, tier: SupportsEdge, entry_ids: Sequence[EntryId]) -> LookUp:
        """As `_look`, with an edge's copies as far as they are what the tier itself holds; it is asked for the rest."""
        near = self._seen_by(partial(tier.look_near, GENERATIONS, entry_ids))
        self._generations.ensure()
        sifted = sift(self._shared.places, near.copies)
        tier.refuse(sifted.forged, are_forged=True)
        tier.refuse(sifted.outdated, are_forged=False)
        rest = [EntryId(key) for key in near.unasked if key not in sifted.current]
        later = self._look(rest) if rest else replace(near, unread=())
        blobs = {**near.blobs, **sifted.current, **later.blobs}
        return replace(later, blobs=blobs, unread=[*near.unread, *later.unread])

    def _seen_by(self, look: Callable[[], LookUp]) -> LookUp:
        published = self._pending.published()  # before the look, which therefore sees what became of them
        with guarded(self._breaker):
            found = look()
        self._clock.hear(found.now_s)
        if found.token is None:
            self._ensure_begun()
        before = self._snapshot.load()
        self._snapshot.seen(found.token)
        if before is not None and self._is_begun_anew(before) and not self.is_reader:
            self._emptied()
        self._pending.forget(published)
        return found

    def _ensure_begun(self) -> None:
        """Give a tier that holds nothing what this machine has of it; raises ``WriteRefused`` if that is not allowed.

        Then what is valid there can't be said by anyone yet.
        """
        if self.is_reader:
            raise WriteRefused(
                f"{self.name} holds nothing for this namespace yet, and is only read from here: let a teammate with "
                "the role Cache.Writer ask something first"
            )
        self._emptied()

    def _is_begun_anew(self, before: bytes) -> bool:
        """Return whether nothing that was valid by `before` is so now.

        The team has cleared, or somebody was faster to begin anew in a tier that lost everything.
        """
        after = self._snapshot.load()
        if after is None or after == before:
            return False
        earlier, later = self._generations.authentic(before), self._generations.authentic(after)
        return earlier is None or later is None or earlier.root != later.root

    def _publish(self, entry_ids: Sequence[EntryId]) -> tuple[Mapping[EntryId, bytes], str]:
        change = Change(self._shared.now_ms(), entry_ids=frozenset(entry_ids))
        try:
            is_published = self.invalidate(change.apply, change) is not None
        except StoreUnavailable as error:
            return {}, str(error)
        return {}, "" if is_published else self._breaker.reason

    def _forget_near(self, change: Change) -> None:
        """Let an edge forget what was made invalid, as far as names are known; the rest is refused when it comes."""
        if isinstance(self._tier, SupportsEdge) and (change.entry_ids or change.new_root):
            self._tier.forget(None if change.new_root else change.entry_ids)

    def _drain_if_waiting(self) -> None:
        if self._pending() or self._settling.waiting:
            self._drain.poke()
        self._drain.wake()

    def _overdue(self) -> str:
        error = StoreUnavailable(f"{self.name} does not answer in time")
        self._breaker.trip(error)
        self._pending.read_more()
        return str(error)
