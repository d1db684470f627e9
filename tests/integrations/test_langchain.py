"""The adapter for LangChain: LangChain's own suite, what is kept, what is not, and what it may never do."""

from __future__ import annotations

import asyncio
import json

import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.entries.filling import LookThenPut
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.chaos import Chaos, ChaosStore

pytest.importorskip("langchain_core", reason="needs: pip install langchain-core langchain-tests")
pytest.importorskip("langchain_tests", reason="needs: pip install langchain-tests")

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import PromptTemplate
from langchain_tests.integration_tests.cache import AsyncCacheTestSuite, SyncCacheTestSuite
from pydantic import BaseModel

from genai_cache_magic.integrations.langchain import TAG, LangChainCache


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key", "namespace": "tests"}
    with create_cache(request.param, **settings) as cache:
        yield cache


@pytest.fixture
def events():
    return []


@pytest.fixture
def cache(store, events):
    return LangChainCache(store, on_event=events.append)


class TestSync(SyncCacheTestSuite):
    """LangChain's standard suite, synchronous."""

    @pytest.fixture
    def cache(self, store):
        return LangChainCache(store)


class TestAsync(AsyncCacheTestSuite):
    """LangChain's standard suite, asynchronous."""

    @pytest.fixture
    async def cache(self, store):
        return LangChainCache(store)


def chat(content="Paris", **fields):
    return ChatGeneration(message=AIMessage(content=content, **fields))


def put(store, cache, text):
    """Put `text` where the answer to ("p", "m") would be."""
    cache.update("p", "m", [Generation(text="x")])
    (key,) = store.keys()
    store.set(key, text)


