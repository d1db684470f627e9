"""Chat completions in both forms: ``chat.completion`` <-> ``chat.completion.chunk`` events.

Shape of a stream: a chunk per choice that opens its message, chunks with pieces of its texts and tool calls, a
chunk with the reason of its end; choices take turns; then the usage if asked for, and ``[DONE]``. All chunks
state `_HEAD`. What else an answer holds stands once: of the answer in the first chunk, of a message in its
opening, of a choice beside its reason.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.sse import Event
from genai_cache_magic.providers.forms import (
    Inconvertible,
    event,
    index_of,
    load,
    object_of,
    objects_of,
    only,
    pieces,
    pieces_with_logprobs,
    text_of,
)
from genai_cache_magic.providers.openai.chat_pieces import TEXTS, Choice, merge
from genai_cache_magic.providers.reading import as_list, as_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue

_WHOLE: Final = "chat.completion"
_CHUNK: Final = "chat.completion.chunk"

_HEAD: Final = ("id", "object", "created", "model", "service_tier", "system_fingerprint")

_NOTICE: Final = "prompt_filter_results"
"""What Azure's content filter says of the prompt, in a chunk of its own that is no chunk of the answer."""


def to_events(answer: JsonObject) -> Iterator[Event]:
    """Yield the chunks that say `answer`; with the usage event iff it has a usage."""
    if answer.get("object") != _WHOLE:
        raise Inconvertible("object")
    choices = objects_of(answer.get("choices"))
    _drop_positions(choices)
    head: JsonObject = {name: _CHUNK if name == "object" else answer[name] for name in _HEAD if name in answer}
    rest: JsonObject = {name: value for name, value in answer.items() if name not in {*_HEAD, "choices", "usage"}}
    pending: JsonObject = {"usage": None} if "usage" in answer else {}
    if _NOTICE in rest:
        blank: JsonObject = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        yield event({**blank, _NOTICE: rest.pop(_NOTICE)})
    for turn in zip_longest(*map(_steps, choices)):
        for choice, step in zip(choices, turn, strict=True):
            if step is not None:
                yield event({**head, **rest, "choices": [{"index": choice.get("index"), **step}], **pending})
                rest = {}
    if pending:
        yield event({**head, "choices": [], "usage": answer["usage"]})
    yield Event(b"", sse.DONE)


def _drop_positions(choices: list[JsonObject]) -> None:
    """Take away the place that some servers write into each tool call of a whole answer; streams always do."""
    for choice in choices:
        for place, call in enumerate(as_list(as_object(choice.get("message")).get("tool_calls"))):
            if type(call) is dict and call.get("index") == place:
                del call["index"]


def _steps(choice: JsonObject) -> Iterator[JsonObject]:
    """Yield what the chunks say of one choice, each beside its index."""
    message = object_of(choice.get("message"))
    logprobs = choice.get("logprobs")
    tokens = {} if logprobs is None else only(object_of(logprobs), "content", "refusal")
    silent: JsonObject = {"logprobs": None} if "logprobs" in choice else {}
    announced: JsonObject = {"logprobs": logprobs} if silent and not any(tokens.values()) else silent
    yield {"delta": _opening(message), **announced, "finish_reason": None}
    for name in TEXTS:
        own = objects_of(tokens.get(name) or [])
        for piece, heard in pieces_with_logprobs(text_of(message.get(name) or ""), own):
            carried: JsonObject = {"logprobs": _logprobs(tokens, name, heard)} if heard else silent
            yield {"delta": {name: piece}, **carried, "finish_reason": None}
    for delta in _call_deltas(message):
        yield {"delta": delta, **silent, "finish_reason": None}
    named = ("index", "message", "logprobs", "finish_reason")
    rest = {name: value for name, value in choice.items() if name not in named}
    yield {"delta": {}, **silent, "finish_reason": text_of(choice.get("finish_reason")), **rest}


def _logprobs(tokens: JsonObject, name: str, heard: list[JsonObject]) -> JsonObject:
    """Return the log probabilities of one piece; the list of another text waits for its own pieces."""
    return {other: list(heard) if other == name else None if value else value for other, value in tokens.items()}


def _opening(message: JsonObject) -> JsonObject:
    """Return the first delta: all of a message but what comes in pieces."""
    opening: JsonObject = {}
    for name, value in message.items():
        if name == "audio" and value:
            raise Inconvertible("audio")  # its pieces are encoded one by one
        if name in TEXTS:
            opening[name] = None if value is None else ""
        elif not (value and name in {"tool_calls", "function_call"}):
            opening[name] = value
    return opening


def _call_deltas(message: JsonObject) -> Iterator[JsonObject]:
    for place, call in enumerate(objects_of(message.get("tool_calls") or [])):
        if call.get("type", "function") != "function":
            raise Inconvertible("type of tool call")
        opened, *more = _function_deltas(object_of(call.get("function")))
        yield {"tool_calls": [{"index": place, **call, "function": opened}]}
        for piece in more:
            yield {"tool_calls": [{"index": place, "function": piece}]}
    if message.get("function_call"):
        for piece in _function_deltas(object_of(message["function_call"])):
            yield {"function_call": piece}


def _function_deltas(function: JsonObject) -> Iterator[JsonObject]:
    arguments = text_of(function.get("arguments"))
    yield {**function, "arguments": ""}
    for piece in pieces(arguments):
        yield {"arguments": piece}


# --- and back


def to_answer(events: Iterable[Event]) -> JsonObject:
    """Return the answer that the chunks of a whole stream say."""
    head: JsonObject = {"object": _WHOLE}
    usage: JsonValue = None
    choices: dict[int, Choice] = {}
    for chunk in _chunks(events):
        parts = objects_of(chunk.pop("choices", None))
        if chunk.pop("object", None) != _CHUNK and (parts or _NOTICE not in chunk):
            raise Inconvertible("object")
        created = chunk.pop("created", None)
        if created is not None and not head.get("created"):
            head["created"] = created  # the first, as SDKs have it: some servers tell the time anew in each chunk
        usage = chunk.pop("usage", None) or usage
        chunk.pop("obfuscation", None)  # padding against listeners
        merge(head, chunk)
        for part in parts:
            choices.setdefault(index_of(part.pop("index", None)), Choice()).absorb(part)
    said: list[JsonValue] = [{"index": i, **choices[i].end()} for i in sorted(choices)]
    if not said or max(choices) >= len(said):
        raise Inconvertible("choices")
    answer: JsonObject = {name: head.pop(name) for name in _HEAD if name in head}
    return {**answer, "choices": said, **({} if usage is None else {"usage": usage}), **head}


def _chunks(events: Iterable[Event]) -> Iterator[JsonObject]:
    """Yield the chunk of each event up to ``[DONE]``, which must be the last."""
    is_done = False
    for one in events:
        if is_done or one.name:
            raise Inconvertible("event")
        is_done = one.data == sse.DONE
        if not is_done:
            yield load(one.data)
    if not is_done:
        raise Inconvertible("cut")
