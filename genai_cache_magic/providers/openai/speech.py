"""``POST .../audio/speech``: a text, answered by the bytes of a sound file or by events that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.billing import read_openai
from genai_cache_magic.providers.fields import drop_openai_hints, preview_of
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.openai.audio import is_error
from genai_cache_magic.providers.reading import content_type, is_success, load_object
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/audio/speech"

_UNTYPED: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class OpenAISpeech:
    """The speech API."""

    vendor: str = ""
    surface: ClassVar[str] = "openai.audio.speech"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended. Of plain sound nothing but its framing on the wire says whether it is whole."""
        if not is_success(response):
            return Answer(End.ERROR)
        if response.form is Form.STREAM:
            return _read_stream(response)
        kind = content_type(response)
        if kind.startswith("audio/") or kind == _UNTYPED:
            return Answer(End.COMPLETE if response.body else End.EMPTY)
        answer = load_object(response.body)
        return Answer(End.UNREADABLE if answer is None or answer.get("error") is None else End.ERROR)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`: ``stream_format``, which asks for events, is in the key."""
        del wants
        return response


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if it has no text to speak."""
    text = body.get("input")
    if type(text) is not str or not text:
        return None
    drop_openai_hints(body)
    form = Form.STREAM if body.get("stream_format") == "sse" else Form.JSON
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=OpenAISpeech(target.place.vendor),
        request=target.request(OpenAISpeech.surface, body, form),
        wants=Wants(form),
        preview=preview_of(text),
    )


def _read_stream(response: Response) -> Answer:
    has_sound = False
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        fields = load_object(event.data)
        if fields is None:
            return Answer(End.UNREADABLE)
        if is_error(event, fields):
            return Answer(End.ERROR)
        has_sound |= bool(fields.get("audio"))
        if fields.get("type") == "speech.audio.done":
            told = read_openai(fields.get("usage"))
            return Answer(End.COMPLETE if has_sound else End.EMPTY, told.usage, bill=told.bill)
    return Answer(End.CUT)
