"""The forms of `mistralai`."""

from __future__ import annotations

from typing import Any

from matrix.cells import MESSAGES, OPENAI_TOOLS, QUESTION, Asked, Verdict, Way, aio, sync

MODEL = {"model": "mistral-small-latest"}
TOOLS = {"tools": OPENAI_TOOLS}
DOCUMENT = {
    "model": "mistral-ocr-latest",
    "document": {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0="},
}
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


def agents(sdk: Any, asked: Asked) -> Any:
    call = sdk.agents.stream if asked.is_streamed else sdk.agents.complete
    return call(agent_id="ag-1", messages=MESSAGES, **asked.only_with_tools(TOOLS))


def agents_async(sdk: Any, asked: Asked) -> Any:
    call = sdk.agents.stream_async if asked.is_streamed else sdk.agents.complete_async
    return call(agent_id="ag-1", messages=MESSAGES, **asked.only_with_tools(TOOLS))


def converse(sdk: Any, asked: Asked) -> Any:
    call = sdk.beta.conversations.start_stream if asked.is_streamed else sdk.beta.conversations.start
    return call(**MODEL, inputs=QUESTION, **asked.only_with_tools(TOOLS))


def converse_async(sdk: Any, asked: Asked) -> Any:
    call = sdk.beta.conversations.start_stream_async if asked.is_streamed else sdk.beta.conversations.start_async
    return call(**MODEL, inputs=QUESTION, **asked.only_with_tools(TOOLS))


def read(sdk: Any, _: Asked) -> Any:
    return sdk.ocr.process(**DOCUMENT)


def read_async(sdk: Any, _: Asked) -> Any:
    return sdk.ocr.process_async(**DOCUMENT)


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
    _both("agents.complete, agents.stream", agents, agents_async),
    _both("beta.conversations: start, start_stream", converse, converse_async),
    _both("ocr.process", read, read_async, delivery=("plain",), tools=(False,)),
    _both("embeddings.create", embed, embed_async, delivery=("plain",), tools=(False,)),
)
