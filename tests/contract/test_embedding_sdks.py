"""Every SDK that embeds texts: a batch that is partly known is asked for the rest, and its answer is that of the whole.

Each SDK's own result, without what names or counts a single answer, is compared with that of the same call undivided.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest
from embeddings import FIRST, REST, SECOND
from matrix.generations import here, pins

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Sdk:
    """How one SDK embeds: a client that is closed afterwards, a call of it, and what is comparable of its result."""

    package: str
    client: Callable[[str], Any]
    call: Callable[[Any, list[str]], Any]
    told: Callable[[Any], Any]
    sent: Callable[[dict[str, Any]], list[str]] = lambda body: body["input"]
    is_async: bool = False


def plain(made: Any) -> Any:
    return contextlib.nullcontext(made)


def openai_client(url: str, name: str = "OpenAI") -> Any:
    import openai

    return getattr(openai, name)(base_url=f"{url}/v1", api_key="k", max_retries=0)


def azure_openai(url: str, name: str = "AzureOpenAI") -> Any:
    import openai

    return getattr(openai, name)(azure_endpoint=url, api_key="k", api_version="2024-10-21", max_retries=0)


def openai_embed(sdk: Any, texts: list[str]) -> Any:
    return sdk.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=64)


def openai_with(**options: Any) -> Callable[[Any, list[str]], Any]:
    return lambda sdk, texts: sdk.embeddings.create(model="text-embedding-3-small", input=texts, **options)


def tokens_of(texts: list[str]) -> list[list[int]]:
    return [list(text.encode()) for text in texts]


def openai_tokens(sdk: Any, texts: list[str]) -> Any:
    return openai_with(dimensions=16)(sdk, tokens_of(texts))  # type: ignore[arg-type]  # of numbers, as the API takes them


def texts_of(body: dict[str, Any]) -> list[str]:
    return [bytes(tokens).decode() for tokens in body["input"]]


def openai_told(result: Any) -> Any:
    return {**result.model_dump(), "usage": None}


def mistral(url: str) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key="simulated", server_url=url)


def cohere(url: str, kind: str) -> Any:
    import cohere as library

    return plain(getattr(library, kind)(api_key="simulated", base_url=url))


def cohere_told(result: Any) -> Any:
    return {name: value for name, value in result.model_dump().items() if name not in {"id", "meta"}}


def cohere_embed(sdk: Any, texts: list[str]) -> Any:
    return sdk.embed(model="embed-v4.0", texts=texts, input_type="search_document", embedding_types=["float", "int8"])


def cohere_base64(sdk: Any, texts: list[str]) -> Any:
    wanted = {"input_type": "clustering", "embedding_types": ["base64", "ubinary"], "output_dimension": 256}
    return sdk.embed(model="embed-v4.0", texts=texts, **wanted)


def cohere_embed_v1(sdk: Any, texts: list[str]) -> Any:
    return sdk.embed(model="embed-english-v3.0", texts=texts, input_type="search_document")


def ollama(url: str, kind: str) -> Any:
    import ollama as library

    return plain(getattr(library, kind)(host=url))


def ollama_told(result: Any) -> Any:
    return {**result.model_dump(), "prompt_eval_count": None}


@contextlib.contextmanager
def google(url: str) -> Any:
    from google import genai

    made = genai.Client(api_key="simulated", http_options=genai.types.HttpOptions(base_url=url))
    yield made
    made.close()


@contextlib.asynccontextmanager
async def google_async(url: str) -> Any:
    from google import genai

    made = genai.Client(api_key="simulated", http_options=genai.types.HttpOptions(base_url=url))
    yield made.aio
    await made.aio.aclose()


def google_embed(sdk: Any, texts: list[str]) -> Any:
    return sdk.models.embed_content(model="gemini-embedding-001", contents=texts, config={"output_dimensionality": 64})


def google_sent(body: dict[str, Any]) -> list[str]:
    return [one["content"]["parts"][0]["text"] for one in body["requests"]]


def azure_inference(url: str) -> Any:
    from azure.ai.inference import EmbeddingsClient
    from azure.core.credentials import AzureKeyCredential

    return EmbeddingsClient(f"{url}/models", AzureKeyCredential("simulated"))


def azure_inference_async(url: str) -> Any:
    from azure.ai.inference.aio import EmbeddingsClient
    from azure.core.credentials import AzureKeyCredential

    return EmbeddingsClient(f"{url}/models", AzureKeyCredential("simulated"))


def azure_embed(sdk: Any, texts: list[str]) -> Any:
    return sdk.embed(model="text-embedding-3-small", input=texts)


def azure_base64(sdk: Any, texts: list[str]) -> Any:
    wanted = {"dimensions": 16, "encoding_format": "base64", "input_type": "document"}
    return sdk.embed(model="text-embedding-3-small", input=texts, **wanted)


def azure_told(result: Any) -> Any:
    return {**result.as_dict(), "usage": None}


def langchain(url: str) -> Any:
    from langchain_openai import OpenAIEmbeddings

    return plain(OpenAIEmbeddings(base_url=f"{url}/v1", api_key="simulated", check_embedding_ctx_length=False))


def litellm_embedding(url: str, texts: list[str], name: str = "embedding") -> Any:
    import litellm

    endpoint = {"model": "openai/text-embedding-3-small", "api_base": f"{url}/v1", "api_key": "simulated"}
    return getattr(litellm, name)(**endpoint, input=texts)


class Session:
    """aiohttp's own session with the URL of its server."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Self:
        import aiohttp

        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def post(self, texts: list[str]) -> Any:
        asked = {"model": "text-embedding-3-small", "input": texts}
        async with self.session.post(f"{self.url}/v1/embeddings", json=asked) as response:
            return {**await response.json(), "usage": None}


