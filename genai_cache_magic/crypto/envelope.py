"""The envelope: an entry's bytes at rest, the same in every tier.

Layout, integers big-endian::

    offset       bytes  field
         0           4  magic 89 47 43 45 (0x89 "GCE")
         4           1  major version, 1
         5           1  flags, 0
         6           2  suite, 1 = AES-256-GCM with HKDF-SHA512 and key commitment
         8           4  epoch of the root key
        12          32  salt, random
        44          32  key commitment
        76           2  H, length of the header          [bytes], at most 4096
        78           2  X, length of the extensions      [bytes], at most 4096
        80           4  M, length of the sealed metadata [bytes], 16 to 256 Ki + 16
        84           4  B, length of the sealed body     [bytes], 16 to 40 Mi + 16
        88           H  header, readable
      88+H           X  extensions, readable (``extensions.py``)
    88+H+X           M  sealed metadata: ciphertext, then tag (16)
       ...           B  sealed body: ciphertext, then tag (16)
       ...           4  trailer 45 43 47 89 ("ECG" 0x89); nothing follows

Everything before the sealed metadata is authenticated by both sealed blocks, with the namespace and
the entry id as the *reader* knows them, so that envelopes can't be swapped::

    associated data = label of the block + bytes 0 .. 88+H+X
                      + length (2) and bytes of the namespace + length (2) and bytes of the entry id

Normative text and vectors: ``spec/envelope.md``.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.crypto.aead import TAG_BYTES, EntryKeys, KeySchedule, commits, decrypt
from genai_cache_magic.crypto.extensions import MAX_AREA_BYTES, check_extensions
from genai_cache_magic.crypto.keyring import SUITE_AES256GCM_HKDFSHA512, Keyring, encode_namespace
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC: Final = b"\x89GCE"
TRAILER: Final = b"ECG\x89"
MAJOR: Final = 1
MAX_HEADER_BYTES: Final = 4 << 10
MAX_METADATA_BYTES: Final = 256 << 10
MAX_BODY_BYTES: Final = 40 << 20

_DOMAIN: Final = b"genai-cache-magic/envelope/v1/aes-256-gcm+hkdf-sha512"
_METADATA_LABEL: Final = b"genai-cache-magic/envelope/v1/metadata\x00"
_BODY_LABEL: Final = b"genai-cache-magic/envelope/v1/body\x00"
_FIXED: Final = struct.Struct(">4sBBHI32s32sHHII")
FIXED_BYTES: Final = _FIXED.size


class Opened(NamedTuple):
    """What an authentic envelope holds: `header` was readable, `metadata` and `body` were sealed."""

    header: bytes
    metadata: bytes
    body: bytes

    def __repr__(self) -> str:
        return f"<Opened, {sum(map(len, self))} bytes>"


class _Layout(NamedTuple):
    """The fixed part, checked, and where the variable parts end [bytes from the start]."""

    suite: int
    epoch: int
    salt: bytes
    commitment: bytes
    header_end: int
    preface_end: int
    metadata_end: int
    body_end: int


class Sealer:
    """Seals and opens the entries of one namespace.

    Keeps no state between calls and may be used by many threads.

    Parameters
    ----------
    keyring : Keyring
        New entries are sealed under its current epoch; those of its other epochs can be opened.
    namespace : str
        Authenticated with every entry.
    random : callable
        Gives `n` fresh random bytes.

    Attributes
    ----------
    has_met_newer : bool
        Whether an envelope claimed an epoch above the current one: the keyset may have been rotated. Nobody has
        authenticated that; it is a reason to look again, now and then, and for nothing else.

    Raises
    ------
    KeyUnavailable
        If the namespace's suite is one that this version does not have.
    DecryptionError
        If the keyring lacks the root key of its own current epoch.
    """

    __slots__ = ("_epoch", "_namespace", "_random", "_schedules", "has_met_newer")

    def __init__(self, keyring: Keyring, namespace: str, *, random: Callable[[int], bytes] = os.urandom) -> None:
        if keyring.suite != SUITE_AES256GCM_HKDFSHA512:
            raise KeyUnavailable(f"cipher suite {keyring.suite} is unknown to this version: update genai-cache-magic")
        keyring.root_key(keyring.epoch)
        self._epoch = keyring.epoch
        self._namespace = _prefixed(encode_namespace(namespace))
        self._random = random
        self.has_met_newer = False  # only ever set, so needs no lock
        self._schedules = {epoch: KeySchedule(key, _DOMAIN) for epoch, key in keyring.root_keys.items()}

    def seal(self, entry_id: str, header: bytes, metadata: bytes, body: bytes) -> bytes:
        """Return the envelope of an entry.

        Parameters
        ----------
        entry_id : str
            What the reader will look it up by.
        header : bytes
            Readable by anyone, at most 4 KiB.
        metadata, body : bytes
            Sealed, at most 256 KiB and 40 MiB.

        Raises
        ------
        EntryUndecodable
            If a part is longer than any reader accepts.
        """
        if len(header) > MAX_HEADER_BYTES or len(metadata) > MAX_METADATA_BYTES or len(body) > MAX_BODY_BYTES:
            raise EntryUndecodable("an entry is larger than the envelope allows, so that nobody could read it back")
        salt = self._random(32)
        keys = self._schedules[self._epoch].derive(salt)
        fixed = _FIXED.pack(
            MAGIC,
            MAJOR,
            0,
            SUITE_AES256GCM_HKDFSHA512,
            self._epoch,
            salt,
            keys.commitment,
            len(header),
            0,
            len(metadata) + TAG_BYTES,
            len(body) + TAG_BYTES,
        )
        preface = fixed + header
        bound = self._bound(preface, entry_id)
        return b"".join(
            (
                preface,
                keys.cipher.encrypt(keys.first_nonce, metadata, _METADATA_LABEL + bound),
                keys.cipher.encrypt(keys.second_nonce, body, _BODY_LABEL + bound),
                TRAILER,
            )
        )

    def open(self, entry_id: str, envelope: bytes) -> Opened:
        """Return what `envelope` holds, if it was sealed here, for this entry, and is whole.

        Raises
        ------
        EntryUndecodable
            If the bytes are not a whole envelope of a version that we read. Miss, and delete.
        DecryptionError
            If they were not sealed under our keys for this namespace and entry. Miss, fail closed.
        """
        layout = _parse(envelope)
        if len(envelope) != layout.body_end + len(TRAILER) or not envelope.endswith(TRAILER):
            raise EntryUndecodable("an envelope is cut off or has bytes after its end")
        keys = self._keys(layout)
        bound = self._bound(envelope[: layout.preface_end], entry_id)
        metadata = _open_metadata_block(envelope, layout, keys, bound)
        sealed = memoryview(envelope)[layout.metadata_end : layout.body_end]
        body = decrypt(keys.cipher, keys.second_nonce, sealed, _BODY_LABEL + bound)
        if body is None:
            raise _unauthentic(layout)
        return Opened(envelope[FIXED_BYTES : layout.header_end], metadata, body)

    def open_metadata(self, entry_id: str, prefix: bytes) -> tuple[bytes, bytes]:
        """Return (header, metadata) from the first `metadata_size` or more bytes of an envelope.

        What this proves: header, metadata and the *length* of the body. What follows is not looked at.
        Raises as `open` does.
        """
        layout = _parse(prefix)
        if len(prefix) < layout.metadata_end:
            raise EntryUndecodable("an envelope is cut off before the end of its metadata")
        bound = self._bound(prefix[: layout.preface_end], entry_id)
        metadata = _open_metadata_block(prefix, layout, self._keys(layout), bound)
        return prefix[FIXED_BYTES : layout.header_end], metadata

    @staticmethod
    def metadata_size(prefix: bytes) -> int:
        """Return how many leading bytes `open_metadata` needs, given the first `FIXED_BYTES` or more.

        Not authenticated: a bound on what to fetch, at most 88 + 4 Ki + 4 Ki + 256 Ki + 16 bytes.

        Raises
        ------
        EntryUndecodable
            If these are not the first bytes of an envelope of a version that we read.
        """
        return _lengths(prefix).metadata_end

    def _bound(self, preface: bytes, entry_id: str) -> bytes:
        """Return the associated data but for the label: everything before the metadata, and whose it is."""
        return preface + self._namespace + _prefixed(entry_id.encode())

    def _keys(self, layout: _Layout) -> EntryKeys:
        """Return the keys of an envelope whose suite and commitment are ours."""
        schedule = self._schedules.get(layout.epoch)
        # SECURITY: the suite is the namespace's. Data that name another are refused, never obeyed.
        if schedule is None or layout.suite != SUITE_AES256GCM_HKDFSHA512:
            self.has_met_newer |= layout.epoch > self._epoch
            raise _unauthentic(layout)
        keys = schedule.derive(layout.salt)
        # SECURITY: the commitment comes first; GCM alone accepts a ciphertext made for two keys.
        if not commits(keys, layout.commitment):
            raise _unauthentic(layout)
        return keys


def _lengths(prefix: bytes) -> _Layout:
    """Return the layout that the fixed part states, after checking every bound."""
    if len(prefix) < FIXED_BYTES:
        raise EntryUndecodable("an envelope is cut off within its first 88 bytes")
    magic, major, flags, suite, epoch, salt, commitment, header, extensions, metadata, body = _FIXED.unpack_from(prefix)
    if magic != MAGIC:
        raise EntryUndecodable("stored bytes are not an envelope")
    if major != MAJOR or flags:
        raise EntryUndecodable(f"envelope version {major} with flags {flags:#04x} is unknown to this version")
    # SECURITY: bounds come before any slice or decryption, so that lengths can't make us allocate.
    if (
        header > MAX_HEADER_BYTES
        or extensions > MAX_AREA_BYTES
        or not TAG_BYTES <= metadata <= MAX_METADATA_BYTES + TAG_BYTES
        or not TAG_BYTES <= body <= MAX_BODY_BYTES + TAG_BYTES
    ):
        raise EntryUndecodable("an envelope states lengths that are out of bounds")
    header_end = FIXED_BYTES + header
    preface_end = header_end + extensions
    metadata_end = preface_end + metadata
    return _Layout(suite, epoch, salt, commitment, header_end, preface_end, metadata_end, metadata_end + body)


def _parse(prefix: bytes) -> _Layout:
    """Return the layout, after checking the extensions too (a cut-off area is for the caller to see)."""
    layout = _lengths(prefix)
    if layout.preface_end != layout.header_end and len(prefix) >= layout.preface_end:
        check_extensions(prefix[layout.header_end : layout.preface_end])
    return layout


def _open_metadata_block(envelope: bytes, layout: _Layout, keys: EntryKeys, bound: bytes) -> bytes:
    """Return the opened metadata of `envelope`."""
    sealed = envelope[layout.preface_end : layout.metadata_end]
    metadata = decrypt(keys.cipher, keys.first_nonce, sealed, _METADATA_LABEL + bound)
    if metadata is None:
        raise _unauthentic(layout)
    return metadata


def _unauthentic(layout: _Layout) -> DecryptionError:
    # SECURITY: one text for every cause; which check failed is nobody's business.
    return DecryptionError(
        f"an entry failed authentication (epoch {layout.epoch}): it was changed, or its epoch was revoked: a miss"
    )


def _prefixed(part: bytes) -> bytes:
    """Return `part` after its length, so that neighbours can't trade bytes."""
    return len(part).to_bytes(2, "big") + part
