"""The adapter for LiteLLM, driven by LiteLLM itself against a simulated model."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from matrix.generations import installed

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.errors import ConfigurationError

if installed("litellm") is None:
    pytest.skip("needs, in an environment of its own: make test", allow_module_level=True)

with pytest.MonkeyPatch.context() as patch:
    # Otherwise the import asks the network for a price list.
    patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import aiohttp
        import litellm

from genai_cache_magic.integrations.litellm import TAG, LiteLLMCache

RECORD = {"timestamp": 1.0, "response": '{"id": "x", "choices": [{"finish_reason": "stop"}]}'}


@pytest.fixture
def store(tmp_path):
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key", "namespace": "tests"}
    with create_cache("disk", **settings) as cache:
        yield cache


@pytest.fixture
def installed(store, monkeypatch):
    """The adapter in its place in LiteLLM."""
    for name in ("input_callback", "success_callback", "_async_success_callback"):
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "cache", litellm.Cache())
    litellm.cache.cache = LiteLLMCache(store)
    yield litellm.cache.cache
    gc.collect()


def request(server, text="hello"):
    return {
        "model": "openai/gpt-4.1-mini",
        "messages": [{"role": "user", "content": text}],
        "api_base": server.openai_url,
        "api_key": "sk-test",
    }


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own, of pydantic and of clients that it leaves open
def test_a_call_asks_once(installed, store, unique_server):
    """Two equal calls through LiteLLM are one request and one answer."""
    first = litellm.completion(**request(unique_server))
    second = litellm.completion(**request(unique_server))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert len(store.keys("litellm:*")) == 1
    assert unique_server.count == 1


@pytest.mark.filterwarnings("ignore")  # as above
async def test_an_asynchronous_call_shares_the_entry(installed, store, unique_server):
    """What a synchronous call stored answers an asynchronous one."""
    first = await asyncio.to_thread(litellm.completion, **request(unique_server))
    second = await litellm.acompletion(**request(unique_server))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert unique_server.count == 1


async def test_many_at_once(store):
    """What is set as one batch, as LiteLLM does for embeddings, is there one by one, sync and async."""
    cache = LiteLLMCache(store)
    records = [(str(n), {"timestamp": 1.0, "response": {"embedding": [n / 7]}}) for n in range(3)]
    await cache.async_set_cache_pipeline(records)
    assert [await cache.async_get_cache(key) for key, _ in records] == [record for _, record in records]
    assert cache.get_cache("1") == records[1][1]
    cache.delete_cache("1")
    assert cache.get_cache("1") is None


def test_ttl_and_tags_reach_the_entries(store):
    """Entries carry the tags and the time to live of the adapter, or that of the call where it has one."""
    cache = LiteLLMCache(store, ttl="1h", tags=("demo",))
    cache.set_cache("a", RECORD)
    cache.set_cache("b", RECORD, ttl=60.0)
    told = {item.metadata.key: (item.header.ttl_s, set(item.metadata.tags)) for item in store.catalogue.items()}
    assert told == {"litellm:a": (3600, {TAG, "demo"}), "litellm:b": (60, {TAG, "demo"})}


def test_a_bad_option_is_told_at_once(store):
    """A wrong option is an error at construction."""
    with pytest.raises(ConfigurationError):
        LiteLLMCache(store, ttl="soon")


def test_flush_leaves_the_rest(store):
    """Flushing invalidates LiteLLM's values and nothing else that lies in the namespace."""
    cache = LiteLLMCache(store)
    store.set("mine", 1)
    cache.set_cache("a", RECORD)
    cache.flush_cache()
    assert cache.get_cache("a") is None
    assert store.get("mine") == 1


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os')", 7, {}, {"timestamp": 1.0, "response": "__import__('os')"},
        {"timestamp": "x", "response": {}}, {"timestamp": 1.0, "response": "[" * 100_000},
    ],
    ids=range(6),
)  # fmt: skip
def test_only_records_are_kept_and_served(store, value):
    """A text that is not JSON, which LiteLLM would evaluate as Python, is neither kept nor handed over."""
    cache = LiteLLMCache(store)
    cache.set_cache("a", value)
    assert store.keys() == []
    store.set("litellm:a", value)
    assert cache.get_cache("a") is None


@pytest.mark.parametrize(
    "answer",
    ['{"choices": [{"finish_reason": "length"}]}', {"choices": [{"finish_reason": "content_filter"}]},
     {"status": "incomplete"}],
    ids=range(3),
)  # fmt: skip
def test_what_is_no_whole_answer_is_not_kept(store, answer):
    """Truncated and filtered answers are asked for again."""
    LiteLLMCache(store).set_cache("a", {"timestamp": 1.0, "response": answer})
    assert store.keys() == []


async def test_it_stands_aside_in_a_scope(store, isolated):
    """In a scope the interceptors answer and count: this cache neither serves nor stores."""
    cache = LiteLLMCache(store)
    cache.set_cache("a", RECORD)
    with llm_cache():
        assert cache.get_cache("a") is None
        assert await cache.async_get_cache("a") is None
        await cache.async_set_cache("b", RECORD)
    assert cache.get_cache("a") == RECORD
    assert store.keys() == ["litellm:a"]


async def test_disconnecting_leaves_the_cache_open(store):
    """The cache belongs to whoever made it."""
    cache = LiteLLMCache(store)
    cache.set_cache("a", RECORD)
    await cache.disconnect()
    assert cache.get_cache("a") == RECORD


@pytest.mark.filterwarnings("ignore")  # as above
async def test_stacked_layers_count_once(isolated, unique_server, monkeypatch):
    """LiteLLM over OpenAI's SDK over httpx over aiohttp is one call: the outermost of ours that sees it owns it."""
    sent = []
    original = aiohttp.ClientSession._request

    async def spied(self, method, url, **options):
        sent.append(method)
        return await original(self, method, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", spied)
    with llm_cache() as cell:
        first = await litellm.acompletion(**request(unique_server))
        second = await litellm.acompletion(**request(unique_server))
        stream = await litellm.acompletion(**request(unique_server), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert first.choices[0].message.content == second.choices[0].message.content == text
    assert sent == ["POST"]  # LiteLLM's asynchronous calls do go through aiohttp
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit", "hit"]
    assert (cell.bypassed, cell.troubles, unique_server.count) == (0, (), 1)


@pytest.mark.filterwarnings("ignore")  # as above
async def test_what_has_no_layer_above_is_seen_by_aiohttp(isolated, unique_server):
    """A provider that LiteLLM asks without an SDK is one call too, and shares its entry with the synchronous one."""
    asked = {**request(unique_server), "model": "anthropic/claude-sonnet-5", "api_base": unique_server.url}
    with llm_cache() as cell:
        first = await litellm.acompletion(**asked)
        second = await asyncio.to_thread(litellm.completion, **asked)
    assert first.choices[0].message.content == second.choices[0].message.content
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit"]
    assert (cell.bypassed, cell.troubles, unique_server.count) == (0, (), 1)


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_stream_serves_a_plain_call(isolated, unique_server):
    """A stream that tells its usage is the plain answer too."""
    with llm_cache() as cell:
        wanted = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(litellm.completion(**request(unique_server), **wanted))
        answer = litellm.completion(**request(unique_server))
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == answer.choices[0].message.content
    )
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit"]
    assert unique_server.count == 1