SDKS = {
    "openai": Sdk("openai", openai_client, openai_embed, openai_told),
    "openai async": Sdk(
        "openai", lambda url: openai_client(url, "AsyncOpenAI"), openai_embed, openai_told, is_async=True
    ),
    "openai float": Sdk("openai", openai_client, openai_with(encoding_format="float", dimensions=16), openai_told),
    "openai float async": Sdk(
        "openai",
        lambda url: openai_client(url, "AsyncOpenAI"),
        openai_with(encoding_format="float"),
        openai_told,
        is_async=True,
    ),
    "openai base64": Sdk("openai", openai_client, openai_with(encoding_format="base64"), openai_told),
    "openai base64 async": Sdk(
        "openai",
        lambda url: openai_client(url, "AsyncOpenAI"),
        openai_with(encoding_format="base64", dimensions=16),
        openai_told,
        is_async=True,
    ),
    "openai tokens": Sdk("openai", openai_client, openai_tokens, openai_told, texts_of),
    "openai tokens async": Sdk(
        "openai", lambda url: openai_client(url, "AsyncOpenAI"), openai_tokens, openai_told, texts_of, is_async=True
    ),
    "azure openai": Sdk("openai", azure_openai, openai_embed, openai_told),
    "azure openai async": Sdk(
        "openai", lambda url: azure_openai(url, "AsyncAzureOpenAI"), openai_embed, openai_told, is_async=True
    ),
    "mistral": Sdk(
        "mistralai",
        mistral,
        lambda sdk, texts: sdk.embeddings.create(model="mistral-embed", inputs=texts),
        lambda result: {**result.model_dump(), "usage": None, "id": None},
    ),
    "mistral async": Sdk(
        "mistralai",
        mistral,
        lambda sdk, texts: sdk.embeddings.create_async(model="mistral-embed", inputs=texts),
        lambda result: {**result.model_dump(), "usage": None, "id": None},
        is_async=True,
    ),
    "cohere": Sdk("cohere", lambda url: cohere(url, "ClientV2"), cohere_embed, cohere_told, lambda body: body["texts"]),
    "cohere async": Sdk(
        "cohere",
        lambda url: cohere(url, "AsyncClientV2"),
        cohere_embed,
        cohere_told,
        lambda body: body["texts"],
        is_async=True,
    ),
    "cohere base64": Sdk(
        "cohere", lambda url: cohere(url, "ClientV2"), cohere_base64, cohere_told, lambda body: body["texts"]
    ),
    "cohere base64 async": Sdk(
        "cohere",
        lambda url: cohere(url, "AsyncClientV2"),
        cohere_base64,
        cohere_told,
        lambda body: body["texts"],
        is_async=True,
    ),
    "cohere v1": Sdk(
        "cohere", lambda url: cohere(url, "Client"), cohere_embed_v1, cohere_told, lambda body: body["texts"]
    ),
    "cohere v1 async": Sdk(
        "cohere",
        lambda url: cohere(url, "AsyncClient"),
        cohere_embed_v1,
        cohere_told,
        lambda body: body["texts"],
        is_async=True,
    ),
    "ollama": Sdk(
        "ollama", lambda url: ollama(url, "Client"), lambda sdk, texts: sdk.embed(model="m", input=texts), ollama_told
    ),
    "ollama async": Sdk(
        "ollama",
        lambda url: ollama(url, "AsyncClient"),
        lambda sdk, texts: sdk.embed(model="m", input=texts),
        ollama_told,
        is_async=True,
    ),
    "google": Sdk("google.genai", google, google_embed, lambda result: result.embeddings, google_sent),
    "google async": Sdk(
        "google.genai", google_async, google_embed, lambda result: result.embeddings, google_sent, is_async=True
    ),
    "azure inference": Sdk("azure.ai.inference", azure_inference, azure_embed, azure_told),
    "azure inference async": Sdk("azure.ai.inference", azure_inference_async, azure_embed, azure_told, is_async=True),
    "azure inference base64": Sdk("azure.ai.inference", azure_inference, azure_base64, azure_told),
    "azure inference base64 async": Sdk(
        "azure.ai.inference", azure_inference_async, azure_base64, azure_told, is_async=True
    ),
    "langchain": Sdk("langchain_openai", langchain, lambda sdk, texts: sdk.embed_documents(texts), list),
    "langchain async": Sdk(
        "langchain_openai", langchain, lambda sdk, texts: sdk.aembed_documents(texts), list, is_async=True
    ),
    "aiohttp": Sdk("aiohttp", Session, lambda sdk, texts: sdk.post(texts), lambda result: result, is_async=True),
}


