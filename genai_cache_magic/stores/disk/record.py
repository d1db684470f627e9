"""What a store on disk writes for one value: the blob behind a header that shows damage and age.

====== ====== ===========================================================================
offset length field
====== ====== ===========================================================================
0      16     SHA-256 of ``genai-cache:l1:1``, the 32-byte key and bytes 16 to the end; first half
16     8      stored_at, big-endian binary64 [s since 1970]
24     8      expires_at, big-endian binary64 [s since 1970]
32     n      blob
====== ====== ===========================================================================

The digest is no secret and stops no attacker: sealing, a layer above, does that. It finds flipped
bits, torn files and values that ended up under another key, also while encryption is off. The layout's
version is hashed along, so a record of another version counts as damaged. SHA-256 because processors have
instructions for it: 2 KB take 1.5 µs, BLAKE2b 2.6.
"""

from __future__ import annotations

import enum
import struct
from hashlib import sha256

HEADER_BYTES = 32
REVISION_BYTES = 16
"""How much of a record, from its start, tells it from every other: its digest [bytes]."""

CLOCK_STEP_S = 300.0
"""How far the wall clock may step back before a record is said to come from the future [s]."""

_DIGEST_BYTES = REVISION_BYTES
_VERSION = b"genai-cache:l1:1"
_times = struct.Struct(">dd")
_read_times = _times.unpack_from


class Flaw(enum.Enum):
    """Why a record can't be served."""

    EXPIRED = "expired"
    DAMAGED = "damaged"


def pack(key: bytes, blob: bytes, *, stored_at: float, expires_at: float) -> bytes:
    """Return the record, shape (32 + len(blob),), of `blob` under the 32-byte `key`; times in [s since 1970]."""
    body = _times.pack(stored_at, expires_at) + blob
    return sha256(_VERSION + key + body).digest()[:_DIGEST_BYTES] + body


def unpack(key: bytes, record: object, *, now: float) -> bytes | Flaw:
    """Return the blob of `record`, or what is wrong with it at `now` [s since 1970].

    A record that was stored after `now` has an unknown age, because the clock was set back meanwhile;
    beyond `CLOCK_STEP_S` it counts as expired, so that no step of the clock prolongs a life.
    """
    if type(record) is not bytes or len(record) < HEADER_BYTES:
        return Flaw.DAMAGED
    if sha256(_VERSION + key + record[_DIGEST_BYTES:]).digest()[:_DIGEST_BYTES] != record[:_DIGEST_BYTES]:
        return Flaw.DAMAGED
    stored_at, expires_at = _read_times(record, _DIGEST_BYTES)
    if not stored_at - CLOCK_STEP_S <= now < expires_at:
        return Flaw.EXPIRED
    return record[HEADER_BYTES:]
