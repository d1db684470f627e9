"""What a fill needs beside its store: what its caller wants, who is told, and a way where no store can compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.stores.base import Held, SupportsFillMany

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId, Response
    from genai_cache_magic.core.validity import Change, Generations
    from genai_cache_magic.entries.link import Looked
    from genai_cache_magic.stores.base import Put, Store, SupportsFill


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks of a stored answer, beside that it is valid.

    `ttl_s` is its explicit time to live [s], `scope_tags` the keyed tags that its scope names, and `is_unsuited`
    a look at the answer itself. `is_new` says that nothing at all was there when it looked last.
    """

    ttl_s: int | None = None
    scope_tags: Collection[bytes] = ()
    is_unsuited: Callable[[Response], bool] = lambda _: False
    is_new: bool = False


ANY = Wanted()


class Shares(Protocol):
    """A team, as its entries see it; `team.Team` says more."""

    def keep(self, envelopes: Mapping[EntryId, bytes], *, are_set: bool = False) -> None:
        """Give entries to the team, as soon as it can be reached; those that `are_set` have begun."""

    def begin(self, envelopes: Mapping[EntryId, bytes]) -> Callable[[Iterable[EntryId]], None]:
        """Queue what is about to be set here, in place of all that waits; `keep` follows.

        What is returned takes off the queue what was not set after all, as if it had never begun.
        """

    def set_away(self, envelopes: Mapping[EntryId, bytes]) -> Collection[EntryId]:
        """Store values here that can't be told now, and queue them; return those that are."""

    @property
    def unsettled(self) -> Collection[EntryId]:
        """The ids of values that were set here while the team was away, and wait."""

    def looked_up(self, entry_ids: Iterable[EntryId]) -> dict[EntryId, Looked]:
        """Look many up in one round, and wait for what comes of it."""

    def invalidate(self, how: Callable[[Generations], Generations], change: Change) -> Generations | None:
        """Publish an invalidation, or (None) queue it."""

    def try_invalidate(self, how: Callable[[Generations], Generations], change: Change) -> Generations | None:
        """Publish an invalidation, or (None) do nothing."""

    @property
    def is_behind(self) -> bool:
        """Whether invalidations are queued that the team has not heard of."""


class LookThenPut:
    """Fills a store that can't compare: it looks, then puts, and between the two another process may put."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def held(self, key: str) -> Held | None:
        """Return what `get` does; the value is its own revision."""
        blob = self._store.get(key)
        return None if blob is None else Held(blob, blob)

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Put `blob` if `key` still holds `held`, as far as can be seen."""
        if self._store.get(key) != (held and held.blob):
            return False
        self._store.put(key, blob, ttl_s=ttl_s)
        return True


def held_many(store: SupportsFill, keys: Iterable[str]) -> dict[str, Held]:
    """Return what `store` holds under those `keys` that are there, at once if it can."""
    wanted = list(keys)
    if len(wanted) > 1 and isinstance(store, SupportsFillMany):
        return store.held_many(wanted)
    return {key: held for key in wanted if (held := store.held(key)) is not None}


def put_many(store: SupportsFill, puts: Sequence[Put]) -> list[bool]:
    """Put each of `puts` where it still may be put, at once if `store` can; return which were."""
    if len(puts) > 1 and isinstance(store, SupportsFillMany):
        return store.put_many_if(puts)
    return [store.put_if(put.key, put.blob, ttl_s=put.ttl_s, held=put.held) for put in puts]
