"""Batches of texts that are partly known, as they go over the wire: only the rest, signed, compressed, spelled so."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from typing import Any

import pytest
from embeddings import FIRST, REST, SECOND

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.simulated.openai_embeddings import vector_of
from genai_cache_magic.testing.simulated.replying import Reply

AWS = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated", "region_name": "us-east-1"}


def requests_told(session: Any, url: str, texts: list[str], **options: Any) -> Any:
    asked = {"model": "text-embedding-3-small", "input": texts, "dimensions": 16}
    answer = session.post(f"{url}/v1/embeddings", json=asked, **options)
    return {**answer.json(), "usage": None}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_requests_by_itself(isolated, server, is_streamed):
    """`requests` gives the whole answer, whether its caller reads it as a stream or not."""
    import requests

    with requests.Session() as session:
        undivided = requests_told(session, server.url, SECOND)
        server.reset()
        with llm_cache():
            requests_told(session, server.url, FIRST)
            assert requests_told(session, server.url, SECOND, stream=is_streamed) == undivided
    assert [json.loads(request.body)["input"] for request in server.requests] == [FIRST, REST]


def bedrock_reply(request: Any) -> Reply:
    """Cohere's embeddings as Amazon Bedrock serves them, in two types."""
    texts = json.loads(request.body)["texts"]
    vectors = [vector_of("", text, 16) for text in texts]
    bits = [[round(100 * number) for number in vector] for vector in vectors]
    answer = {"id": "1", "texts": texts, "embeddings": {"float": vectors, "int8": bits}}
    body = json.dumps({**answer, "response_type": "embeddings_by_type"}).encode()
    return Reply(headers=(("content-type", "application/json"), ("x-amzn-bedrock-input-token-count", "8")), body=body)


def bedrock_body(texts: list[str]) -> str:
    wanted = {"input_type": "search_document", "embedding_types": ["float", "int8"]}
    return json.dumps({"texts": texts, **wanted})


BEDROCK = {"modelId": "cohere.embed-v4:0"}


def test_bedrock_signs_the_part_that_it_sends(isolated, server, monkeypatch):
    """A part is put in the place of the whole before anything is signed, so the signature is that of what is sent."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    monkeypatch.setattr(server, "respond", lambda request: received.append(request) or bedrock_reply(request))
    received: list[Any] = []
    client = boto3.client("bedrock-runtime", endpoint_url=server.url, **AWS)

    def told(texts: list[str]) -> Any:
        return json.loads(client.invoke_model(**BEDROCK, body=bedrock_body(texts))["body"].read())

    undivided = told(SECOND)
    received.clear()
    with llm_cache() as cell:
        told(FIRST)
        assert [told(SECOND), told(SECOND)] == [undivided] * 2
    assert [json.loads(request.body)["texts"] for request in received] == [FIRST, REST]
    assert all("AWS4-HMAC-SHA256" in request.headers["authorization"] for request in received)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]
    client.close()


def test_bedrock_by_an_asynchronous_client(isolated, server, monkeypatch):
    """The same by `aiobotocore`."""
    session = pytest.importorskip("aiobotocore.session", reason="pip install aiobotocore")
    received: list[Any] = []
    monkeypatch.setattr(server, "respond", lambda request: received.append(request) or bedrock_reply(request))

    async def run() -> None:
        async with session.get_session().create_client("bedrock-runtime", endpoint_url=server.url, **AWS) as client:

            async def told(texts: list[str]) -> Any:
                answer = await client.invoke_model(**BEDROCK, body=bedrock_body(texts))
                return json.loads(await answer["body"].read())

            undivided = await told(SECOND)
            received.clear()
            with llm_cache():
                await told(FIRST)
                assert [await told(SECOND), await told(SECOND)] == [undivided] * 2

    asyncio.run(run())
    assert [json.loads(request.body)["texts"] for request in received] == [FIRST, REST]


@pytest.mark.parametrize(
    "sealed",
    [
        {"content-digest": "sha-256=:x:"},
        {"authorization": "AWS4-HMAC-SHA256 x"},
        {"x-gateway-signature": "x"},
        {"x-body-sha256": "x"},
        {"idempotency-key": "x"},
    ],
)
def test_a_body_that_is_vouched_for_is_sent_as_it_is(isolated, server, sealed):
    """Where a header covers the body's bytes, or names them, a batch goes whole or not at all; its texts are known."""
    import httpx

    def told(texts: list[str], headers: dict[str, str]) -> Any:
        asked = {"model": "text-embedding-3-small", "input": texts}
        return client.post(f"{server.openai_url}/embeddings", json=asked, headers=headers).json()["data"]

    with httpx.Client() as client, llm_cache():
        told(FIRST, {})
        told(SECOND, sealed)
        told(["two", "five"], sealed)
    assert [json.loads(request.body)["input"] for request in server.requests] == [FIRST, SECOND]


