"""The forms of `cohere`, both versions of its API."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from matrix.cells import MESSAGES, OPENAI_TOOLS, QUESTION, Asked, Verdict, Way, aio, sync

MODEL = {"model": "command-a-03-2025", "messages": MESSAGES}
TOOLS = {"tools": OPENAI_TOOLS}


def client(url: str, kind: str = "ClientV2") -> Any:
    import cohere

    return contextlib.nullcontext(getattr(cohere, kind)(api_key="simulated", base_url=url))


def chat(sdk: Any, asked: Asked) -> Any:
    return (sdk.chat_stream if asked.is_streamed else sdk.chat)(**MODEL, **asked.only_with_tools(TOOLS))


def chat_v1(sdk: Any, asked: Asked) -> Any:
    return (sdk.chat_stream if asked.is_streamed else sdk.chat)(model="command-r", message=QUESTION)


def rerank(sdk: Any, _: Asked) -> Any:
    return sdk.rerank(model="rerank-v3.5", query="a", documents=["a", "b"])


def structured(sdk: Any, _: Asked) -> Any:
    return sdk.chat(**MODEL, response_format={"type": "json_object", "json_schema": Verdict.model_json_schema()})


def embed(sdk: Any, _: Asked) -> Any:
    wanted = {"input_type": "search_document", "embedding_types": ["float"]}
    return sdk.embed(model="embed-v4.0", texts=["a", "b"], **wanted)


def _both(name: str, call: Any, kind: str = "ClientV2", **options: Any) -> Way:
    make, make_async = partial(client, kind=kind), partial(client, kind=f"Async{kind}")
    return Way("cohere", f"{kind}.{name}", sync(make, call), aio(make_async, call), **options)


WAYS = (
    _both("chat, chat_stream", chat),
    _both("chat, response_format", structured, delivery=("plain",), tools=(False,)),
    _both("embed", embed, delivery=("plain",), tools=(False,)),
    _both("rerank", rerank, delivery=("plain",), tools=(False,)),
    _both("chat, chat_stream", chat_v1, "Client", tools=(False,)),
)
