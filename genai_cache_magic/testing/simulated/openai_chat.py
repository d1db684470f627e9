"""OpenAI's chat completions, whole and as chunks; also Azure OpenAI's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, InvalidCallError, count_of, object_of, objects
from genai_cache_magic.testing.simulated.composing import (
    ANY_OBJECT,
    TEXT_FAULTS,
    Choice,
    Ending,
    Said,
    Tool,
    ToolCall,
    Turn,
    compose,
)
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import OPENAI_DONE, WireApi, event, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MOST_CHOICES = 128
_MOST_ALTERNATIVES = 20
_FINISH_REASONS = {
    Ending.DONE: "stop",
    Ending.TOOLS: "tool_calls",
    Ending.LENGTH: "length",
    Ending.FILTERED: "content_filter",
    Ending.REFUSED: "stop",
}
_PROMPT_FIELDS = ("messages", "tools", "response_format")
_LEAST_CACHED_TOKENS, _CACHED_STEP_TOKENS = 1024, 128
_JSON_MODE = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def answer(call: Call) -> dict[str, Any]:
    """The ``chat.completion`` object."""
    said = _said(call)
    choices = [
        {
            "index": index,
            "message": _message(one),
            "logprobs": _logprobs(call, tokens_of(one.text)),
            "finish_reason": _FINISH_REASONS[one.ending],
        }
        for index, one in enumerate(said)
    ]
    return {**_envelope(call, "chat.completion"), "choices": choices, "usage": usage(call.body, _PROMPT_FIELDS, said)}


def stream(call: Call) -> list[bytes]:
    """The ``chat.completion.chunk`` events."""
    said = _said(call)
    return chunks(
        _envelope(call, "chat.completion.chunk"),
        [_steps(call, one) for one in said],
        usage(call.body, _PROMPT_FIELDS, said) if wants_usage(call.body) else None,
    )


def chunks(
    head: Mapping[str, Any], choices: Sequence[Iterable[dict[str, Any]]], usage: dict[str, Any] | None
) -> list[bytes]:
    """Events of a stream whose choices take turns, as OpenAI's do, and its ``[DONE]``.

    With `usage`, an event without choices carries it at the end, and all others say that it is null.
    """
    pending = {} if usage is None else {"usage": None}
    turns = (enumerate(steps) for steps in itertools.zip_longest(*choices))
    steps = ((index, step) for turn in turns for index, step in turn if step is not None)
    frames = [event({**head, "choices": [{"index": index, **step}], **pending}) for index, step in steps]
    if usage is not None:
        frames.append(event({**head, "choices": [], "usage": usage}))
    return [*frames, OPENAI_DONE]


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the stream shall end with its usage."""
    return object_of(body.get("stream_options"), "stream_options").get("include_usage") is True


def usage(body: Mapping[str, Any], prompt_fields: tuple[str, ...], said: list[Said]) -> dict[str, Any]:
    """OpenAI's usage object.

    Prompts of at least 1024 tokens count as read from the provider's own cache, in steps of 128.
    """
    prompt = max(1, count_tokens_of([body.get(name) for name in prompt_fields]))
    completion = sum(one.token_count for one in said)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached_tokens(prompt), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def cached_tokens(prompt_tokens: int) -> int:
    """Prompt tokens that count as read from the provider's cache."""
    if prompt_tokens < _LEAST_CACHED_TOKENS:
        return 0
    return (prompt_tokens - 1) // _CACHED_STEP_TOKENS * _CACHED_STEP_TOKENS


def schema_of(response_format: Any) -> Mapping[str, Any] | None:
    """JSON schema that a ``response_format`` asks for; it may stand in ``json_schema`` or beside the type.

    Raises
    ------
    InvalidCallError
        The type is ``json_schema`` and there is no schema.
    """
    response_format = object_of(response_format, "response_format")
    if response_format.get("type") == "json_object":
        return _JSON_MODE
    if response_format.get("type") != "json_schema":
        return None
    schema = object_of(response_format.get("json_schema", response_format), "json_schema").get("schema")
    if not isinstance(schema, dict):
        raise InvalidCallError("a response format of type 'json_schema' needs a 'schema'")
    return schema


