"""The interface of a tier: opaque bytes under a hex key, with a time to live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

LARGEST_VALUE = 64 * 1024**2
LARGEST_DOCUMENT = 4 * 1024**2
"""Nothing of ours is larger [bytes]: what stands in a shared tier and is, isn't fetched."""


class Store(Protocol):
    """Opaque bytes at rest.

    Keys are 64 lowercase hex characters (an entry id). A store never looks into a value. Any method
    may raise ``StoreUnavailable``, which callers turn into a miss; no other state of a store is an
    exception. Mistakes of the caller are: ``ValueError`` for a key of another shape, ``TypeError`` for a
    value that is not exactly ``bytes``. All methods may be called from any thread.
    """

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent, expired or damaged at rest."""

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], replacing what was there; all of it or nothing.

        With no time left (`ttl_s` <= 0), or no room for it at all, what was there is gone as well.
        """

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys, in no order, that start with `prefix` and have not expired.

        `prefix` is no pattern: one that no key can start with finds nothing. Keys put or deleted meanwhile
        may or may not appear.
        """

    def close(self) -> None:
        """Give up connections and descriptors; may be called twice."""


@runtime_checkable
class SupportsGetMany(Protocol):
    """A store that answers many look-ups in one round trip."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there."""


@runtime_checkable
class SupportsHeads(Protocol):
    """A store that reads how values begin, many in one round trip, without reading them whole."""

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return the first `size_bytes` (at least 64) of what is under those `keys` that are there."""


@runtime_checkable
class SupportsSize(Protocol):
    """A store that knows how much it holds without reading it."""

    def count(self) -> int:
        """Return the number of entries, expired ones not yet removed included."""

    def size_bytes(self) -> int:
        """Return the room taken [bytes], by values and by the store itself: what its limit bounds, if it has one."""


@runtime_checkable
class SupportsLog(Protocol):
    """A store that writes what changes to a log first, which gives its room back when the store is closed."""

    def log_bytes(self) -> int:
        """Return the room that the log takes [bytes], beside what ``size_bytes`` says."""


@runtime_checkable
class SupportsSizes(Protocol):
    """A store that knows what each value takes without reading it."""

    def sizes(self) -> dict[str, int]:
        """Return the room that values take, by key [bytes], expired ones not yet removed included."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds under a key, for a ``put_if`` that depends on it.

    `revision` is the store's own: a digest, an ETag. It says which of the values ever put there this is.
    """

    blob: bytes = field(repr=False)
    revision: object = field(repr=False)


@runtime_checkable
class SupportsFill(Protocol):
    """A store that replaces a value only if it is still the one that its caller has judged.

    Fills are built on it: an answer takes the place of one that is absent or of no use any more, and never
    of one that another process put there meanwhile.
    """

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision; None if absent, expired or damaged at rest."""

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Do what `put` does if `key` still holds `held` (None: nothing that `get` would return).

        Returns whether it did: False means that somebody else has put or removed a value, and that nothing was
        changed. Comparing and putting are one step for all who share what is at rest.
        """


@dataclass(frozen=True, slots=True)
class Put:
    """One of many conditional puts: what ``put_if`` is given."""

    key: str = field(repr=False)
    blob: bytes = field(repr=False)
    ttl_s: float
    held: Held | None = field(default=None, repr=False)


@runtime_checkable
class SupportsFillMany(Protocol):
    """A store that fills many at once: in one transaction, or in one round trip per server."""

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return, of those `keys` that are there, what `held` would."""

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts`, no two of one key, what ``put_if`` does; return which were done."""


@runtime_checkable
class SupportsDeleteMany(Protocol):
    """A store that removes many in one transaction."""

    def delete_many(self, keys: Iterable[str]) -> set[str]:
        """Remove `keys`, and return those that were there and had not expired."""


@runtime_checkable
class SupportsErase(Protocol):
    """A store that can give up everything at once, without room to write."""

    def erase(self) -> None:
        """Remove every entry."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found and removed."""

    removed_rows: int
    removed_files: int
    is_rebuilt: bool


@runtime_checkable
class SupportsCheck(Protocol):
    """A store that can look for what is damaged, expired or left over."""

    def check(self) -> CheckReport:
        """Read everything, and remove what is of no use to anyone."""


class UsedUnknown(Exception):  # noqa: N818 - it says what is not known, and never reaches a caller of ours
    """What is in use can't be told; its cause says why. Raised by who is asked for it, so no trouble of who asks."""


@runtime_checkable
class SupportsUnused(Protocol):
    """A store whose values are known by names that stand elsewhere; it ``SupportsHeads`` and ``SupportsCheck`` too."""

    def remove_unused(self, used: Callable[[], Collection[str]]) -> int:
        """Remove what was put more than ``UNUSED_S`` ago, by the service's clock, and is not among `used`.

        That is asked for once it is known what is so old: a value is put before its name is. Returns how many were.
        Where it raises ``UsedUnknown``, so does this, and nothing is removed.
        """


UNUSED_S = 3_600.0
"""Whoever puts a value has long told its name by then, or never will [s]."""


class Document(Protocol):
    """One small value that many processes change: a generation document, a keyset manifest.

    Any method may raise ``StoreUnavailable``.
    """

    def version(self) -> object:
        """Return a token that differs after every change; cheaper than `load`. None if absent."""

    def load(self) -> bytes | None:
        """Return the whole value, or None if it was never written."""

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the value is still `expected` (None: absent); return whether it was written."""


@runtime_checkable
class SupportsRemove(Protocol):
    """A document that can be removed, by whoever made it for a trial."""

    def remove(self) -> None:
        """Remove it, be it there or not; may raise ``StoreUnavailable``."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What an edge has under a `name` of its own: it may be old, or anyone's."""

    blob: bytes = field(repr=False)
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LookUp:
    """What one round trip to a shared tier brought.

    Attributes
    ----------
    token
        The version of the document that rules the values, read before them; None if it is absent.
    now_s
        The time by the tier's own clock [s since the epoch], which all machines that share it can go by.
    blobs
        The values of those keys that are there.
    unread
        The keys of more values that are there, and were too many bytes to be read in time.
    away
        The keys of others that are there, and lie in a part of the tier that can't be asked.
    copies
        By key, what an edge has of values; only of a ``SupportsEdge``.
    unasked
        The keys of those values for which the tier itself was not asked; only of a ``SupportsEdge``.
    """

    token: object
    now_s: float
    blobs: Mapping[str, bytes] = field(repr=False)
    unread: Collection[str] = field(default=(), repr=False)
    away: Collection[str] = field(default=(), kw_only=True, repr=False)
    copies: Mapping[str, Copy] = field(default_factory=dict, repr=False)
    unasked: Collection[str] = field(default=(), repr=False)


class SharedTier(Protocol):
    """What a team shares: a store, documents beside it, and both asked in one round trip.

    Any method but `close` may raise ``StoreUnavailable``.
    """

    @property
    def name(self) -> str:
        """Its address, fit to be shown."""

    @property
    def round_size(self) -> int:
        """How many values one look-up should ask for, so that it is answered well within a second."""

    @property
    def store(self) -> Store:
        """Where the values are; it ``SupportsFill`` and ``SupportsGetMany``."""

    def document(self, name: str) -> Document:
        """Return the document of that name."""

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document` and the values of `keys`, the version read first."""

    def close(self) -> None:
        """Give up connections; may be called twice."""


@runtime_checkable
class SupportsEdge(Protocol):
    """A shared tier in front of which stands an edge, which has copies of its values.

    Nothing that an edge says is believed: who looks up judges each copy, and asks the tier for what he refuses.
    """

    def look_near(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document`, as the tier itself has it, and copies; trouble of the edge is none.

        A copy may be older than that version. May raise ``StoreUnavailable``, as `look_up`.
        """

    def refuse(self, copies: Collection[Copy], *, are_forged: bool) -> None:
        """Take note that copies are of no use: old ones, or such as nobody of this name space has made."""

    def forget(self, keys: Collection[str] | None) -> None:
        """Let the edge forget what it has of `keys` (None: of all), soon, if it is allowed to; raises nothing."""

    def try_edge(self) -> str:
        """Try the way through the edge, and return what is wrong with it; may raise ``StoreUnavailable``."""


