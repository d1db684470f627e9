r"""Entry <-> versioned bytes (normative text and vectors: `spec/frame.md`).

An entry has three blocks. The *header* decides validity and is readable without a key; the *metadata*
feeds listings; the *body* is the answer. Metadata and body are compressed and sealed apart, by layers
that see only bytes. All integers are unsigned and big-endian.

Header block::

    offset  size   field
    0       16     birth root
    16      8      birth ver
    24      8      created [ms since the epoch]
    32      4      time to live [s]
    36      1      number of keyed tags, n <= 64
    37      16 n   keyed tags, strictly ascending

Body block::

    0       2      HTTP status
    2       1      form: 0 JSON, 1 event stream
    3       2      number of header fields, n <= 256
    5       ...    n times: 2 bytes length, name (ASCII); 2 bytes length, value (UTF-8)
    ...     4      length of the body
    ...     ...    the body, to the end of the block

The metadata block is a JSON object in UTF-8; unknown members are ignored.

Plain frame, where encryption is off::

    0       4      magic "GCFR"
    4       1      major version, 1
    5       3      reserved, zero
    8       2      length of the header block
    10      4      length of the metadata block
    14      4      length of the body block
    18      ...    header, metadata, body
    ...     32     SHA-256 over "genai-cache frame 1\0", entry id (64 ASCII bytes) and all bytes before
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

import orjson

from genai_cache_magic.core.model import Account, EntryId, Form, Header, Metadata, Response, Stamp, Usage
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAJOR = 1
MAX_TAGS = 64
MAX_HEADER_FIELDS = 256
MAX_METADATA_BYTES = 256 * 1024
MAX_BODY_BYTES = 40 * 1024 * 1024
DIGEST_BYTES = 32

_MAGIC = b"GCFR"
_DOMAIN = b"genai-cache frame 1\0"
_HEADER = struct.Struct(">16sQQIB")
_PLAIN = struct.Struct(">4sB3sHII")
_BODY = struct.Struct(">HBH")
_FORMS = (Form.JSON, Form.STREAM)
_MALFORMED = (AttributeError, InvalidOperation, KeyError, TypeError, ValueError)


class Blocks(NamedTuple):
    """The three blocks of an entry, as bytes."""

    header: bytes
    metadata: bytes
    body: bytes

    def __repr__(self) -> str:
        return f"<Blocks of {sum(map(len, self))} bytes>"


def encode_header(header: Header) -> bytes:
    """Return the header block."""
    tags = sorted(set(header.tags))
    fixed = _HEADER.pack(header.birth.root, header.birth.ver, header.created_ms, header.ttl_s, len(tags))
    return fixed + b"".join(tags)


def decode_header(block: bytes) -> Header:
    """Read a header block.

    Raises
    ------
    EntryUndecodable
        The block is not a header of this version.
    """
    if len(block) < _HEADER.size:
        raise EntryUndecodable("header block is cut short")
    root, ver, created_ms, ttl_s, n_tags = _HEADER.unpack_from(block)
    if n_tags > MAX_TAGS or len(block) != _HEADER.size + 16 * n_tags:
        raise EntryUndecodable("header block has a wrong length")
    tags = tuple(block[at : at + 16] for at in range(_HEADER.size, len(block), 16))
    if list(tags) != sorted(set(tags)):
        raise EntryUndecodable("keyed tags are not in order")
    return Header(Stamp(root, ver), created_ms, ttl_s, tags)


def encode_metadata(metadata: Metadata, *, components: Mapping[str, str] | None = None) -> bytes:
    """Return the metadata block, with other `components` in the place of its own where they are given."""
    usage = metadata.usage
    return orjson.dumps(
        {
            "surface": metadata.surface,
            "provider": metadata.provider,
            "model": metadata.model,
            "origin": metadata.origin,
            "key": metadata.key,
            "tags": metadata.tags,
            "run": metadata.run,
            "cell": metadata.cell,
            "person": metadata.person,
            "sample": metadata.sample,
            "usage": [usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens],
            "cost_usd": None if metadata.cost_usd is None else str(metadata.cost_usd),
            "latency_s": metadata.latency_s,
            "preview": metadata.preview,
            "components": dict(metadata.components if components is None else components),
            **({"asked": metadata.asked} if metadata.asked else {}),
            **({"without_noise": dict(metadata.without_noise)} if metadata.without_noise else {}),
        },
    )


def decode_metadata(block: bytes) -> Metadata:
    """Read a metadata block.

    Raises
    ------
    EntryUndecodable
        The block is not a metadata object, or a member has a wrong type.
    """
    try:
        fields = orjson.loads(block)
        return Metadata(
            **_texts({name: fields[name] for name in _TEXTS}),
            tags=tuple(map(_text, fields["tags"])),
            sample=_count(fields["sample"]),
            usage=_usage(fields["usage"]),
            cost_usd=_cost(fields["cost_usd"]),
            latency_s=float(fields["latency_s"]),
            asked=_text(fields.get("asked", "")),
            components=_texts(fields["components"]),
            without_noise=_texts(fields.get("without_noise", {})),
        )
    except _MALFORMED as exc:
        raise EntryUndecodable("metadata block is not of this version") from exc


def decode_account(block: bytes) -> Account:
    """Read only what a hit's record shows from a metadata block; raises as `decode_metadata`."""
    try:
        fields = orjson.loads(block)
        asked = _text(fields.get("asked", ""))
        return Account(_text(fields["model"]), _usage(fields["usage"]), _cost(fields["cost_usd"]), asked)
    except _MALFORMED as exc:
        raise EntryUndecodable("metadata block is not of this version") from exc


