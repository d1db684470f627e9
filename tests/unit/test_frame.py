"""Frames: what goes in comes back, and nothing else is taken for one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core import frame
from genai_cache_magic.core.model import EntryId, Form, Header, Metadata, Response, Stamp, Usage
from genai_cache_magic.errors import EntryUndecodable

ID = EntryId("ab" * 32)
HEADER = Header(Stamp(b"r" * 16, 7), 1_700_000_000_000, 3600, (b"a" * 16, b"b" * 16))
METADATA = Metadata(
    surface="openai.chat",
    provider="openai",
    model="gpt-4.1-mini",
    tags=("t",),
    usage=Usage(10, 5, 3, 1),
    cost_usd=Decimal("0.00041"),
    latency_s=0.5,
    preview="héllo",
    components={"model": "0011"},
)
RESPONSE = Response(200, (("content-type", "application/json"), ("x", "é")), b'{"a":1}', Form.STREAM)

counts = st.none() | st.integers(0, 2**53)
metadata = st.builds(
    Metadata,
    surface=st.text(),
    model=st.text(),
    key=st.text(),
    tags=st.lists(st.text(), max_size=4).map(tuple),
    cell=st.text(),
    sample=st.integers(0, 1000),
    usage=st.builds(Usage, counts, counts, st.integers(0, 2**53), st.integers(0, 2**53)),
    cost_usd=st.none() | st.decimals(0, 1000, places=9),
    latency_s=st.floats(0, 1e6),
    preview=st.text(),
    components=st.dictionaries(st.text(), st.text(), max_size=4),
)
headers = st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=8).map(tuple)
responses = st.builds(Response, st.integers(0, 599), headers, st.binary(), st.sampled_from(Form))


@given(metadata)
def test_metadata_round_trip(value):
    """Metadata come back as they were, money as exact decimals."""
    block = frame.encode_metadata(value)
    assert frame.decode_metadata(block) == value
    account = frame.decode_account(block)
    assert (account.model, account.usage, account.cost_usd) == (value.model, value.usage, value.cost_usd)


@given(responses)
def test_response_round_trip(value):
    """A response comes back as it was, header order included."""
    assert frame.decode_response(frame.encode_response(value)) == value


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.sets(st.binary(min_size=16, max_size=16)))
def test_header_round_trip(root, ver, tags):
    """A header comes back with its tags sorted."""
    header = Header(Stamp(root, ver), 1, 2, tuple(sorted(tags))[:64])
    assert frame.decode_header(frame.encode_header(header)) == header


def blocks():
    return frame.Blocks(frame.encode_header(HEADER), frame.encode_metadata(METADATA), frame.encode_response(RESPONSE))


def test_every_flipped_bit_of_a_plain_frame_is_a_miss():
    """Damage anywhere in an unsealed entry is found."""
    packed = frame.pack(ID, blocks())
    assert frame.unpack(ID, packed) == blocks()
    for at in range(len(packed) * 8):
        damaged = bytearray(packed)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(EntryUndecodable):
            frame.unpack(ID, bytes(damaged))


def test_every_cut_and_every_addition_is_a_miss():
    """A frame is whole or nothing; no byte may remain."""
    packed = frame.pack(ID, blocks())
    for length in range(len(packed)):
        with pytest.raises(EntryUndecodable):
            frame.unpack(ID, packed[:length])
    with pytest.raises(EntryUndecodable):
        frame.unpack(ID, packed + b"\0")


def test_a_frame_of_another_entry_is_a_miss():
    """Entries can't be swapped by renaming files."""
    with pytest.raises(EntryUndecodable):
        frame.unpack(EntryId("cd" * 32), frame.pack(ID, blocks()))


@pytest.mark.parametrize(
    "block",
    [b"", b"x" * 36, bytes(36) + b"\x01", bytes(36) + b"\x41" + bytes(16 * 65), bytes(36) + b"\x02" + bytes(32)],
)
def test_wrong_headers_are_refused(block):
    """Short, too many, out of order: not a header."""
    with pytest.raises(EntryUndecodable):
        frame.decode_header(block)


@pytest.mark.parametrize("length", range(0, 40, 3))
def test_cut_response_blocks_are_refused(length):
    """A body block that lost its end is no response."""
    with pytest.raises(EntryUndecodable):
        frame.decode_response(frame.encode_response(RESPONSE)[:length])


def test_wrong_response_blocks_are_refused():
    """Unknown forms, left-over bytes, broken text and too many header fields are refused."""
    whole = frame.encode_response(RESPONSE)
    for bad in (
        whole + b"x",
        whole[:2] + b"\x07" + whole[3:],
        whole[:3] + b"\x01\x01" + whole[5:],
        b"\0\xc8\0\0\x01\0\x01\xff\0\0\0\0\0\0",
    ):
        with pytest.raises(EntryUndecodable):
            frame.decode_response(bad)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, tuple((str(i), "") for i in range(257)), b""),
        Response(200, (("x", "y" * 70_000),), b""),
        Response(200, (("x", "\ud800"),), b""),
    ],
)
def test_what_can_not_be_told_is_not_stored(response):
    """A response that this version can't keep faithfully is refused before it is stored."""
    with pytest.raises(EntryUndecodable):
        frame.encode_response(response)


@pytest.mark.parametrize(
    "block",
    [b"", b"[]", b"{}", b"null", frame.encode_metadata(METADATA).replace(b'"0.00041"', b'"much"'),
     frame.encode_metadata(METADATA).replace(b'"0.00041"', b"1"),
     frame.encode_metadata(METADATA).replace(b"[10,5,3,1]", b"[10,5,3]"),
     frame.encode_metadata(METADATA).replace(b"[10,5,3,1]", b"[-1,5,3,1]"),
     frame.encode_metadata(METADATA).replace(b'"gpt-4.1-mini"', b"3")],
)  # fmt: skip
def test_wrong_metadata_is_refused(block):
    """Metadata with a missing member or a wrong type is undecodable, never half read."""
    with pytest.raises(EntryUndecodable):
        frame.decode_metadata(block)


@pytest.mark.parametrize("at", [0, 4, 5])
def test_other_versions_of_the_plain_frame_are_refused(at):
    """Magic, major version and reserved bytes are checked even where the digest fits."""
    packed = bytearray(frame.pack(ID, blocks()))
    packed[at] ^= 0xFF
    content = bytes(packed[: -frame.DIGEST_BYTES])
    with pytest.raises(EntryUndecodable):
        frame.unpack(ID, content + frame._digest(ID, content))
