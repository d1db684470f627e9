"""The forms of `ollama`."""

from __future__ import annotations

import contextlib
from typing import Any

from matrix.cells import MESSAGES, OPENAI_TOOLS, QUESTION, Asked, Verdict, Way, aio, sync

MODEL = {"model": "llama3.2"}
TOOLS = {"tools": OPENAI_TOOLS}


def client(url: str) -> Any:
    import ollama

    return contextlib.nullcontext(ollama.Client(host=url))


def async_client(url: str) -> Any:
    import ollama

    return contextlib.nullcontext(ollama.AsyncClient(host=url))


def chat(sdk: Any, asked: Asked) -> Any:
    return sdk.chat(**MODEL, messages=MESSAGES, **asked.options(TOOLS))


def structured(sdk: Any, asked: Asked) -> Any:
    return sdk.chat(**MODEL, messages=MESSAGES, format=Verdict.model_json_schema(), **asked.options())


def generate(sdk: Any, asked: Asked) -> Any:
    return sdk.generate(**MODEL, prompt=QUESTION, **asked.options())


def embed(sdk: Any, _: Asked) -> Any:
    return sdk.embed(**MODEL, input=["a", "b"])


def embed_one(sdk: Any, _: Asked) -> Any:
    return sdk.embeddings(**MODEL, prompt="a")


def _both(name: str, call: Any, **options: Any) -> Way:
    return Way("ollama", name, sync(client, call), aio(async_client, call), **options)


WAYS = (
    _both("chat", chat),
    _both("chat, format", structured, tools=(False,)),
    _both("generate", generate, tools=(False,)),
    _both("embed", embed, delivery=("plain",), tools=(False,)),
    _both("embeddings", embed_one, delivery=("plain",), tools=(False,)),
)