_TEXT = frozenset({str})
_TEXTS = ("surface", "provider", "model", "origin", "key", "run", "cell", "person", "preview")


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _texts(fields: dict[str, object]) -> dict[str, str]:
    """Return an object of texts as it was read; looked at without a step of the interpreter for each of them."""
    if type(fields) is not dict or not _TEXT.issuperset(map(type, fields.values())):
        raise TypeError
    return fields  # type: ignore[return-value]  # all of them are


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _cost(value: object) -> Decimal | None:
    return None if value is None else Decimal(_text(value))


def _usage(fields: list[object]) -> Usage:
    in_, out, cached, written = fields
    return Usage(
        None if in_ is None else _count(in_),
        None if out is None else _count(out),
        _count(cached),
        _count(written),
    )


def encode_response(response: Response) -> bytes:
    """Return the body block.

    Raises
    ------
    EntryUndecodable
        The response can't be told in this version: too many or too long header fields.
    """
    if len(response.headers) > MAX_HEADER_FIELDS:
        raise EntryUndecodable("response has too many header fields")
    head = _BODY.pack(response.status, _FORMS.index(response.form), len(response.headers))
    try:
        # Without a step of the interpreter for each of some thirty texts.
        raws = list(map(str.encode, itertools.chain.from_iterable(response.headers)))
        sizes = map(int.to_bytes, map(len, raws), itertools.repeat(2))
        fields = b"".join(itertools.chain.from_iterable(zip(sizes, raws, strict=False)))
    except (OverflowError, UnicodeEncodeError) as exc:
        raise EntryUndecodable("a header field of the response can't be stored") from exc
    return b"".join((head, fields, len(response.body).to_bytes(4), response.body))


def decode_response(block: bytes) -> Response:
    """Read a body block.

    Raises
    ------
    EntryUndecodable
        The block is cut, has bytes left over, or names an unknown form.
    """
    try:
        status, form, n_fields = _BODY.unpack_from(block)
        at = _BODY.size
        raws: list[bytes] = []
        for _ in range(2 * n_fields):
            start = at + 2
            at = start + (block[at] << 8 | block[at + 1])
            raws.append(block[start:at])
        texts = list(map(bytes.decode, raws))
        body = block[at + 4 :]
        if n_fields > MAX_HEADER_FIELDS or len(block) < at + 4 or int.from_bytes(block[at : at + 4]) != len(body):
            raise EntryUndecodable("body block has a wrong length")
        return Response(status, tuple(zip(texts[::2], texts[1::2], strict=True)), body, _FORMS[form])
    except (IndexError, UnicodeDecodeError, struct.error) as exc:
        raise EntryUndecodable("body block is not of this version") from exc


def pack(entry_id: EntryId, blocks: Blocks) -> bytes:
    """Return the plain frame, for stores that are not sealed."""
    sizes = _PLAIN.pack(_MAGIC, MAJOR, bytes(3), len(blocks.header), len(blocks.metadata), len(blocks.body))
    content = b"".join((sizes, *blocks))
    return content + _digest(entry_id, content)


def unpack(entry_id: EntryId, frame: bytes) -> Blocks:
    """Read a plain frame that was stored under `entry_id`.

    The digest finds damage and mix-ups, not forgery: that is what sealing is for.

    Raises
    ------
    EntryUndecodable
        Any byte differs from what was packed, or it was packed for another entry id.
    """
    if len(frame) < _PLAIN.size + DIGEST_BYTES:
        raise EntryUndecodable("frame is cut short")
    n_header, n_metadata, n_body = _sizes(frame)
    if len(frame) != _PLAIN.size + n_header + n_metadata + n_body + DIGEST_BYTES:
        raise EntryUndecodable("frame has a wrong length")
    if _digest(entry_id, frame[:-DIGEST_BYTES]) != frame[-DIGEST_BYTES:]:
        raise EntryUndecodable("frame is damaged or belongs to another entry")
    a = _PLAIN.size + n_header
    b = a + n_metadata
    return Blocks(frame[_PLAIN.size : a], frame[a:b], frame[b : b + n_body])


def head_size(prefix: bytes) -> int:
    """Return how many leading bytes of a plain frame `unpack_head` needs, given some; raises ``EntryUndecodable``."""
    n_header, n_metadata, _ = _sizes(prefix)
    return _PLAIN.size + n_header + n_metadata


def unpack_head(prefix: bytes) -> tuple[bytes, bytes]:
    """Return header and metadata from the first `head_size` bytes of a plain frame; they are not checked for damage.

    Raises
    ------
    EntryUndecodable
        They are not how a frame of this version begins.
    """
    n_header, n_metadata, _ = _sizes(prefix)
    a = _PLAIN.size + n_header
    if len(prefix) < a + n_metadata:
        raise EntryUndecodable("frame is cut short")
    return prefix[_PLAIN.size : a], prefix[a : a + n_metadata]


def _sizes(frame: bytes) -> tuple[int, int, int]:
    """Return the lengths of the blocks that a frame states."""
    if len(frame) < _PLAIN.size:
        raise EntryUndecodable("frame is cut short")
    magic, major, reserved, n_header, n_metadata, n_body = _PLAIN.unpack_from(frame)
    if magic != _MAGIC or major != MAJOR or reserved != bytes(3) or n_metadata > MAX_METADATA_BYTES + 5:
        raise EntryUndecodable("not a plain frame of version 1")
    return n_header, n_metadata, n_body


def _digest(entry_id: EntryId, content: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + entry_id.encode() + content).digest()
