"""Event streams (`text/event-stream`) as bytes: split into blocks, read block by block.

Works on a whole recording, so it does not matter in which chunks it arrived. Follows the parsing rules of the
HTML standard's section on server-sent events: lines end with CR LF, LF or CR; a blank line ends an event;
an event that the recording cuts off is not an event.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Atomic, or a lone CR LF would be taken apart and counted as two line ends.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?:(?>\r\n|\n|\r))+")
_BOM: Final = b"\xef\xbb\xbf"

DONE: Final = b"[DONE]"
"""Data of the event with which OpenAI-compatible servers end a stream; not JSON."""


class Event(NamedTuple):
    """One event: its name (empty if it has none) and its data, lines joined by LF."""

    name: bytes
    data: bytes

    def __repr__(self) -> str:
        return f"<Event of {len(self.data)} bytes>"


def blocks(recording: bytes) -> Iterator[bytes]:
    """Split `recording` into blocks, each with the blank lines that end it; joined, they are `recording`."""
    start = 0
    for gap in _BLANK_LINE.finditer(recording):
        yield recording[start : gap.end()]
        start = gap.end()
    if start < len(recording):
        yield recording[start:]


def events(recording: bytes) -> Iterator[Event]:
    """Yield the events of `recording`, without comments and blocks that carry no data.

    The closing ``[DONE]`` counts even if a server forgets the blank line behind it: nothing could follow.
    """
    start = 0
    for gap in _BLANK_LINE.finditer(recording):
        event = parse(recording[start : gap.end()])
        if event is not None:
            yield event
        start = gap.end()
    rest = parse(recording[start:])
    if rest is not None and rest.data == DONE:
        yield rest


def parse(block: bytes) -> Event | None:
    """Return the event in `block`, None if it carries no data."""
    name, data = b"", []
    for line in block.removeprefix(_BOM).splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(data)) if data else None
