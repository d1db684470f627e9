"""The file that an index of vectors is kept in holds what was written at once, whole and in order, or is not used."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.errors import DecryptionError, EntryUndecodable
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.vectors import saved

HEAD_BYTES = 9


def file_in(document):
    return saved.IndexFile(document, ColumnSeal(bytes(32)), about={"dimension": 3}, place=b"place")


def written(graph):
    """Return a file with two slots, in pieces of at most 16 bytes."""
    document = MemoryDocument()
    slots = saved.Slots([1, 2], [bytes(32), b"i" * 32], [bytes(8), b"d" * 8])
    file_in(document).write(slots, [graph])
    return document.load()


def pieces_of(blob):
    pieces, at = [], HEAD_BYTES
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4])
        pieces.append(blob[at:end])
        at = end
    return pieces


def read(blob):
    document = MemoryDocument()
    document.replace(blob, expected=None)
    return file_in(document).load()


@pytest.fixture(autouse=True)
def _in_small_pieces(monkeypatch):
    monkeypatch.setattr(saved, "_PIECE_BYTES", 16)


def test_what_was_written_is_read():
    slots, (graph,) = read(written(b"graph" * 10))
    assert (slots.rows, slots.ids, slots.digests) == ([1, 2], [bytes(32), b"i" * 32], [bytes(8), b"d" * 8])
    assert bytes(graph) == b"graph" * 10


def test_no_piece_of_another_writing_is_taken():
    """A graph that was put together of two would lead usearch anywhere."""
    one, other = pieces_of(written(b"graph" * 10)), pieces_of(written(b"links" * 10))
    head = written(b"graph" * 10)[:HEAD_BYTES]
    assert list(map(len, one)) == list(map(len, other))
    for place in range(len(one)):
        mixed = [*one[:place], other[place], *one[place + 1 :]]
        with pytest.raises(DecryptionError):
            read(head + b"".join(mixed))


def test_no_order_but_its_own_is_taken():
    """Nor is one given twice, or left out."""
    blob = written(b"graph" * 10)
    head, pieces = blob[:HEAD_BYTES], pieces_of(blob)
    for place in range(1, len(pieces) - 1):
        swapped = [*pieces[:place], pieces[place + 1], pieces[place], *pieces[place + 2 :]]
        twice = [*pieces[: place + 1], pieces[place], *pieces[place + 2 :]]
        less = [*pieces[:place], *pieces[place + 1 :]]
        for changed in (swapped, twice, less):
            with pytest.raises((DecryptionError, EntryUndecodable)):
                read(head + b"".join(changed))


def test_a_file_that_was_cut_anywhere_is_not_used():
    blob = written(b"graph" * 10)
    for end in range(len(blob)):
        with pytest.raises((DecryptionError, EntryUndecodable)):
            read(blob[:end])
