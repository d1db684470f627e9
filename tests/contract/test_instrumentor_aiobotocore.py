"""The interceptor's contract over aiobotocore's Bedrock, and that its entries are those of boto3."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract
from genai_cache_magic.testing.model_server import Fault

aiobotocore_session = pytest.importorskip("aiobotocore.session", reason="pip install aiobotocore")
aiobotocore_endpoint = pytest.importorskip("aiobotocore.endpoint", reason="pip install aiobotocore")
aiobotocore_config = pytest.importorskip("aiobotocore.config", reason="pip install aiobotocore")
botocore_exceptions = pytest.importorskip("botocore.exceptions", reason="pip install aiobotocore")

PATCHED = tuple((aiobotocore_endpoint.AioEndpoint, name) for name in ("_send_request", "create_request", "_send"))
MODEL = "anthropic.claude-sonnet-5-v1:0"
ASKED = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [{"role": "user", "content": "a"}]}


def opening(server, *, attempts=1, **options):
    """What opens a client of Bedrock that asks the simulated server."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = aiobotocore_config.AioConfig(retries={"total_max_attempts": attempts, "mode": "standard"}, **options)
    return aiobotocore_session.AioSession().create_client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, config=config, **keys
    )


def conversation(prompt):
    return {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": prompt}]}]}


def invocation(prompt):
    messages = [{"role": "user", "content": prompt}]
    return {"modelId": MODEL, "body": json.dumps({**ASKED, "messages": messages})}


class Events:
    """An open event stream."""

    def __init__(self, stream):
        self._stream = stream
        self._events = aiter(stream)

    def __aiter__(self):
        return self._events

    async def aclose(self):
        self._stream.close()


class Runtime:
    """What both ways to ask share."""

    def __init__(self, server):
        self._server = server
        self._opened = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client = None

    async def client(self):
        async with self._opening:
            self._client = self._client or await self._opened.enter_async_context(opening(self._server))
        return self._client

    async def list_models(self):
        try:
            return await (await self.client()).list_async_invokes()
        except botocore_exceptions.ClientError as exc:
            return str(exc)

    async def aclose(self):
        await self._opened.aclose()


class Converse(Runtime):
    """``converse`` and ``converse_stream``."""

    async def ask(self, prompt):
        answer = await (await self.client()).converse(**conversation(prompt))
        answer.pop("ResponseMetadata")
        return answer

    async def open(self, prompt):
        return Events((await (await self.client()).converse_stream(**conversation(prompt)))["stream"])


class Invoke(Runtime):
    """``invoke_model`` and ``invoke_model_with_response_stream``."""

    async def ask(self, prompt):
        answer = await (await self.client()).invoke_model(**invocation(prompt))
        async with answer["body"] as body:
            return json.loads(await body.read())

    async def open(self, prompt):
        return Events((await (await self.client()).invoke_model_with_response_stream(**invocation(prompt)))["body"])


class TestConverseAsync(InstrumentorContract):
    patched = PATCHED

    def make_driver(self, server):
        return Converse(server)


class TestInvokeModelAsync(InstrumentorContract):
    patched = PATCHED

    def make_driver(self, server):
        return Invoke(server)


async def test_replay_needs_no_credentials(isolated, unique_server, monkeypatch, tmp_path):
    """What one person paid for is replayed, whole and streamed, to another without credentials."""
    async with opening(unique_server) as client:
        with llm_cache():
            paid = await client.converse(**conversation("a"))
            events = [event async for event in (await client.converse_stream(**conversation("a")))["stream"]]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = aiobotocore_session.AioSession()
    bare = session.create_client("bedrock-runtime", region_name="us-east-1", endpoint_url=unique_server.url)
    async with bare as client:
        with pytest.raises(botocore_exceptions.NoCredentialsError):
            await client.converse(**conversation("a"))
        with llm_cache(mode="replay") as cell:
            assert (await client.converse(**conversation("a")))["output"] == paid["output"]
            stream = (await client.converse_stream(**conversation("a")))["stream"]
            assert [event async for event in stream] == events
            with pytest.raises(ReplayMiss):
                await client.converse(**conversation("b"))
    assert (cell.hits, unique_server.count) == (2, 2)


async def test_attempts_are_one_call(isolated, unique_server, monkeypatch):
    """An attempt that failed is part of the call that succeeded: one miss, and then a hit."""

    async def at_once(_self, _seconds):
        """Go on without a pause."""

    if hasattr(aiobotocore_endpoint.AioEndpoint, "_sleep"):
        monkeypatch.setattr(aiobotocore_endpoint.AioEndpoint, "_sleep", at_once)
    unique_server.fail_next(Fault.SERVER_ERROR)
    async with opening(unique_server, attempts=2) as client:
        with llm_cache() as cell:
            first = await client.converse(**conversation("a"))
            second = await client.converse(**conversation("a"))
    assert first["output"] == second["output"]
    assert first["ResponseMetadata"]["RetryAttempts"] == 1
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert unique_server.count == 2


async def test_hit_is_told_by_its_headers(isolated, unique_server):
    """The metadata of a hit have a status, the answer's headers, and the mark of the cache."""
    async with opening(unique_server) as client:
        with llm_cache():
            await client.converse(**conversation("a"))
            told = (await client.converse(**conversation("a")))["ResponseMetadata"]
    assert (told["HTTPStatusCode"], told["RetryAttempts"]) == (200, 0)
    assert told["HTTPHeaders"]["x-genai-cache"] == "hit"
    assert told["HTTPHeaders"]["x-simulated"] == "1"


async def test_one_entry_with_boto3(isolated, unique_server):
    """What boto3 asked is answered to aiobotocore, whole and streamed, and the other way round."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    keys = {"aws_access_key_id": "another", "aws_secret_access_key": "another"}
    blocking = boto3.session.Session(**keys).client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=unique_server.url
    )
    async with opening(unique_server) as client:
        with llm_cache() as cell:
            whole = [blocking.converse(**conversation("a")), await client.converse(**conversation("a"))]
            events = [
                [event async for event in (await client.converse_stream(**conversation("a")))["stream"]],
                list(blocking.converse_stream(**conversation("a"))["stream"]),
            ]
            said = [
                blocking.invoke_model(**invocation("a"))["body"].read(),
                await (await client.invoke_model(**invocation("a")))["body"].read(),
            ]
    blocking.close()
    assert whole[0]["output"] == whole[1]["output"]
    assert events[0] == events[1]
    assert said[0] == said[1]
    assert (cell.hits, cell.misses, unique_server.count) == (3, 3, 3)


async def test_layers_count_once(isolated, unique_server):
    """A call that passes aiobotocore and aiohttp is one call of the cell, outside of it and of its handlers."""
    async with opening(unique_server) as client:
        with llm_cache() as cell:
            await asyncio.gather(*(client.converse(**conversation("a")) for _ in range(3)))
            await client.converse(**conversation("b"))
    assert [call.provider for call in cell.calls] == ["aws.converse"] * 4
    assert (cell.hits, cell.misses, unique_server.count) == (2, 2, 2)


async def test_session_on_httpx_is_left_to_httpx(isolated, unique_server):
    """Where the library sends by httpx, the calls are cached there: below signing, but one entry with all others."""
    httpx_session = pytest.importorskip("aiobotocore.httpxsession", reason="pip install 'aiobotocore>=2.25'")
    pytest.importorskip("httpx", reason="pip install httpx")
    async with (
        opening(unique_server) as plain,
        opening(unique_server, http_session_cls=httpx_session.HttpxSession) as client,
    ):
        with llm_cache() as cell:
            first = await plain.converse(**conversation("a"))
            assert (await client.converse(**conversation("a")))["output"] == first["output"]
    assert (cell.hits, cell.misses, unique_server.count) == (1, 1, 1)


async def test_refused_connection_is_as_ever(isolated):
    """Nobody there: the very error that comes without us, and nothing stored."""

    class Nowhere:
        url = "http://127.0.0.1:9"

    async with opening(Nowhere) as client:
        errors = []
        for scope in (contextlib.nullcontext(), llm_cache()):
            with scope as cell, pytest.raises(botocore_exceptions.EndpointConnectionError) as raised:
                await client.converse(**conversation("a"))
            errors.append(str(raised.value))
    assert errors[0] == errors[1]
    assert [call.stored for call in cell.calls] == [False]


async def test_aioboto3(isolated, unique_server):
    """The second call through aioboto3 is a hit, whole and streamed."""
    aioboto3 = pytest.importorskip("aioboto3", reason="needs an environment of its own: pip install 'aioboto3>=15'")
    session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    async with session.client("bedrock-runtime", endpoint_url=unique_server.url) as client:
        with llm_cache() as cell:
            whole = [(await client.converse(**conversation("a")))["output"] for _ in range(2)]
            first, second = [
                [event async for event in (await client.converse_stream(**conversation("a")))["stream"]]
                for _ in range(2)
            ]
    assert whole[0] == whole[1]
    assert first == second
    assert (cell.hits, cell.misses, cell.troubles) == (2, 2, ())
