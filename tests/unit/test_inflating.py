"""The size of what a compressed answer unpacks to is told before it is unpacked."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
import zstandard

from genai_cache_magic.intercept.inflating import fits

SIZE = 300_000

PACKED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
BODIES = {"zeros": bytes(SIZE), "noise": os.urandom(SIZE)}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("encoding", list(PACKED))
def test_to_the_byte(encoding, body):
    """What unpacks to the limit fits, and one byte more does not."""
    headers = (("content-type", "application/json"), ("Content-Encoding", encoding))
    packed = PACKED[encoding](BODIES[body])
    assert fits(headers, packed, SIZE)
    assert not fits(headers, packed, SIZE - 1)


@pytest.mark.parametrize("body", BODIES)
def test_brotli(body):
    """Brotli, which packs gigabytes into a few bytes, is weighed where its clients can unpack it."""
    brotli = pytest.importorskip("brotli", reason="pip install brotli")
    headers = (("content-encoding", "br"),)
    packed = brotli.compress(BODIES[body], quality=3)
    assert [fits(headers, packed, limit) for limit in (SIZE, SIZE - 1)] == [True, False]
    assert fits(headers, packed[:-20], SIZE)


def test_raw_deflate():
    """Deflate without its header is weighed too, since clients unpack it."""
    packed = zlib.compress(bytes(SIZE), wbits=-15)
    headers = (("content-encoding", "deflate"),)
    assert [fits(headers, packed, limit) for limit in (SIZE, SIZE - 1)] == [True, False]


def test_several_members():
    """Two gzip members are one body."""
    headers = (("content-encoding", "gzip"),)
    packed = gzip.compress(bytes(SIZE)) * 2
    assert [fits(headers, packed, limit) for limit in (2 * SIZE, 2 * SIZE - 1)] == [True, False]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br", "gzip, gzip", "", "x-new"])
def test_what_can_not_be_weighed_fits(encoding):
    """What is no such compression, or one that is not known here, is for the client to judge."""
    assert fits((("content-encoding", encoding),), b"\x8b no such thing " * 100, 1000)
