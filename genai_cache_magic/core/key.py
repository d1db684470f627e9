"""Canonical bytes to entry ids, and names to keyed tags: what a store may see (`spec/key.md` §5, §6)."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from hashlib import _Hash

    from genai_cache_magic.core.model import EntryId

TagKind: TypeAlias = Literal["user", "run", "cell", "model", "person", "vectors"]
"""What a tag is about; the same name under two kinds is two tags."""

TAG_KINDS: Final = frozenset(get_args(TagKind))

TAG_BYTES: Final = 16
"""Length of a keyed tag [bytes]."""

COMPONENT_BYTES: Final = 8
"""Length of a component's digest before it is written as hex [bytes]."""

_TAG: Final = b"genai-cache/tag/1\0"
_COMPONENT: Final = b"genai-cache/component/1\0"
_PLACE: Final = b"genai-cache/place/1\0"
_OWNER: Final = b"genai-cache/owner/1\0"

_BLOCK_BYTES: Final = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_MOST_KEYS: Final = 16
"""Two of each namespace that a process has open."""
_MOST_TAGS: Final = 256


def entry_id(canonical: bytes, id_key: bytes) -> EntryId:
    """Return the name under which the answer to a request is stored.

    Parameters
    ----------
    canonical
        From `canonical_bytes`.
    id_key
        The namespace's id key, bytes, shape (32,).
        SECURITY: without it an id can't be computed, so nobody who can list a store can test a guessed prompt.
    """
    # The message is 32 bytes long, the others in this file start with a label: no two kinds can meet.
    return _keyed(id_key, hashlib.sha256(canonical).digest()).hex()  # type: ignore[return-value]  # this is where ids are made


@functools.lru_cache(maxsize=_MOST_TAGS)  # a call's model, cell, run and person are its neighbour's, too
def keyed_tag(kind: TagKind, name: str, mac_key: bytes) -> bytes:
    """Return a tag as stores see it, bytes, shape (16,).

    Parameters
    ----------
    kind
        What the tag is about.
    name
        The tag, run, cell, model or person as the user writes it.
    mac_key
        Key of the namespace, bytes, shape (32,).

    Raises
    ------
    ConfigurationError
        `kind` is not one of `TAG_KINDS`.
    """
    if kind not in TAG_KINDS:
        raise ConfigurationError(f"tag kind {kind!r} is unknown; use one of {', '.join(sorted(TAG_KINDS))}")
    # No kind holds a NUL, so the first one ends it whatever the name holds. A name from the operating
    # system may hold half surrogate pairs.
    message = b"".join((_TAG, kind.encode(), b"\0", name.encode("utf-8", "surrogatepass")))
    return _keyed(mac_key, message)[:TAG_BYTES]


def keyed_owner(digest: bytes, mac_key: bytes) -> bytes:
    """Return what stands for the owner of an account, of whose names this is a digest; bytes, shape (16,)."""
    return _keyed(mac_key, _OWNER + digest)[:TAG_BYTES]


def keyed_digest(component: bytes, mac_key: bytes) -> str:
    """Return the digest of one component of a key, 16 lowercase hex characters.

    It tells `explain` whether two components are equal, and nobody without the key what they are.
    """
    return _keyed(mac_key, _COMPONENT + component)[:COMPONENT_BYTES].hex()


def keyed_place(namespace: str, place: str, mac_key: bytes) -> bytes:
    """Return what a namespace in the store at `place` is known by, bytes, shape (8,).

    A saved notebook bears it: without the key it tells neither where the store is nor what it is called.
    """
    message = b"".join((_PLACE, namespace.encode(), b"\0", place.encode("utf-8", "surrogatepass")))
    return _keyed(mac_key, message)[:COMPONENT_BYTES]


def let_go() -> None:
    """Forget all keys, and the names of tags: what is asked for next is begun anew.

    SECURITY: who is done with a key calls it, or what is remembered here would outlive its cache.
    """
    keyed_tag.cache_clear()
    _begun.cache_clear()


def _keyed(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104), bytes, shape (32,)."""
    inner, outer = _begun(key)
    # From copied states: 1 µs, against 5 to 10 for `hmac.digest`, and a call has several of these.
    within = inner.copy()
    within.update(message)
    whole = outer.copy()
    whole.update(within.digest())
    return whole.digest()


@functools.lru_cache(maxsize=_MOST_KEYS)
def _begun(key: bytes) -> tuple[_Hash, _Hash]:
    """Return both hashes of HMAC as they stand once they have read `key`: copied for each message, never changed."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))
