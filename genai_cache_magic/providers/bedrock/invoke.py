"""``POST /model/{model}/invoke`` and ``/invoke-with-response-stream``: a model of Amazon Bedrock in its own words.

The body is the model's own, so it is in the key as it stands; where it is Anthropic's, its media, ids and hints are
treated as there. Answers are told by their shape; one that none of the shapes here fits is not stored.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, TypeAlias

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers import choices, vectors
from genai_cache_magic.providers.anthropic import messages as anthropic_messages
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.bedrock import converse
from genai_cache_magic.providers.cohere.embeddings import parts_of
from genai_cache_magic.providers.fields import keeps_an_hour, last_user_text, objects, positive, preview_of
from genai_cache_magic.providers.formats import eventstream, sse
from genai_cache_magic.providers.formats.media import decode_base64
from genai_cache_magic.providers.named_by_path import target_named_by_path
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    count,
    gravest,
    is_success,
    load_answer,
    load_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins
    from genai_cache_magic.providers.batches import Parts

WHOLE: Final = "/invoke"
STREAMED: Final = "/invoke-with-response-stream"

_GUARDRAIL_VERSION: Final = "x-amzn-bedrock-guardrailversion"

_TERMS: Final = {
    "x-amzn-bedrock-performanceconfig-latency": "latency",
    "x-amzn-bedrock-service-tier": "service_tier",
}
"""Header, of a request and of its answer -> the terms that it is about."""

_COUNT_DIGITS: Final = 19
_GUARDRAIL: Final = "amazon-bedrock-guardrailAction"
_METRICS: Final = "amazon-bedrock-invocationMetrics"
_METRICS_OF_SIDES: Final = (
    "inputTokenCount",
    "outputTokenCount",
    "cacheReadInputTokenCount",
    "cacheWriteInputTokenCount",
)
_SIDES: Final = ("input", "output", "cache-read-input", "cache-write-input")
"""What Amazon counts itself: fields of the last chunk of a stream, and parts of headers."""

_PROMPTS: Final = ("prompt", "inputText", "message", "texts")
_LIMITS: Final = (
    ("", "max_tokens"),
    ("", "max_gen_len"),
    ("", "max_tokens_to_sample"),
    ("textGenerationConfig", "maxTokenCount"),
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
)


class _Shape(NamedTuple):
    """Where the text of an answer and the reason of its end lie, in each item of `items` or at the top."""

    items: str
    text: str
    reason: str


_SHAPES: Final = (
    _Shape("results", "outputText", "completionReason"),  # Titan
    _Shape("outputs", "text", "stop_reason"),  # Mistral
    _Shape("generations", "text", "finish_reason"),  # Cohere Command
    _Shape("", "generation", "stop_reason"),  # Llama
    _Shape("", "outputText", "completionReason"),  # Titan, streamed
    _Shape("", "completion", "stop_reason"),  # Claude 2
    _Shape("", "text", "finish_reason"),  # Cohere Command R
)

_REASONS: Final = {
    "complete": End.COMPLETE,
    "end_turn": End.COMPLETE,
    "finish": End.COMPLETE,
    "stop": End.COMPLETE,
    "stop_sequence": End.COMPLETE,
    "length": End.TRUNCATED,
    "max_tokens": End.TRUNCATED,
    "content_filtered": End.FILTERED,
    "error_toxic": End.FILTERED,
    "error": End.ERROR,
}

_Reader: TypeAlias = "Callable[[Response, list[JsonObject]], Answer]"

_VECTORS: Final = ("embedding", "embeddings", "embeddingsByType")


@dataclass(frozen=True, slots=True)
class BedrockInvoke:
    """The InvokeModel API; `asked` is how many vectors there must be, if it is asked for such."""

    vendor: str = ""
    asked: int | None = None
    surface: ClassVar[str] = "aws.invoke"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream ends with the chunk that carries the metrics."""
        if response.form is Form.STREAM:
            return _read_stream(response, self.asked)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        told = dict(response.headers)
        counts = (_header_count(told.get(f"x-amzn-bedrock-{side}-token-count")) for side in _SIDES)
        counted = _counted(*counts)
        return _on_terms(_read(response, [answer], counted, self.asked), response)

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts are of a batch for a model of Cohere's; the other models embed one text at a time."""
        return parts_of(body) if "texts" in body and "input_type" in body else None

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its path names no model.

    Raises
    ------
    UncacheableRequest
        What it names may change without the call changing: a draft.
    """
    head, _, tail = call.path.rstrip("/").partition(converse.MODEL)
    model, _, verb = tail.rpartition("/")
    if not model or not body:
        return None
    converse.check_no_draft(model, call.headers.get(_GUARDRAIL_VERSION))
    form = Form.STREAM if f"/{verb}" == STREAMED else Form.JSON
    preview = next((preview_of(body[name]) for name in _PROMPTS if name in body), "")
    preview = preview or last_user_text(body.get("messages"))
    limits = (positive((as_object(body.get(inner)) if inner else body).get(name)) for inner, name in _LIMITS)
    limit = next((limit for limit in limits if limit), None)
    target = target_named_by_path(call, head, model, origins)
    # Anthropic's models speak Anthropic's words, but for the model and the form, which the path names.
    asked = anthropic_messages.tidy(body) if "anthropic_version" in body else None
    return ModelCall(
        provider=BedrockInvoke(target.place.vendor, len(as_list(body.get("texts") or body.get("images"))) or None),
        request=target.request(BedrockInvoke.surface, body, form, asked.media if asked else ()),
        wants=Wants(form),
        refused=asked.refused if asked else (("server-tools",) if _runs_there(body) else ()),
        preview=preview,
        max_output_tokens=limit,
        keeps_an_hour=keeps_an_hour(call),
    )


def _runs_there(body: JsonObject) -> bool:
    """Tell whether a tool of `body` runs at Amazon: one of Nova's own, or none of the caller's functions."""
    kinds = {as_text(tool.get("type")) for tool in objects(body.get("tools"))}
    return converse.runs_there(body) or not kinds <= {"", "function", "custom"}


def _read_stream(response: Response, asked: int | None) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    chunks: list[JsonObject] = []
    events: list[bytes] = []
    for message in eventstream.messages(response.body):
        if message is not None and message.headers.get(":message-type") != "event":
            return Answer(End.ERROR)
        text = None if message is None else _text_in(message.payload)
        chunk = None if text is None else load_object(text)
        if text is None or chunk is None:
            return Answer(End.UNREADABLE)
        chunks.append(chunk)
        events.append(_event(text))
        if _METRICS in chunk:
            # As the model's own maker would have streamed it, for those readers who know it so.
            own = replace(response, body=b"".join(events) + _event(sse.DONE))
            metrics = as_object(chunk[_METRICS])
            counted = _counted(*(count(metrics.get(name)) for name in _METRICS_OF_SIDES))
            return _on_terms(_read(own, chunks, counted, asked), response)
    return Answer(End.CUT)


def _text_in(payload: bytes) -> bytes | None:
    """Return what the model said in one event, which holds it as base64; None if it doesn't."""
    encoded = (load_object(payload) or {}).get("bytes")
    return decode_base64(encoded) if type(encoded) is str else None


