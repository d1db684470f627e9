"""The interceptor's contract over boto3's Bedrock: ``converse`` and ``invoke_model``, whole and streamed."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract, ThreadedEvents, in_thread
from genai_cache_magic.testing.model_server import Fault

boto3 = pytest.importorskip("boto3", reason="pip install boto3")
botocore_endpoint = pytest.importorskip("botocore.endpoint", reason="pip install boto3")
botocore_config = pytest.importorskip("botocore.config", reason="pip install boto3")
botocore_exceptions = pytest.importorskip("botocore.exceptions", reason="pip install boto3")

PATCHED = tuple((botocore_endpoint.Endpoint, name) for name in ("make_request", "create_request", "_send"))
MODEL = "anthropic.claude-sonnet-5-v1:0"


def runtime(server, *, attempts=1, key="test"):
    """A client of Bedrock that asks the simulated server."""
    session = boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=key)
    config = botocore_config.Config(retries={"total_max_attempts": attempts, "mode": "standard"})
    return session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, config=config)


def conversation(prompt):
    return {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": prompt}]}]}


class Runtime:
    """What both ways to ask share."""

    def __init__(self, server):
        self._client = runtime(server)

    async def list_models(self):
        try:
            return await in_thread(self._client.list_async_invokes)
        except botocore_exceptions.ClientError as exc:
            return str(exc)

    async def aclose(self):
        self._client.close()


class Converse(Runtime):
    """``converse`` and ``converse_stream``, driven in threads."""

    async def ask(self, prompt):
        return await in_thread(self._ask, prompt)

    def _ask(self, prompt):
        answer = self._client.converse(**conversation(prompt))
        answer.pop("ResponseMetadata")
        return answer

    async def open(self, prompt):
        stream = (await in_thread(lambda: self._client.converse_stream(**conversation(prompt))))["stream"]
        return ThreadedEvents(stream, stream.close)


class Invoke(Runtime):
    """``invoke_model`` and ``invoke_model_with_response_stream``, driven in threads."""

    async def ask(self, prompt):
        return await in_thread(self._ask, prompt)

    def _ask(self, prompt):
        return json.loads(self._client.invoke_model(**self._asked(prompt))["body"].read())

    async def open(self, prompt):
        answer = await in_thread(lambda: self._client.invoke_model_with_response_stream(**self._asked(prompt)))
        return ThreadedEvents(answer["body"], answer["body"].close)

    def _asked(self, prompt):
        messages = [{"role": "user", "content": prompt}]
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": messages}
        return {"modelId": MODEL, "body": json.dumps(body)}


class TestConverse(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Converse(server)


class TestInvokeModel(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Invoke(server)


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    """A machine on which no AWS credentials can be found."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_replay_needs_no_credentials(isolated, unique_server, no_credentials):
    """What one person paid for is replayed to another who has no AWS credentials; a miss is `ReplayMiss`."""
    with llm_cache():
        paid = runtime(unique_server).converse(**conversation("a"))
    client = boto3.session.Session().client("bedrock-runtime", region_name="us-east-1", endpoint_url=unique_server.url)
    with pytest.raises(botocore_exceptions.NoCredentialsError):
        client.converse(**conversation("a"))
    with llm_cache(mode="replay") as cell:
        assert client.converse(**conversation("a"))["output"] == paid["output"]
        with pytest.raises(ReplayMiss):
            client.converse(**conversation("b"))
    assert (cell.hits, unique_server.count) == (1, 1)


def test_attempts_are_one_call(isolated, unique_server, monkeypatch):
    """An attempt that failed is part of the call that succeeded: one miss, and then a hit."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    client = runtime(unique_server, attempts=2)
    unique_server.fail_next(Fault.SERVER_ERROR)
    with llm_cache() as cell:
        first = client.converse(**conversation("a"))
        second = client.converse(**conversation("a"))
    assert first["output"] == second["output"]
    assert first["ResponseMetadata"]["RetryAttempts"] == 1
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert unique_server.count == 2


def test_hit_is_told_by_its_headers(isolated, unique_server):
    """The metadata of a hit have a status, the answer's headers, and the mark of the cache."""
    client = runtime(unique_server)
    with llm_cache():
        client.converse(**conversation("a"))
        told = client.converse(**conversation("a"))["ResponseMetadata"]
    assert (told["HTTPStatusCode"], told["RetryAttempts"]) == (200, 0)
    assert told["HTTPHeaders"]["x-genai-cache"] == "hit"
    assert told["HTTPHeaders"]["x-simulated"] == "1"
