"""Google's Gemini: content whole, as events and as one JSON array, and embeddings, those of Vertex AI too."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, count_of, object_of, objects
from genai_cache_magic.testing.simulated.composing import (
    ANY_OBJECT,
    TEXT_FAULTS,
    Choice,
    Ending,
    Said,
    Tool,
    Turn,
    compose,
)
from genai_cache_magic.testing.simulated.openai_chat import cached_tokens
from genai_cache_magic.testing.simulated.openai_embeddings import vector_of
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, dump

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_CANDIDATES = 8
_USUAL_SIZE, _LARGEST_SIZE = 768, 3072
_FINISH_REASONS = {
    Ending.DONE: "STOP",
    Ending.TOOLS: "STOP",
    Ending.LENGTH: "MAX_TOKENS",
    Ending.FILTERED: "SAFETY",
    Ending.REFUSED: "PROHIBITED_CONTENT",
}
_STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
_MODES = {"NONE": Choice.NONE, "ANY": Choice.REQUIRED}


def answer(call: Call) -> dict[str, Any]:
    """The ``GenerateContentResponse`` object."""
    said = _said(call)
    candidates = [_candidate(index, _parts(one), _FINISH_REASONS[one.ending]) for index, one in enumerate(said)]
    return {"candidates": candidates, **_envelope(call, said)}


def stream(call: Call) -> list[bytes]:
    """The same in events, whose lines end with CR LF as Google's do."""
    return [b"data: %b\r\n\r\n" % dump(chunk) for chunk in _chunks(call)]


def array(call: Call) -> list[bytes]:
    """The same as one JSON array, sent in pieces."""
    chunks = [dump(chunk) for chunk in _chunks(call)]
    return [(b",\r\n" if number else b"[") + chunk for number, chunk in enumerate(chunks)] + [b"\n]\n"]


def embed(call: Call) -> dict[str, Any]:
    """One embedding."""
    return {"embedding": _embedding(call, call.body)}


def embed_batch(call: Call) -> dict[str, Any]:
    """One embedding per request, in order."""
    requests = objects(call.body.get("requests"), "requests")
    if not requests:
        raise InvalidCallError("'requests' must not be empty")
    return {"embeddings": [_embedding(call, one) for one in requests]}


def predict(call: Call) -> dict[str, Any]:
    """Vertex AI's embeddings."""
    size = _size(object_of(call.body.get("parameters"), "parameters"))
    texts = [one.get("content") for one in objects(call.body.get("instances"), "instances")]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidCallError("each of 'instances' must have a 'content'")
    return {
        "predictions": [{"embeddings": {**_vector(call, str(t), size), "statistics": _statistics(t)}} for t in texts]
    }


def error_body(status: int, message: str) -> dict[str, Any]:
    """Error object of Google's APIs."""
    return {"error": {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}}


def api_of(verb: str, query: str) -> WireApi | None:
    """The API that a path's verb names; a stream comes as one array unless the query asks for events."""
    if verb == "streamGenerateContent" and parse_qs(query).get("alt") != ["sse"]:
        return ARRAY
    return _VERBS.get(verb)


def _said(call: Call) -> list[Said]:
    turn = _read_turn(call.body)
    settings = object_of(call.body.get("generationConfig"), "generationConfig")
    return [compose(call, turn, choice) for choice in range(count_of(settings, "candidateCount", _MOST_CANDIDATES))]


def _read_turn(body: Mapping[str, Any]) -> Turn:
    contents = objects(body.get("contents"), "contents")
    if not contents:
        raise InvalidCallError("'contents' must not be empty")
    parts = objects(contents[-1].get("parts", []), "parts")
    choice, allowed = _read_choice(body)
    tools = tuple(tool for tool in _tools(body.get("tools")) if not allowed or tool.name in allowed)
    return Turn(
        subject=text_of(parts),
        is_tool_result=any("functionResponse" in part for part in parts),
        tools=tools,
        choice=choice,
        schema=_schema(body),
    )


def _tools(tools: Any) -> list[Tool]:
    # Google reads the names of fields in its own spelling too, and LiteLLM sends this one so.
    spellings = ("functionDeclarations", "function_declarations")
    declared = [one for tool in objects(tools or [], "tools") for name in spellings for one in tool.get(name) or []]
    found = objects(declared, "functionDeclarations")
    return [
        Tool(str(f.get("name")), f.get("parametersJsonSchema") or _json_schema(f.get("parameters")) or ANY_OBJECT)
        for f in found
    ]