def _event(text: bytes) -> bytes:
    """Return JSON `text` as an event; a line's end within JSON is only white space."""
    return b"data: %b\n\n" % text.replace(b"\r", b" ").replace(b"\n", b" ")


def _read(response: Response, chunks: list[JsonObject], counted: Usage, asked: int | None) -> Answer:
    """Read an answer, whole or in chunks, with Amazon's own count of the tokens."""
    if any(chunk.get(_GUARDRAIL) == "INTERVENED" for chunk in chunks):
        return Answer(End.FILTERED, counted)
    return _with_usage(_reader_of(chunks, asked)(response, chunks), counted)


def _reader_of(chunks: list[JsonObject], asked: int | None) -> _Reader:
    """Return what reads an answer of this shape."""
    names = {name for chunk in chunks for name in chunk}
    if "choices" in names:
        return lambda response, _: choices.read(response)
    if "type" in names and names & {"content", "message", "delta"}:
        return lambda response, _: AnthropicMessages().read(response)
    if names & {"messageStop", "output"}:
        return _read_nova
    return functools.partial(_read_vectors, asked) if names.intersection(_VECTORS) else _read_text


def _read_nova(_response: Response, chunks: list[JsonObject]) -> Answer:
    if "output" in chunks[0]:
        return converse.read_message(chunks[0])
    recording = converse.Recording()
    for chunk in chunks:
        for kind, event in chunk.items():
            recording.absorb(kind, as_object(event))
    return recording.answer()


