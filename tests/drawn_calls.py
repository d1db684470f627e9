"""JSON values that hypothesis draws, and the model calls that they go into."""

from __future__ import annotations

from hypothesis import strategies as st

from genai_cache_magic.providers.base import Origins

ORIGINS = Origins({}, "laptop")
JSON_HEADER = {"content-type": "application/json"}

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
objects = st.dictionaries(texts, values, max_size=5)

CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call-a1", "type": "function", "function": {"name": "f"}}],
        },
        {"role": "tool", "tool_call_id": "call-a1", "content": "1"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"user": {}, "stream": {}}}}}
    ],
    "temperature": 0.7,
}
CLAUDE = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call-a1", "name": "f", "input": {"cache_control": 1}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call-a1", "content": "1"}]},
    ],
    "tools": [{"name": "f", "input_schema": {"properties": {"cache_control": {}, "metadata": {}}}}],
}
RESPONSES = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "id": "item-f1", "call_id": "call-a1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call-a1", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"properties": {"user": {}}}}],
}
EMBEDDINGS = {"model": "m", "input": ["a", "b"]}
COMPLETIONS = {"model": "m", "prompt": "Once"}

CALLS = {
    "chat": ("/v1/chat/completions", "api.openai.com", CHAT),
    "claude": ("/v1/messages", "api.anthropic.com", CLAUDE),
    "responses": ("/v1/responses", "api.openai.com", RESPONSES),
    "embeddings": ("/v1/embeddings", "api.openai.com", EMBEDDINGS),
    "completions": ("/v1/completions", "api.openai.com", COMPLETIONS),
}

apis = st.sampled_from(sorted(CALLS))


def normal(value: object) -> object:
    if isinstance(value, dict):
        return {name: normal(value[name]) for name in sorted(value)}
    return [normal(item) for item in value] if isinstance(value, list) else value
