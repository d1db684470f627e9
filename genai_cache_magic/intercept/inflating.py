"""How large a compressed answer becomes, told in little memory before anyone unpacks it as a whole, and what it is."""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.heads import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers

_STEP_BYTES: Final = 1 << 16
"""So much is unpacked at a time."""

_MOST_OF_DEFLATE: Final = 1032
"""What deflate packs into one byte at most (zlib's technical notes, "maximum compression factor")."""

_DEFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


def fits(headers: Headers, packed: bytes, limit: int) -> bool:
    """Tell whether `packed` unpacks to no more than `limit` [bytes].

    What is not compressed as its headers say fits: its client can't unpack it either. So does a compression
    that is not known here (several at once, or brotli before 1.2): who unpacks it counts as it goes.
    """
    encoding = _encoding_of(headers)
    if encoding in _DEFLATED:
        return len(packed) * _MOST_OF_DEFLATE <= limit or _is_within(_inflated(packed), limit)
    if encoding == "br":
        return _is_within(_brotli_pieces(packed), limit)
    return encoding != "zstd" or _is_within(_zstd_pieces(packed), limit)


def unpacked(headers: Headers, packed: bytes, limit: int) -> bytes | None:
    """Return what `packed` holds; None if that is more than `limit` [bytes], or not compressed as its headers say."""
    encoding = _encoding_of(headers)
    if encoding in {"", "identity"}:
        return packed
    if not fits(headers, packed, limit):
        return None
    if encoding in _DEFLATED:
        for window_bits in (_GZIP_OR_ZLIB, _RAW):
            with suppress(zlib.error):
                return b"".join(_inflated_as(window_bits, packed)) or None
    pieces_of = {"br": _brotli_pieces, "zstd": _zstd_pieces}.get(encoding)
    return None if pieces_of is None else b"".join(pieces_of(packed)) or None


def _encoding_of(headers: Headers) -> str:
    return ",".join(values_of(headers, "content-encoding")).strip().lower()


def _is_within(pieces: Iterator[bytes], limit: int) -> bool:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            return False
    return True


def _inflated(packed: bytes) -> Iterator[bytes]:
    """Yield the pieces in `packed`, up to where it breaks; several gzip members are one stream."""
    try:
        yield from _inflated_as(_GZIP_OR_ZLIB, packed)
    except zlib.error:
        # Some servers take "deflate" for what has no header, and clients are lenient about it.
        try:
            yield from _inflated_as(_RAW, packed)
        except zlib.error:
            return


def _inflated_as(window_bits: int, packed: bytes) -> Iterator[bytes]:
    unpacking = zlib.decompressobj(window_bits)
    for start in range(0, len(packed), _STEP_BYTES):
        rest = packed[start : start + _STEP_BYTES]
        while rest:
            yield unpacking.decompress(rest, _STEP_BYTES)
            if unpacking.eof:
                rest, unpacking = unpacking.unused_data, zlib.decompressobj(window_bits)
            else:
                rest = unpacking.unconsumed_tail


def _zstd_pieces(packed: bytes) -> Iterator[bytes]:
    import zstandard

    try:
        yield from zstandard.ZstdDecompressor().read_to_iter(packed, write_size=_STEP_BYTES)
    except zstandard.ZstdError:
        return


def _brotli_pieces(packed: bytes) -> Iterator[bytes]:
    # Where it is installed, clients have imported it; where it isn't, they leave the body as it is.
    brotli: Any = sys.modules.get("brotli") or sys.modules.get("brotlicffi")
    if brotli is None:
        return
    unpacking = brotli.Decompressor()
    rest = packed
    try:
        while not unpacking.is_finished():
            piece = unpacking.process(rest, output_buffer_limit=_STEP_BYTES)
            yield piece
            rest = b""
            if not piece and unpacking.can_accept_more_data():
                return  # cut short
    except (AttributeError, TypeError, brotli.error):
        return
