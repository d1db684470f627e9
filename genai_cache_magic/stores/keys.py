"""The one shape a key may have, checked at every door of every store."""

from __future__ import annotations

import re

from genai_cache_magic.stores.base import LARGEST_PAGE

KEY_DIGITS = 64
LAYOUT = 1
"""The major version of how names are made at rest; each has a place of its own, and none reads another's."""
_is_key = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}").fullmatch
_is_prefix = re.compile(rf"[0-9a-f]{{0,{KEY_DIGITS}}}").fullmatch


def check_key(key: str) -> None:
    """Raise ``ValueError`` unless `key` is 64 lowercase hex characters.

    SECURITY: keys become parts of file names and ranges of an index; nothing else may get that far.
    Another key is a bug of the caller, not a state of the store, so it is no ``StoreUnavailable``.
    """
    if not _is_key(key):
        raise ValueError(f"a key is {KEY_DIGITS} lowercase hex characters, not {len(key)} of another kind")


def is_key(key: str) -> bool:
    """Return whether `key` has the shape of one."""
    return _is_key(key) is not None


def check_page(name: str, blob: bytes) -> None:
    """Raise ``ValueError`` or ``TypeError`` unless `blob` can be a page of that name."""
    check_key(name)
    check_blob(blob)
    if len(blob) > LARGEST_PAGE:
        raise ValueError(f"a page has up to {LARGEST_PAGE} bytes, not {len(blob)}")


def check_blob(blob: bytes) -> None:
    """Raise ``TypeError`` unless `blob` is exactly ``bytes``: what is kept must not change afterwards."""
    if type(blob) is not bytes:
        raise TypeError(f"a store keeps bytes, not {type(blob).__name__}")


def key_range(prefix: str) -> tuple[bytes, bytes] | None:
    """Return the lowest and highest 32-byte keys that start with the hex `prefix`; None if no key can."""
    if not _is_prefix(prefix):
        return None
    return bytes.fromhex(prefix.ljust(KEY_DIGITS, "0")), bytes.fromhex(prefix.ljust(KEY_DIGITS, "f"))