def test_a_chat_answer_comes_back_whole(cache):
    """Tool calls, usage, metadata and ids survive, and a dict that looks like one of LangChain's stays a dict."""
    answer = chat(
        content=[{"type": "text", "text": "é \N{PARTY POPPER}"}],
        id="run-1",
        tool_calls=[{"name": "f", "args": {"lc": 1, "type": "constructor", "id": ["os", "system"]}, "id": "t1"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        response_metadata={"finish_reason": "tool_calls"},
    )
    cache.update("p", "m", [answer, chat("two")])
    assert cache.lookup("p", "m") == [answer, chat("two")]


def test_what_is_read_may_be_changed(cache):
    """LangChain zeroes the costs of what it is given; the next caller gets a fresh copy."""
    cache.update("p", "m", [chat()])
    cache.lookup("p", "m")[0].message.content = "changed"
    assert cache.lookup("p", "m") == [chat()]


def test_prompt_and_model_are_kept_apart(cache):
    """No two pairs run into each other, however they are cut."""
    cache.update("ab", "c", [chat()])
    assert cache.lookup("a", "bc") is None
    assert cache.lookup("c", "ab") is None
    assert cache.lookup("ab", "c") == [chat()]


def test_a_parsed_model_comes_back_as_its_fields(cache):
    """A structured output is kept as LangChain keeps it: its parser makes the model again."""

    class City(BaseModel):
        name: str

    cache.update("p", "m", [chat(additional_kwargs={"parsed": City(name="Paris")})])
    (found,) = cache.lookup("p", "m")
    assert found.message.additional_kwargs["parsed"] == {"name": "Paris"}


def test_a_model_asks_once(cache):
    """A real chat model of LangChain asks for the first of two equal prompts only, sync and async."""
    model = FakeMessagesListChatModel(responses=[AIMessage("one"), AIMessage("two"), AIMessage("three")], cache=cache)
    assert model.invoke("hello").content == "one"
    assert model.invoke("hello").content == "one"
    assert asyncio.run(model.ainvoke("hello")).content == "one"
    assert model.invoke("another").content == "two"


def test_ttl_and_tags_reach_the_entries(store):
    """Entries carry the tags and the time to live that were given."""
    LangChainCache(store, ttl="1h", tags=("demo",)).update("p", "m", [chat()])
    (item,) = store.catalogue.items()
    assert item.header.ttl_s == 3600
    assert set(item.metadata.tags) == {TAG, "demo"}
    assert store.invalidate_tag("demo").count == 1


@pytest.mark.parametrize("given", [{"ttl": "soon"}, {"tags": "demo"}, {"tags": [str(n) for n in range(16)]}])
def test_bad_options_are_told_at_once(store, given):
    """A wrong option is an error at construction, never in the middle of a chain."""
    with pytest.raises(ConfigurationError):
        LangChainCache(store, **given)


def test_clear_leaves_the_rest(cache, store):
    """Clearing invalidates LangChain's answers and nothing else that lies in the namespace."""
    store.set("mine", 1, tags=("langchain",))
    cache.update("p", "m", [chat()])
    cache.clear(anything=True)
    assert cache.lookup("p", "m") is None
    assert store.get("mine") == 1


PROMPT = dumps(PromptTemplate.from_template("hi"))
SECRET = '{"lc": 1, "type": "secret", "id": ["HOME"]}'
GENERATION = '{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "Generation"], "kwargs": %s}'


@pytest.mark.parametrize(
    "kept",
    [
        b"bytes", {"a": 1}, "", "{", "null", "[]", "[1]", "[" * 100_000, f"[{PROMPT}]", f"[{SECRET}]",
        '[{"lc": 1, "type": "constructor", "id": ["langchain_core", "no", "Such"], "kwargs": {}}]',
        '[{"lc": 1, "type": "constructor", "id": 5}]', '[{"lc": 1, "type": "constructor", "id": [[]]}]',
        '[{"lc": 1, "type": "not_implemented", "id": ["a", "SECRET"]}]',
        f"[{GENERATION % '{}'}]", f"[{GENERATION % '3'}]", f"[{GENERATION % json.dumps({'text': {}})}]",
    ],
    ids=lambda kept: str(kept)[:40],
)  # fmt: skip
def test_what_is_no_answer_is_a_miss(cache, store, events, kept):
    """What can't be read is never served: a miss, an event without content, and the next fill replaces it."""
    put(store, cache, kept)
    assert cache.lookup("p", "m") is None
    (event,) = events
    assert event.error == "EntryUndecodable"
    assert "SECRET" not in event.message
    cache.update("p", "m", [chat()])
    assert cache.lookup("p", "m") == [chat()]


def test_nothing_but_answers_is_made(cache, store):
    """An entry that hides another of LangChain's classes inside a real answer is a miss."""
    fields = f'{{"text": "t", "generation_info": {{"a": {PROMPT}}}}}'
    put(store, cache, f"[{GENERATION % fields}]")
    assert cache.lookup("p", "m") is None


def test_no_variable_is_read(cache, store, monkeypatch):
    """An entry that names a variable of the environment does not get its value."""
    monkeypatch.setenv("SOME_API_KEY", "hush")
    secret = {"lc": 1, "type": "secret", "id": ["SOME_API_KEY"]}
    fields = json.dumps({"text": "t", "generation_info": {"a": secret}})
    put(store, cache, f"[{GENERATION % fields}]")
    (found,) = cache.lookup("p", "m")
    assert found.generation_info == {"a": None}


@pytest.mark.parametrize(
    "answer",
    [
        [], [Generation(text="")], [chat("")], [chat(), chat("")],
        [Generation(text="cut", generation_info={"finish_reason": "length"})],
        [chat(response_metadata={"stop_reason": "max_tokens"})],
        [chat(response_metadata={"finish_reason": "SAFETY"})],
        [chat(response_metadata={"status": "incomplete"})],
        [chat(additional_kwargs={"refusal": "no"})],
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_whole_answer_is_not_kept(cache, store, answer):
    """Empty, truncated, filtered and refused answers are asked for again."""
    cache.update("p", "m", answer)
    assert cache.lookup("p", "m") is None
    assert store.keys() == []


def test_an_answer_that_would_not_come_back_is_not_kept(cache, store, events):
    """An object that is no JSON is told of, and nothing is stored; the chain goes on."""
    cache.update("p", "m", [chat(response_metadata={"at": object()})])
    assert store.keys() == []
    assert [event.error for event in events] == ["UncacheableRequest"]


def test_an_address_is_no_name(cache, store, events):
    """A call that LangChain can only describe by an object's address is not cached; a text that says so is."""
    prompt = dumps([HumanMessage("hi", additional_kwargs={"x": object()})])
    cache.update(prompt, "m", [chat()])
    cache.update("p", f"[('f', {object()!r})]", [chat()])
    assert store.keys() == []
    assert len(events) == 2
    quoted = dumps([HumanMessage(f'see {object()!r} and "type": "not_implemented"')])
    cache.update(quoted, "m", [chat()])
    assert cache.lookup(quoted, "m") == [chat()]


def test_half_a_character_is_no_crash(cache, events):
    """A prompt that can't be keyed is a miss, told, and harms no one."""
    cache.update("\ud800", "m", [chat()])
    assert cache.lookup("\ud800", "m") is None
    assert {event.error for event in events} == {"UncacheableRequest"}


async def test_it_stands_aside_in_a_scope(cache, store, isolated):
    """In a scope the interceptors answer and count: this cache neither serves nor stores, sync or async."""
    cache.update("p", "m", [chat()])
    with llm_cache() as cell:
        assert cache.lookup("p", "m") is None
        assert await cache.alookup("p", "m") is None
        await cache.aupdate("q", "m", [chat()])
    assert cell.calls == ()
    assert len(store.keys()) == 1
    assert await cache.alookup("p", "m") == [chat()]


def test_a_store_in_trouble_breaks_no_chain(cache, store):
    """A store that can't be reached, or that lies, is a miss for a look-up and silence for an update."""
    cache.update("p", "m", [chat()])
    entries = store._entries
    inner, fills = entries.store, entries.places.fills
    for chaos in (Chaos(unavailable=1.0), Chaos(corrupt=1.0)):
        entries.store = entries.places.store = ChaosStore(inner, chaos)
        entries.places.fills = LookThenPut(entries.store)
        assert cache.lookup("p", "m") is None
        cache.update("q", "m", [chat()])
        assert entries.store.calls > 1
    entries.store = entries.places.store = inner
    entries.places.fills = fills
    cache.update("p", "m", [chat()])
    assert cache.lookup("p", "m") == [chat()]


def test_it_shows_no_content(cache):
    """The representation names the namespace and nothing that was asked or answered."""
    cache.update("prompt", "model", [chat()])
    assert repr(cache) == "<LangChainCache in <Cache 'tests'>>"
