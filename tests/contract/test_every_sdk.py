"""Whichever SDK makes a call, streamed or not: the second run is all hits, and no model is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from genai_cache_magic import llm_cache

ASK = [{"role": "user", "content": "hello"}]


def openai_chat(url: str) -> Any:
    import openai

    with openai.OpenAI(base_url=f"{url}/v1", api_key="simulated") as client:
        client.chat.completions.create(model="gpt-4.1-mini", messages=ASK)
        list(client.chat.completions.create(model="gpt-4.1-mini", messages=ASK[:1] * 2, stream=True))


def azure_openai(url: str) -> Any:
    import openai

    for identity in ({"api_key": "simulated"}, {"azure_ad_token_provider": lambda: "simulated"}):
        with openai.AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", **identity) as client:
            client.chat.completions.create(model="my-deployment", messages=ASK)


def anthropic_messages(url: str) -> Any:
    import anthropic

    with anthropic.Anthropic(base_url=url, api_key="simulated") as client:
        client.messages.create(model="claude-sonnet-5", max_tokens=50, messages=ASK)
        with client.messages.stream(model="claude-sonnet-5", max_tokens=51, messages=ASK) as stream:
            stream.get_final_message()


def langchain_openai(url: str) -> Any:
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(
        model="gpt-4.1-mini", base_url=f"{url}/v1", api_key="simulated"
    )
    chat.invoke("one")
    list(chat.stream("two"))
    chat.batch(["three", "four"])


def langchain_anthropic(url: str) -> Any:
    chat = pytest.importorskip("langchain_anthropic").ChatAnthropic(
        model="claude-sonnet-5", base_url=url, api_key="simulated"
    )
    chat.invoke("one")
    list(chat.stream("two"))


def google_genai(url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    options = genai.types.HttpOptions(base_url=url)
    client = genai.Client(api_key="simulated", http_options=options)
    client.models.generate_content(model="gemini-2.5-flash", contents="one")
    list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="two"))
    client.close()


def mistralai(url: str) -> Any:
    client = pytest.importorskip("mistralai.client").Mistral(api_key="simulated", server_url=url)
    client.chat.complete(model="mistral-small-latest", messages=ASK)
    list(client.chat.stream(model="mistral-small-latest", messages=ASK * 2))


def cohere(url: str) -> Any:
    client = pytest.importorskip("cohere").ClientV2(api_key="simulated", base_url=url)
    client.chat(model="command-a-03-2025", messages=ASK)


def ollama(url: str) -> Any:
    client = pytest.importorskip("ollama").Client(host=url)
    client.chat(model="llama3.2", messages=ASK)
    list(client.chat(model="llama3.2", messages=ASK, stream=True))


def bedrock(url: str) -> Any:
    client = pytest.importorskip("boto3").client("bedrock-runtime", region_name="us-east-1", endpoint_url=url)
    asked = {
        "modelId": "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    }
    client.converse(**asked)
    list(client.converse_stream(**asked)["stream"])
    client.close()


def azure_inference(url: str) -> Any:
    inference = pytest.importorskip("azure.ai.inference")
    credentials = pytest.importorskip("azure.core.credentials")
    with inference.ChatCompletionsClient(f"{url}/models", credentials.AzureKeyCredential("simulated")) as client:
        client.complete(messages=ASK, model="gpt-4.1-mini")


def plain_requests(url: str) -> Any:
    requests = pytest.importorskip("requests")
    body = {"model": "gpt-4.1-mini", "messages": ASK}
    assert requests.post(f"{url}/v1/chat/completions", json=body, timeout=10).ok


SDKS = [
    openai_chat,
    azure_openai,
    anthropic_messages,
    langchain_openai,
    langchain_anthropic,
    google_genai,
    mistralai,
    cohere,
    ollama,
    bedrock,
    azure_inference,
    plain_requests,
]


@pytest.mark.filterwarnings("default")  # what other packages deprecate is not ours to fail on
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.__name__)
def test_the_second_run_is_all_hits(isolated, server, monkeypatch, sdk):
    """Nothing is asked twice, nothing bypasses the cache, and nothing of ours goes wrong."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "simulated")
    with llm_cache() as first:
        sdk(server.url)
    asked = server.count
    assert asked == first.misses > 0
    with llm_cache() as second:
        sdk(server.url)
    assert server.count == asked
    assert (second.hits, second.misses, second.bypassed) == (len(first.calls), 0, 0)
    assert first.troubles == second.troubles == ()


@pytest.mark.filterwarnings("default")  # as above
def test_one_request_is_one_entry_whoever_sends_it(isolated, server):
    """OpenAI sync, async, streamed, and a plain client that sends the same body share one answer."""
    import openai

    requests = pytest.importorskip("requests")
    asked = {"model": "gpt-4.1-mini", "messages": ASK}

    async def ask_async() -> str:
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="simulated") as client:
            answer = await client.chat.completions.create(**asked)
        return answer.choices[0].message.content

    with llm_cache() as cell, openai.OpenAI(base_url=server.openai_url, api_key="simulated") as client:
        whole = client.chat.completions.create(**asked).choices[0].message.content
        events = client.chat.completions.create(**asked, stream=True)
        streamed = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        later = asyncio.run(ask_async())
        plain = requests.post(f"{server.openai_url}/chat/completions", json=asked, timeout=10).json()
    assert whole == streamed == later == plain["choices"][0]["message"]["content"]
    assert (cell.hits, cell.misses, server.count) == (3, 1, 1)