class Leases(Protocol):
    """Leases of a shared tier; every method raises ``StoreUnavailable`` while it can't be asked."""

    def try_take(self, key: str, *, life_s: float) -> bytes | None:
        """Take the lease of `key` if nobody has it; return the token that gives it back, or None."""

    def extend_many(self, held: Mapping[str, bytes], *, life_s: float) -> set[str]:
        """Let leases, by the tokens that were got for their keys, live from now on; return the keys that are ours."""

    def release(self, key: str, token: bytes) -> bool:
        """Give the lease back."""


@runtime_checkable
class SupportsLeases(Protocol):
    """A shared tier that can tell who of a team asks for what."""

    @property
    def leases(self) -> Leases:
        """Its leases."""


LARGEST_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Counted:
    """A count, and the label that came with its first change."""

    count: int
    label: bytes = field(repr=False)


class Counters(Protocol):
    """Counts, by name and field (64 hex digits each), that many change at once.

    Any method may raise ``StoreUnavailable``; when `add` or `add_within` does, it is not known whether it was counted.
    """

    def add(self, name: str, field: str, amount: int, label: bytes) -> int:
        """Add `amount` to a count, in one step for all who share it, and return what it is then.

        Raises ``ValueError`` if that would leave the range of 64 bits; nothing is changed.
        """

    def add_within(self, name: str, field: str, amount: int, label: bytes, *, at_most: int) -> tuple[bool, int]:
        """Add `amount` unless the count would be more than `at_most` then, in one step for all who share it.

        Returns whether it was added, and what the count is then. The bound is exact up to 2**53.
        """

    def read(self, name: str) -> dict[str, Counted]:
        """Return the counts under `name`, by field."""


