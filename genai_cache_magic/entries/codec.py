"""Entry -> frame -> compress -> seal, and back.

Metadata and body are compressed apart, each with a first byte that says how::

    0       1      0 stored as it is, 1 zstd, 2 gzip
    1       4      length once decompressed [bytes], for 1 and 2 only
    ...     ...    the data
"""

from __future__ import annotations

import gzip
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import zstandard

from genai_cache_magic.core.frame import (
    MAX_BODY_BYTES,
    MAX_METADATA_BYTES,
    Blocks,
    decode_account,
    decode_header,
    decode_metadata,
    decode_response,
    encode_header,
    encode_metadata,
    encode_response,
    head_size,
    pack,
    unpack,
    unpack_head,
)
from genai_cache_magic.core.model import Account, Entry, EntryId, Header, Metadata, Response
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from genai_cache_magic.crypto.envelope import Opened

_STORED, _ZSTD, _GZIP = 0, 1, 2
_GZIP_WBITS = 31

_STEP_BYTES = 256 << 10

_METADATA_THRESHOLD = 4096
"""Metadata is read at every hit: below this [bytes] reading it fast is worth more than the room."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How blocks are compressed: `threshold` [bytes] and the algorithm's `level`."""

    algorithm: str = "zstd"
    threshold: int = 1024
    level: int = 3


class Seal(Protocol):
    """What turns blocks into the bytes at rest under an entry id, and back."""

    def seal(self, entry_id: str, header: bytes, metadata: bytes, body: bytes) -> bytes:
        """Return the bytes to store."""

    def open(self, entry_id: str, envelope: bytes) -> Opened | Blocks:
        """Return what was sealed for `entry_id`.

        Raises
        ------
        DecryptionError, EntryUndecodable
            These bytes were not sealed for `entry_id` with our key, or are damaged: a miss.
        """

    def open_metadata(self, entry_id: str, prefix: bytes) -> tuple[bytes, bytes]:
        """Return (header, metadata) from the first `metadata_size` or more bytes; raises as `open`."""

    def metadata_size(self, prefix: bytes) -> int:
        """Return how many leading bytes `open_metadata` needs, given some; raises ``EntryUndecodable``."""


class Unsealed:
    """Plain frames, for ``encryption = off``: damage is found, nothing is secret."""

    def seal(self, entry_id: str, header: bytes, metadata: bytes, body: bytes) -> bytes:
        """Return the plain frame."""
        return pack(EntryId(entry_id), Blocks(header, metadata, body))

    def open(self, entry_id: str, envelope: bytes) -> Blocks:
        """Read a plain frame."""
        return unpack(EntryId(entry_id), envelope)

    def open_metadata(self, entry_id: str, prefix: bytes) -> tuple[bytes, bytes]:
        """Read how a plain frame begins."""
        del entry_id  # what binds the frame to it comes at its end
        return unpack_head(prefix)

    def metadata_size(self, prefix: bytes) -> int:
        """Return how many leading bytes that takes."""
        return head_size(prefix)


class Sealed:
    """Bytes at rest whose header is read: the parts that remain are opened when asked for."""

    __slots__ = ("_account", "_blocks", "_codec", "header")

    def __init__(self, codec: Codec, blocks: Opened | Blocks) -> None:
        self._codec = codec
        self._blocks = blocks
        self._account: Account | None = None
        self.header: Header = decode_header(blocks.header)

    def response(self) -> Response:
        """Return the answer; raises ``EntryUndecodable``."""
        return decode_response(self._codec.decompress(self._blocks.body, MAX_BODY_BYTES))

    def account(self) -> Account:
        """Return what a hit's record needs, cheaper than all metadata; raises ``EntryUndecodable``."""
        if self._account is None:
            self._account = decode_account(self._codec.decompress(self._blocks.metadata, MAX_METADATA_BYTES))
        return self._account

    def metadata(self) -> Metadata:
        """Return what listings show; raises ``EntryUndecodable``."""
        return decode_metadata(self._codec.decompress(self._blocks.metadata, MAX_METADATA_BYTES))


