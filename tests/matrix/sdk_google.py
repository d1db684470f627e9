"""The forms of `google-genai`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from matrix.cells import FUNCTION, QUESTION, WEATHER, Asked, Verdict, Way, aio, sync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MODEL = "gemini-2.5-flash"
# Its own kind of schema has no word for what else may be there.
DECLARED = {"name": FUNCTION["name"], "parameters": {k: v for k, v in WEATHER.items() if k != "additionalProperties"}}


def _client(url: str) -> Any:
    from google import genai

    return genai.Client(api_key="simulated", http_options=genai.types.HttpOptions(base_url=url))


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    made = _client(url)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def async_client(url: str) -> AsyncIterator[Any]:
    made = _client(url)
    yield made.aio
    await made.aio.aclose()


def config(asked: Asked, **given: Any) -> dict[str, Any]:
    return {"config": {**given, **asked.only_with_tools({"tools": [{"function_declarations": [DECLARED]}]})}}


def generate(sdk: Any, asked: Asked) -> Any:
    name = "generate_content_stream" if asked.is_streamed else "generate_content"
    return getattr(sdk.models, name)(model=MODEL, contents=QUESTION, **config(asked))


def chat(sdk: Any, asked: Asked) -> Any:
    opened = sdk.chats.create(model=MODEL, **config(asked))
    return opened.send_message_stream(QUESTION) if asked.is_streamed else opened.send_message(QUESTION)


def structured(sdk: Any, asked: Asked) -> Any:
    asked_for = {"response_mime_type": "application/json", "response_schema": Verdict}
    return sdk.models.generate_content(model=MODEL, contents=QUESTION, **config(asked, **asked_for))


def embed(sdk: Any, _: Asked) -> Any:
    return sdk.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])


def interact(sdk: Any, asked: Asked) -> Any:
    tools = asked.only_with_tools({"tools": [{"type": "function", **FUNCTION}]})
    return sdk.interactions.create(model=MODEL, input=QUESTION, stream=asked.is_streamed, **tools)


def told(answer: Any, _: Asked) -> Any:
    """What was answered, without the headers of HTTP: those of a hit say that it is one."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(exclude={"sdk_http_response"})
    if hasattr(answer, "__anext__"):
        return (told(item, _) async for item in answer)
    return (told(item, _) for item in answer)


def _both(name: str, call: Any, **options: Any) -> Way:
    return Way("google-genai", name, sync(client, call, told), aio(async_client, call, told), **options)


WAYS = (
    _both("models.generate_content, ..._stream", generate),
    _both("chats: send_message, ..._stream", chat),
    _both("models.generate_content, response_schema", structured, delivery=("plain",), tools=(False,)),
    _both("interactions.create", interact),
    _both("models.embed_content", embed, delivery=("plain",), tools=(False,)),
)
