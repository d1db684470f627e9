"""``POST .../api/chat``, ``/api/generate``, ``/api/embed``: Ollama's own API.

It streams unless it is told not to, as JSON lines of which the last is ``done``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.batches import Parts, are_alone
from genai_cache_magic.providers.fields import (
    is_conversation,
    is_one_token,
    is_score,
    last_user_text,
    objects,
    pop_form,
    positive,
    preview_of,
)
from genai_cache_magic.providers.formats import jsonlines
from genai_cache_magic.providers.formats.media import BARE, fold_texts
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    count,
    gravest,
    is_success,
    load_answer,
    load_object,
    whole_if_scored,
)
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.toolcalls import Renumbering
from genai_cache_magic.providers.vectors import asked_for, end_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

NOISE: Final = ("keep_alive",)
"""Top-level fields that don't decide the answer, beside `stream`: how long the model stays in memory."""

DONE_REASON: Final = {
    "stop": End.COMPLETE,
    "length": End.TRUNCATED,
    "load": End.EMPTY,
    "unload": End.EMPTY,
}
"""`done_reason` -> how the answer ended. One that is not here is not understood, and so not stored."""


@dataclass(frozen=True, slots=True)
class Ollama:
    """The chat and generation APIs, told apart by `surface`; `is_scored` says that one token's logprobs are asked."""

    surface: str
    vendor: str = ""
    is_scored: bool = False

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream ends with the line that is ``done``."""
        return whole_if_scored(self._read(response), is_scored=self.is_scored)

    def _read(self, response: Response) -> Answer:
        if response.form is Form.STREAM:
            return _read_stream(response)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        if answer.get("done") is not True:
            return Answer(End.UNREADABLE)
        seen = _Seen()
        seen.absorb(answer)
        return seen.answer(answer)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


@dataclass(frozen=True, slots=True)
class OllamaEmbeddings:
    """The embeddings APIs, told apart by `surface`; `asked` is how many vectors there must be."""

    surface: str
    vendor: str = ""
    asked: int | None = None

    def read(self, response: Response) -> Answer:
        """Read how `response` ended: a vector for each text, or it is of no use."""
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        vectors = [answer["embedding"]] if "embedding" in answer else answer.get("embeddings")
        if type(vectors) is not list:
            return Answer(End.UNREADABLE)
        usage = Usage(count(answer.get("prompt_eval_count")), 0)
        return Answer(end_of(vectors, self.asked), usage, as_text(answer.get("model")))

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts are; None for the older API, of one text, and for fields that are not known."""
        return _PARTS if body.keys() <= _ALONE and are_alone(body.get("input")) else None

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response`; these APIs have one form."""
        return response if response.form is wants.form else None


_ALONE: Final = frozenset({"dimensions", "input", "options", "truncate"})
_PARTS: Final = Parts("input", (("embeddings",),), (("prompt_eval_count",),))


class _Api(NamedTuple):
    """One of Ollama's paths: its surface in keys, and what makes a preview of its body, or None if it is no call."""

    surface: str
    tidy: Callable[[JsonObject, list[str]], str | None]
    is_embedding: bool = False


def _tidy_chat(body: JsonObject, media: list[str]) -> str | None:
    messages = body.get("messages")
    if not is_conversation(messages):
        return None
    preview = last_user_text(messages)
    ids = Renumbering()
    for i, message in enumerate(objects(messages)):
        fold_texts(message.get("images"), BARE, f"/messages/{i}/images", media)
        # In this order, whatever the order of the keys.
        for tool_call in objects(message.get("tool_calls")):
            ids.apply(tool_call, "id")
        ids.apply(message, "tool_call_id")
    ids.finish(body)
    return preview


def _tidy_prompt(body: JsonObject, media: list[str]) -> str | None:
    prompt = body.get("prompt")
    if type(prompt) is not str or not prompt:
        return None
    fold_texts(body.get("images"), BARE, "/images", media)
    return preview_of(prompt)


def _tidy_input(body: JsonObject, _media: list[str]) -> str | None:
    texts = body.get("input")
    return preview_of(texts) if type(texts) in {str, list} and texts else None


_APIS: Final = {
    "/api/chat": _Api("ollama.chat", _tidy_chat),
    "/api/generate": _Api("ollama.generate", _tidy_prompt),
    "/api/embed": _Api("ollama.embeddings", _tidy_input, is_embedding=True),
    # The older way to embed one text. A body that has both fields gets another answer here.
    "/api/embeddings": _Api("ollama.embeddings.one", _tidy_prompt, is_embedding=True),
}

SUFFIXES: Final = tuple(_APIS)


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body asks a model for nothing, such as to load it."""
    suffix = next((suffix for suffix in SUFFIXES if call.path.rstrip("/").endswith(suffix)), "")
    if not suffix or type(body.get("model")) is not str:
        return None
    surface, tidy, is_embedding = _APIS[suffix]
    media: list[str] = []
    preview = tidy(body, media)
    if preview is None:
        return None
    form = Form.JSON if is_embedding else _pop_form(body)
    for name in NOISE:
        body.pop(name, None)
    most = as_object(body.get("options")).get("num_predict")
    limit = positive(most)
    is_scored = is_score(body.get("logprobs")) and is_one_token(most)
    target = find_target(call, body, origins, suffix)
    vendor = target.place.vendor
    asked = asked_for(body.get("input"))
    return ModelCall(
        provider=OllamaEmbeddings(surface, vendor, asked) if is_embedding else Ollama(surface, vendor, is_scored),
        request=target.request(surface, body, form, media),
        wants=Wants(form),
        preview=preview,
        max_output_tokens=0 if is_embedding else limit,
    )


def _pop_form(body: JsonObject) -> Form:
    """Take ``stream`` out of `body` and return the form that it asks for; without it, this API streams."""
    if body.get("stream") is None:
        body["stream"] = True
    return pop_form(body)


def _read_stream(response: Response) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    seen = _Seen()
    for line in jsonlines.lines(response.body):
        fields = load_object(line)
        if fields is None:
            return Answer(End.UNREADABLE)
        if fields.get("error") is not None:
            return Answer(End.ERROR)
        seen.absorb(fields)
        if fields.get("done") is True:
            return seen.answer(fields)
    return Answer(End.CUT)


class _Seen:
    """What has been seen of one answer."""

    __slots__ = ("_has_calls", "_has_output")

    def __init__(self) -> None:
        self._has_output = self._has_calls = False

    def absorb(self, fields: JsonObject) -> None:
        """Take in an answer, or one line of it; what the model thought is no output."""
        message = as_object(fields.get("message"))
        self._has_calls |= bool(message.get("tool_calls"))
        self._has_output |= bool(fields.get("response") or message.get("content"))

    def answer(self, last: JsonObject) -> Answer:
        """Return how the answer ended, of which `last` is all or the last line."""
        reason = last.get("done_reason")
        # Servers before 0.1.37 give none.
        end = End.COMPLETE if reason is None else DONE_REASON.get(as_text(reason), End.UNREADABLE)
        if end is End.COMPLETE and self._has_calls:
            end = End.TOOL_CALLS
        usage = Usage(count(last.get("prompt_eval_count")), count(last.get("eval_count")))
        is_empty = not (self._has_output or self._has_calls)
        return Answer(gravest({end}, is_empty=is_empty), usage, as_text(last.get("model")))
