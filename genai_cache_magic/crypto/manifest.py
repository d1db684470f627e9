"""The keyset manifest as bytes: the keys of one namespace at rest, signed and versioned.

Layout, integers big-endian::

    offset  bytes  field
         0      4  magic 89 47 43 4B (0x89 "GCK")
         4      1  major version, 1
         5      1  flags, 0
         6      2  suite of the namespace's envelopes
         8      8  manifest version, from 1, higher with every change
        16      4  current epoch, from 1
        20         ten fields, each a length (2) and that many bytes:
                     0  namespace                   UTF-8, 1 to 255
                     1  kind of the wrapper         printable ASCII without space, 1 to 32
                     2  id and version of the KEK   likewise, 1 to 512
                     3  fingerprint of the KEK      likewise, 1 to 64
                     4  signature algorithm         likewise, 1 to 32
                     5  id of the signing key       likewise, 1 to 512
                     6  wrapped namespace key       1 to 1024
                     7  extensions                  0 to 4096 (``extensions.py``)
                     8  sealed key table            a box (``aead.py``) under the namespace key
                     9  signature                   1 to 1024
                   nothing follows

The key table's associated data is a label and all before field 8. The signature is over a label and
all before field 9. The plaintext of the key table::

    offset  bytes  field
         0     32  id key
        32     32  MAC key
        64     32  derivation key
        96      2  N, number of epochs, 1 to 1024
        98     37  N times, ascending: epoch (4), state (1; 1 active, 2 revoked), root key (32; zeros if revoked)

Rotation is a new namespace key, one more epoch and a higher version; revocation zeroes a root key.
Neither needs another format. Normative text and vectors: ``spec/envelope.md`` §5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.crypto.aead import BOX_OVERHEAD_BYTES, KEY_BYTES
from genai_cache_magic.crypto.extensions import MAX_AREA_BYTES, check_extensions
from genai_cache_magic.crypto.keyring import MAX_NAMESPACE_BYTES
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC: Final = b"\x89GCK"
MAJOR: Final = 1
MAX_EPOCHS: Final = 1024

_FIXED: Final = struct.Struct(">4sBBHQI")
_LENGTH: Final = struct.Struct(">H")
_RECORD: Final = struct.Struct(">IB32s")
_COUNT_OFFSET: Final = 3 * KEY_BYTES
_RECORDS_OFFSET: Final = _COUNT_OFFSET + _LENGTH.size
_ACTIVE: Final = 1
_REVOKED: Final = 2
_SHREDDED: Final = bytes(KEY_BYTES)

# Least and most bytes of each field, in order.
_BOUNDS: Final = (
    (1, MAX_NAMESPACE_BYTES),
    (1, 32),
    (1, 512),
    (1, 64),
    (1, 32),
    (1, 512),
    (1, 1024),
    (0, MAX_AREA_BYTES),
    (
        BOX_OVERHEAD_BYTES + _RECORDS_OFFSET + _RECORD.size,
        BOX_OVERHEAD_BYTES + _RECORDS_OFFSET + MAX_EPOCHS * _RECORD.size,
    ),
    (1, 1024),
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeyTable:
    """The secrets of a namespace, which a manifest seals.

    `root_keys` maps every epoch ever used to its root key (bytes, shape (32,)), or to None if revoked.
    """

    id_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)
    derivation_key: bytes = field(repr=False)
    root_keys: Mapping[int, bytes | None] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHead:
    """What a manifest says in the open. Nothing in it is authentic before its signature was verified."""

    suite: int
    version: int
    epoch: int
    namespace: bytes
    kind: str
    key_id: str
    fingerprint: str
    signature_algorithm: str
    signing_key_id: str
    wrapped_key: bytes = field(repr=False)
    extensions: bytes = b""

    def encode(self) -> bytes:
        """Return the fixed part and fields 0 to 7."""
        fixed = _FIXED.pack(MAGIC, MAJOR, 0, self.suite, self.version, self.epoch)
        texts = (self.kind, self.key_id, self.fingerprint, self.signature_algorithm, self.signing_key_id)
        fields = (self.namespace, *(text.encode() for text in texts), self.wrapped_key, self.extensions)
        return fixed + b"".join(map(prefixed, fields))


class ManifestParts(NamedTuple):
    """A manifest taken apart: `bound` is all before the key table, `signed` all before the signature."""

    head: ManifestHead
    bound: bytes
    sealed_table: bytes
    signed: bytes
    signature: bytes


def prefixed(value: bytes) -> bytes:
    """Return `value` after its length (2 bytes)."""
    return _LENGTH.pack(len(value)) + value


def split_manifest(manifest: bytes) -> ManifestParts:
    """Take `manifest` apart, checking its form alone.

    Raises
    ------
    EntryUndecodable
        If it is not a manifest of a version that we read.
    """
    if len(manifest) < _FIXED.size or not manifest.startswith(MAGIC):
        raise EntryUndecodable("not a keyset manifest")
    _, major, flags, suite, version, epoch = _FIXED.unpack_from(manifest)
    if major != MAJOR or flags:
        raise EntryUndecodable(f"manifest format {major} with flags {flags:#04x} is unknown")
    if not version or not epoch:
        raise EntryUndecodable("manifest version and epoch start at 1")
    fields, ends = _fields(manifest)
    namespace, *texts, wrapped_key, extensions, sealed_table, signature = fields
    check_extensions(extensions)
    kind, key_id, fingerprint, algorithm, signing_key_id = map(_text, texts)
    head = ManifestHead(
        suite=suite,
        version=version,
        epoch=epoch,
        namespace=namespace,
        kind=kind,
        key_id=key_id,
        fingerprint=fingerprint,
        signature_algorithm=algorithm,
        signing_key_id=signing_key_id,
        wrapped_key=wrapped_key,
        extensions=extensions,
    )
    return ManifestParts(head, manifest[: ends[-3]], sealed_table, manifest[: ends[-2]], signature)


def encode_table(table: KeyTable) -> bytes:
    """Return the plaintext of a key table."""
    records = (
        _RECORD.pack(epoch, _REVOKED if root_key is None else _ACTIVE, root_key or _SHREDDED)
        for epoch, root_key in sorted(table.root_keys.items())
    )
    keys = table.id_key + table.mac_key + table.derivation_key
    return keys + _LENGTH.pack(len(table.root_keys)) + b"".join(records)


def decode_table(plaintext: bytes) -> KeyTable:
    """Return the key table that `plaintext` spells.

    Raises
    ------
    EntryUndecodable
        If it is not a key table. As it was authentic, a newer version wrote it.
    """
    if len(plaintext) < _RECORDS_OFFSET or (len(plaintext) - _RECORDS_OFFSET) % _RECORD.size:
        raise EntryUndecodable("a key table has a wrong length")
    records = list(_RECORD.iter_unpack(plaintext[_RECORDS_OFFSET:]))
    epochs = [epoch for epoch, _, _ in records]
    if len(records) != _LENGTH.unpack_from(plaintext, _COUNT_OFFSET)[0] or epochs != sorted({0, *epochs} - {0}):
        raise EntryUndecodable("the epochs of a key table are not as many as stated, or not ascending from 1")
    for _, state, root_key in records:
        if state not in {_ACTIVE, _REVOKED} or (state == _REVOKED) != (root_key == _SHREDDED):
            raise EntryUndecodable("a key table holds an epoch in an unknown state")
    return KeyTable(
        id_key=plaintext[:32],
        mac_key=plaintext[32:64],
        derivation_key=plaintext[64:96],
        root_keys={epoch: root_key if state == _ACTIVE else None for epoch, state, root_key in records},
    )


def _fields(manifest: bytes) -> tuple[list[bytes], list[int]]:
    """Return the ten fields and where each ends; nothing may follow the last."""
    fields, ends, position = [], [], _FIXED.size
    for least, most in _BOUNDS:
        if len(manifest) - position < _LENGTH.size:
            raise EntryUndecodable("a manifest is cut off")
        (length,) = _LENGTH.unpack_from(manifest, position)
        start, position = position + _LENGTH.size, position + _LENGTH.size + length
        if not least <= length <= most or position > len(manifest):
            raise EntryUndecodable("a manifest is cut off or states lengths out of bounds")
        fields.append(manifest[start:position])
        ends.append(position)
    if position != len(manifest):
        raise EntryUndecodable("a manifest has bytes after its end")
    return fields, ends


def _text(value: bytes) -> str:
    # These reach messages before anything is authenticated: no control characters, no look-alikes.
    if not all(0x21 <= byte <= 0x7E for byte in value):  # noqa: PLR2004 - "!" and "~", the ends of graphic ASCII
        raise EntryUndecodable("a manifest holds text that is not printable ASCII")
    return value.decode("ascii")
