"""A shared tier in this process's memory, for tests: several machines share it, and it can be away or lose things."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.base import LookUp
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from genai_cache_magic.stores.base import Document, Held, Put


class MemoryServer:
    """What the machines share.

    Attributes
    ----------
    documents
        By name; take one out and it is lost.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.store = MemoryStore(clock=clock)
        self.documents: dict[str, MemoryDocument] = {}

    def flush(self) -> None:
        """Lose everything, as an outsider's FLUSHALL does."""
        self.store.close()
        self.documents.clear()


class MemoryTier:
    """One machine's way to a `MemoryServer`. A ``SharedTier``.

    Attributes
    ----------
    is_away
        Whether every call raises ``StoreUnavailable``.
    calls
        How many calls were made, those in vain included.
    """

    round_size = 1_000

    def __init__(self, server: MemoryServer, name: str = "memory://team") -> None:
        self.server = server
        self.name = name
        self.is_away = False
        self.calls = 0
        self.store = _Reached(self)

    def document(self, name: str) -> Document:
        """Return the document of that name."""
        return _ReachedDocument(self, name)

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document` and the values of `keys`, in one call."""
        self.reach()
        found = self.server.documents.get(document)
        token = None if found is None else (found, found.version())
        return LookUp(token, self.server.clock(), self.server.store.get_many(keys))

    def reach(self) -> None:
        """Count a call, and raise ``StoreUnavailable`` while the server is away."""
        self.calls += 1
        if self.is_away:
            raise StoreUnavailable(f"{self.name} can't be reached")

    def close(self) -> None:
        """Nothing is held."""


class _Reached:
    """The server's store as one machine reaches it."""

    def __init__(self, tier: MemoryTier) -> None:
        self._tier = tier

    def _store(self) -> MemoryStore:
        self._tier.reach()
        return self._tier.server.store

    def get(self, key: str) -> bytes | None:
        return self._store().get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return self._store().get_many(keys)

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        return self._store().get_heads(keys, size_bytes=size_bytes)

    def held(self, key: str) -> Held | None:
        return self._store().held(key)

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        self._store().put(key, blob, ttl_s=ttl_s)

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        return self._store().put_if(key, blob, ttl_s=ttl_s, held=held)

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        return self._store().held_many(keys)

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        return self._store().put_many_if(puts)

    def delete(self, key: str) -> bool:
        return self._store().delete(key)

    def scan(self, prefix: str = "") -> Iterator[str]:
        return self._store().scan(prefix)

    def close(self) -> None:
        """The server goes on."""


class _ReachedDocument:
    """A document of the server's as one machine reaches it; made when it is first written."""

    def __init__(self, tier: MemoryTier, name: str) -> None:
        self._tier = tier
        self._name = name

    def _document(self) -> MemoryDocument | None:
        self._tier.reach()
        return self._tier.server.documents.get(self._name)

    def version(self) -> object:
        found = self._document()
        return None if found is None or found.version() is None else (found, found.version())

    def load(self) -> bytes | None:
        found = self._document()
        return None if found is None else found.load()

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        found = self._document()
        if found is None:
            if expected is not None:
                return False
            found = self._tier.server.documents.setdefault(self._name, MemoryDocument())
        return found.replace(new, expected=expected)
