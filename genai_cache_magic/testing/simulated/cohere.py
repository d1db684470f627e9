"""Cohere's chat, second version as events and first as JSON lines, and both versions of embeddings and rerank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, object_of, objects
from genai_cache_magic.testing.simulated.composing import (
    TEXT_FAULTS,
    Choice,
    Ending,
    Said,
    Tool,
    ToolCall,
    Turn,
    compose,
)
from genai_cache_magic.testing.simulated.openai_chat import function_tools, schema_of
from genai_cache_magic.testing.simulated.openai_embeddings import vector_of
from genai_cache_magic.testing.simulated.text import MARK, count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, dump, event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIZE = 256
_FINISH_REASONS = {
    Ending.DONE: "COMPLETE",
    Ending.TOOLS: "TOOL_CALL",
    Ending.LENGTH: "MAX_TOKENS",
    Ending.FILTERED: "ERROR_TOXIC",
    Ending.REFUSED: "ERROR_TOXIC",
}
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
_CHOICES = {"NONE": Choice.NONE, "REQUIRED": Choice.REQUIRED}
_PLAN = f"{MARK} I will call the tools that were named."


def answer(call: Call) -> dict[str, Any]:
    """The chat's answer."""
    said = compose(call, _read_turn(call.body))
    message: dict[str, Any] = {"role": "assistant"}
    if said.tool_calls:
        message |= {"tool_plan": _PLAN, "tool_calls": [_tool_call(one) for one in said.tool_calls]}
    if said.text:
        message["content"] = [{"type": "text", "text": said.text}]
    return {"id": call.answer_id(""), "message": message, **_end(call, said)}


def stream(call: Call) -> list[bytes]:
    """The events from ``message-start`` to ``message-end``."""
    said = compose(call, _read_turn(call.body))
    started = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    events = [{"id": call.answer_id(""), "type": "message-start", "delta": started}, *_pieces(said)]
    events.append({"type": "message-end", "delta": _end(call, said)})
    return [event(data, data["type"]) for data in events]


def answer_v1(call: Call) -> dict[str, Any]:
    """The answer of the chat's first version."""
    return _answer_v1(call, compose(call, _read_turn_v1(call.body)))


def stream_v1(call: Call) -> list[bytes]:
    """The JSON lines from ``stream-start`` to ``stream-end``, which holds the whole answer."""
    said = compose(call, _read_turn_v1(call.body))
    whole = _answer_v1(call, said)
    lines: list[dict[str, Any]] = [{"event_type": "stream-start", "generation_id": whole["generation_id"]}]
    if said.tool_calls:
        lines.append({"event_type": "tool-calls-generation", "text": _PLAN, "tool_calls": whole["tool_calls"]})
    lines += ({"event_type": "text-generation", "text": piece} for piece in tokens_of(said.text))
    lines.append({"event_type": "stream-end", "finish_reason": whole["finish_reason"], "response": whole})
    return [_line(**one) for one in lines]


def rerank(call: Call) -> dict[str, Any]:
    """The documents by relevance, as Cohere ranks them: the order depends on query, documents and serial."""
    query, documents = call.body.get("query"), call.body.get("documents")
    if not isinstance(query, str) or not isinstance(documents, list) or not documents:
        raise InvalidCallError("'query' must be a text and 'documents' a list that is not empty")
    scores = [call.digest(f"rank {i} {text_of(one)}")[0] / 256 for i, one in enumerate(documents)]
    ranked = sorted(range(len(documents)), key=lambda i: -scores[i])[: call.body.get("top_n") or None]
    results = [] if call.fault is Fault.EMPTY else [{"index": i, "relevance_score": scores[i]} for i in ranked]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return {"id": call.answer_id(""), "results": results, "meta": meta}


def embed(call: Call) -> dict[str, Any]:
    """The embeddings, second version: a list of vectors for each type."""
    vectors = _vectors(call)
    types = call.body.get("embedding_types") or ["float"]
    return {**_embedded(call), "response_type": "embeddings_by_type", "embeddings": {str(t): vectors for t in types}}


def embed_v1(call: Call) -> dict[str, Any]:
    """The embeddings, first version: one list of vectors unless types are asked for."""
    if call.body.get("embedding_types"):
        return embed(call)
    return {**_embedded(call), "response_type": "embeddings_floats", "embeddings": _vectors(call)}


def error_body(_status: int, message: str) -> dict[str, Any]:
    """Error object of Cohere's API; within a status of 200 it is this simulation's own."""
    return {"message": message, "error": message}


def _read_turn(body: Mapping[str, Any]) -> Turn:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise InvalidCallError("'messages' must not be empty")
    return Turn(
        subject=text_of(messages[-1].get("content")),
        is_tool_result=messages[-1].get("role") == "tool",
        tools=function_tools(body.get("tools")),
        choice=_CHOICES.get(str(body.get("tool_choice")), Choice.AUTO),
        schema=_schema(body.get("response_format")),
    )


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    if isinstance(response_format, dict) and isinstance(schema := response_format.get("json_schema"), dict):
        return schema
    return schema_of(response_format)


