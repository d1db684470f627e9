"""A run file that only its team can read (`spec/run-file.md` §4): the plain one, sealed by a key of the namespace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from genai_cache_magic.crypto.aead import SALT_BYTES, derive_key, open_box, seal_box
from genai_cache_magic.errors import ConfigurationError, DecryptionError

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC: Final = b"\x89GCR"
_HEAD: Final = MAGIC + b"\x01\x00\x00\x00"
_DOMAIN: Final = b"genai-cache-magic/run-file/v1"


def is_sealed(content: bytes) -> bool:
    """Tell a sealed file from a plain one."""
    return content.startswith(MAGIC)


def seal_file(plain: bytes, mac_key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return a plain file sealed for all who share the namespace of `mac_key` (bytes, shape (32,))."""
    box = seal_box(derive_key(mac_key, _DOMAIN), _DOMAIN, plain, associated=_HEAD, salt=random(SALT_BYTES))
    return _HEAD + box


def open_file(content: bytes, mac_key: bytes) -> bytes:
    """Return the plain file in a sealed one.

    Raises
    ------
    ConfigurationError
        It is of a newer version.
    DecryptionError
        It was sealed for another namespace or with another key, or was changed.
    """
    if not content.startswith(_HEAD):
        raise ConfigurationError("it is of a newer version: update genai-cache-magic")
    try:
        return open_box(derive_key(mac_key, _DOMAIN), _DOMAIN, content[len(_HEAD) :], associated=_HEAD)
    except DecryptionError as exc:
        raise DecryptionError(
            "it was sealed for another namespace or with another key, or was changed: use the namespace and the key of "
            "who wrote it, or ask for it as plain text"
        ) from exc
