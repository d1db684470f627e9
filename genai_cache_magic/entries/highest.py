"""The highest generation document and keyset that this machine has seen: what is below it was put back.

A copy of an older document, restored with other files of a cache, is authentic. Only the memory of a later one
tells that it is out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.errors import DecryptionError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.entries.state import StateFile

_MARK = struct.Struct(">Q32s")
_DOCUMENT = "highest generations"
_KEYSET = "highest keyset"
_REVOKED = "revoked epochs"
_EPOCH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Mark:
    """A document that was seen: its counter, and the digest of its bytes (32)."""

    ver: int = 0
    digest: bytes = bytes(32)

    @classmethod
    def of(cls, ver: int, blob: bytes) -> Mark:
        """Return the mark of a document."""
        return cls(ver, hashlib.sha256(blob).digest())

    def is_behind(self, seen: Mark) -> bool:
        """Return whether this is an older document than `seen`, or another one with the same counter."""
        return self.ver < seen.ver or (self.ver == seen.ver and self.digest != seen.digest and seen.ver > 0)


class Remembers(Protocol):
    """What outlives the process; where it fails, nothing is remembered."""

    def read(self) -> Mark:
        """Return the highest mark that was kept; that of nothing if there is none."""

    def keep(self, mark: Mark) -> None:
        """Keep `mark` unless a higher one is kept."""


class Forgets:
    """Remembers nothing: for a namespace that lives in this process alone."""

    def read(self) -> Mark:
        """Return the mark of nothing."""
        return Mark()

    def keep(self, mark: Mark) -> None:
        """Forget `mark`."""


class HighestDocument:
    """The highest generation document, kept in the state file under a MAC: a forged one counts as none."""

    def __init__(self, state: StateFile, *, namespace: str, mac_key: bytes) -> None:
        self._state = state
        self._context = f"{_DOCUMENT}/{namespace}"
        self._mac_key = mac_key

    def read(self) -> Mark:
        """Return the highest mark that was kept."""
        with contextlib.suppress(StoreUnavailable):
            return self._read(self._state.mark(_DOCUMENT))
        return Mark()

    def keep(self, mark: Mark) -> None:
        """Keep `mark` unless a higher one is kept."""
        with contextlib.suppress(StoreUnavailable):
            if self.read().ver < mark.ver:
                value = protect_document(self._mac_key, self._context, _MARK.pack(mark.ver, mark.digest))
                # Judged once more as it is written: others keep theirs meanwhile.
                self._state.set_mark(_DOCUMENT, value, gives_way=lambda kept: self._read(kept).ver < mark.ver)

    def _read(self, value: bytes | None) -> Mark:
        with contextlib.suppress(DecryptionError, struct.error):
            if value is not None:
                return Mark(*_MARK.unpack(verify_document(self._mac_key, self._context, value)))
        return Mark()


def highest_keyset(state: StateFile, namespace: str) -> int:
    """Return the highest version of the namespace's keyset that was seen here, 0 if none was.

    It is asked before any key is known, so what guards it finds damage only. Who can forge it could as well
    remove it.
    """
    with contextlib.suppress(StoreUnavailable):
        return _version(state.mark(_KEYSET), namespace)
    return 0


def keep_keyset(state: StateFile, namespace: str, version: int) -> None:
    """Note that `version` of the keyset was seen."""
    with contextlib.suppress(StoreUnavailable):
        if highest_keyset(state, namespace) < version:
            value = protect_document(_public(namespace), _KEYSET, version.to_bytes(8))
            state.set_mark(_KEYSET, value, gives_way=lambda kept: _version(kept, namespace) < version)


def revoked_epochs(state: StateFile, namespace: str) -> frozenset[int]:
    """Return the epochs that were seen to be revoked here; none may come back, in however new a keyset."""
    with contextlib.suppress(StoreUnavailable):
        return _epochs(state.mark(_REVOKED), namespace)
    return frozenset()


def keep_revoked(state: StateFile, namespace: str, epochs: Iterable[int]) -> None:
    """Note that these epochs were seen to be revoked."""
    with contextlib.suppress(StoreUnavailable):
        known = revoked_epochs(state, namespace)
        if not known.issuperset(epochs):
            joined = b"".join(_EPOCH.pack(epoch) for epoch in sorted(known.union(epochs)))
            state.set_mark(_REVOKED, protect_document(_public(namespace), _REVOKED, joined))


def _epochs(value: bytes | None, namespace: str) -> frozenset[int]:
    with contextlib.suppress(DecryptionError, struct.error):
        if value is not None:
            joined = verify_document(_public(namespace), _REVOKED, value)
            return frozenset(epoch for (epoch,) in _EPOCH.iter_unpack(joined))
    return frozenset()


def _version(value: bytes | None, namespace: str) -> int:
    with contextlib.suppress(DecryptionError):
        if value is not None:
            return int.from_bytes(verify_document(_public(namespace), _KEYSET, value))
    return 0


def _public(namespace: str) -> bytes:
    return hashlib.sha256(b"genai-cache keyset mark 1\0" + namespace.encode()).digest()
