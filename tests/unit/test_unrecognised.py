"""What may ask a model in a way that is not known is said, and in mode replay it is not sent; what is free goes on."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress

import aiohttp
import anthropic
import boto3
import httpx
import httpx2
import openai
import pytest
import requests
import urllib3
from botocore.exceptions import ClientError
from unit.model_calls import NOWHERE, call

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.providers.base import OriginRule, Origins
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.providers.unrecognised import described, is_unrecognised
from genai_cache_magic.testing import model_server
from genai_cache_magic.testing.simulated.routing import answer_aside

SDK = {"x-stainless-lang": "python", "user-agent": "OpenAI/Python 3.54.0"}
BODY = {"anything": 1}


def unknown(path, host="api.openai.com", *, method="POST", headers=None, body=BODY, origins=NOWHERE):
    asked = call(path, body, host, headers or {}, method=method)
    return recognise(asked, origins) is None and is_unrecognised(asked, origins)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/v1/batches", "api.openai.com"),
        ("/v1/responses/compact", "api.openai.com"),
        ("/v1/fine_tuning/jobs", "api.openai.com"),
        ("/v1/threads/thread_1/runs", "api.openai.com"),
        ("/v1/vector_stores/vs_1/files", "api.openai.com"),
        ("/v1/chat/completions", "api.openai.com"),
        ("/v1/messages/batches", "api.anthropic.com"),
        ("/v1/complete", "api.anthropic.com"),
        ("/v1beta/models/gemini-3:batchGenerateContent", "generativelanguage.googleapis.com"),
        ("/v1beta/models/veo-4:predictLongRunning", "generativelanguage.googleapis.com"),
        (
            "/v1beta1/projects/p/locations/l/publishers/google/models/veo:predictLongRunning",
            "aiplatform.googleapis.com",
        ),
        ("/v1/batch/jobs", "api.mistral.ai"),
        ("/v1/moderations", "api.mistral.ai"),
        ("/v1/embed-jobs", "api.cohere.com"),
        ("/async-invoke", "bedrock-runtime.eu-central-1.amazonaws.com"),
        ("/agents/a/agentAliases/b/sessions/c/text", "bedrock-agent-runtime.us-east-1.amazonaws.com"),
        ("/openai/threads/t_1/runs", "east.openai.azure.com"),
        ("/client/v4/accounts/a/ai/run/@cf/meta/llama", "api.cloudflare.com"),
        ("/serving-endpoints/mine/invocations", "x.cloud.databricks.com"),
        ("/v1/predictions", "api.replicate.com"),
        ("/v1/text-to-speech/voice", "api.elevenlabs.io"),
        ("/", "abc.us-east-1.aws.endpoints.huggingface.cloud"),
        ("/api/v1/services/aigc/text-generation/generation", "dashscope.aliyuncs.com"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_what_goes_to_a_host_of_models_counts(path, host, method):
    """Whatever may ask something of a model there, and is no wire API that we know."""
    assert unknown(path, host, method=method)


@pytest.mark.parametrize(
    "headers",
    [
        SDK,
        {"user-agent": "AsyncOpenAI/Python 3.1"},
        {"anthropic-version": "2023-06-01"},
        {"x-goog-api-client": "google-genai-sdk/3.4.0 gl-python/3.11"},
        {"user-agent": "mistral-client-python/3.7.0"},
        {"user-agent": "ollama-python/0.6.3"},
        {"user-agent": "cohere/7.3.1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("host", ["gateway.example.com", "localhost", "10.0.0.7"])
def test_what_a_models_sdk_sends_counts(headers, host):
    """Wherever it goes."""
    assert unknown("/v1/something/new", host, headers=headers)
    assert not unknown("/v1/something/new", host)


def test_a_configured_origin_is_a_host_of_models():
    """What the configuration calls an origin of models is one."""
    assert unknown("/llm/v1/batches", "x.example.com", origins=Origins({"https://x.example.com/llm": OriginRule()}, ""))
    assert not unknown("/app", "x.example.com", origins=Origins({"https://x.example.com/llm": OriginRule()}, ""))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "hello"}),
        ("/generate_stream", {"inputs": "hello", "parameters": {}}),
        ("/", {"inputs": "hello", "stream": False}),
        ("/completion", {"prompt": "hello"}),
        ("/generate", {"text": "hello", "sampling_params": {}}),
        ("/embed", {"inputs": ["a"]}),
        ("/v2/models/m/generate", {"prompt": "hello"}),
        ("/v1/score", {"text_1": "a", "text_2": "b"}),
    ],
)
def test_model_servers_nearby_count_by_path_and_body(path, body):
    """On this machine and its network, where anything may answer; elsewhere the same is somebody's own affair."""
    assert unknown(path, "localhost", body=body)
    assert unknown(path, "gpu.internal", body=body)
    assert not unknown(path, "www.example.com", body=body)
    assert not unknown(path, "localhost", body={"name": "x"})
    assert not unknown(path, "localhost", body=b"not json")


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/v1/messages/count_tokens", "api.anthropic.com"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", "aiplatform.googleapis.com"),
        ("/v1beta/models/gemini-3:countTokens", "generativelanguage.googleapis.com"),
        ("/v1/responses/input_tokens", "api.openai.com"),
        ("/model/m/count-tokens", "bedrock-runtime.us-east-1.amazonaws.com"),
        ("/v1/tokenize", "api.cohere.com"),
        ("/v1/moderations", "api.openai.com"),
        ("/v1/files", "api.openai.com"),
        ("/openai/v1/files", "east.openai.azure.com"),
        ("/upload/v1beta/files", "generativelanguage.googleapis.com"),
        ("/v1/uploads/upload_1/parts", "api.openai.com"),
        ("/v1/responses/r_1/cancel", "api.openai.com"),
        ("/v1/batches/b_1/cancel", "api.openai.com"),
        ("/v1beta/batches/b:cancel", "generativelanguage.googleapis.com"),
        ("/v1/traces/ingest", "api.openai.com"),
        ("/v1/organization/users", "api.openai.com"),
        ("/api/show", "ollama.com"),
        ("/client/v4/zones/z/dns_records", "api.cloudflare.com"),
        ("/api/2.0/mlflow/runs/log-metric", "x.cloud.databricks.com"),
        ("/v1/projects/p/locations/l/customJobs", "us-central1-aiplatform.googleapis.com"),
    ],
)
def test_what_is_free_or_another_matter_goes_on(path, host):
    """What by its documentation costs nothing and asks nothing of a model, or is no affair of models at all."""
    assert not unknown(path, host, headers={} if "cloudflare" in host else None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_fetching_and_deleting_asks_nothing(method):
    """Listings, downloads, and what takes away."""
    assert not unknown("/v1/batches", method=method, headers=SDK)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-goog-api-client": "gl-python/3.11 gccl/3.0"},
        {"x-stainless-lang": "python", "user-agent": "AsyncCloudflare/Python 5.0"},
        {"user-agent": "Boto3/1.40"},
        {"user-agent": "python-requests/2.34"},
    ],
    ids=str,
)
def test_other_sdks_are_none_of_models(headers):
    """Those of BigQuery, S3 and Cloudflare look alike, and go on."""
    assert not unknown("/v1/batches", "service.example.com", headers=headers)


