"""A chain of sealed records: each opens only behind the one that it was sealed behind, and under the same key.

One record, integers big-endian::

    offset  bytes  field
         0      1  kind, for whoever reads it
         1      4  C, length of the clear part [bytes], at most 1 Mi
         5      C  clear part: readable, authenticated
       5+C         box (``aead.py``): salt (32), commitment (32), ciphertext, tag (16)

The box's key is derived from the MAC key of the namespace, and its associated data are::

    label + length (2) and bytes of the namespace + number of the record (8) + digest of the one before (32)
          + bytes 0 .. 5+C

The digest is SHA-256 of a whole record, zeros before the first. So a record that was changed, left out, doubled or
moved, or that another namespace has sealed, does not open. That the chain goes on is for its last record to say.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from genai_cache_magic.crypto.aead import BOX_OVERHEAD_BYTES, SALT_BYTES, derive_key, open_box, seal_box
from genai_cache_magic.crypto.keyring import encode_namespace
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CLEAR_BYTES: Final = 1 << 20
OVERHEAD_BYTES: Final = 5 + BOX_OVERHEAD_BYTES

_DOMAIN: Final = b"genai-cache-magic/chain/v1/aes-256-gcm+hkdf-sha512"
_LABEL: Final = b"genai-cache-magic/chain/v1/record\x00"


class Chain:
    """Seals records of one namespace, or opens them, one behind the other. Not to be shared between threads.

    Parameters
    ----------
    mac_key : bytes, shape (32,)
        `Keyring.mac_key`.
    namespace : str
        Authenticated with every record.
    random : callable
        Gives `n` fresh random bytes.
    """

    __slots__ = ("_before", "_key", "_namespace", "_number", "_random")

    def __init__(self, mac_key: bytes, namespace: str, *, random: Callable[[int], bytes] = os.urandom) -> None:
        encoded = encode_namespace(namespace)
        self._key = derive_key(mac_key, _DOMAIN)
        self._namespace = len(encoded).to_bytes(2) + encoded
        self._random = random
        self._number = 0
        self._before = bytes(32)

    @property
    def number(self) -> int:
        """How many records were sealed or opened."""
        return self._number

    def seal(self, kind: int, clear: bytes, plain: bytes) -> bytes:
        """Return the next record; raises ``EntryUndecodable`` for a clear part that no reader accepts."""
        if len(clear) > MAX_CLEAR_BYTES:
            raise EntryUndecodable("the clear part of a record is larger than any reader accepts")
        head = kind.to_bytes(1) + len(clear).to_bytes(4) + clear
        box = seal_box(self._key, _DOMAIN, plain, associated=self._bound(head), salt=self._random(SALT_BYTES))
        self._advance(head + box)
        return head + box

    def open(self, record: bytes) -> tuple[int, bytes, bytes]:
        """Return (kind, clear part, what was sealed) of the next record.

        Raises
        ------
        EntryUndecodable
            It is no record.
        DecryptionError
            It was not sealed here: under this key, behind what was opened before.
        """
        kind, clear = split_record(record)
        head = record[: 5 + len(clear)]
        plain = open_box(self._key, _DOMAIN, record[len(head) :], associated=self._bound(head))
        self._advance(record)
        return kind, clear, plain

    def _bound(self, head: bytes) -> bytes:
        return _LABEL + self._namespace + self._number.to_bytes(8) + self._before + head

    def _advance(self, record: bytes) -> None:
        self._number += 1
        self._before = hashlib.sha256(record).digest()


def split_record(record: bytes) -> tuple[int, bytes]:
    """Return (kind, clear part) of a record that nobody has authenticated; raises ``EntryUndecodable``."""
    length = int.from_bytes(record[1:5])
    if length > MAX_CLEAR_BYTES or len(record) < length + OVERHEAD_BYTES:
        raise EntryUndecodable("stored bytes are not a record of a backup")
    return record[0], record[5 : 5 + length]
