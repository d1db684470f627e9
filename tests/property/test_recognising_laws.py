"""Whatever a caller sends and an origin answers: reading and recognising it breaks nobody's call."""

from __future__ import annotations

import json

import orjson
import pytest
from drawn_calls import CALLS, JSON_HEADER, ORIGINS, apis, scalars
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.model import Form, KeySpace, Response
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages
from genai_cache_magic.providers.base import End, HttpCall, Wants
from genai_cache_magic.providers.openai.chat import OpenAIChat
from genai_cache_magic.providers.openai.completions import OpenAICompletions
from genai_cache_magic.providers.openai.embeddings import OpenAIEmbeddings
from genai_cache_magic.providers.openai.responses import OpenAIResponses
from genai_cache_magic.providers.registry import recognise

READERS = (OpenAIChat(), OpenAICompletions(), OpenAIEmbeddings(), OpenAIResponses(), AnthropicMessages())
words = st.sampled_from(
    [
        "choices",
        "message",
        "delta",
        "finish_reason",
        "stop",
        "usage",
        "content",
        "output",
        "status",
        "completed",
        "data",
        "type",
        "error",
        "response",
        "index",
        "response.completed",
        "message_start",
        "message_delta",
        "message_stop",
        "model",
        "content_block_start",
        "content_block",
        "text",
        "tools",
        "tool_calls",
        "refusal",
        "stop_reason",
        "end_turn",
        "input",
        "messages",
        "role",
        "user",
        "image_url",
        "url",
        "source",
        "base64",
        "caller",
        "prompt",
        "max_tokens",
        "function_call",
        "prompt_tokens_details",
        "environment",
        "input_file",
        "file_data",
    ]
)
shaped = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6),
    max_leaves=30,
)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.surface)
@given(data=st.data())
def test_reading_never_raises(reader, data):
    """Any bytes in any form are read as some ending, and rendered or declined."""
    bodies = st.binary(max_size=300) | shaped.map(lambda v: json.dumps(v).encode())
    bodies |= st.lists(shaped, max_size=5).map(
        lambda parts: b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts) + b"data: [DONE]\n\n"
    )
    response = Response(200, (), data.draw(bodies), data.draw(st.sampled_from(Form)))
    assert type(reader.read(response).end) is End
    wants = Wants(data.draw(st.sampled_from(Form)), usage=data.draw(st.booleans()))
    rendered = reader.render(response, wants)
    assert rendered is None or rendered.form is wants.form


@given(apis, st.dictionaries(words, shaped, max_size=6), st.booleans())
def test_recognising_never_raises_anything_else(api, changes, keep):
    """Any JSON body is a model call with a key, or none, or refused as uncacheable."""
    body = {**CALLS[api][2], **changes} if keep else changes
    call = HttpCall("POST", "https", CALLS[api][1], None, CALLS[api][0], "", JSON_HEADER, orjson_or_json(body))
    try:
        found = recognise(call, ORIGINS)
    except UncacheableRequest:
        return
    if found is not None:
        assert canonical_bytes(found.request, KeySpace())


def orjson_or_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
