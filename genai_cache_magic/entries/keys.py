"""What the ids and tags of one namespace are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genai_cache_magic.core.key import keyed_owner, keyed_place, keyed_tag

if TYPE_CHECKING:
    from genai_cache_magic.core.key import TagKind


@dataclass(frozen=True, slots=True)
class Keys:
    """What the ids and tags of a namespace are made with: its name, and two secrets of 32 bytes each."""

    namespace: str
    id_key: bytes
    mac_key: bytes

    def __repr__(self) -> str:
        """Show no secret."""
        return f"<Keys of {self.namespace!r}>"

    def tag(self, kind: TagKind, name: str) -> bytes:
        """Return the keyed tag for a `kind` (``user``, ``run``, ``cell``, ``model``, ``person``)."""
        return keyed_tag(kind, name, self.mac_key)

    def fingerprint(self, place: str) -> str:
        """Return 16 hex digits by which this namespace, in the store at `place`, is known; they tell of neither."""
        return keyed_place(self.namespace, place, self.mac_key).hex()

    def owner(self, digest: bytes) -> bytes:
        """Return what stands in the ledger for the names of a digest: bytes, shape (16,)."""
        return keyed_owner(digest, self.mac_key)