def test_words_hold_no_ids():
    """Two runs of one notebook say the same: ids of threads and names of projects are left out, models are not."""
    asked = call("/v1/projects/mine/threads/thread_a8f3bb/models/gemini-2.5-flash:batchGenerateContent", BODY)
    assert described(asked) == "POST /v1/projects/…/threads/…/models/gemini-2.5-flash:batchGenerateContent"


# --- in a cell


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


@pytest.fixture
def heard(monkeypatch):
    """Paths that the simulated server was asked beside model calls."""
    paths = []

    def answer(method, target, *others):
        paths.append(target)
        return answer_aside(method, target, *others)

    def answer_about_batches(batches, request):
        if (reply := batches_answer(batches, request)) is not None:
            paths.append(request.target)
        return reply

    batches_answer = model_server.Batches.answer
    monkeypatch.setattr(model_server, "answer_aside", answer)
    monkeypatch.setattr(model_server.Batches, "answer", answer_about_batches)
    return paths


@pytest.fixture
def asks(unique_server):
    """Ways to send what is not recognised: SDKs and bare clients."""
    url = unique_server.openai_url
    model = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
    body = {"data": json.dumps(BODY), "headers": {**SDK, "content-type": "application/json"}}
    yield {
        "batches": lambda: model.batches.create(
            completion_window="24h", endpoint="/v1/responses", input_file_id="file-1"
        ),
        "compact": lambda: model.responses.compact(model="m"),
        "httpx": lambda: httpx.post(f"{url}/new", json=BODY, headers=SDK),
        "httpx2": lambda: httpx2.post(f"{url}/new", json=BODY, headers=SDK),
        "requests": lambda: requests.post(f"{url}/new", timeout=30, **body),
        "aiohttp": lambda: asyncio.run(by_aiohttp(f"{url}/new")),
        "boto3": lambda: by_boto3(unique_server.url),
        "tgi": lambda: httpx.post(f"{unique_server.url}/generate", json={"inputs": "hello"}),
    }
    model.close()


async def by_aiohttp(url, path="", body=BODY, connector=None):
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url + path, json=body, headers=SDK) as answer,
    ):
        return await answer.read()


def by_boto3(url):
    session = boto3.session.Session(aws_access_key_id="k", aws_secret_access_key="k")
    client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url)
    output = {"s3OutputDataConfig": {"s3Uri": "s3://bucket/"}}
    with suppress(ClientError):
        client.start_async_invoke(modelId="m", modelInput={"a": 1}, outputDataConfig=output)