@runtime_checkable
class SupportsCounters(Protocol):
    """A shared tier that counts by itself."""

    @property
    def counters(self) -> Counters:
        """Its counters."""


@runtime_checkable
class SupportsSettling(Protocol):
    """A shared tier whose server has limits of its own."""

    def settle(self) -> tuple[str, ...]:
        """Set or compare them, as it was made to; return what there is to say. May raise ``StoreUnavailable``."""


LARGEST_PAGE = 1024**2
MOST_PAGES = 20_000
"""No page of ours is larger [bytes], and no group of ours has more: what does is nobody's."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and which of those ever put under its name this is."""

    blob: bytes = field(repr=False)
    revision: str = field(repr=False)


class Pages(Protocol):
    """Opaque pages in groups, by group and name (64 hex digits each).

    Whoever owns a page sets it as a whole, and nobody else does: setting it once more comes to the same, so one whose
    outcome nobody knows is set again. Any method may raise ``StoreUnavailable``.
    """

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        """Set pages of a group, each in the place of its last one, for at least `ttl_s` [s]; return their revisions.

        Raises ``ValueError`` for one that is larger than ``LARGEST_PAGE``.
        """

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the pages that there are of each of `groups`, by name, with their revisions; in few round trips."""

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        """Return those of the pages that are there."""

    def remove(self, group: str, names: Collection[str]) -> None:
        """Remove pages; one that is not there is removed already."""

    def prune(self) -> int:
        """Remove what has expired, where the service does not do so itself; return how many pages that were."""


@runtime_checkable
class SupportsPages(Protocol):
    """A shared tier that keeps pages beside its values."""

    @property
    def pages(self) -> Pages:
        """Those that are small."""

    @property
    def bundles(self) -> Pages:
        """Those that may be many and large: elsewhere, where the tier has a better place for them."""
