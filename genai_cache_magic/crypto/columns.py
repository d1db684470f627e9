"""Sealed columns of a local database: many small texts under one key, each bound to its place.

    offset  bytes  field
         0     12  nonce, random
        12      n  ciphertext of AES-256-GCM, as long as the text
      12+n     16  tag

Unlike an envelope, which has a key of its own, a column costs two microseconds: a listing opens many. One key takes
2^32 of them before random nonces could meet.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from genai_cache_magic.crypto.aead import derive_key
from genai_cache_magic.errors import DecryptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Buffer: TypeAlias = bytes | bytearray | memoryview

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_DOMAIN: Final = b"genai-cache-magic/columns/v1"


class ColumnSeal:
    """Seals the columns of one database. Safe to share between threads.

    Parameters
    ----------
    mac_key : bytes, shape (32,)
        The namespace's `Keyring.mac_key`; rotation leaves it, and so what was sealed before, as it is.
    """

    def __init__(self, mac_key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._cipher = AESGCM(derive_key(mac_key, _DOMAIN))
        self._random = random

    def seal(self, text: Buffer, *, place: bytes) -> bytes:
        """Return `text` sealed for `place`: its table and the key of its row."""
        nonce = self._random(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, place)

    def open(self, sealed: bytes, *, place: bytes) -> bytes:
        """Return what was sealed for `place`.

        Raises
        ------
        DecryptionError
            It was not sealed with our key, or for another place.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError) as exc:
            raise DecryptionError("a sealed column failed authentication") from exc

    def open_into(self, room: memoryview, sealed: memoryview, *, place: bytes) -> None:
        """Put what was sealed for `place` where there is room for just that; raises as `open`.

        What is large is opened in a quarter of the time so: the rest goes into memory that is taken anew. After a
        failure the room holds nothing that may be used.
        """
        if len(sealed) != _NONCE_BYTES + len(room) + _TAG_BYTES:
            raise DecryptionError("a sealed column is of another length")
        nonce, rest = bytes(sealed[:_NONCE_BYTES]), sealed[_NONCE_BYTES:]
        try:
            if hasattr(self._cipher, "decrypt_into"):
                self._cipher.decrypt_into(nonce, rest, place, room)
            else:  # of cryptography before 47
                room[:] = self._cipher.decrypt(nonce, rest, place)
        except (InvalidTag, ValueError) as exc:
            raise DecryptionError("a sealed column failed authentication") from exc
