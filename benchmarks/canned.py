"""Answers of 2 KB without a network: what is left is the SDK's own work, the floor of any cache at HTTP level."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_VOCABULARY = (
    "a about after again all also answer any because before better between both but call can cell change "
    "clear common course data day different each early end enough even example figure first for from full "
    "general give good great group half hand have here high how however idea if in into it just kind "
    "large last later less like line long make many matter mean measure might more most much must name "
    "near need never new next no note nothing number of often old on one only open order other our over "
    "own part people place point question rather reason result right same second see several short should "
    "show side simple since small so some state still such sure than that the their then there these they "
    "thing this those though three time to together turn two under until up use value very way well what "
    "when where which while whole why will with without word work would year"
)

ANSWER_CHARS = 2048
_EVENTS = 64


def prose(chars: int, seed: int = 7) -> str:
    """Return so many characters of text that compresses about as well as prose does."""
    source = random.Random(seed)
    vocabulary = _VOCABULARY.split()
    words: list[str] = []
    length = 0
    while length < chars:
        words.append(source.choice(vocabulary))
        length += len(words[-1]) + 1
    return " ".join(words)[:chars]


ANSWER = prose(ANSWER_CHARS)


def openai_answer(text: str = ANSWER) -> bytes:
    """Return the JSON of a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return _json(
        {
            "id": "chatcmpl-CbEnChMaRk00000000000000000",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": "gpt-4.1-mini-2025-04-14",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 25,
                "completion_tokens": 410,
                "total_tokens": 435,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": "fp_0000000000",
        }
    )


def openai_events(text: str = ANSWER) -> list[bytes]:
    """Return the events of a streamed chat completion."""
    size = -(-len(text) // _EVENTS)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    choices: list[dict[str, Any]]
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    head: dict[str, Any] = {
        "id": "chatcmpl-CbEnChMaRk00000000000000000",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": "gpt-4.1-mini-2025-04-14",
    }
    return [b"data: " + _json({**head, "choices": [choice]}) + b"\n\n" for choice in choices] + [b"data: [DONE]\n\n"]


def anthropic_answer(text: str = ANSWER) -> bytes:
    """Return the JSON of a message."""
    return _json(
        {
            "id": "msg_0BenchmarkBenchmarkBench",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 25,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 410,
                "service_tier": "standard",
            },
        }
    )


def messages(count: int, *, seed: int = 1) -> list[dict[str, str]]:
    """Return a conversation of `count` messages; one is a short prompt, more have 300 characters each."""
    if count == 1:
        return [{"role": "user", "content": "Say in one sentence why the sky is blue."}]
    roles = ("user", "assistant")
    # An even number would end with the assistant: the last one is the user's.
    return [{"role": roles[(count - 1 - i) % 2], "content": prose(300, seed + i)} for i in range(count)]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class _Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


class Canned(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport that answers every request at once, as a connection would: raw headers, and a stream to read.

    Parameters
    ----------
    chunks
        The body as it arrives.
    content_type
        Of the answer.
    """

    def __init__(self, chunks: list[bytes], content_type: str = "application/json") -> None:
        self.requests = 0
        self._chunks = chunks
        self._head = [
            (b"date", b"Mon, 02 Nov 2026 10:00:00 GMT"),
            (b"content-type", content_type.encode()),
            (b"connection", b"keep-alive"),
            (b"x-request-id", b"req_00000000000000000000000000000000"),
            (b"openai-processing-ms", b"812"),
            (b"openai-version", b"2020-10-01"),
            (b"x-ratelimit-limit-requests", b"10000"),
            (b"x-ratelimit-remaining-requests", b"9999"),
            (b"server", b"cloudflare"),
            (b"cf-ray", b"000000000000aaaa-FRA"),
            (b"x-content-type-options", b"nosniff"),
            (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
        ]
        if len(chunks) == 1:
            self._head.append((b"content-length", str(len(chunks[0])).encode()))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - the transport's interface
        """Answer."""
        return self._answer()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - the same
        """Answer."""
        return self._answer()

    def _answer(self) -> httpx2.Response:
        self.requests += 1
        return httpx2.Response(
            200,
            headers=self._head,
            stream=_Body(self._chunks),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": b"OK"},
        )