def _json_schema(schema: Any) -> Any:
    """`schema` with its types in lower case: Gemini writes ``STRING``."""
    if isinstance(schema, list):
        return [_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {n: v.lower() if n == "type" and isinstance(v, str) else _json_schema(v) for n, v in schema.items()}


def _read_choice(body: Mapping[str, Any]) -> tuple[Choice, list[Any]]:
    config = object_of(body.get("toolConfig"), "toolConfig")
    calling = object_of(config.get("functionCallingConfig"), "functionCallingConfig")
    allowed = calling.get("allowedFunctionNames")
    return _MODES.get(str(calling.get("mode")), Choice.AUTO), allowed if isinstance(allowed, list) else []


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    settings = object_of(body.get("generationConfig"), "generationConfig")
    schema = settings.get("responseJsonSchema") or _json_schema(settings.get("responseSchema"))
    return object_of(schema, "responseSchema") or None


def _parts(said: Said) -> list[dict[str, Any]]:
    calls = [{"functionCall": {"id": one.id, "name": one.name, "args": one.arguments}} for one in said.tool_calls]
    return [*calls, {"text": said.text}] if said.text else calls


def _candidate(index: int, parts: list[dict[str, Any]], reason: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"} if parts else {"role": "model"}}
    if reason:
        candidate["finishReason"] = reason
    return {**candidate, "index": index}


def _envelope(call: Call, said: list[Said]) -> dict[str, Any]:
    prompt = max(1, count_tokens_of([call.body.get(name) for name in ("contents", "systemInstruction", "tools")]))
    answered = sum(one.token_count for one in said)
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": answered, "totalTokenCount": prompt + answered}
    cached = cached_tokens(prompt)
    return {
        "usageMetadata": {**usage, "cachedContentTokenCount": cached} if cached else usage,
        "modelVersion": call.model,
        "responseId": call.answer_id(""),
    }


def _chunks(call: Call) -> list[dict[str, Any]]:
    """The answer in chunks: each says what is used so far, and the last one why every candidate ended."""
    said = _said(call)
    pieces = [
        [[part] for part in _parts(one) if "text" not in part] + [[{"text": t}] for t in tokens_of(one.text)]
        for one in said
    ]
    chunks = []
    for turn in range(max(map(len, pieces))):
        candidates = [_candidate(i, own[turn]) for i, own in enumerate(pieces) if turn < len(own)]
        chunks.append({"candidates": candidates, **_envelope(call, said)})
    ends = [_candidate(i, [{"text": ""}], _FINISH_REASONS[one.ending]) for i, one in enumerate(said)]
    return [*chunks, {"candidates": ends, **_envelope(call, said)}]


def _embedding(call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
    text = text_of(object_of(request.get("content"), "content").get("parts"))
    if not text:
        raise InvalidCallError("'content' must have a text")
    return _vector(call, text, _size(request))


def _size(request: Mapping[str, Any]) -> int:
    return (
        count_of(request, "outputDimensionality", _LARGEST_SIZE, usual=1)
        if request.get("outputDimensionality")
        else _USUAL_SIZE
    )


def _vector(call: Call, text: str, size: int) -> dict[str, Any]:
    if call.fault is Fault.EMPTY:
        return {"values": []}
    return {"values": vector_of(f"{call.model}\0{call.serial or ''}", text, size)}


def _statistics(text: Any) -> dict[str, Any]:
    return {"truncated": False, "token_count": max(1, count_tokens_of(text))}


def _error_event(_number: int) -> bytes:
    return b"data: %b\r\n\r\n" % dump(error_body(500, ERROR_TEXT))


def _error_item(number: int) -> bytes:
    return (b",\r\n" if number else b"[") + dump(error_body(500, ERROR_TEXT)) + b"\n]\n"


_embeddings = partial(
    WireApi, stream=None, error_event=_error_event, error_body=error_body, content_faults=frozenset({Fault.EMPTY})
)
_content = partial(WireApi, answer, error_body=error_body, content_faults=TEXT_FAULTS)
ARRAY = _content(
    stream=array, error_event=_error_item, stream_type="application/json; charset=UTF-8", is_streamed=lambda _: True
)
_VERBS = {
    "generateContent": _content(stream=None, error_event=_error_event),
    "streamGenerateContent": _content(stream=stream, error_event=_error_event, is_streamed=lambda _: True),
    "embedContent": _embeddings(embed),
    "batchEmbedContents": _embeddings(embed_batch),
    "predict": _embeddings(predict),
}
