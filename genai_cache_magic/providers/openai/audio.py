"""``POST .../audio/transcriptions`` and ``.../audio/translations``: forms with a sound file, answered by text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers import multipart, sse
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.fields import drop_openai_noise, preview_of
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    content_type,
    count,
    is_success,
    load_answer,
    load_object,
    openai_usage,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins
    from genai_cache_magic.providers.sse import Event

SURFACES: Final = {
    "/audio/transcriptions": "openai.audio.transcriptions",
    "/audio/translations": "openai.audio.translations",
}
"""End of the path -> wire API."""

_TEXTS: Final = frozenset({"text/plain", "text/vtt", "text/srt", "application/x-subrip"})
"""Types of transcripts that are no JSON: ``text``, ``srt`` and ``vtt``. OpenAI calls all of them ``text/plain``."""


@dataclass(frozen=True, slots=True)
class OpenAITranscripts:
    """Both APIs: they differ in the language of what they answer."""

    surface: str
    vendor: str = ""

    def read(self, response: Response) -> Answer:
        """Read how `response` ended. A transcript that is no JSON says nothing of tokens, or of being whole."""
        if response.form is Form.STREAM:
            return _read_stream(response)
        if content_type(response) in _TEXTS and is_success(response):
            return Answer(End.COMPLETE if response.body.strip() else End.EMPTY)
        answer = load_answer(response)
        return answer if isinstance(answer, Answer) else _read_transcript(answer)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`: the form asked for is in the key, and a server may answer in another (Whisper does)."""
        del wants
        return response


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if it sends no file: an address in its place may have new content each time."""
    if type(body.get("file")) is not dict or not multipart.is_form(call.headers):
        return None
    drop_openai_noise(body)
    form = multipart.pop_form(body)
    suffix = next(suffix for suffix in SURFACES if call.path.rstrip("/").endswith(suffix))
    target = find_target(call, body, origins, suffix)
    provider = OpenAITranscripts(SURFACES[suffix], target.place.vendor)
    return ModelCall(
        provider=provider,
        request=target.request(provider.surface, body, form, multipart.files(call, body)),
        wants=Wants(form),
        preview=preview_of(body.get("prompt")),
    )


def is_error(event: Event, fields: JsonObject) -> bool:
    """Tell whether an event of a stream, with the JSON `fields`, says that the answer failed."""
    return event.name == b"error" or fields.get("error") is not None or fields.get("type") == "error"


def _read_transcript(answer: JsonObject) -> Answer:
    text = answer.get("text")
    if type(text) is not str:
        return Answer(End.UNREADABLE)
    return Answer(
        End.COMPLETE if text.strip() else End.EMPTY, _usage(answer.get("usage")), as_text(answer.get("model"))
    )


def _read_stream(response: Response) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        fields = load_object(event.data)
        if fields is None:
            return Answer(End.UNREADABLE)
        if is_error(event, fields):
            return Answer(End.ERROR)
        if fields.get("type") == "transcript.text.done":
            return _read_transcript(fields)
    return Answer(End.CUT)


def _usage(usage: JsonValue) -> Usage:
    """Return the tokens of a transcript; those heard are unknown, as are all of a model that counts seconds.

    A token of sound has a price of its own, so a plain count of the input would get its cost wrong.
    """
    tokens = openai_usage(usage)
    heard = count(as_object(as_object(usage).get("input_token_details")).get("audio_tokens"))
    return tokens if heard == 0 else Usage(output_tokens=tokens.output_tokens)
