"""Answers of 2 KB without a network: what is left is the SDK's own work, the floor of any cache at HTTP level."""

from __future__ import annotations

import base64
import functools
import json
import random
import struct
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
LONG_CHARS = 1 << 20
AT_LENGTH = "Answer at length."
_EVENTS = 64
_DIMENSIONS = 1536


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


@functools.cache
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


def openai_events(text: str = ANSWER, pieces: int = _EVENTS) -> list[bytes]:
    """Return the events of a streamed chat completion, whose text comes in so many pieces."""
    size = -(-len(text) // pieces)
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


@functools.cache
def embeddings(count: int, *, is_base64: bool) -> bytes:
    """Return the JSON of so many vectors of 1,536 numbers, as numbers or as a client asks for them that saves room."""
    source = random.Random(11)
    vectors = [[round(source.uniform(-0.1, 0.1), 8) for _ in range(_DIMENSIONS)] for _ in range(count)]
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode() if is_base64 else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": count * 20, "total_tokens": count * 20}
    return _json({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage})


@functools.cache
def long_answer() -> bytes:
    """Return the JSON of a chat completion of a megabyte."""
    return openai_answer(prose(LONG_CHARS))


def answer_to(path: str, body: bytes) -> bytes:
    """Return what a model says to a request: vectors to texts, a megabyte where `AT_LENGTH` is asked for, else 2 KB."""
    if path.endswith("/embeddings"):
        asked = json.loads(body)
        return embeddings(len(asked["input"]), is_base64=asked.get("encoding_format") == "base64")
    return long_answer() if AT_LENGTH.encode() in body else openai_answer()


def messages(count: int, *, seed: int = 1, chars: int = 300) -> list[dict[str, str]]:
    """Return a conversation of `count` messages; one is a short prompt, more have so many characters each."""
    if count == 1:
        return [{"role": "user", "content": "Say in one sentence why the sky is blue."}]
    roles = ("user", "assistant")
    # An even number would end with the assistant: the last one is the user's.
    return [{"role": roles[(count - 1 - i) % 2], "content": prose(chars, seed + i)} for i in range(count)]


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

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - the transport's interface
        """Answer."""
        return self._answer()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - the same
        """Answer."""
        return self._answer()

    def _answer(self, chunks: list[bytes] | None = None) -> httpx2.Response:
        self.requests += 1
        body = chunks or self._chunks
        length = [(b"content-length", str(len(body[0])).encode())] if len(body) == 1 else []
        return httpx2.Response(
            200,
            headers=[*self._head, *length],
            stream=_Body(body),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": b"OK"},
        )
