"""JSON lines as bytes: one JSON value a line, each line ended by LF or CR LF.

Works on a whole recording, so it does not matter in which chunks it arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.reading import load_object

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES: Final = ("application/x-ndjson", "application/stream+json")
"""Content types: Ollama's, and that of Cohere's first chat API."""


def blocks(recording: bytes) -> Iterator[bytes]:
    """Split `recording` into lines, each with its end; joined, they are `recording`."""
    # Not by `splitlines`: a CR by itself ends no line here, and CR LF must stay in one piece.
    start = 0
    while start < len(recording):
        end = recording.find(b"\n", start) + 1 or len(recording)
        yield recording[start:end]
        start = end


def are_several(recording: bytes) -> bool:
    """Tell whether `recording` begins with a line that is an object by itself, and goes on with another."""
    first, _, rest = recording.lstrip().partition(b"\n")
    return rest.lstrip()[:1] == b"{" and first[:1] == b"{" and load_object(first) is not None


def lines(recording: bytes) -> Iterator[bytes]:
    """Yield the lines of `recording` that are whole and not blank.

    The last one may lack its end, since servers differ in that, but then it must be an object by itself:
    half a line is no line.
    """
    for block in blocks(recording):
        line = block.strip()
        if line and (block.endswith(b"\n") or load_object(line) is not None):
            yield line
