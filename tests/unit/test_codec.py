"""Entry to bytes and back: compression within bounds, and nothing but what was stored."""

from __future__ import annotations

import gzip
import random
import threading
import tracemalloc
import zlib

import pytest
import zstandard

from genai_cache_magic.core.frame import MAX_BODY_BYTES
from genai_cache_magic.core.model import Entry, EntryId, Header, Metadata, Response, Stamp
from genai_cache_magic.entries.codec import _STEP_BYTES, Codec, Compression, Unsealed
from genai_cache_magic.errors import EntryUndecodable

ID = EntryId("0" * 64)


def entry(body):
    return Entry(Header(Stamp(bytes(16), 1), 5, 60), Metadata(model="m"), Response(200, (("a", "b"),), body))


@pytest.mark.parametrize("algorithm", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("body", [b"", b"x", b"word " * 1000, bytes(range(256)) * 8], ids=len)
def test_round_trip(algorithm, body):
    """Every algorithm gives back what it got."""
    codec = Codec(Unsealed(), Compression(algorithm))
    sealed = codec.open(ID, codec.encode(ID, entry(body)))
    assert sealed.response() == entry(body).response
    assert sealed.metadata() == entry(body).metadata
    assert sealed.account().model == "m"


@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
def test_what_compresses_is_smaller(algorithm):
    """Repetitive answers take less room."""
    packed = Codec(Unsealed(), Compression(algorithm)).encode(ID, entry(b"word " * 1000))
    plain = Codec(Unsealed(), Compression("none")).encode(ID, entry(b"word " * 1000))
    assert len(packed) < len(plain) / 5


def test_below_the_threshold_nothing_is_compressed():
    """Small blocks are stored as they are."""
    codec = Codec(Unsealed(), Compression("zstd", threshold=10_000))
    assert b"word " * 1000 in codec.encode(ID, entry(b"word " * 1000))


def test_readers_need_no_setting():
    """What one algorithm wrote, a codec set to another reads."""
    written = Codec(Unsealed(), Compression("gzip")).encode(ID, entry(b"word " * 1000))
    assert Codec(Unsealed(), Compression("zstd")).open(ID, written).response().body == b"word " * 1000


BOMB = b"\0" * (MAX_BODY_BYTES + 1)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x07abc",
        b"\x01",
        b"\x01\0\0\0\x05nonsense",
        b"\x01\0\0\0\x05" + zstandard.compress(b"123456"),
        b"\x01\0\0\0\x05" + zstandard.compress(b"12345") + b"left over",
        b"\x02\0\0\0\x05" + gzip.compress(b"123456"),
        b"\x02\0\0\0\x05" + gzip.compress(b"12345")[:-9],
        b"\x01\xff\xff\xff\xff" + zstandard.compress(b"1"),
        b"\x01" + len(BOMB).to_bytes(4) + zstandard.compress(BOMB),
        b"\x02\0\0\0\x05" + gzip.compress(BOMB),
    ],
    ids=[
        "empty",
        "unknown",
        "cut",
        "nonsense",
        "longer",
        "left-over",
        "gz-longer",
        "gz-cut",
        "claims",
        "bomb",
        "gz-bomb",
    ],
)
def test_damaged_or_hostile_blocks_are_undecodable(block):
    """A block never expands beyond what it claims, nor beyond the limit."""
    with pytest.raises(EntryUndecodable):
        Codec(Unsealed(), Compression()).decompress(block, MAX_BODY_BYTES)


def test_bytes_after_a_gzip_block_are_seen_wherever_it_ends():
    """A block that ends where one step of reading does is over there, and nothing may follow."""
    codec = Codec(Unsealed(), Compression())
    for extra in range(64):
        body = random.Random(extra).randbytes(_STEP_BYTES - 160 + extra)  # grows by its frame to about one step
        block = b"\x02" + len(body).to_bytes(4) + gzip.compress(body, mtime=0)
        assert codec.decompress(block, MAX_BODY_BYTES) == body
        with pytest.raises(EntryUndecodable):
            codec.decompress(block + b"x", MAX_BODY_BYTES)


def gzipped(size):
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def zstandardized(size, *, tells):
    packer = zstandard.ZstdCompressor(write_content_size=True).compressobj(size=size if tells else -1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


BOMBS = {
    "gzip": b"\x02%b" + gzipped(200 << 20),
    "gzip twice": b"\x02%b" + gzipped(30 << 20) * 5,
    "zstd": b"\x01%b" + zstandardized(200 << 20, tells=True),
    "zstd of unknown size": b"\x01%b" + zstandardized(200 << 20, tells=False),
    "zstd twice": b"\x01%b" + zstandardized(30 << 20, tells=True) * 5,
}


@pytest.mark.parametrize(
    "claim", [1, 1 << 20, 30 << 20, MAX_BODY_BYTES - 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 2**32 - 1]
)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_take_no_more_room_than_an_answer_may(bomb, claim):
    """What would unpack to 200 MB is refused, whatever it claims, before it takes more than 40 MiB."""
    block = bomb.replace(b"%b", claim.to_bytes(4), 1)
    codec = Codec(Unsealed(), Compression())
    tracemalloc.start()
    try:
        with pytest.raises(EntryUndecodable):
            codec.decompress(block, MAX_BODY_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= (40 << 20) + 3 * len(block) + 100_000


def test_threads_do_not_share_compressors():
    """One codec serves 16 threads at once (a shared compressor crashes the process)."""
    codec = Codec(Unsealed(), Compression())
    wrong = []

    def work(n):
        body = bytes([n]) * 5000
        bodies = (codec.open(ID, codec.encode(ID, entry(body))).response().body for _ in range(50))
        wrong.extend(n for found in bodies if found != body)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
