"""Cohere's own client of the first version: every form of chat, and rerank, is answered from the cache next time."""

from __future__ import annotations

import asyncio

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.testing.model_server import Fault

cohere = pytest.importorskip("cohere", reason="pip install cohere")
httpx = pytest.importorskip("httpx", reason="pip install httpx")
pytestmark = [
    pytest.mark.usefixtures("isolated"),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),  # the SDK's own affair
]

ASKED = {"model": "command-r-08-2024", "message": "What is a cache?"}
TOOL = {"name": "find", "description": "Finds.", "parameter_definitions": {"n": {"type": "int", "required": True}}}
RANKED = {"model": "rerank-v3.5", "query": "a cache", "documents": ["a", "b", "c"]}

WAYS = {
    "chat": lambda client: client.chat(**ASKED),
    "chat with tools": lambda client: client.chat(**{**ASKED, "message": "find it"}, tools=[TOOL]),
    "chat stream": lambda client: list(client.chat_stream(**ASKED)),
    "chat stream with tools": lambda client: list(client.chat_stream(**{**ASKED, "message": "find it"}, tools=[TOOL])),
    "rerank": lambda client: client.rerank(**RANKED),
    "rerank v2": lambda client: client.v2.rerank(**RANKED),
}


@pytest.fixture
def client(unique_server):
    with httpx.Client() as http:
        yield cohere.Client(api_key="simulated", base_url=unique_server.url, httpx_client=http)


async def read(stream):
    return [event async for event in stream]


@pytest.mark.parametrize("way", WAYS)
def test_second_call_is_a_hit(client, unique_server, way):
    """The same call gets the same answer, field by field, and the model is asked once."""
    with llm_cache() as cell:
        first, second = WAYS[way](client), WAYS[way](client)
    assert first == second
    assert first
    assert (cell.misses, cell.hits, cell.troubles, unique_server.count) == (1, 1, (), 1)


def test_async_client_shares_the_entries(client, unique_server):
    """What the synchronous client asked is answered to the asynchronous one, whole and streamed."""

    async def ask():
        async with httpx.AsyncClient() as http:
            later = cohere.AsyncClient(api_key="simulated", base_url=unique_server.url, httpx_client=http)
            return await later.chat(**ASKED), await read(later.chat_stream(**ASKED)), await later.rerank(**RANKED)

    with llm_cache() as cell:
        first = (client.chat(**ASKED), list(client.chat_stream(**ASKED)), client.rerank(**RANKED))
        assert asyncio.run(ask()) == first
    assert (cell.misses, cell.hits, unique_server.count) == (3, 3, 3)


def test_what_cohere_remembers_is_not_stored(client, unique_server):
    """A call within a conversation that Cohere keeps goes to Cohere each time, and the cell says why."""
    with llm_cache() as cell:
        for _ in range(2):
            client.chat(**ASKED, conversation_id="mine")
    assert unique_server.count == 2
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, "stateful")] * 2


@pytest.mark.parametrize("fault", [Fault.STREAM_CLEAN_CUT, Fault.ERROR_EVENT, Fault.TRUNCATED, Fault.FILTERED])
def test_bad_stream_is_not_stored(client, unique_server, fault):
    """A stream without its last line, or whose last line tells of trouble, is asked for again."""
    unique_server.fail_next(fault)
    with llm_cache() as cell:
        list(client.chat_stream(**ASKED))
        list(client.chat_stream(**ASKED))
    assert [call.stored for call in cell.calls] == [False, True]
