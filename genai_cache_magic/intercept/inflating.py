"""How large a compressed answer becomes, told in little memory before anyone unpacks it as a whole."""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers

_STEP_BYTES: Final = 1 << 16
"""So much is unpacked at a time."""

_MOST_OF_DEFLATE: Final = 1032
"""What deflate packs into one byte at most (zlib's technical notes, "maximum compression factor")."""

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


def fits(headers: Headers, packed: bytes, limit: int) -> bool:
    """Tell whether `packed` unpacks to no more than `limit` [bytes].

    What is not compressed as its headers say fits: its client can't unpack it either. So does a compression
    that is not known here (several at once, or brotli before 1.2): who unpacks it counts as it goes.
    """
    named = ",".join(value for name, value in headers if name.lower() == "content-encoding")
    encoding = named.strip().lower()
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return len(packed) * _MOST_OF_DEFLATE <= limit or _is_within(_inflated(packed), limit)
    if encoding == "br":
        return _is_within(_brotli_pieces(packed), limit)
    return encoding != "zstd" or _is_within(_zstd_pieces(packed), limit)


def _is_within(sizes: Iterator[int], limit: int) -> bool:
    total = 0
    for size in sizes:
        total += size
        if total > limit:
            return False
    return True


def _inflated(packed: bytes) -> Iterator[int]:
    """Yield the sizes of the pieces in `packed`, up to where it breaks; several gzip members are one stream."""
    try:
        yield from _inflated_as(_GZIP_OR_ZLIB, packed)
    except zlib.error:
        # Some servers take "deflate" for what has no header, and clients are lenient about it.
        try:
            yield from _inflated_as(_RAW, packed)
        except zlib.error:
            return


def _inflated_as(window_bits: int, packed: bytes) -> Iterator[int]:
    unpacking = zlib.decompressobj(window_bits)
    for start in range(0, len(packed), _STEP_BYTES):
        rest = packed[start : start + _STEP_BYTES]
        while rest:
            yield len(unpacking.decompress(rest, _STEP_BYTES))
            if unpacking.eof:
                rest, unpacking = unpacking.unused_data, zlib.decompressobj(window_bits)
            else:
                rest = unpacking.unconsumed_tail


def _zstd_pieces(packed: bytes) -> Iterator[int]:
    import zstandard

    try:
        for piece in zstandard.ZstdDecompressor().read_to_iter(packed, write_size=_STEP_BYTES):
            yield len(piece)
    except zstandard.ZstdError:
        return


def _brotli_pieces(packed: bytes) -> Iterator[int]:
    # Where it is installed, clients have imported it; where it isn't, they leave the body as it is.
    brotli: Any = sys.modules.get("brotli") or sys.modules.get("brotlicffi")
    if brotli is None:
        return
    unpacking = brotli.Decompressor()
    rest = packed
    try:
        while not unpacking.is_finished():
            size = len(unpacking.process(rest, output_buffer_limit=_STEP_BYTES))
            yield size
            rest = b""
            if size == 0 and unpacking.can_accept_more_data():
                return  # cut short
    except (AttributeError, TypeError, brotli.error):
        return