def test_base64_comes_back_as_it_was(isolated, server):
    """A vector in base64 is the very text that its origin sent."""
    import httpx

    def told(texts: list[str]) -> Any:
        asked = {"model": "text-embedding-3-small", "input": texts, "encoding_format": "base64"}
        return client.post(f"{server.openai_url}/embeddings", json=asked).json()["data"]

    with httpx.Client() as client:
        undivided = told(SECOND)
        with llm_cache():
            told(FIRST)
            assert told(SECOND) == undivided
    assert len(base64.b64decode(undivided[0]["embedding"])) == 4 * 1536


def predict_body(texts: list[str]) -> dict[str, Any]:
    instances = [{"content": text, "task_type": "RETRIEVAL_DOCUMENT"} for text in texts]
    return {"instances": instances, "parameters": {"outputDimensionality": 8}}


def gemini_body(texts: list[str]) -> dict[str, Any]:
    return {"requests": [{"content": {"parts": [{"text": text}]}, "outputDimensionality": 8} for text in texts]}


WIRES = {
    "openai": ("/v1/embeddings", lambda texts: {"model": "m", "input": texts, "dimensions": 8}),
    "azure": ("/openai/deployments/d/embeddings?api-version=2024-10-21", lambda texts: {"input": texts}),
    "tokens": ("/v1/embeddings", lambda texts: {"model": "m", "input": [list(text.encode()) for text in texts]}),
    "cohere, types": (
        "/v2/embed",
        lambda texts: {
            "model": "m",
            "texts": texts,
            "input_type": "search_query",
            "embedding_types": ["float", "int8", "ubinary"],
        },
    ),
    "cohere, objects": (
        "/v2/embed",
        lambda texts: {
            "model": "m",
            "inputs": [{"content": [{"type": "text", "text": text}]} for text in texts],
            "input_type": "search_query",
            "embedding_types": ["float"],
        },
    ),
    "gemini": ("/v1beta/models/m:batchEmbedContents", gemini_body),
    "vertex": ("/v1/projects/p/locations/l/publishers/google/models/m:predict", predict_body),
    "ollama": ("/api/embed", lambda texts: {"model": "m", "input": texts, "keep_alive": 1}),
}
COUNTS = ("usage", "meta", "id", "prompt_eval_count", "usageMetadata")


@pytest.mark.parametrize("name", WIRES)
def test_every_wire_api(isolated, server, name):
    """By hand, over every wire API: the texts that are not known go out, and what comes is as if all had gone."""
    import httpx

    path, body_of = WIRES[name]

    def told(texts: list[str]) -> Any:
        headers = {"user-agent": "OpenAI/Python"}
        answer = client.post(f"{server.url}{path}", json=body_of(texts), headers=headers).json()
        return {member: value for member, value in answer.items() if member not in COUNTS}

    with httpx.Client() as client:
        undivided = [told(texts) for texts in (FIRST, SECOND, FIRST[:1])]
        server.reset()
        with llm_cache() as cell:
            assert [told(texts) for texts in (FIRST, SECOND, FIRST[:1])] == undivided
    assert [json.loads(request.body) for request in server.requests] == [body_of(FIRST), body_of(REST)]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]


def test_a_compressed_answer_is_unpacked_once(isolated, server, monkeypatch):
    """What came compressed is given as it was unpacked, and no header says otherwise."""
    import gzip

    import httpx

    answered = server.respond

    def respond(request: Any) -> Reply:
        reply = answered(request)
        headers = (*reply.headers, ("content-encoding", "gzip"))
        return dataclasses.replace(reply, body=gzip.compress(reply.body), headers=headers)

    monkeypatch.setattr(server, "respond", respond)
    asked = {"model": "text-embedding-3-small", "dimensions": 8}
    with httpx.Client() as client:
        undivided = client.post(f"{server.openai_url}/embeddings", json={**asked, "input": SECOND}).json()["data"]
        with llm_cache():
            client.post(f"{server.openai_url}/embeddings", json={**asked, "input": FIRST})
            answer = client.post(f"{server.openai_url}/embeddings", json={**asked, "input": SECOND})
    assert answer.json()["data"] == undivided
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.content))
