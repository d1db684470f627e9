"""Gemini's stream as one JSON array of chunks, which ``:streamGenerateContent`` answers without ``alt=sse``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.forms import Inconvertible, dump, event, frame, load, objects_of, only, restated
from genai_cache_magic.providers.reading import is_success

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject

_WRAPPED: Final = b'{"chunks":%b}'
"""An object, so that its reader serves for an array too."""


def is_array(response: Response) -> bool:
    """Tell whether `response` is a stream that came as one array."""
    return response.form is Form.JSON and response.body.lstrip()[:1] == b"["


def chunks_of(array: bytes) -> list[JsonObject]:
    """Return the chunks in `array`, exactly.

    Raises
    ------
    Inconvertible, UncacheableRequest
        It is no array of objects.
    """
    return objects_of(only(load(_WRAPPED % array), "chunks").get("chunks"))


def to_stream(response: Response) -> Response | None:
    """Return the array `response` as events, None if it is none of chunks."""
    return _changed(response, Form.STREAM)


def to_array(response: Response) -> Response | None:
    """Return the event stream `response` as one array, None if it is none of chunks."""
    return _changed(response, Form.JSON)


def _changed(response: Response, form: Form) -> Response | None:
    if not is_success(response):
        return None
    try:
        body = _stream(chunks_of(response.body)) if form is Form.STREAM else _array(sse.events(response.body))
    except (Inconvertible, UncacheableRequest):
        return None
    return restated(response, body, form)


def _stream(chunks: Iterable[JsonObject]) -> bytes:
    return b"".join(frame(event(chunk)) for chunk in chunks)


def _array(events: Iterable[sse.Event]) -> bytes:
    return b"[%b]" % b",\n".join(dump(load(one.data)) for one in events)
