"""``POST .../audio/transcriptions`` and ``.../audio/translations``: forms with a sound file, answered by text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, Bill, End, ModelCall, Wants
from genai_cache_magic.providers.billing import Counted, read_openai
from genai_cache_magic.providers.fields import drop_openai_hints, preview_of
from genai_cache_magic.providers.formats import multipart, sse
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    content_type,
    count,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins
    from genai_cache_magic.providers.formats.sse import Event

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
    drop_openai_hints(body)
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
    told = _read_usage(answer.get("usage"))
    return Answer(End.COMPLETE if text.strip() else End.EMPTY, told.usage, as_text(answer.get("model")), told.bill)


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


def _read_usage(usage: JsonValue) -> Counted:
    """Return the tokens of a transcript, or how long its sound was [s] where a model is billed by that.

    A token of sound has a price of its own, so a plain count of the input has no known price.
    """
    fields = as_object(usage)
    if fields.get("type") == "duration":
        seconds = fields.get("seconds")
        is_whole = isinstance(seconds, (int, float)) and seconds == int(seconds)
        return Counted(
            Usage(),
            Bill(
                {"audio_seconds": int(seconds)} if isinstance(seconds, (int, float)) else {},
                unclear="" if is_whole else "part of a second",
            ),
        )
    counted, bill = read_openai(fields)
    is_told = count(as_object(fields.get("input_token_details")).get("audio_tokens")) is not None
    if is_told or counted.input_tokens is None:
        return Counted(counted, bill)
    return Counted(counted, replace(bill, unclear=bill.unclear or "tokens of sound"))
