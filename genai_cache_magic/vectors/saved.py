"""A graph and its slots as one sealed file, so that the next kernel need not build it: made anew when it doesn't fit.

    offset  bytes  field
         0      4  magic "GCVI"
         4      1  major version, 1
         5      4  number of pieces, n, big-endian
         9    ...  n pieces, each: length (4 bytes), and a piece of the plain text, sealed for its number of n

The plain text is a line of JSON, then of each slot the number of its row (8 bytes), the entry's id (32) and a digest of
the vector (8), then the graph.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import orjson

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.crypto.columns import ColumnSeal
    from genai_cache_magic.stores.base import Document

_HEAD = struct.Struct(">4sBI")
_LENGTH = struct.Struct(">I")
_SLOT = struct.Struct(">Q32s8s")
_MAGIC, _MAJOR = b"GCVI", 1
_SLOTS = "slots"
_MOST_HEAD = 4096
_PIECE_BYTES = 1 << 26
"""What is sealed at once: AES-GCM takes up to 2^31 - 1 bytes, and memory should not be taken twice."""


class Slot(NamedTuple):
    """Whose vector is in a slot: the entry, the number of its row when it was read, and a digest of the vector."""

    n: int
    entry_id: EntryId
    digest: bytes


class IndexFile:
    """The file of one vector cache in a directory of its namespace.

    Parameters
    ----------
    document
        What holds the bytes.
    about
        What the vectors are, which a file says of itself: another is none of ours.
    place
        What tells this vector cache from others, bytes: a file is sealed for it alone.
    """

    def __init__(self, document: Document, seal: ColumnSeal, *, about: dict[str, object], place: bytes) -> None:
        self._document = document
        self._seal = seal
        self._about = about
        self._place = place

    def load(self) -> tuple[list[Slot], memoryview] | None:
        """Return the slots and the graph; None if there is no file.

        Raises
        ------
        EntryUndecodable
            It is cut short, of another version, or about other vectors.
        DecryptionError
            It was sealed with another key, or changed.
        StoreUnavailable
            It can't be read.
        """
        blob = self._document.load()
        return None if blob is None else self._read(memoryview(blob))

    def write(self, slots: Sequence[Slot], graph: bytes | memoryview) -> None:
        """Put a graph in place of what is there; raises ``StoreUnavailable``.

        Of two processes that write at once one is left out: either file is right, since each is compared with the
        entries when it is read.
        """
        head = orjson.dumps({**self._about, _SLOTS: len(slots)}) + b"\n"
        packed = b"".join(_SLOT.pack(slot.n, bytes.fromhex(slot.entry_id), slot.digest) for slot in slots)
        plain = memoryview(b"".join((head, packed, graph)))
        cuts = range(0, len(plain), _PIECE_BYTES)
        written = [_HEAD.pack(_MAGIC, _MAJOR, len(cuts))]
        for number, start in enumerate(cuts):
            piece = plain[start : start + _PIECE_BYTES].tobytes()
            piece = self._seal.seal(piece, place=self._piece_place(number, len(cuts)))
            written += (_LENGTH.pack(len(piece)), piece)
        self._document.replace(b"".join(written), expected=self._document.load())

    def _read(self, blob: memoryview) -> tuple[list[Slot], memoryview]:
        try:
            magic, major, count = _HEAD.unpack_from(blob)
            if magic != _MAGIC or major != _MAJOR:
                raise EntryUndecodable("not an index file of version 1")
            at, pieces = _HEAD.size, []
            for number in range(count):
                (length,) = _LENGTH.unpack_from(blob, at)
                at += _LENGTH.size
                pieces.append(self._seal.open(blob[at : at + length].tobytes(), place=self._piece_place(number, count)))
                at += length
            plain = memoryview(b"".join(pieces))
            head_end = bytes(plain[:_MOST_HEAD]).index(b"\n") + 1
            head = orjson.loads(plain[:head_end])
            graph_at = head_end + _SLOT.size * head.pop(_SLOTS)
            packed = _SLOT.iter_unpack(plain[head_end:graph_at])
            slots = [Slot(n, EntryId(raw.hex()), digest) for n, raw, digest in packed]
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise EntryUndecodable("an index file is cut short") from exc
        if head != self._about:
            raise EntryUndecodable("an index file is about other vectors")
        return slots, plain[graph_at:]

    def _piece_place(self, number: int, count: int) -> bytes:
        return b"".join((b"vectors\0", self._place, number.to_bytes(4), count.to_bytes(4)))
