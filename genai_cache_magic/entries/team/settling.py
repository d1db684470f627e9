"""Values that hold here before the team is told: they are compared with what it has when they are.

The birth of one that was set while the team was away is the last state of the team's document that was known here.
What the team has set or invalidated since counts; else it takes the place of what the team has (`design/0009`). Of two
that were set where nothing was, before either was told, the later counts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import MAX_ENTRY_RECORDS, Generations
from genai_cache_magic.entries.filling import ANY, Wanted, held_many
from genai_cache_magic.entries.team.outbox import SetValue
from genai_cache_magic.entries.team.rulings import Rival, Ruling, Theirs, digest_of, rival, rule
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, PartUnavailable, StoreUnavailable, WriteRefused
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import Header, Stamp
    from genai_cache_magic.core.validity import Change
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.placing import Placed
    from genai_cache_magic.entries.team.outbox import Outbox, Waiting
    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Held, SupportsFill

_AT_ONCE: Final = 1_000
_MOST_VAIN: Final = 3
"""So often in a row what a tier neither shows nor takes is tried at once, or looked at whether it is over."""
_IN_ITS_PLACE: Final = Wanted(is_unsuited=lambda _: True)
_NOT_KEPT: Final = (
    "values that were set while the team could not be reached, and are not kept: {count}; what the team has set or "
    "invalidated since counts, and where that can't be told they have to be set again"
)


class Settling:
    """The values of one machine that wait to be told. Safe to share between threads.

    Parameters
    ----------
    outbox
        Where they wait.
    live
        The laws over the team's document.
    shared
        The entries in the team's store.
    look
        Sees what is valid now; raises ``StoreUnavailable``.
    published
        Hears which keys were published as invalid.
    is_known
        Whether the document that is known here was ever the team's.
    set_ms
        A time that the tier's clock has come to [ms since the epoch], 0 if none is known.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        outbox: Outbox,
        live: LiveGenerations,
        shared: Entries,
        *,
        look: Callable[[], object],
        published: Callable[[Collection[EntryId]], None],
        is_known: Callable[[], bool],
        set_ms: Callable[[], int],
    ) -> None:
        self._outbox = outbox
        self._live = live
        self._shared = shared
        self._look = look
        self._published = published
        self._is_known = is_known
        self._set_ms = set_ms
        self._own: Entries | None = None
        self._tell: Callable[[Event], None] = lambda _: None
        self._lock = host.process_lock()
        self._waiting: frozenset[EntryId] = frozenset()  # replaced as a whole, under _lock
        self._vain: dict[EntryId, int] = {}  # how often in a row entries could be told, and were not
        self.read()

    def guards(self, own: Entries, tell: Callable[[Event], None]) -> None:
        """Let `own` be the entries here, and `tell` hear how many values are not kept."""
        self._own, self._tell = own, tell

    @property
    def waiting(self) -> Collection[EntryId]:
        """The ids of those that are known to wait: what the team has under them is not taken in."""
        return self._waiting

    def read(self) -> None:
        """Read what waits, other processes' included; what can't be read stays as it was."""
        with self._lock, suppress(StoreUnavailable):
            self._waiting = self._outbox.value_ids()

    def keep(self, envelopes: Mapping[EntryId, bytes]) -> Collection[EntryId]:
        """Queue values, and store them here in place of what is there; return those that are.

        Not those that could never be told, or would not hold here: where the document was never seen, an invalidation
        that covers them waits itself, or another process, which has seen a later one, has stored something by that.
        Raises ``StoreUnavailable`` if they can't wait.
        """
        own = self._own
        if own is None or not self._is_known():
            return ()
        own.settle()  # what a look-up has brought a moment ago is what is replaced
        current = self._live.current()
        placed = {entry_id: own.places.opened(entry_id, envelope) for entry_id, envelope in envelopes.items()}
        placed = {one: what for one, what in placed.items() if current.is_valid(one, what.header)}
        there = {key: digest_of(held.blob) for key, held in held_many(own.places.fills, placed).items()}
        set_ms = self._set_ms()
        values = {
            entry_id: SetValue(entry_id, one.envelope, there.get(entry_id, bytes(32)), set_ms)
            for entry_id, one in placed.items()
        }
        self._outbox.add_values(values.values())
        # After the queue: what lies here and would never be told could not be known for that by anybody.
        filled = own.places.place(placed, _IN_ITS_PLACE)
        hidden = [entry_id for entry_id, what in filled.items() if what is not Filled.STORED]
        self._outbox.drop_values([values.pop(entry_id) for entry_id in hidden])
        self.read()
        return values.keys()

    def forget(self, change: Change, published: Generations) -> None:
        """Take values off the queue that `change`, `published` from here, has made invalid: it is no news that they go.

        What can't be taken off is told as lost, rather than never; so is what was set since the change was asked for,
        by another thread or process, unless it counts.
        """
        self.read()
        seen: set[EntryId] = set()
        with suppress(StoreUnavailable):
            while len(seen) < len(self.waiting) and (values := self._outbox.values(_AT_ONCE, without=seen)):
                seen.update(value.entry_id for value in values)
                self._outbox.drop_values([value for value in values if self._is_hit(value, change, published)])
        if seen:
            self.read()

    def _is_hit(self, value: SetValue, change: Change, published: Generations) -> bool:
        with suppress(DecryptionError, EntryUndecodable):
            header = self._shared.places.opened(value.entry_id, value.envelope).header
            is_known = header.birth.root == published.root and header.birth.ver >= published.ver
            if is_known or header.created_ms > change.at_ms:
                return False
            return _is_over(value.entry_id, header, [change], header.created_ms)
        return False

    def settle(self, values: Sequence[SetValue], own_changes: Iterable[Change] = ()) -> None:
        """Compare values with what the team has, and take them off the queue, as entries to be told or for good.

        What `own_changes`, of this machine, have made invalid is not said. Raises ``StoreUnavailable``: what is not
        settled waits on.
        """
        headers: dict[EntryId, Header] = {}
        for value in values:
            with suppress(DecryptionError, EntryUndecodable):
                headers[value.entry_id] = self._shared.places.opened(value.entry_id, value.envelope).header
        ours = {value.entry_id: value for value in values if value.entry_id in headers}
        try:
            rulings, birth = self._ruled(ours, headers)
        except WriteRefused:  # nobody on this machine may tell of them
            rulings, birth = dict.fromkeys(ours, Ruling(is_kept=False, is_published=False)), None
        self._remove(
            {
                one: value.envelope
                for one, value in ours.items()
                if not (rulings[one].is_kept or rulings[one].is_published)
            }
        )
        reborn = {}
        for entry_id, ruling in rulings.items():
            if ruling.is_kept and birth is not None:
                reborn[entry_id] = self._shared.places.reborn(entry_id, ours[entry_id].envelope, birth)
        changes = list(own_changes)
        now_ms = self._shared.now_ms()
        lost = [one for one in headers if one not in reborn and not _is_over(one, headers[one], changes, now_ms)]
        count = len(lost) + len(values) - len(ours)
        if count:  # before they are off the queue: rather twice than never
            self._tell(Trouble("L2", "NotKept", _NOT_KEPT.format(count=count)))
        told = self._outbox.settle_values(values, {entry_id: one.envelope for entry_id, one in reborn.items()})
        self.read()
        if self._own is not None:
            with suppress(StoreUnavailable):  # the team will have them
                self._own.places.place({entry_id: reborn[entry_id] for entry_id in told}, ANY)

    def contest(self, waiting: Sequence[Waiting]) -> None:
        """Decide between entries that were set here and can't be told as they are, and what the team has instead.

        The later one by the tier's clock counts, for all: theirs is published as invalid and ours is queued anew, or
        ours is removed here. What can be told as it is by now waits on. Raises ``StoreUnavailable``: it is decided
        again; ``PartUnavailable`` for what the tier neither shows nor takes.
        """
        numbers = {one.entry_id: one.number for one in waiting}
        ours = {}
        for one in waiting:
            with suppress(DecryptionError, EntryUndecodable):
                ours[one.entry_id] = self._shared.places.opened(one.entry_id, one.envelope)
        self._look()
        self._live.ensure()
        here = self._live.current()
        theirs = self._rivals(ours)
        ours = {one: what for one, what in ours.items() if one not in theirs or theirs[one].is_other(what.envelope)}
        rivals: dict[EntryId, Rival] = {}
        now_ms = self._shared.now_ms()

        def how(generations: Generations) -> Generations:
            room = MAX_ENTRY_RECORDS // 2 - len(generations.entries)  # the rest is for who overwrites
            for one, what in ours.items():
                rivals[one] = rival(one, what, theirs.get(one), generations, now_ms)
                if generations.entries.get(one) != here.entries.get(one):
                    rivals[one] = Rival.NONE  # somebody has ruled on it since that was looked at: it is looked at again
                if rivals[one] is Rival.EARLIER and one not in generations.entries:
                    room -= 1
                    if room < 0:  # the floor would rise, and take with it what waits to be told
                        rivals[one] = Rival.LATER
            named = [one for one, what in rivals.items() if what is Rival.EARLIER]
            return generations.invalidating_entries(named, now_ms=now_ms) if named else generations

        birth = self._live.change(how).stamp
        # What an invalidation that waits here names is not told.
        open_ = [one for one in _those(rivals, Rival.NONE) if here.is_valid(one, ours[one].header)]
        vain = {one: self._vain.get(one, 0) + 1 for one in [*open_, *_those(rivals, Rival.PERHAPS_OVER)]}
        anew = {one: ours[one] for one, count in vain.items() if count <= _MOST_VAIN}
        reborn = {
            one: self._shared.places.reborn(one, ours[one].envelope, birth) for one in _those(rivals, Rival.EARLIER)
        }
        self._published(reborn)
        told = self._told_at_once(reborn)
        queued = {**anew, **{one: what for one, what in reborn.items() if one not in told}}
        waits = self._outbox.put_anew({numbers[one]: what.envelope for one, what in queued.items()})
        self._remove({one: ours[one].envelope for one in _those(rivals, Rival.LATER)})
        if self._own is not None:
            mine = {one: what for one, what in reborn.items() if one in told or numbers[one] in waits}
            with suppress(StoreUnavailable):  # the team will have them
                self._own.places.place(mine, ANY)
        # Of others nothing is known: they may come in turns with these, each of them in a batch of its own.
        self._vain = {one: count for one, count in self._vain.items() if one not in numbers}
        self._vain |= {one: count for one, count in vain.items() if one in anew or one in open_}
        if any(one not in anew for one in open_):
            raise PartUnavailable("the team's tier neither shows nor takes what was set")

    def _told_at_once(self, reborn: Mapping[EntryId, Placed]) -> list[EntryId]:
        """Store what takes the place of something published as invalid, and return what is stored; the rest waits.

        Until it is, nobody has anything, and a teammate who set the same can't tell this from a deletion.
        """
        with suppress(StoreUnavailable):
            filled = self._shared.places.place(reborn, ANY) if reborn else {}
            return [one for one, what in filled.items() if what is Filled.STORED]
        return []

    def _ruled(
        self, values: Mapping[EntryId, SetValue], headers: Mapping[EntryId, Header]
    ) -> tuple[dict[EntryId, Ruling], Stamp]:
        """Publish what is to be published; return what becomes of each value, and the birth of those that are kept."""
        self._look()
        self._live.ensure()
        seen = self._live.current().stamp
        before = self._theirs(values)
        rulings: dict[EntryId, Ruling] = {}
        now_ms = self._shared.now_ms()

        def how(generations: Generations) -> Generations:
            for one, value in values.items():
                rulings[one] = rule(value, headers[one], before.get(one), seen, generations, now_ms)
            named = [one for one, ruling in rulings.items() if ruling.is_published]
            return generations.invalidating_entries(named, now_ms=now_ms) if named else generations

        changed = self._live.change(how)
        self._published([one for one, ruling in rulings.items() if ruling.is_published])
        # What a teammate has stored in between was set later, or may have been. Where it can't be looked at, ours waits
        # as an entry that was set, which is compared with that.
        with suppress(StoreUnavailable):
            for one, found in self._theirs([one for one, ruling in rulings.items() if ruling.is_kept]).items():
                earlier = before.get(one)
                if earlier is None or earlier.digest != found.digest:
                    rulings[one] = replace(rulings[one], is_kept=False)
        return rulings, changed.stamp

    def _theirs(self, entry_ids: Iterable[EntryId]) -> dict[EntryId, Theirs]:
        """Return what the team has of `entry_ids`, as far as it can be opened; raises ``StoreUnavailable``."""
        found = {}
        places = self._shared.places
        for entry_id, held in _held(places.fills, entry_ids).items():
            with suppress(DecryptionError, EntryUndecodable):
                found[entry_id] = Theirs(places.header(entry_id, held.blob), digest_of(held.blob))
        return found

    def _rivals(self, ours: Mapping[EntryId, Placed]) -> dict[EntryId, Theirs]:
        """As `_theirs`, beside our own: where their headers say which was set later no more of them is read."""
        headers = self._shared.places.headers(ours)
        apart = {
            one: Theirs(header) for one, header in headers.items() if header.created_ms != ours[one].header.created_ms
        }
        return {**apart, **self._theirs(one for one in ours if one not in apart)}

    def _remove(self, envelopes: Mapping[EntryId, bytes]) -> None:
        """Remove values that lie here still, since what the team has counts; raises ``StoreUnavailable``."""
        own = self._own
        if own is None or not envelopes:
            return
        held = _held(own.places.fills, envelopes)
        own.places.remove({one: there for one, there in held.items() if there.blob == envelopes[one]})


def _those(rivals: Mapping[EntryId, Rival], which: Rival) -> list[EntryId]:
    return [one for one, what in rivals.items() if what is which]


def _is_over(entry_id: EntryId, header: Header, changes: Iterable[Change], now_ms: int) -> bool:
    """Return whether a value has expired, or was made invalid by who set it: that it is not kept is no news."""
    if now_ms - header.created_ms >= header.ttl_s * 1000:
        return True
    generations = Generations(header.birth.root, header.birth.ver)
    for change in changes:
        generations = change.apply(generations)
    return not generations.is_valid(entry_id, header)


def _held(fills: SupportsFill, entry_ids: Iterable[EntryId]) -> dict[EntryId, Held]:
    return {EntryId(key): held for key, held in held_many(fills, entry_ids).items()}
