"""Images, sounds and files within a request: what is folded to its digest, and what stays as it is."""

from __future__ import annotations

import base64

import orjson
import pytest
from unit.model_calls import CLAUDE, NOWHERE, call

from genai_cache_magic.providers.registry import recognise

PIXEL = base64.b64encode(b"pixel").decode()
OTHER = base64.b64encode(b"pixel2").decode()


def media_of(path, body):
    found = recognise(call(path, body), NOWHERE)
    assert PIXEL not in orjson.dumps(found.request.body).decode()
    return found.request.media


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}, "image_url/url"),
        ({"type": "image_url", "image_url": f"DATA:image/png;BASE64,{PIXEL}"}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}, "input_audio/data"),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PIXEL}"}}, "file/file_data"),
    ],
)
def test_chat_media(part, where):
    """Images, audio and files of a chat are folded, and their places listed."""
    messages = [{"role": "user", "content": ["text", part]}]
    assert media_of("/v1/chat/completions", {"messages": messages}) == (f"/messages/0/content/1/{where}",)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "data:text/plain,abcd", "abcd", "data:image/png;base64,?"]
)
def test_address_is_never_folded(url):
    """What is an address, or does not decode, stays literal."""
    part = {"type": "image_url", "image_url": {"url": url}}
    found = recognise(call("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]}), NOWHERE)
    assert found.request.media == ()
    assert url in str(found.request.body)


def test_responses_media():
    """Media of a response's input are folded in messages, tool outputs and screenshots."""
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
    shot = {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PIXEL}"}
    items = [
        {"role": "user", "content": [image, {"type": "input_file", "file_data": PIXEL}]},
        {"type": "function_call_output", "call_id": "a", "output": [image]},
        {"type": "computer_call_output", "call_id": "b", "output": shot},
        "odd",
    ]
    assert media_of("/v1/responses", {"model": "m", "input": items}) == (
        "/input/0/content/0/image_url",
        "/input/0/content/1/file_data",
        "/input/1/output/0/image_url",
        "/input/2/output/image_url",
    )


def test_anthropic_media():
    """Base64 sources are folded wherever blocks stand: in messages, tool results and documents."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    nested = {"type": "document", "source": {"type": "content", "content": [image]}}
    literal = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abcd"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    blocks = [image, result, nested, literal, "odd"]
    body = {**CLAUDE, "messages": [{"role": "user", "content": blocks}]}
    assert media_of("/v1/messages", body) == (
        "/messages/0/content/0/source/data",
        "/messages/0/content/1/content/0/source/data",
        "/messages/0/content/2/source/content/0/source/data",
    )
