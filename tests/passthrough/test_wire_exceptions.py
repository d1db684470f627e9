"""Whatever is raised below a client arrives at its caller as the object that it is without us; nothing is stored."""

from __future__ import annotations

import contextlib

import pytest

from genai_cache_magic import llm_cache

ASKED = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
URL = "http://127.0.0.1:9/v1/chat/completions"
SAID = {"modelId": "anthropic.claude-v1:0", "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}


class Stop(BaseException):
    """What no library knows, and none may catch."""


class OwnError(Exception):
    """An exception of the caller's own, from a hook or a transport."""


async def by_requests():
    requests = pytest.importorskip("requests", reason="pip install requests")
    with requests.Session() as session:
        session.post(URL, json=ASKED, timeout=1)


async def by_aiohttp():
    aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
    async with aiohttp.ClientSession() as session, session.post(URL, json=ASKED):
        pass


async def by_botocore():
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    client = boto3.session.Session(**KEYS).client("bedrock-runtime", endpoint_url="http://127.0.0.1:9")
    with contextlib.closing(client):
        client.converse(**SAID)


async def by_aiobotocore():
    session = pytest.importorskip("aiobotocore.session", reason="pip install aiobotocore").AioSession()
    async with session.create_client("bedrock-runtime", endpoint_url="http://127.0.0.1:9", **KEYS) as client:
        await client.converse(**SAID)


async def by_httpx(name):
    module = pytest.importorskip(name, reason=f"pip install {name}")
    with module.Client() as client:
        client.post(URL, json=ASKED)


# Who asks, and where the network begins below that client.
CLIENTS = {
    "requests": (by_requests, "urllib3.connectionpool.HTTPConnectionPool.urlopen", False),
    "aiohttp": (by_aiohttp, "aiohttp.connector.BaseConnector._get", True),
    "botocore": (by_botocore, "botocore.httpsession.URLLib3Session.send", False),
    "aiobotocore": (by_aiobotocore, "aiobotocore.httpsession.AIOHTTPSession.send", True),
    "httpx": (lambda: by_httpx("httpx"), "httpx.HTTPTransport.handle_request", False),
    "httpx2": (lambda: by_httpx("httpx2"), "httpx2.HTTPTransport.handle_request", False),
}


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("kind", [Stop, OwnError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", CLIENTS)
async def test_arrives_as_itself(name, kind, monkeypatch):
    """The same object, with the same cause and context as without a scope; the cell says that the call failed."""
    ask, place, is_async = CLIENTS[name]
    pytest.importorskip(place.partition(".")[0], reason=f"pip install {name}")

    def fail(*_, **__):
        raise monkeypatch.error

    async def fail_async(*_, **__):
        raise monkeypatch.error

    monkeypatch.setattr(place, fail_async if is_async else fail)
    seen = []
    with llm_cache():
        pass  # so that the patches are in place for both
    for scope in (contextlib.nullcontext(), llm_cache()):
        monkeypatch.error = kind("from below")
        with scope as cell:
            try:
                await ask()
            except BaseException as exc:  # noqa: BLE001 - what arrives is what is tested
                seen.append((exc is monkeypatch.error, type(exc), type(exc.__cause__), type(exc.__context__)))
    assert seen[0] == seen[1]
    assert seen[1][:2] == (True, kind)
    assert [(call.outcome, call.stored) for call in cell.calls] == [("error", False)]