def function_tools(tools: Any) -> tuple[Tool, ...]:
    """The functions among ``tools``, in the nested form of chat or the flat form of responses."""
    own = [tool for tool in objects(tools or [], "tools") if tool.get("type") == "function"]
    functions = [object_of(tool.get("function", tool), "function") for tool in own]
    return tuple(
        Tool(str(f.get("name")), object_of(f.get("parameters"), "parameters") or ANY_OBJECT) for f in functions
    )


def tool_choice(value: Any) -> Choice | str:
    """``tool_choice`` in its forms: a word, or an object that names the function."""
    if isinstance(value, dict):
        name = object_of(value.get("function", value), "function").get("name")
        return name if isinstance(name, str) else Choice.AUTO
    return {"none": Choice.NONE, "required": Choice.REQUIRED}.get(str(value), Choice.AUTO)


def _said(call: Call) -> list[Said]:
    turn = _read_turn(call.body)
    return [compose(call, turn, choice) for choice in range(count_of(call.body, "n", MOST_CHOICES))]


def _read_turn(body: Mapping[str, Any]) -> Turn:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise InvalidCallError("'messages' must not be empty")
    return Turn(
        subject=text_of(messages[-1].get("content")),
        is_tool_result=messages[-1].get("role") in {"tool", "function"},
        tools=function_tools(body.get("tools")),
        choice=tool_choice(body.get("tool_choice")),
        is_parallel=body.get("parallel_tool_calls") is not False,
        schema=schema_of(body.get("response_format")),
    )


def _envelope(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": call.answer_id("chatcmpl-"),
        "object": kind,
        "created": call.created_s,
        "model": call.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    }


def _message(said: Said) -> dict[str, Any]:
    is_text = said.ending not in {Ending.TOOLS, Ending.REFUSED}
    message: dict[str, Any] = {
        "role": "assistant",
        "content": said.text if is_text else None,
        "refusal": said.text if said.ending is Ending.REFUSED else None,
        "annotations": [],
    }
    return {**message, "tool_calls": [_tool_call(one) for one in said.tool_calls]} if said.tool_calls else message


def _tool_call(one: ToolCall) -> dict[str, Any]:
    return {
        "id": f"call_{one.id}",
        "type": "function",
        "function": {"name": one.name, "arguments": one.arguments_json},
    }


def _steps(call: Call, said: Said) -> Iterator[dict[str, Any]]:
    """A choice as the steps that its chunks carry: the role, the pieces, the reason of the end."""
    for delta in _deltas(said, are_calls_whole=call.is_mistrals):
        piece = delta.get("content")
        logprobs = _logprobs(call, [piece]) if piece else None
        yield {"delta": delta, "logprobs": logprobs, "finish_reason": None}
    yield {"delta": {}, "logprobs": None, "finish_reason": _FINISH_REASONS[said.ending]}


def _deltas(said: Said, *, are_calls_whole: bool) -> Iterator[dict[str, Any]]:
    role = {"role": "assistant", "content": None if said.tool_calls else "", "refusal": None}
    yield role
    for index, one in enumerate(said.tool_calls):
        opened = _tool_call(one)
        if not are_calls_whole:
            opened["function"]["arguments"] = ""
        yield {"tool_calls": [{"index": index, **opened}]}
        for piece in () if are_calls_whole else tokens_of(one.arguments_json):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
    spoken = "refusal" if said.ending is Ending.REFUSED else "content"
    for piece in tokens_of(said.text):
        yield {spoken: piece}


def _logprobs(call: Call, tokens: list[str]) -> dict[str, Any] | None:
    if call.body.get("logprobs") is not True:
        return None
    alternatives = count_of(call.body, "top_logprobs", _MOST_ALTERNATIVES, usual=0)
    return {"content": [_token_logprob(token, alternatives) for token in tokens], "refusal": None}


def _token_logprob(token: str, alternatives: int) -> dict[str, Any]:
    """A token with an invented probability, and as many alternatives as were asked for."""
    top = [
        {"token": token[: len(token) - rank] or "", "logprob": -0.25 * (rank + 1), "bytes": None}
        for rank in range(alternatives)
    ]
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode("utf-8", "replace")), "top_logprobs": top}


API = WireApi(answer, stream, openai_error_event, openai_error, TEXT_FAULTS)
