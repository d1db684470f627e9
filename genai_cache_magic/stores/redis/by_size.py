"""One tier of two: a fast one that rules and holds what is small, and one beside it for what is large.

Documents, leases, times to live and every decision are the fast tier's. A large value lies beside it under a name of
its own, chosen at random for each put, and the fast one holds a pointer to it::

    offset  bytes  field
         0      8  00 "GCLARGE"
         8     32  name of the large value

So whoever compares and puts does so in one place, and what lost a race is removed by who wrote it. While the other
tier is away, what is large is absent, and all else goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from concurrent.futures import wait
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from genai_cache_magic.errors import PartUnavailable, StoreUnavailable
from genai_cache_magic.stores.base import (
    CheckReport,
    Held,
    LookUp,
    Put,
    Store,
    SupportsCheck,
    SupportsFill,
    SupportsFillMany,
    SupportsHeads,
    SupportsUnused,
    UsedUnknown,
)
from genai_cache_magic.stores.guarded import GuardedPages, guard_store
from genai_cache_magic.stores.keys import check_blob, check_key
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from genai_cache_magic.stores.base import Counters, Document, Leases, Page, Pages
    from genai_cache_magic.stores.breaker import Breaker
    from genai_cache_magic.stores.redis.store import RedisTier

LARGE_BYTES = 1024**2
"""What is larger goes beside the fast tier [bytes]."""

_POINTER = b"\0GCLARGE"
_NAME_BYTES = 32
POINTER_BYTES = len(_POINTER) + _NAME_BYTES
"""So long is what stands for a large value [bytes]."""
_LONGER_S = 60.0
"""A large value outlives its pointer: the service that holds it tells time to the second [s]."""
_WORKERS = 8
_AT_ONCE = 1_000
_HEAD_BYTES = 64
"""More than a pointer has."""
_PATIENCE_S = 1.2
"""How long a look-up waits for what is large: less than a round may take [s]."""


class Rules(Store, SupportsFill, SupportsFillMany, SupportsHeads, Protocol):
    """A store that can be the one that rules."""


class SizedStore:
    """A ``Store`` over two: what is larger than `limit_bytes` lies in `large`, and `small` holds where.

    Parameters
    ----------
    small
        The store that rules.
    large
        The store beside it; trouble with it is raised as ``PartUnavailable``.
    """

    def __init__(self, small: Rules, large: Store, *, limit_bytes: int = LARGE_BYTES) -> None:
        self._small = small
        self._large = large
        self._limit_bytes = limit_bytes

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent or expired."""
        return self._resolved(self._small.get(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there; what is large is asked for one after another."""
        return {key: held.blob for key, held in self.held_many(keys).items()}

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return the first `size_bytes` of what is under those `keys` that are there; what can't be had is left out."""
        found = self._small.get_heads(keys, size_bytes=size_bytes)
        names = {key: _name(value) for key, value in found.items() if _is_pointer(value)}
        if not names:
            return found
        large: dict[str, bytes] = {}
        with contextlib.suppress(PartUnavailable), _part():
            large = self._heads_of_large(names.values(), size_bytes)
        return {key: value for key, value in found.items() if key not in names} | {
            key: large[name] for key, name in names.items() if name in large
        }

    def _heads_of_large(self, names: Iterable[str], size_bytes: int) -> dict[str, bytes]:
        if isinstance(self._large, SupportsHeads):
            return self._large.get_heads(names, size_bytes=size_bytes)
        return {name: blob[:size_bytes] for name in names if (blob := self._large.get(name)) is not None}

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], replacing what was there."""
        check_blob(blob)
        before = self._small.get(key)
        value = self._placed(blob, ttl_s)
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove, value)
            self._small.put(key, value, ttl_s=ttl_s)
            undo.pop_all()
        self._remove(before)

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision; None if absent or expired."""
        return self.held_many([key]).get(key)

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return, of those `keys` that are there, what `held` would."""
        found = {}
        for key, held in self._small.held_many(keys).items():
            value = self.resolve(held.blob)
            if value is not None:
                found[key] = Held(value, held)
        return found

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Do what `put` does if `key` still holds `held` (None: nothing); return whether it did."""
        return self.put_many_if([Put(key, blob, ttl_s, held)])[0]

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts` what `put_if` does, in one round trip of the fast store; two if one is large."""
        for put in puts:
            check_key(put.key)
            check_blob(put.blob)
        hopeless = self._hopeless([put for put in puts if self._goes_beside(put.blob, put.ttl_s)])
        placed: list[Put] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove_all, placed)
            for put in puts:
                if put.key not in hopeless:
                    before = None if put.held is None else cast("Held", put.held.revision)
                    placed.append(Put(put.key, self._placed(put.blob, put.ttl_s), put.ttl_s, before))
            are_put = {
                put.key: is_put or self._puts_over_lost(put)
                for put, is_put in zip(placed, self._small.put_many_if(placed) if placed else (), strict=True)
            }
            undo.pop_all()
        for put in placed:
            self._remove((put.held.blob if put.held else None) if are_put[put.key] else put.blob)
        return [are_put.get(put.key, False) for put in puts]

    def _hopeless(self, puts: Sequence[Put]) -> set[str]:
        """Return the keys of those `puts` in whose way something stands: nothing of theirs need be put aside."""
        heads = self._small.get_heads([put.key for put in puts], size_bytes=_HEAD_BYTES) if puts else {}
        hopeless = set()
        for put in puts:
            head = heads.get(put.key)
            if put.held is None:
                is_free = head is None or not self._is_there(head)
            else:
                is_free = head == cast("Held", put.held.revision).blob[:_HEAD_BYTES]
            if not is_free:
                hopeless.add(put.key)
        return hopeless

    def _puts_over_lost(self, put: Put) -> bool:
        """Put what would have taken the place of nothing, if what stands there is a pointer to nothing."""
        if put.held is not None or put.ttl_s <= 0:
            return False
        before = self._small.held(put.key)
        if before is None or self._is_there(before.blob):
            return False
        return self._small.put_if(put.key, put.blob, ttl_s=put.ttl_s, held=before)

    def _is_there(self, value: bytes) -> bool:
        """Return whether there is what a value of the fast store stands for, without reading what is large."""
        if not _is_pointer(value):
            return True
        with _part():
            return bool(self._heads_of_large([_name(value)], _HEAD_BYTES))

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""
        before = self._small.get(key)
        was_there = self._small.delete(key)
        return self._remove(before) and was_there

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys, in no order, that start with `prefix` and have not expired."""
        return self._small.scan(prefix)

    def check(self) -> CheckReport:
        """Remove what is large and has expired, and (`removed_files`) what no pointer leads to any more."""
        if not isinstance(self._large, SupportsCheck):
            return CheckReport(0, 0, is_rebuilt=False)
        with _part():
            report = self._large.check()
        if not isinstance(self._large, SupportsUnused):
            return report
        try:
            with _part():
                return replace(report, removed_files=self._large.remove_unused(self._pointed_to))
        except UsedUnknown as error:
            # The fast store's trouble, and to be said and counted as such.
            raise error.__cause__ or error from None

    def _pointed_to(self) -> set[str]:
        """Return the names of all large values to which a pointer leads; raises ``UsedUnknown``."""
        names: set[str] = set()
        try:
            keys = self._small.scan()
            while batch := list(itertools.islice(keys, _AT_ONCE)):
                found = self._small.get_heads(batch, size_bytes=_HEAD_BYTES)
                names |= {_name(value) for value in found.values() if _is_pointer(value)}
        except StoreUnavailable as error:
            raise UsedUnknown from error
        return names

    def close(self) -> None:
        """Give up the connections of both; may be called twice."""
        with contextlib.ExitStack() as each:
            each.callback(self._large.close)
            each.callback(self._small.close)

    def resolve(self, value: bytes) -> bytes | None:
        """Return what a value of the fast store stands for; None if that is gone."""
        if not _is_pointer(value):
            return value
        with _part():
            return self._large.get(_name(value))

    def _resolved(self, value: bytes | None) -> bytes | None:
        return None if value is None else self.resolve(value)

    def _placed(self, blob: bytes, ttl_s: float) -> bytes:
        """Return what stands for `blob` in the fast store: itself, or a pointer to where it was put."""
        if not self._goes_beside(blob, ttl_s):
            return blob
        name = secrets.token_bytes(_NAME_BYTES)
        with _part():
            self._large.put(name.hex(), blob, ttl_s=ttl_s + _LONGER_S)
        return _POINTER + name

    def _goes_beside(self, blob: bytes, ttl_s: float) -> bool:
        # What looks like a pointer and is none must not be followed: it is put aside, whatever its size.
        return ttl_s > 0 and (len(blob) > self._limit_bytes or _is_pointer(blob))

    def _remove_all(self, placed: Iterable[Put]) -> None:
        """Remove what was put aside: nothing will ever point to it."""
        for put in placed:
            self._remove(put.blob)

    def _remove(self, value: bytes | None) -> bool:
        """Remove what `value` points to, if it does; return False if that was gone already. Trouble is left to time."""
        if value is None or not _is_pointer(value):
            return True
        with contextlib.suppress(StoreUnavailable):
            return self._large.delete(_name(value))
        return True


class SizedTier:
    """A Redis that rules, and beside it a store for what is large. A ``SharedTier`` with leases.

    Parameters
    ----------
    fast
        The Redis.
    large, breaker
        The store beside it, and what keeps it from being asked while it fails.
    bundles
        The pages beside it; without them the Redis keeps all pages.
    tell
        Hears, in words, why something large could not be looked up.
    limit_bytes
        What is larger goes beside [bytes].
    patience_s
        How long a look-up waits for what is large [s].
    """

    round_size = 200

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        fast: RedisTier,
        large: Store,
        breaker: Breaker,
        *,
        bundles: Pages | None = None,
        tell: Callable[[str], None] = lambda _: None,
        limit_bytes: int = LARGE_BYTES,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.name = fast.name
        self.store = SizedStore(fast.store, guard_store(large, breaker), limit_bytes=limit_bytes)
        self._fast = fast
        self._breaker = breaker
        self._tell = tell
        self._patience_s = patience_s
        self._workers = Workers(_WORKERS, "genai-cache-large")
        self.bundles: Pages = fast.bundles if bundles is None else _PagesBeside(GuardedPages(bundles, breaker))

    @property
    def pages(self) -> Pages:
        """Those of the Redis."""
        return self._fast.pages

    @property
    def leases(self) -> Leases:
        """Those of the Redis."""
        return self._fast.leases

    @property
    def counters(self) -> Counters:
        """Those of the Redis."""
        return self._fast.counters

    def document(self, name: str) -> Document:
        """Return the Redis's document of that name."""
        return self._fast.document(name)

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return what the Redis does, with what is large in the place of its pointers, as far as that can be had."""
        found = self._fast.look_up(document, keys)
        large = {key: value for key, value in found.blobs.items() if _is_pointer(value)}
        if not large:
            return found
        there = {key: value for key, value in found.blobs.items() if key not in large}
        fetched, late, away = self._fetched(large)
        return LookUp(found.token, found.now_s, there | fetched, [*found.unread, *late], away=away)

    def settle(self) -> tuple[str, ...]:
        """Set or compare the Redis's limits."""
        return self._fast.settle()

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        with contextlib.ExitStack() as each:
            each.callback(self.store.close)
            each.callback(self._workers.close)

    def _fetched(self, large: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str], list[str]]:
        """Return what could be had in time, and the keys of what could not: there was too much of it, or it is away."""
        asked = {key: self._workers.submit(self.store.resolve, value) for key, value in large.items()}
        done, late = wait(asked.values(), self._patience_s)
        for future in late:
            future.cancel()
        if late and not done:
            self._breaker.trip(StoreUnavailable("what holds the large answers does not answer in time"))
        arrived: dict[str, bytes] = {}
        unread: list[str] = []
        away: list[str] = []
        for key, future in asked.items():
            if future in late:
                (unread if done else away).append(key)
                continue
            try:
                value = future.result()
            except PartUnavailable as error:
                self._tell(str(error))
                away.append(key)
            else:
                arrived.update({} if value is None else {key: value})
        return arrived, unread, away


class _PagesBeside:
    """Pages of the tier beside, whose trouble leaves the other one alone."""

    def __init__(self, inner: Pages) -> None:
        self._inner = inner

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        with _part():
            return self._inner.put(group, pages, ttl_s=ttl_s)

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        with _part():
            return self._inner.revisions(groups)

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        with _part():
            return self._inner.read(group, names)

    def remove(self, group: str, names: Collection[str]) -> None:
        with _part():
            self._inner.remove(group, names)

    def prune(self) -> int:
        with _part():
            return self._inner.prune()


@contextlib.contextmanager
def _part() -> Iterator[None]:
    """Turn trouble of the tier beside into what says that the other goes on."""
    try:
        yield
    except StoreUnavailable as error:
        raise PartUnavailable(f"large answers are not shared: {error}") from error


def pointed_to(value: bytes) -> str | None:
    """Return the name of the large value that a value of the fast store stands for; None if that is itself one."""
    return _name(value) if _is_pointer(value) else None


def _is_pointer(value: bytes) -> bool:
    return len(value) == POINTER_BYTES and value.startswith(_POINTER)


def _name(pointer: bytes) -> str:
    return pointer[len(_POINTER) :].hex()
