"""Clients of the simulated model server: plain ones, with a call of each wire API, and the unchanged SDKs."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
STREAM = {**ASK, "stream": True}
CALLS = {
    CHAT: ASK,
    "/v1/responses": {"model": "gpt-4.1", "input": "What is 2 + 2?"},
    "/v1/completions": {"model": "davinci", "prompt": "Two and two are"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "two"},
    "/v1/messages": {"model": "claude", "max_tokens": 64, "messages": [{"role": "user", "content": "What is 2 + 2?"}]},
}
STREAMED = [path for path in CALLS if path != "/v1/embeddings"]


@pytest.fixture(name="client")
def plain_client(server):
    """A client that knows of no API."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(name="gpt")
def openai_client(server):
    """The SDK of OpenAI, which asks once."""
    with openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(name="claude")
def anthropic_client(server):
    """The SDK of Anthropic, which asks once."""
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def events(text):
    """The data of each server-sent event, `[DONE]` included."""
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
