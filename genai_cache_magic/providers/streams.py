"""What kinds of stream answers come in, told by their content type, and the pieces in which they are replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import eventstream, jsonlines, sse
from genai_cache_magic.providers.reading import content_type, essence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.model import Response

SPLITTERS: Final[Mapping[str, Callable[[bytes], Iterable[bytes]]]] = {
    "text/event-stream": sse.blocks,
    **dict.fromkeys(jsonlines.TYPES, jsonlines.blocks),
    eventstream.TYPE: eventstream.blocks,
}
"""Content type of a stream -> how to split a recording of it; joined, the pieces are the recording."""


def form_of(told: str) -> Form:
    """Return the form of an answer with this ``content-type``, as it was `told`; parameters don't matter.

    Gemini's stream as one JSON array is JSON, and whole at its end only.
    """
    return Form.STREAM if essence(told) in SPLITTERS else Form.JSON


def blocks(response: Response) -> Iterable[bytes]:
    """Return the body of a streamed `response` in pieces, one event each."""
    return SPLITTERS.get(content_type(response), sse.blocks)(response.body)
