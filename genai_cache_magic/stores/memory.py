"""A tier in this process's memory: for tests, for tools, and where no disk may be used."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.stores.base import Held
from genai_cache_magic.stores.keys import check_blob, check_key, key_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from genai_cache_magic.stores.base import Put

_ENTRY_OVERHEAD_BYTES = 400
"""What CPython spends on a key, a tuple, a float and a slot beside the value itself, rounded up [bytes]."""


class MemoryStore:
    """Opaque bytes in memory, the least recently stored evicted first. A ``Store``.

    Parameters
    ----------
    size_limit_bytes
        Room for values and their bookkeeping [bytes]. A value that alone exceeds it is not kept.
    clock
        Seconds that never run backwards.
    """

    def __init__(self, size_limit_bytes: int = 1 << 28, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size_limit_bytes = size_limit_bytes
        self._clock = clock
        self._lock = host.process_lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # guarded by _lock
        self._size_bytes = 0  # guarded by _lock

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent or expired."""
        held = self.held(key)
        return None if held is None else held.blob

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there."""
        found = ((key, self.get(key)) for key in keys)
        return {key: blob for key, blob in found if blob is not None}

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return the first `size_bytes` of what is under those `keys` that are there."""
        return {key: blob[:size_bytes] for key, blob in self.get_many(keys).items()}

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision."""
        check_key(key)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            blob, expires_at = entry
            if self._clock() < expires_at:
                return Held(blob, entry)
            self._remove(key)
            return None

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Put `blob` if `key` still holds `held`, and return whether it did."""
        with self._lock:
            now = self.held(key)
            # Each put makes a tuple of its own, and a revision keeps it alive: no two are ever one.
            if (now and now.revision) is not (held and held.revision):
                return False
            self.put(key, blob, ttl_s=ttl_s)
            return True

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return what `held` does of those `keys` that are there."""
        return {key: held for key in keys if (held := self.held(key)) is not None}

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts` what `put_if` does, as one step."""
        for put in puts:
            check_key(put.key)
            check_blob(put.blob)
        with self._lock:
            return [self.put_if(put.key, put.blob, ttl_s=put.ttl_s, held=put.held) for put in puts]

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], evicting what was stored longest ago to make room."""
        check_key(key)
        check_blob(blob)
        with self._lock:
            self._remove(key)
            if ttl_s <= 0 or _room(blob) > self._size_limit_bytes:
                return
            self._entries[key] = (blob, self._clock() + ttl_s)
            self._size_bytes += _room(blob)
            while self._size_bytes > self._size_limit_bytes:
                self._remove(next(iter(self._entries)))

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""
        check_key(key)
        with self._lock:
            expires_at = self._remove(key)
            return expires_at is not None and self._clock() < expires_at

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys, as of now, that start with `prefix` and have not expired."""
        if key_range(prefix) is None:
            return
        with self._lock:
            now = self._clock()
            keys = [
                key for key, (_, expires_at) in self._entries.items() if key.startswith(prefix) and now < expires_at
            ]
        yield from keys

    def count(self) -> int:
        """Return the number of entries, expired ones not yet removed included."""
        with self._lock:
            return len(self._entries)

    def size_bytes(self) -> int:
        """Return the room taken by values and their bookkeeping [bytes]."""
        with self._lock:
            return self._size_bytes

    def sizes(self) -> dict[str, int]:
        """Return the room that values take, by key [bytes]."""
        with self._lock:
            return {key: len(blob) for key, (blob, _) in self._entries.items()}

    def close(self) -> None:
        """Forget everything; may be called twice."""
        with self._lock:
            self._entries.clear()
            self._size_bytes = 0

    def _remove(self, key: str) -> float | None:
        """Drop `key` and return when it would have expired; the caller holds the lock."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._size_bytes -= _room(entry[0])
        return entry[1]


def _room(blob: bytes) -> int:
    return len(blob) + _ENTRY_OVERHEAD_BYTES
