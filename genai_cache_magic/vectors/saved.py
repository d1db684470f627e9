"""A graph and its slots as one sealed file, so that the next kernel need not build it: made anew when it doesn't fit.

    offset  bytes  field
         0      4  magic "GCVI"
         4      1  major version, 2
         5      4  number of pieces, n, big-endian
         9    ...  n pieces, each: length (4 bytes), and a piece of a part, sealed for its number of n and,
                   but for the first, for the first as it was sealed: so for no other writing of the file

The first piece is a line of JSON, which says how long the parts are: of all slots the numbers of their rows (8 bytes
each), the entries' ids (32) and digests of the vectors (8); then those of the graph. Each part begins a piece of its
own, and is read into memory of its own: what a graph has copied need not stay.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from genai_cache_magic.crypto.columns import ColumnSeal
    from genai_cache_magic.stores.base import Document

    Buffer: TypeAlias = bytes | memoryview

_HEAD = struct.Struct(">4sBI")
_LENGTH = struct.Struct(">I")
_MAGIC, _MAJOR = b"GCVI", 2
_PARTS = "parts"
ID_BYTES, DIGEST_BYTES = 32, 8
_PIECE_BYTES = 1 << 26
"""What is sealed at once: AES-GCM takes up to 2^31 - 1 bytes."""


class Slots:
    """Whose vectors are in the slots. By column: of a hundred thousand, objects take longer to make than all the rest.

    Attributes
    ----------
    rows
        The numbers of the entries' rows when they were read.
    ids
        The entries, 32 bytes each.
    digests
        What tells one vector of an entry from another, 8 bytes each.
    """

    def __init__(
        self, rows: list[int] | None = None, ids: list[bytes] | None = None, digests: list[bytes] | None = None
    ) -> None:
        self.rows = rows or []
        self.ids = ids or []
        self.digests = digests or []

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, row: int, raw_id: bytes, digest: bytes) -> None:
        """Say whose vector is in the next slot."""
        self.rows.append(row)
        self.ids.append(raw_id)
        self.digests.append(digest)

    def columns(self) -> tuple[bytes, bytes, bytes]:
        """Return them as they are written."""
        return np.array(self.rows, ">u8").tobytes(), b"".join(self.ids), b"".join(self.digests)


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

    def load(self) -> tuple[Slots, list[memoryview]] | None:
        """Return the slots and the parts of the graph; None if there is no file.

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
        if blob is None:
            return None
        try:
            return self._read(memoryview(blob))
        except (struct.error, ValueError, KeyError, TypeError, AttributeError, StopIteration) as exc:
            raise EntryUndecodable("an index file is cut short") from exc

    def write(self, slots: Slots, graph: Sequence[Buffer]) -> None:
        """Put a graph in place of what is there; raises ``StoreUnavailable``.

        Of two processes that write at once one is left out: either file is right, since each is compared with the
        entries when it is read.
        """
        parts = [memoryview(part).cast("B") for part in (*slots.columns(), *graph)]
        head = orjson.dumps({**self._about, _PARTS: [len(part) for part in parts]}) + b"\n"
        pieces = [memoryview(head), *(part[start:end] for part in parts for start, end in _cuts(len(part)))]
        written = [_HEAD.pack(_MAGIC, _MAJOR, len(pieces))]
        first = b""
        for number, piece in enumerate(pieces):
            sealed = self._seal.seal(piece, place=self._piece_place(number, len(pieces), first))
            first = first or sealed
            written += (_LENGTH.pack(len(sealed)), sealed)
        self._document.replace(b"".join(written), expected=self._document.load())

    def _read(self, blob: memoryview) -> tuple[Slots, list[memoryview]]:
        magic, major, _ = _HEAD.unpack_from(blob)
        if magic != _MAGIC or major != _MAJOR:
            raise EntryUndecodable(f"not an index file of version {_MAJOR}")
        pieces = self._pieces(blob)
        sealed, place = next(pieces)
        about = orjson.loads(self._seal.open(sealed.tobytes(), place=place))
        sizes = about.pop(_PARTS)
        if about != self._about or sum(sizes) > len(blob):
            raise EntryUndecodable("an index file is about other vectors")
        parts = []
        for size in sizes:
            # Not of numpy, which asks the system for large pages: where memory is in pieces, they take long to get.
            part = memoryview(bytearray(size))
            for start, end in _cuts(size):
                sealed, place = next(pieces)
                self._seal.open_into(part[start:end], sealed, place=place)
            parts.append(part)
        rows, ids, digests, *graph = parts
        slots = Slots(np.frombuffer(rows, ">u8").tolist(), _split(ids, ID_BYTES), _split(digests, DIGEST_BYTES))
        if not len(slots.rows) == len(slots.ids) == len(slots.digests):
            raise EntryUndecodable("an index file lacks some of its slots")
        return slots, graph

    def _pieces(self, blob: memoryview) -> Iterator[tuple[memoryview, bytes]]:
        """Yield the sealed pieces, and what each was sealed for."""
        *_, count = _HEAD.unpack_from(blob)
        at, first = _HEAD.size, b""
        for number in range(count):
            (length,) = _LENGTH.unpack_from(blob, at)
            at += _LENGTH.size
            piece = blob[at : at + length]
            yield piece, self._piece_place(number, count, first)
            first = first or piece.tobytes()
            at += length

    def _piece_place(self, number: int, count: int, first: bytes) -> bytes:
        # SECURITY: usearch follows the links in a graph wherever they lead, so one is never put together of two.
        return b"".join((b"vectors\0", self._place, number.to_bytes(4), count.to_bytes(4), first))


def _cuts(size: int) -> list[tuple[int, int]]:
    """Return where the pieces of a part begin and end."""
    return [(start, min(start + _PIECE_BYTES, size)) for start in range(0, size, _PIECE_BYTES)]


def _split(column: memoryview, size: int) -> list[bytes]:
    values: Any = np.frombuffer(column, f"V{size}").tolist()
    return list(values)