if "litellm" in pins(here()):  # it holds openai back, and so is of one generation only
    SDKS["litellm"] = Sdk("litellm", plain, litellm_embedding, openai_told)
    SDKS["litellm async"] = Sdk(
        "litellm", plain, lambda url, texts: litellm_embedding(url, texts, "aembedding"), openai_told, is_async=True
    )


def outcome_of(sdk: Sdk, url: str) -> list[Any]:
    """What a client is told of two batches that overlap, both twice."""

    def run() -> list[Any]:
        with sdk.client(url) as client:
            return [sdk.told(sdk.call(client, texts)) for texts in (FIRST, SECOND, SECOND, FIRST)]

    async def run_async() -> list[Any]:
        made = sdk.client(url)
        async with made if hasattr(made, "__aenter__") else contextlib.nullcontext(made) as client:
            return [sdk.told(await sdk.call(client, texts)) for texts in (FIRST, SECOND, SECOND, FIRST)]

    return asyncio.run(run_async()) if sdk.is_async else run()


@pytest.mark.filterwarnings("ignore")  # what other packages deprecate, or leave open, is not ours to fail on
@pytest.mark.parametrize("name", SDKS)
def test_batches_that_overlap_share_their_texts(isolated, server, monkeypatch, name):
    """What an SDK makes of a divided answer is what it makes of an undivided one, and each text is asked about once."""
    sdk = SDKS[name]
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks the network for prices
    pytest.importorskip(sdk.package, reason=f"pip install {sdk.package}")
    undivided = outcome_of(sdk, server.url)
    server.reset()
    with llm_cache() as cell:
        divided = outcome_of(sdk, server.url)
    gc.collect()  # what a client leaves open is found here, where it is ignored, and not in another test
    assert divided == undivided
    assert [sdk.sent(json.loads(request.body)) for request in server.requests] == [FIRST, REST]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT, Outcome.HIT]
    assert cell.calls[1].reason == "2 of 4 texts from the cache"


OPTIONS = {
    "openai dimensions": (SDKS["openai"], openai_with(dimensions=8)),
    "openai form": (SDKS["openai base64"], openai_with(encoding_format="float")),
    "cohere input_type": (
        SDKS["cohere"],
        lambda sdk, texts: sdk.embed(
            model="embed-v4.0", texts=texts, input_type="search_query", embedding_types=["float", "int8"]
        ),
    ),
    "google dimensions": (
        SDKS["google"],
        lambda sdk, texts: sdk.models.embed_content(
            model="gemini-embedding-001", contents=texts, config={"output_dimensionality": 32}
        ),
    ),
    "google task_type": (
        SDKS["google"],
        lambda sdk, texts: sdk.models.embed_content(
            model="gemini-embedding-001",
            contents=texts,
            config={"output_dimensionality": 64, "task_type": "RETRIEVAL_QUERY"},
        ),
    ),
    "azure inference input_type": (
        SDKS["azure inference"],
        lambda sdk, texts: sdk.embed(model="text-embedding-3-small", input=texts, input_type="query"),
    ),
}


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize("name", OPTIONS)
def test_texts_that_are_embedded_in_another_way_are_other_texts(isolated, server, name):
    """Another length, another form, another purpose: nothing of what is known answers, and each is known thereafter."""
    sdk, other = OPTIONS[name]
    pytest.importorskip(sdk.package, reason=f"pip install {sdk.package}")
    with llm_cache() as cell, sdk.client(server.url) as client:
        sdk.call(client, FIRST)
        other(client, FIRST)
        other(client, SECOND)
        sdk.call(client, SECOND)
    gc.collect()
    assert [sdk.sent(json.loads(request.body)) for request in server.requests] == [FIRST, FIRST, REST, REST]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS] * 4
