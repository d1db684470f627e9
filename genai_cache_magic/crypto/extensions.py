"""The extension area that envelopes and keyset manifests share: room to grow without a new format.

A sequence of records, ascending by type number, each type at most once::

    offset  bytes  field
         0      2  bit 15: critical; bits 0-14: type number (unsigned, big-endian)
         2      2  length L of the value (unsigned, big-endian)
         4      L  value

A reader that does not know a type refuses the object if the record is critical and skips it
otherwise; either way the area is authenticated. No type is assigned yet. ``spec/envelope.md`` §4.
"""

from __future__ import annotations

import struct
from typing import Final

from genai_cache_magic.errors import EntryUndecodable

MAX_AREA_BYTES: Final = 4096
CRITICAL: Final = 0x8000

_RECORD: Final = struct.Struct(">HH")


def check_extensions(area: bytes) -> None:
    """Accept `area` if it is well formed and holds nothing that must be understood.

    Raises
    ------
    EntryUndecodable
        If a record is cut off, out of order or repeated, or critical and unknown (all are, so far).
    """
    position, previous = 0, -1
    while position < len(area):
        if len(area) - position < _RECORD.size:
            raise EntryUndecodable("an extension record is cut off")
        kind, length = _RECORD.unpack_from(area, position)
        number = kind & ~CRITICAL
        position += _RECORD.size + length
        if position > len(area):
            raise EntryUndecodable("an extension record is cut off")
        if number <= previous:
            raise EntryUndecodable("extension records are not in ascending order")
        if kind & CRITICAL:
            raise EntryUndecodable(f"critical extension {number} is unknown: a newer version wrote this")
        previous = number
