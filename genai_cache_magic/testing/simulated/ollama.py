"""Ollama's own API: chat and generation, whole and as JSON lines, and both ways to embed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, objects
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS, Ending, Said, Turn, compose
from genai_cache_magic.testing.simulated.openai_chat import function_tools
from genai_cache_magic.testing.simulated.openai_embeddings import vector_of
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, dump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIZE = 256
_CREATED_AT = "2025-06-15T15:06:40Z"
_LINES = "application/x-ndjson"


def _answer(call: Call, said: Said, part: dict[str, Any]) -> dict[str, Any]:
    """The answer, or the last line of it; nothing in Ollama is filtered, so such faults end for lack of room."""
    is_cut = said.ending in {Ending.LENGTH, Ending.FILTERED, Ending.REFUSED}
    return {
        "model": call.model,
        "created_at": _CREATED_AT,
        **part,
        "done": True,
        "done_reason": "length" if is_cut else "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": max(1, count_tokens_of([call.body.get("messages"), call.body.get("prompt")])),
        "prompt_eval_duration": 1_000_000,
        "eval_count": said.token_count,
        "eval_duration": 3_000_000,
    }


def _chat_part(text: str, said: Said | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if said is not None and said.tool_calls:
        calls = [
            {"id": f"call_{one.id}", "function": {"index": index, "name": one.name, "arguments": one.arguments}}
            for index, one in enumerate(said.tool_calls)
        ]
        message["tool_calls"] = calls
    return {"message": message}


def _generated_part(text: str, _said: Said | None = None) -> dict[str, Any]:
    return {"response": text}


def _read_chat(call: Call) -> Said:
    messages = objects(call.body.get("messages"), "messages")
    if not messages:
        return Said("", Ending.DONE)  # the way to load a model
    last = messages[-1]
    tools = function_tools(call.body.get("tools"))
    return compose(
        call, Turn(text_of(last.get("content")), last.get("role") == "tool", tools, schema=_schema(call.body))
    )


def _read_prompt(call: Call) -> Said:
    prompt = call.body.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidCallError("'prompt' must be a text")
    return compose(call, Turn(prompt, schema=_schema(call.body)))


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schema = body.get("format")
    return schema if isinstance(schema, dict) and schema else None


def _whole(read: Callable[[Call], Said], part: Callable[..., dict[str, Any]], call: Call) -> dict[str, Any]:
    said = read(call)
    return _answer(call, said, part(said.text, said))


def _lines(read: Callable[[Call], Said], part: Callable[..., dict[str, Any]], call: Call) -> list[bytes]:
    said = read(call)
    head = {"model": call.model, "created_at": _CREATED_AT}
    lines = [{**head, **part("", said), "done": False}] if said.tool_calls else []
    lines += ({**head, **part(piece), "done": False} for piece in tokens_of(said.text))
    return [dump(line) + b"\n" for line in (*lines, _answer(call, said, part("")))]


def _embed(call: Call) -> dict[str, Any]:
    texts = call.body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidCallError("'input' must be a text or a list of texts")
    vectors = [] if call.fault is Fault.EMPTY else [_vector(call, text) for text in texts]
    return {"model": call.model, "embeddings": vectors, "prompt_eval_count": max(1, count_tokens_of(texts))}


def _embed_one(call: Call) -> dict[str, Any]:
    return {"embedding": [] if call.fault is Fault.EMPTY else _vector(call, str(call.body.get("prompt")))}


def _vector(call: Call, text: str) -> list[float]:
    return vector_of(f"{call.model}\0{call.serial or ''}", text, _SIZE)


def error_body(_status: int, message: str) -> dict[str, Any]:
    """Error object of Ollama."""
    return {"error": message}


def _error_line(_number: int) -> bytes:
    return dump(error_body(500, ERROR_TEXT)) + b"\n"


def _is_streamed(call: Call) -> bool:
    return call.body.get("stream") is not False


def _talking(read: Callable[[Call], Said], part: Callable[..., dict[str, Any]]) -> WireApi:
    whole, lines = partial(_whole, read, part), partial(_lines, read, part)
    return WireApi(whole, lines, _error_line, error_body, TEXT_FAULTS, _LINES, _is_streamed)


CHAT = _talking(_read_chat, _chat_part)
GENERATE = _talking(_read_prompt, _generated_part)
EMBED = WireApi(_embed, None, _error_line, error_body, frozenset({Fault.EMPTY}))
EMBED_ONE = WireApi(_embed_one, None, _error_line, error_body, frozenset({Fault.EMPTY}))
