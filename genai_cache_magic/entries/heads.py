"""How entries begin: what listings show of them, and what decides whether they are valid, without their answers."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from genai_cache_magic.core.model import EntryId, Header, Metadata
from genai_cache_magic.errors import DecryptionError, EntryUndecodable
from genai_cache_magic.stores.base import SupportsGetMany, SupportsHeads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from genai_cache_magic.entries.codec import Codec
    from genai_cache_magic.stores.base import Store

_HEAD_BYTES = 8 << 10
"""So much of each entry is read at first [bytes]; few list more than that."""
_MOST_BYTES = 4 << 20
"""So much of longer ones is read at once [bytes]."""

Head: TypeAlias = "tuple[Header, Metadata]"


class Heads:
    """Reads how the entries of `store` begin, many in one round trip, and no more of them where it can.

    Safe to share between threads.
    """

    def __init__(self, store: Store, codec: Codec) -> None:
        self._store = store
        self._codec = codec

    def opened(self, keys: Collection[str], *, stops: Callable[[], bool] = lambda: False) -> dict[EntryId, Head]:
        """Return how those of `keys` begin that are there; raises ``StoreUnavailable``.

        What can't be opened is left out, and so are the longer ones that are to be read once it `stops`.
        """
        found, longer = self._heads(keys, _HEAD_BYTES)
        while longer and not stops():
            size_bytes = max(longer.values())
            batch = list(itertools.islice(longer, max(1, _MOST_BYTES // size_bytes)))
            found |= self._heads(batch, size_bytes)[0]
            for key in batch:
                del longer[key]
        return found

    def _heads(self, keys: Collection[str], size_bytes: int) -> tuple[dict[EntryId, Head], dict[str, int]]:
        """Read how entries begin; return what that says, and of which it takes more, and how much [bytes]."""
        found: dict[EntryId, Head] = {}
        longer: dict[str, int] = {}
        for key, head in self._read(keys, size_bytes).items():
            with suppress(DecryptionError, EntryUndecodable):
                opened = self._codec.open_head(EntryId(key), head)
                if not isinstance(opened, int):
                    found[EntryId(key)] = opened
                elif len(head) == size_bytes:  # else it is cut off
                    longer[key] = opened
        return found, longer

    def _read(self, keys: Iterable[str], size_bytes: int) -> Mapping[str, bytes]:
        if isinstance(self._store, SupportsHeads):
            return self._store.get_heads(keys, size_bytes=size_bytes)
        if isinstance(self._store, SupportsGetMany):
            return self._store.get_many(keys)
        return {key: blob for key in keys if (blob := self._store.get(key)) is not None}