class Codec:
    """Turns entries into bytes at rest and back. Safe to share between threads."""

    def __init__(self, seal: Seal, compression: Compression) -> None:
        self._seal = seal
        self._compression = compression
        # A zstandard compressor shared by threads crashes the process: one per thread.
        self._local = threading.local()

    def encode(self, entry_id: EntryId, entry: Entry) -> bytes:
        """Return the bytes to store for `entry`; raises ``EntryUndecodable`` if it can't be told."""
        header = encode_header(entry.header)
        metadata = self._compress(encode_metadata(entry.metadata), _METADATA_THRESHOLD)
        body = self._compress(encode_response(entry.response), self._compression.threshold)
        return self._seal.seal(entry_id, header, metadata, body)

    def open(self, entry_id: EntryId, blob: bytes) -> Sealed:
        """Open bytes at rest that were found under `entry_id`.

        Raises
        ------
        DecryptionError, EntryUndecodable
            They are not what was stored there: a miss.
        """
        return Sealed(self, self._seal.open(entry_id, blob))

    def open_head(self, entry_id: EntryId, head: bytes) -> tuple[Header, Metadata] | int:
        """Return what listings show, from how bytes at rest begin; or how many bytes of them that takes.

        Raises as `open`: of what follows nothing is known.
        """
        size_bytes = self._seal.metadata_size(head)
        if len(head) < size_bytes:
            return size_bytes
        header, metadata = self._seal.open_metadata(entry_id, head)
        return decode_header(header), decode_metadata(self.decompress(metadata, MAX_METADATA_BYTES))

    def _compress(self, data: bytes, threshold: int) -> bytes:
        how = self._compression
        if how.algorithm == "none" or len(data) < threshold:
            return bytes((_STORED,)) + data
        if how.algorithm == "gzip":
            code, packed = _GZIP, gzip.compress(data, min(how.level, 9), mtime=0)
        else:
            code, packed = _ZSTD, self._compressor().compress(data)
        if len(packed) + 4 >= len(data):
            return bytes((_STORED,)) + data
        return bytes((code,)) + len(data).to_bytes(4) + packed

    def decompress(self, block: bytes, limit: int) -> bytes:
        """Undo the compression of a block, never to more than `limit` [bytes].

        Raises
        ------
        EntryUndecodable
            The block is not what the codec wrote, or too large.
        """
        code = block[:1]
        if code == b"\0":
            data = block[1:]
            size = len(data)
        else:
            size = int.from_bytes(block[1:5])
            if size > limit:
                raise EntryUndecodable("a compressed block claims more than is allowed")
            data = self._expand(code, block[5:], size)
        if len(data) != size or size > limit:
            raise EntryUndecodable("a compressed block has a wrong length")
        return data

    def _expand(self, code: bytes, packed: bytes, size: int) -> bytes:
        try:
            if code == b"\1":
                if zstandard.frame_content_size(packed) != size:
                    raise EntryUndecodable("a compressed block has a wrong length")
                return self._decompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
            if code == b"\2":
                return _gunzip(packed, size)
        except (zlib.error, zstandard.ZstdError) as exc:
            raise EntryUndecodable("a compressed block is damaged") from exc
        raise EntryUndecodable("a block is compressed in an unknown way")

    def _compressor(self) -> zstandard.ZstdCompressor:
        local = self._local
        if not hasattr(local, "compressor"):
            local.compressor = zstandard.ZstdCompressor(level=self._compression.level, write_content_size=True)
        compressor: zstandard.ZstdCompressor = local.compressor
        return compressor

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        local = self._local
        if not hasattr(local, "decompressor"):
            local.decompressor = zstandard.ZstdDecompressor()
        decompressor: zstandard.ZstdDecompressor = local.decompressor
        return decompressor


def _gunzip(packed: bytes, size: int) -> bytes:
    """Return the `size` bytes that were packed; what is more or less takes no more room than that before it is refused.

    Raises
    ------
    EntryUndecodable
        The block does not end with them.
    zlib.error
        It is damaged.
    """
    expander = zlib.decompressobj(_GZIP_WBITS)
    parts: list[bytes] = []
    left = size + 1
    for at in range(0, len(packed), _STEP_BYTES):
        piece = packed[at : at + _STEP_BYTES]
        while piece and left and not expander.eof:
            parts.append(expander.decompress(piece, min(left, _STEP_BYTES)))
            left -= len(parts[-1])
            piece = expander.unconsumed_tail
        if piece:  # more than was claimed, or bytes after the end
            raise EntryUndecodable("a compressed block does not end where it should")
    if left != 1 or not expander.eof or expander.unused_data:
        raise EntryUndecodable("a compressed block does not end where it should")
    return b"".join(parts)
