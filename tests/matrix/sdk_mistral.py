"""The forms of `mistralai`."""

from __future__ import annotations

from typing import Any

from matrix.cells import MESSAGES, OPENAI_TOOLS, Asked, Verdict, Way, aio, sync

MODEL = {"model": "mistral-small-latest"}
TOOLS = {"tools": OPENAI_TOOLS}
TEXT = {"model": "codestral-latest", "prompt": "def f():", "suffix": "return 1"}


def client(url: str) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key="simulated", server_url=url)


def chat(sdk: Any, asked: Asked) -> Any:
    call = sdk.chat.stream if asked.is_streamed else sdk.chat.complete
    return call(**MODEL, messages=MESSAGES, **asked.only_with_tools(TOOLS))


def chat_async(sdk: Any, asked: Asked) -> Any:
    call = sdk.chat.stream_async if asked.is_streamed else sdk.chat.complete_async
    return call(**MODEL, messages=MESSAGES, **asked.only_with_tools(TOOLS))


def parse(sdk: Any, _: Asked) -> Any:
    return sdk.chat.parse(Verdict, **MODEL, messages=MESSAGES)


def parse_async(sdk: Any, _: Asked) -> Any:
    return sdk.chat.parse_async(Verdict, **MODEL, messages=MESSAGES)


def fill(sdk: Any, asked: Asked) -> Any:
    return (sdk.fim.stream if asked.is_streamed else sdk.fim.complete)(**TEXT)


def fill_async(sdk: Any, asked: Asked) -> Any:
    return (sdk.fim.stream_async if asked.is_streamed else sdk.fim.complete_async)(**TEXT)


def embed(sdk: Any, _: Asked) -> Any:
    return sdk.embeddings.create(model="mistral-embed", inputs=["a", "b"])


def embed_async(sdk: Any, _: Asked) -> Any:
    return sdk.embeddings.create_async(model="mistral-embed", inputs=["a", "b"])


def _both(name: str, call: Any, call_async: Any, **options: Any) -> Way:
    return Way("mistralai", name, sync(client, call), aio(client, call_async), **options)


WAYS = (
    _both("chat.complete, chat.stream", chat, chat_async),
    _both("chat.parse", parse, parse_async, delivery=("plain",), tools=(False,)),
    _both("fim.complete, fim.stream", fill, fill_async, tools=(False,)),
    _both("embeddings.create", embed, embed_async, delivery=("plain",), tools=(False,)),
)
