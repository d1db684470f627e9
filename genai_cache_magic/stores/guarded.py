"""Wrappers that keep a failing backend from being asked: a ``Store`` and a ``Document`` behind a circuit breaker.

Each offers what the wrapped one can do, no more and no less, so that whoever asks for a power gets a true answer.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from genai_cache_magic.errors import (
    PartUnavailable,
    StoreDenied,
    StoreUnavailable,
    WriteRefused,
    WritesUnavailable,
)
from genai_cache_magic.stores.base import (
    SupportsCheck,
    SupportsFill,
    SupportsFillMany,
    SupportsGetMany,
    SupportsHeads,
    SupportsUnused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from genai_cache_magic.stores.base import CheckReport, Document, Held, Leases, Page, Pages, Put, Store
    from genai_cache_magic.stores.breaker import Breaker


@contextlib.contextmanager
def guarded(breaker: Breaker) -> Iterator[None]:
    """Run a block if `breaker` lets it, and tell it how the block ended."""
    leave = breaker.enter()
    try:
        yield
    except PartUnavailable:
        breaker.succeeded(leave)  # what failed has a breaker of its own
        raise
    except WriteRefused:
        breaker.gave_up(leave)  # a right that we lack says nothing of whether the backend is well
        raise
    except StoreUnavailable as error:
        breaker.failed(leave, error)
        raise
    except BaseException:
        # A mistake of the caller, an interrupt, a generator closed: nothing the backend has done.
        breaker.gave_up(leave)
        raise
    breaker.succeeded(leave)


@contextlib.contextmanager
def guarded_write(breaker: Breaker, *, is_decisive: bool = True) -> Iterator[None]:
    """Run a block that changes what the backend holds, as `guarded` does, where we may change it.

    Raises ``WriteRefused`` where we may only read, if that is known without asking. `is_decisive` says that whoever is
    refused this can write nothing of use: not so of removing.
    """
    breaker.rights.begin(is_decisive=is_decisive)
    withheld: WritesUnavailable | None = None
    with guarded(breaker):
        try:
            yield
        except WritesUnavailable as error:
            withheld = error  # it answers, and reading is as good as ever; who refuses so to be read is not well
        except WriteRefused:
            raise
        except StoreDenied as error:
            refused = breaker.rights.refused(error, is_decisive=is_decisive)
            if refused is None:
                raise
            raise refused from error
    if withheld is not None:
        breaker.rights.withheld(withheld)
        raise withheld
    if is_decisive:
        breaker.rights.allowed()


def _note(breaker: Breaker, *, is_stored: bool) -> None:
    if is_stored:
        breaker.rights.stored()


class GuardedStore:
    """A ``Store`` that asks `inner` only while `breaker` lets it."""

    def __init__(self, inner: Store, breaker: Breaker) -> None:
        self.inner = inner
        self._breaker = breaker

    def get(self, key: str) -> bytes | None:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return self.inner.get(key)

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Pass the value on."""
        with guarded_write(self._breaker, is_decisive=ttl_s > 0):
            self.inner.put(key, blob, ttl_s=ttl_s)
        _note(self._breaker, is_stored=ttl_s > 0)

    def delete(self, key: str) -> bool:
        """Pass the deletion on."""
        with guarded_write(self._breaker, is_decisive=False):
            return self.inner.delete(key)

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield what `inner` does."""
        with guarded(self._breaker):
            yield from self.inner.scan(prefix)

    def close(self) -> None:
        """Close `inner`."""
        self.inner.close()


class GuardedFillStore(GuardedStore):
    """A ``GuardedStore`` over one that answers in batches and fills on a condition."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return cast("SupportsGetMany", self.inner).get_many(keys)

    def held(self, key: str) -> Held | None:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return cast("SupportsFill", self.inner).held(key)

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Pass the value on."""
        with guarded_write(self._breaker, is_decisive=ttl_s > 0):
            is_put = cast("SupportsFill", self.inner).put_if(key, blob, ttl_s=ttl_s, held=held)
        _note(self._breaker, is_stored=is_put and ttl_s > 0)
        return is_put


class GuardedFillManyStore(GuardedFillStore):
    """A ``GuardedFillStore`` over one that also fills many at once."""

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return cast("SupportsFillMany", self.inner).held_many(keys)

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Pass the values on."""
        with guarded_write(self._breaker, is_decisive=any(put.ttl_s > 0 for put in puts)):
            are_put = cast("SupportsFillMany", self.inner).put_many_if(puts)
        _note(self._breaker, is_stored=any(put.ttl_s > 0 for put, is_put in zip(puts, are_put, strict=True) if is_put))
        return are_put