def said(cell):
    return as_text(summarise(cell))


WAYS = ("batches", "compact", "httpx", "httpx2", "requests", "aiohttp", "boto3", "tgi")


@pytest.mark.parametrize("way", WAYS)
def test_in_replay_it_is_not_sent(heard, asks, way):
    """The error names method, path and host, and the server hears of nothing."""
    with llm_cache(mode="replay") as cell, pytest.raises(ReplayMiss, match=r"POST /\S* to 127\.0\.0\.1"):
        asks[way]()
    assert heard == []
    assert [(call.outcome, call.spent_usd) for call in cell.calls] == [(Outcome.UNRECOGNISED, 0)]
    assert "1 request to 127.0.0.1 was not recognised" in said(cell)
    assert "no model calls" not in said(cell)


@pytest.mark.parametrize("mode", ["use", "read", "refresh", "off"])
@pytest.mark.parametrize("way", WAYS)
def test_in_every_other_mode_it_is_said(heard, asks, way, mode):
    """It is sent as ever, recorded, and its price is unknown; the badge never says that there were no model calls."""
    with llm_cache(mode=mode) as cell, suppress(openai.NotFoundError, openai.BadRequestError):
        asks[way]()
    assert len(heard) == 1
    (record,) = cell.calls
    assert (record.outcome, record.provider) == (Outcome.UNRECOGNISED, "127.0.0.1")
    assert (cell.unrecognised, cell.spent_usd) == (1, None)
    assert "1 not recognised" in repr(cell)
    assert "1 request to 127.0.0.1 was not recognised" in said(cell)
    assert "no model calls" not in said(cell)
    assert "spent unknown" in said(cell)


class OwnConnector(aiohttp.TCPConnector):
    """Connects in a way of its own, so that no stored answer can take its place."""

    async def connect(self, *args, **options):
        return await super().connect(*args, **options)


async def test_what_can_not_be_owned_is_said(unique_server, heard):
    """A model call through a connector that we can't answer for is a bypass with its reason, and no replay."""
    url, body = unique_server.openai_url, {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with llm_cache() as cell:
        await by_aiohttp(url, "/chat/completions", body, OwnConnector())
        await by_aiohttp(url, "/new", BODY, OwnConnector())
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS, Outcome.UNRECOGNISED]
    assert "connector" in cell.calls[0].reason
    with llm_cache(mode="replay") as cell, pytest.raises(ReplayMiss, match="connector"):
        await by_aiohttp(url, "/chat/completions", body, OwnConnector())
    assert [(call.outcome, call.spent_usd) for call in cell.calls] == [(Outcome.ERROR, 0)]
    assert "connector" in cell.calls[0].reason
    assert (unique_server.count, len(heard)) == (1, 1)


def by_urllib(url, body, headers):
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=30).close()


def by_http_client(url, body, headers):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("POST", parts.path, json.dumps(body), headers)
    connection.getresponse().read()
    connection.close()


def by_urllib3(url, body, headers):
    with urllib3.PoolManager() as pool:
        pool.request("POST", url, json=body, headers=headers)


CHAT_BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize("client", [by_urllib, by_http_client, by_urllib3])
def test_clients_that_can_not_be_answered_for_are_said(unique_server, heard, client):
    """A model call by the standard library, or by urllib3 used bare, is a bypass with its reason, and no replay."""
    url, headers = unique_server.openai_url, {**SDK, "content-type": "application/json"}
    with llm_cache() as cell:
        client(f"{url}/chat/completions", CHAT_BODY, headers)
        client(f"{url}/new", BODY, headers)
        client(f"{unique_server.url}/elsewhere", BODY, {"content-type": "application/json"})
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS, Outcome.UNRECOGNISED]
    assert "can't be answered for" in cell.calls[0].reason
    assert cell.troubles == ()
    for path, body in (("chat/completions", CHAT_BODY), ("new", BODY)):
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            client(f"{url}/{path}", body, headers)
    assert (unique_server.count, len(heard)) == (1, 2)


def test_what_stands_on_them_is_said_once(unique_server):
    """`requests` and boto3 are served as ever, and what they send is judged once."""
    with llm_cache() as cell:
        for _ in range(2):
            requests.post(f"{unique_server.openai_url}/chat/completions", json=CHAT_BODY, timeout=30)
        requests.post(f"{unique_server.openai_url}/new", json=BODY, headers=SDK, timeout=30)
        by_boto3(unique_server.url)
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit", "unrecognised", "unrecognised"]


def test_what_is_free_goes_on_in_replay(unique_server, heard):
    """Counting tokens is answered by the server, and leaves no trace in the record."""
    with (
        anthropic.Anthropic(base_url=unique_server.url, api_key="k") as claude,
        llm_cache(mode="replay") as cell,
    ):
        assert claude.messages.count_tokens(model="c", messages=[{"role": "user", "content": "x"}]).input_tokens
    assert cell.calls == ()
    assert len(heard) == 1