def _read_vectors(asked: int | None, _response: Response, chunks: list[JsonObject]) -> Answer:
    answer = chunks[0]
    usage = Usage(count(answer.get("inputTextTokenCount")), 0)
    ends = [_end_of_vectors(answer[name], name, asked) for name in _VECTORS if answer.get(name)]
    return Answer(vectors.worst(ends), usage)


def _end_of_vectors(told: JsonValue, name: str, asked: int | None) -> End:
    """Return the ending of vectors: one of Titan's, or a list of Cohere's or Nova's, or such by type."""
    if name == "embedding":
        return vectors.end_of([told])
    if name == "embeddingsByType":
        return vectors.end_by_type({kind: [one] for kind, one in as_object(told).items()}, 1)
    if type(told) is dict:
        return vectors.end_by_type(told, asked)
    items = [item.get("embedding") if type(item) is dict else item for item in as_list(told)]
    return vectors.end_of(items, asked)


def _read_text(_response: Response, chunks: list[JsonObject]) -> Answer:
    """Read an answer of the older models: text and a reason, under names of their own."""
    shape = next((shape for shape in _SHAPES if any((shape.items or shape.text) in chunk for chunk in chunks)), None)
    if shape is None:
        return Answer(End.UNREADABLE)
    reasons: list[JsonValue] = [None]
    is_empty = True
    for chunk in chunks:
        items = list(objects(chunk.get(shape.items))) if shape.items else [chunk]
        is_empty &= not any(item.get(shape.text) for item in items)
        told = [item.get(shape.reason) for item in items]
        reasons = told if any(told) else reasons
    ends = [_REASONS.get(as_text(reason).lower(), End.UNREADABLE) for reason in reasons]
    return Answer(gravest(ends, is_empty=is_empty))


def _with_usage(answer: Answer, counted: Usage) -> Answer:
    """Return `answer` with Amazon's own count of the tokens where the model told none.

    The model that it names is left out: prices go by Amazon's name of it, which tells the region too.
    """
    told = answer.usage
    usage = replace(
        told,
        input_tokens=counted.input_tokens if told.input_tokens is None else told.input_tokens,
        output_tokens=counted.output_tokens if told.output_tokens is None else told.output_tokens,
    )
    # Whether its count of the input holds what a prompt cache had is not told.
    of_a_cache = counted.cached_input_tokens + counted.cache_write_tokens if told.input_tokens is None else 0
    bill = replace(answer.bill, unclear="tokens of a cache") if of_a_cache else answer.bill
    return replace(answer, usage=usage, model="", bill=bill)


def _on_terms(answer: Answer, response: Response) -> Answer:
    """Return `answer` with the terms that the headers of `response` tell."""
    told = {_TERMS[name]: value.lower() for name, value in response.headers if name in _TERMS}
    return replace(answer, bill=replace(answer.bill, terms={**answer.bill.terms, **told})) if told else answer


def _counted(asked: int | None, said: int | None, read: int | None, written: int | None) -> Usage:
    return Usage(asked, said, read or 0, written or 0)


def _header_count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < _COUNT_DIGITS else None
