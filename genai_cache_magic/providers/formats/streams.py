"""What kinds of stream answers come in, the pieces in which they are replayed, and the JSON objects that they hold.

The kind goes by the content type, as far as the first bytes bear it out: proxies label event streams as JSON or text,
and whole answers as event streams.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.formats import eventstream, jsonlines, sse
from genai_cache_magic.providers.formats.media import decode_base64
from genai_cache_magic.providers.reading import content_type, essence, load_object, load_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from genai_cache_magic.core.model import JsonObject, Response

EVENTS: Final = "text/event-stream"
_LINES: Final = jsonlines.TYPES[0]

SPLITTERS: Final[Mapping[str, Callable[[bytes], Iterable[bytes]]]] = {
    EVENTS: sse.blocks,
    **dict.fromkeys(jsonlines.TYPES, jsonlines.blocks),
    eventstream.TYPE: eventstream.blocks,
}
"""Content type of a stream -> how to split a recording of it; joined, the pieces are the recording."""

_JSON: Final = "application/json"

_LEAST_BYTES: Final = 64
_FRAME_BYTES: Final = 16
"""The shortest frame of an event stream of Amazon's [bytes]."""

# No JSON begins so.
_FIELD: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:data|event|id|retry) ?:|:)")


def form_of(told: str, asked: Form = Form.JSON, body: bytes = b"") -> Form:
    """Return the form of an answer with this ``content-type``, as it was `told`; parameters don't matter.

    Gemini's stream as one JSON array is JSON, and whole at its end only.

    Parameters
    ----------
    asked
        The form that was asked for.
    body
        What came, or its beginning.
    """
    return Form.STREAM if _kind_of(essence(told), asked, body) in SPLITTERS else Form.JSON


def _kind_of(told: str, asked: Form, body: bytes) -> str:
    """Return the content type that fits what came: the one that was `told`, if its first bytes bear it out."""
    if told in SPLITTERS and told != EVENTS:
        return told
    if _FIELD.match(body) and (asked is Form.STREAM or told in {EVENTS, _JSON}):
        return EVENTS
    if (asked is Form.STREAM or told == EVENTS) and jsonlines.are_several(body):
        return _LINES
    return _JSON if told == EVENTS and body.lstrip()[:1] in {b"{", b"["} else told


def _kind(response: Response) -> str:
    return _kind_of(content_type(response), response.form, response.body)


def are_events(response: Response) -> bool:
    """Tell whether a streamed `response` is one of events, as opposed to lines."""
    return _kind(response) == EVENTS


def blocks(response: Response) -> Iterable[bytes]:
    """Return the body of a streamed `response` in pieces, one event each."""
    return SPLITTERS.get(_kind(response), sse.blocks)(response.body)


def is_fine(response: Response, limit_bytes: int) -> bool:
    """Tell whether a streamed `response` is so finely cut that its pieces cost more than `limit_bytes` [bytes].

    Each costs more than its bytes, to read, to keep in a list, to send; it counts as `_LEAST_BYTES` at least.
    """
    most = limit_bytes // _LEAST_BYTES
    body = response.body
    if response.form is not Form.STREAM or body.count(b"\n") + body.count(b"\r") + len(body) // _FRAME_BYTES <= most:
        return False  # nearly always, and told at once: no piece lacks a line's end, or is shorter than a frame
    return next(itertools.islice(blocks(response), most, None), None) is not None


def is_packed(response: Response) -> bool:
    """Tell whether what `response` says can't be found in its body as it stands."""
    return content_type(response) == eventstream.TYPE


def objects(response: Response) -> Iterator[JsonObject]:
    """Yield the JSON objects in `response`: the whole answer, each of an array, or that of each event."""
    if response.form is not Form.STREAM:
        yield from load_objects(response.body)
    elif is_packed(response):
        yield from _in_frames(response.body)
    elif _kind(response) == _LINES:
        yield from (one for line in jsonlines.lines(response.body) if (one := load_object(line)) is not None)
    else:
        yield from (one for event in sse.events(response.body) if (one := load_object(event.data)) is not None)


def _in_frames(recording: bytes) -> Iterator[JsonObject]:
    for message in eventstream.messages(recording):
        told = None if message is None else load_object(message.payload)
        if told is None:
            continue
        yield told
        packed = told.get("bytes")  # InvokeModel's chunks hold what the model said as base64
        inner = decode_base64(packed) if type(packed) is str else None
        if inner is not None and (said := load_object(inner)) is not None:
            yield said
