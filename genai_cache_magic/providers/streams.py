"""What kinds of stream answers come in, told by their content type, and the pieces in which they are replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import eventstream, jsonlines, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.model import Response

SPLITTERS: Final[Mapping[str, Callable[[bytes], Iterable[bytes]]]] = {
    "text/event-stream": sse.blocks,
    **dict.fromkeys(jsonlines.TYPES, jsonlines.blocks),
    eventstream.TYPE: eventstream.blocks,
}
"""Content type of a stream -> how to split a recording of it; joined, the pieces are the recording."""


def form_of(content_type: str) -> Form:
    """Return the form of an answer with this ``content-type``; parameters don't matter.

    Gemini's stream as one JSON array is JSON, and whole at its end only.
    """
    return Form.STREAM if _essence(content_type) in SPLITTERS else Form.JSON


def blocks(response: Response) -> Iterable[bytes]:
    """Return the body of a streamed `response` in pieces, one event each."""
    content_type = next((value for name, value in response.headers if name == "content-type"), "")
    return SPLITTERS.get(_essence(content_type), sse.blocks)(response.body)


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
