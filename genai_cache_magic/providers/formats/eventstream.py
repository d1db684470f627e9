"""Amazon's binary event stream (`application/vnd.amazon.eventstream`) as bytes: checked frames, one a message.

Works on a whole recording, so it does not matter in which chunks it arrived. All integers are big-endian:

====== ===== =========================================================
offset bytes what
====== ===== =========================================================
0      4     length of the whole frame [bytes], ``n``
4      4     length of the headers [bytes], ``h``
8      4     CRC-32 of the 8 bytes before
12     h     headers: name length (1), name, type (1), value
12+h   n-16-h payload
n-4    4     CRC-32 of all bytes before
====== ===== =========================================================

Source: AWS, "Event stream encoding" of the Smithy specification.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = struct.Struct(">I")
_LEAST_BYTES: Final = _PRELUDE.size + _CRC.size

# Type of a header's value -> bytes of the value, None where two bytes of length come first.
_VALUE_BYTES: Final[Mapping[int, int | None]] = {
    0: 0,  # true
    1: 0,  # false
    2: 1,  # byte
    3: 2,  # short
    4: 4,  # integer
    5: 8,  # long
    6: None,  # bytes
    7: None,  # text
    8: 8,  # time
    9: 16,  # UUID
}
_TEXT: Final = 7
_LENGTH_BYTES: Final = 2


class Message(NamedTuple):
    """One message: those of its headers that are text, such as ``:event-type``, and its payload."""

    headers: Mapping[str, str]
    payload: bytes

    def __repr__(self) -> str:
        return f"<Message of {len(self.payload)} bytes>"


def blocks(recording: bytes) -> Iterator[bytes]:
    """Split `recording` into frames; joined, they are `recording`. What can't be split comes as one last piece."""
    start = 0
    while (end := _frame_end(recording, start)) is not None and end <= len(recording):
        yield recording[start:end]
        start = end
    if start < len(recording):
        yield recording[start:]


def messages(recording: bytes) -> Iterator[Message | None]:
    """Yield the messages of `recording`; None, and then nothing, where a frame is damaged.

    A frame that the recording cuts off is no message.
    """
    start = 0
    while len(recording) - start >= _PRELUDE.size:
        end = _frame_end(recording, start)
        if end is not None and end > len(recording):
            return
        message = None if end is None else _message(recording[start:end])
        yield message
        if message is None or end is None:
            return
        start = end


def _frame_end(recording: bytes, start: int) -> int | None:
    """Return where the frame at `start` ends, None if its prelude is cut off or damaged."""
    if len(recording) - start < _PRELUDE.size:
        return None
    n, h, crc = _PRELUDE.unpack_from(recording, start)
    # The lengths have a checksum of their own, so that a flipped bit can't make a reader wait for gigabytes.
    if crc != crc32(recording[start : start + 8]) or n < _LEAST_BYTES + h:
        return None
    return start + int(n)


def _message(frame: bytes) -> Message | None:
    if _CRC.unpack_from(frame, len(frame) - _CRC.size)[0] != crc32(memoryview(frame)[: -_CRC.size]):
        return None
    payload_at = _PRELUDE.size + int.from_bytes(frame[4:8], "big")
    headers = _headers(frame[_PRELUDE.size : payload_at])
    return None if headers is None else Message(headers, frame[payload_at : -_CRC.size])


def _headers(raw: bytes) -> dict[str, str] | None:
    """Return the headers in `raw` whose values are text, None if it is malformed."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            name_at, name_end = at + 1, at + 1 + raw[at]
            kind, value_at = raw[name_end], name_end + 1
            size = _VALUE_BYTES[kind]
            if size is None:
                size = int.from_bytes(raw[value_at : value_at + _LENGTH_BYTES], "big")
                value_at += _LENGTH_BYTES
            at = value_at + size
            if at > len(raw):
                return None
            if kind == _TEXT:
                headers[raw[name_at:name_end].decode()] = raw[value_at:at].decode()
    except (LookupError, UnicodeDecodeError):
        return None
    return headers
