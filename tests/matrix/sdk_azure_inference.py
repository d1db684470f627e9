"""The forms of `azure-ai-inference`: its synchronous client is on `requests`, the other one on `aiohttp`."""

from __future__ import annotations

from typing import Any

from matrix.cells import FUNCTION, MESSAGES, Asked, Way, aio, sync

MODEL = {"model": "gpt-4.1-mini"}


def client(url: str, kind: str = "ChatCompletionsClient") -> Any:
    from azure.ai import inference
    from azure.core.credentials import AzureKeyCredential

    return getattr(inference, kind)(f"{url}/models", AzureKeyCredential("simulated"))


def async_client(url: str, kind: str = "ChatCompletionsClient") -> Any:
    from azure.ai.inference import aio as inference
    from azure.core.credentials import AzureKeyCredential

    return getattr(inference, kind)(f"{url}/models", AzureKeyCredential("simulated"))


def embedder(url: str) -> Any:
    return client(url, "EmbeddingsClient")


def async_embedder(url: str) -> Any:
    return async_client(url, "EmbeddingsClient")


def tools() -> dict[str, Any]:
    from azure.ai.inference.models import ChatCompletionsToolDefinition, FunctionDefinition

    return {"tools": [ChatCompletionsToolDefinition(function=FunctionDefinition(**FUNCTION))]}


def complete(sdk: Any, asked: Asked) -> Any:
    return sdk.complete(**MODEL, messages=MESSAGES, **asked.options(tools()))


def embed(sdk: Any, _: Asked) -> Any:
    return sdk.embed(model="text-embedding-3-small", input=["a", "b"])


WAYS = (
    Way("azure-ai-inference", "ChatCompletionsClient.complete", sync(client, complete), aio(async_client, complete)),
    Way(
        "azure-ai-inference",
        "EmbeddingsClient.embed",
        sync(embedder, embed),
        aio(async_embedder, embed),
        delivery=("plain",),
        tools=(False,),
    ),
)
