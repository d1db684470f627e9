"""Values that were set while the team was away: they hold here at once, and are compared when they are told.

Their birth is the last state of the team's document that was known here. What the team has set or invalidated since
counts; else they take the place of what it has (`design/0009`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import Generations
from genai_cache_magic.entries.filling import ANY, Wanted, held_many
from genai_cache_magic.entries.outbox import SetValue
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable, WriteRefused
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import Header, Stamp
    from genai_cache_magic.core.validity import Change
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.outbox import Outbox
    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Held, SupportsFill

LONGEST_MS: Final = 24 * 3600 * 1000
"""Records of single entries live as long, so what is older can't be judged any more."""
APART_MS: Final = 10_000
"""Times that different machines tell by the tier's clock are in order if they are so far apart."""
_IN_ITS_PLACE: Final = Wanted(is_unsuited=lambda _: True)
_NOT_KEPT: Final = (
    "values that were set while the team could not be reached, and are not kept: {count}; what the team has set or "
    "invalidated since counts, and where that can't be told they have to be set again"
)


class Order(Enum):
    """What a team has under a value's key, beside the value: set before it, after it, or nobody can tell."""

    NOTHING = auto()
    EARLIER = auto()
    LATER = auto()
    UNTOLD = auto()


@dataclass(frozen=True, slots=True)
class Theirs:
    """What a team has under a key: its header, and the digest of all of it."""

    header: Header
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a value: whether it is kept, and whether its key is published as invalid.

    Where neither is so, what the team has counts.
    """

    is_kept: bool
    is_published: bool


def order(value: SetValue, birth: Stamp, theirs: Theirs | None) -> Order:
    """Return when what the team has, and is valid, was set; `birth` is the value's."""
    if theirs is None:
        return Order.NOTHING
    header = theirs.header
    if theirs.digest == value.replaced:
        return Order.EARLIER
    if header.birth != birth:
        is_earlier = header.birth.root == birth.root and header.birth.ver < birth.ver
        return Order.EARLIER if is_earlier else Order.LATER
    if value.set_ms and header.created_ms < value.set_ms - APART_MS:
        return Order.EARLIER
    if value.set_ms and header.created_ms > value.set_ms + APART_MS:
        return Order.LATER
    return Order.UNTOLD


def rule(value: SetValue, header: Header, theirs: Theirs | None, generations: Generations, now_ms: int) -> Ruling:
    """Return what becomes of a value with `header` by the team's document.

    `theirs` is what the team has under its key, valid or not.
    """
    birth, entry_id = header.birth, value.entry_id
    if theirs is not None and not generations.is_valid(entry_id, theirs.header):
        theirs = None
    when = order(value, birth, theirs)
    if when is Order.LATER:
        return Ruling(is_kept=False, is_published=False)
    age_ms = now_ms - header.created_ms
    # A clock may have been ahead when it was set: that makes it no younger than a day, which is what a record lives.
    is_valid = (
        generations.is_valid(entry_id, header)
        and birth.ver >= generations.forgotten
        and age_ms < min(header.ttl_s * 1000, LONGEST_MS)
    )
    if is_valid:
        return Ruling(is_kept=when is not Order.UNTOLD, is_published=True)
    # Where the team has ruled on this key since, nothing is left of what was there before.
    record = generations.entries.get(entry_id)
    least_ver = max(generations.floor, 0 if record is None else record.ver)
    is_ruled = generations.root != birth.root or birth.ver < least_ver
    return Ruling(is_kept=False, is_published=theirs is not None or not is_ruled)


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
        there = {key: _digest(held.blob) for key, held in held_many(own.places.fills, placed).items()}
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
        self._remove([value for one, value in ours.items() if not (rulings[one].is_kept or rulings[one].is_published)])
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

    def _ruled(
        self, values: Mapping[EntryId, SetValue], headers: Mapping[EntryId, Header]
    ) -> tuple[dict[EntryId, Ruling], Stamp]:
        """Publish what is to be published; return what becomes of each value, and the birth of those that are kept."""
        self._look()
        self._live.ensure()
        before = self._theirs(values)
        rulings: dict[EntryId, Ruling] = {}
        now_ms = self._shared.now_ms()

        def how(generations: Generations) -> Generations:
            for one, value in values.items():
                rulings[one] = rule(value, headers[one], before.get(one), generations, now_ms)
            named = [one for one, ruling in rulings.items() if ruling.is_published]
            return generations.invalidating_entries(named, now_ms=now_ms) if named else generations

        changed = self._live.change(how)
        self._published([one for one, ruling in rulings.items() if ruling.is_published])
        # What a teammate has stored in between was set later, or may have been.
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
                found[entry_id] = Theirs(places.opened(entry_id, held.blob).header, _digest(held.blob))
        return found

    def _remove(self, values: Collection[SetValue]) -> None:
        """Remove values that lie here still, since what the team has counts; raises ``StoreUnavailable``."""
        own = self._own
        if own is None or not values:
            return
        held = _held(own.places.fills, [value.entry_id for value in values])
        own.places.remove(
            {
                value.entry_id: there
                for value in values
                if (there := held.get(value.entry_id)) is not None and there.blob == value.envelope
            }
        )


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


def _digest(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest()