class _Heads(GuardedStore):
    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return cast("SupportsHeads", self.inner).get_heads(keys, size_bytes=size_bytes)


class _Check(GuardedStore):
    def check(self) -> CheckReport:
        """Return what `inner` does."""
        with guarded_write(self._breaker, is_decisive=False):
            return cast("SupportsCheck", self.inner).check()


class GuardedHeadsStore(_Heads, GuardedFillManyStore):
    """A ``GuardedFillManyStore`` over one that also reads how values begin."""


class GuardedCheckStore(_Check, GuardedFillManyStore):
    """A ``GuardedFillManyStore`` over one that can also look for what has expired."""


class GuardedHeadsCheckStore(_Heads, GuardedCheckStore):
    """A ``GuardedCheckStore`` over one that also reads how values begin."""


class GuardedUnusedStore(GuardedHeadsCheckStore):
    """A ``GuardedHeadsCheckStore`` over one whose values are known by names that stand elsewhere."""

    def remove_unused(self, used: Callable[[], Collection[str]]) -> int:
        """Return what `inner` does."""
        with guarded_write(self._breaker, is_decisive=False):
            return cast("SupportsUnused", self.inner).remove_unused(used)


_BY_POWERS: dict[tuple[bool, bool], type[GuardedFillManyStore]] = {
    (False, False): GuardedFillManyStore,
    (True, False): GuardedHeadsStore,
    (False, True): GuardedCheckStore,
    (True, True): GuardedHeadsCheckStore,
}


def guard_store(inner: Store, breaker: Breaker) -> GuardedStore:
    """Return `inner` behind `breaker`, with the powers that it has."""
    if not isinstance(inner, SupportsFill) or not isinstance(inner, SupportsGetMany):
        return GuardedStore(inner, breaker)
    if not isinstance(inner, SupportsFillMany):
        return GuardedFillStore(inner, breaker)
    if isinstance(inner, SupportsUnused):
        return GuardedUnusedStore(inner, breaker)
    return _BY_POWERS[isinstance(inner, SupportsHeads), isinstance(inner, SupportsCheck)](inner, breaker)


class GuardedDocument:
    """A ``Document`` that asks `inner` only while `breaker` lets it."""

    def __init__(self, inner: Document, breaker: Breaker) -> None:
        self.inner = inner
        self._breaker = breaker

    def version(self) -> object:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return self.inner.version()

    def load(self) -> bytes | None:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return self.inner.load()

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Pass the change on."""
        with guarded_write(self._breaker):
            is_replaced = self.inner.replace(new, expected=expected)
        _note(self._breaker, is_stored=is_replaced)
        return is_replaced


class GuardedLeases:
    """The leases of a tier, asked for only while `breaker` lets them."""

    def __init__(self, inner: Leases, breaker: Breaker) -> None:
        self.inner = inner
        self._breaker = breaker

    def try_take(self, key: str, *, life_s: float) -> bytes | None:
        """Return what `inner` does."""
        with guarded_write(self._breaker):
            token = self.inner.try_take(key, life_s=life_s)
        _note(self._breaker, is_stored=token is not None)
        return token

    def extend_many(self, held: Mapping[str, bytes], *, life_s: float) -> set[str]:
        """Return what `inner` does."""
        with guarded_write(self._breaker):
            return self.inner.extend_many(held, life_s=life_s)

    def release(self, key: str, token: bytes) -> bool:
        """Return what `inner` does."""
        with guarded_write(self._breaker, is_decisive=False):
            return self.inner.release(key, token)


class GuardedPages:
    """The pages of a tier, asked for only while `breaker` lets them."""

    def __init__(self, inner: Pages, breaker: Breaker) -> None:
        self.inner = inner
        self._breaker = breaker

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        """Pass the pages on."""
        with guarded_write(self._breaker, is_decisive=ttl_s > 0):
            return self.inner.put(group, pages, ttl_s=ttl_s)

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return self.inner.revisions(groups)

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        """Return what `inner` does."""
        with guarded(self._breaker):
            return self.inner.read(group, names)

    def remove(self, group: str, names: Collection[str]) -> None:
        """Pass the removal on."""
        with guarded_write(self._breaker, is_decisive=False):
            self.inner.remove(group, names)

    def prune(self) -> int:
        """Return what `inner` does."""
        with guarded_write(self._breaker, is_decisive=False):
            return self.inner.prune()