def _read_turn_v1(body: Mapping[str, Any]) -> Turn:
    message = body.get("message")
    if not isinstance(message, str):
        raise InvalidCallError("'message' must be a text")
    tools = objects(body.get("tools") or [], "tools")
    return Turn(
        subject=message,
        is_tool_result=bool(body.get("tool_results")),
        tools=tuple(Tool(str(tool.get("name")), _parameters(tool)) for tool in tools),
        schema=_schema(body.get("response_format")),
    )


def _parameters(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of a tool whose parameters are told in the words of Python."""
    told = object_of(tool.get("parameter_definitions"), "parameter_definitions")
    properties = {name: {"type": _TYPES.get(str(one.get("type")), "string")} for name, one in told.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _answer_v1(call: Call, said: Said) -> dict[str, Any]:
    asked = max(1, count_tokens_of([call.body.get(name) for name in ("message", "chat_history", "tools", "documents")]))
    tokens = {"input_tokens": asked, "output_tokens": said.token_count}
    finish = "COMPLETE" if said.ending is Ending.TOOLS else _FINISH_REASONS[said.ending]
    answer: dict[str, Any] = {
        "response_id": call.answer_id("r-"),
        "generation_id": call.answer_id("g-"),
        "text": said.text,
        "chat_history": [],
        "finish_reason": finish,
        "meta": {"api_version": {"version": "1"}, "billed_units": tokens, "tokens": tokens},
    }
    if said.tool_calls:
        answer["tool_calls"] = [{"name": one.name, "parameters": one.arguments} for one in said.tool_calls]
    return answer


def _line(**fields: Any) -> bytes:
    return dump({"is_finished": fields["event_type"] == "stream-end", **fields}) + b"\n"


def _tool_call(one: ToolCall) -> dict[str, Any]:
    return {
        "id": f"{one.name}_{one.id}",
        "type": "function",
        "function": {"name": one.name, "arguments": one.arguments_json},
    }


def _end(call: Call, said: Said) -> dict[str, Any]:
    asked = max(1, count_tokens_of([call.body.get(name) for name in ("messages", "tools", "documents")]))
    tokens = {"input_tokens": asked, "output_tokens": said.token_count}
    return {"finish_reason": _FINISH_REASONS[said.ending], "usage": {"billed_units": tokens, "tokens": tokens}}


def _pieces(said: Said) -> Iterator[dict[str, Any]]:
    for piece in tokens_of(_PLAN) if said.tool_calls else ():
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}
    for index, one in enumerate(said.tool_calls):
        opened = _tool_call(one)
        opened["function"]["arguments"] = ""
        yield {"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": opened}}}
        for piece in tokens_of(one.arguments_json):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": index, "delta": delta}
        yield {"type": "tool-call-end", "index": index}
    if said.text:
        yield {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
        for piece in tokens_of(said.text):
            yield {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
        yield {"type": "content-end", "index": 0}


def _texts(body: Mapping[str, Any]) -> list[str]:
    texts = body.get("texts") or body.get("images")
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    inputs = objects(body.get("inputs"), "inputs")
    if not inputs:
        raise InvalidCallError("'texts', 'images' or 'inputs' must not be empty")
    return [text_of(one.get("content")) for one in inputs]


def _vectors(call: Call) -> list[list[float]]:
    texts = _texts(call.body)
    return (
        [] if call.fault is Fault.EMPTY else [vector_of(f"{call.model}\0{call.serial or ''}", t, _SIZE) for t in texts]
    )


def _embedded(call: Call) -> dict[str, Any]:
    texts = _texts(call.body)
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": max(1, count_tokens_of(texts))}}
    return {"id": call.answer_id(""), "texts": texts, "meta": meta}


def _error_event(_number: int) -> bytes:
    return event({"type": "message-end", "delta": {"error": ERROR_TEXT, "finish_reason": "ERROR"}}, "message-end")


def _error_line(_number: int) -> bytes:
    return _line(event_type="stream-end", finish_reason="ERROR", response={"text": "", "finish_reason": "ERROR"})


_EMPTY = frozenset({Fault.EMPTY})
CHAT_V1 = WireApi(answer_v1, stream_v1, _error_line, error_body, TEXT_FAULTS, "application/stream+json")
RERANK = WireApi(rerank, None, _error_event, error_body, _EMPTY)
CHAT = WireApi(answer, stream, _error_event, error_body, TEXT_FAULTS)
EMBED_V1 = WireApi(embed_v1, None, _error_event, error_body, _EMPTY)
EMBED_V2 = WireApi(embed, None, _error_event, error_body, _EMPTY)
