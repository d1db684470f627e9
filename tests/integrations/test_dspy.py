"""The adapter for DSPy, driven by DSPy itself against a simulated model, on LiteLLM and on DSPy's own engine."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from matrix.generations import installed

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.model_server import Fault

if installed("dspy") is None:
    pytest.skip("needs, in an environment of its own: make test", allow_module_level=True)

with pytest.MonkeyPatch.context() as patch:
    # Otherwise the import asks the network for a price list, and opens a cache in the home directory.
    patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dspy
        import litellm

from genai_cache_magic.integrations.dspy import TAG, DSPyCache

REQUEST = {"_fn_identifier": "f", "model": "m", "api_key": "k", "api_base": "http://a"}
IGNORED = ["api_key", "api_base", "base_url"]
ENGINES = ("litellm", "lm15")

pytestmark = pytest.mark.filterwarnings("ignore")  # DSPy's and LiteLLM's own, of pydantic and of clients left open


@pytest.fixture
def events():
    return []


@pytest.fixture
def store(tmp_path, events):
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key", "namespace": "tests"}
    with create_cache("disk", **settings, on_event=events.append) as cache:
        yield cache


@pytest.fixture
def cache(store, events, monkeypatch):
    """The adapter in its place in DSPy."""
    made = DSPyCache(store, on_event=events.append)
    monkeypatch.setattr(dspy, "cache", made, raising=False)
    yield made
    gc.collect()  # here, where the warnings of what DSPy and LiteLLM leave open are not ours


@pytest.fixture(params=ENGINES)
def lm(request, unique_server):
    with_engine = {"engine": request.param, "api_base": unique_server.openai_url, "api_key": "simulated"}
    made = dspy.LM("openai/gpt-4.1-mini", **with_engine)
    yield made
    made.close()


def test_a_call_asks_once(cache, store, lm, unique_server):
    """Two equal calls are one request and one answer, tool calls and all, and DSPy counts no tokens for the hit."""
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    for asked in ({}, {"tools": tools}):
        assert lm("get_weather", **asked) == lm("get_weather", **asked)
    assert unique_server.count == len(store.keys("dspy:*")) == 2
    assert lm.history[0]["usage"]
    assert not lm.history[1]["usage"]
    assert lm.history[1]["cost"] == lm.history[0]["cost"]


async def test_an_asynchronous_call_shares_the_entry(cache, lm, unique_server):
    """What a synchronous call stored answers an asynchronous one."""
    first = await asyncio.to_thread(lm, "hello")
    assert await lm.acall("hello") == first
    assert unique_server.count == 1


def test_a_module_asks_once(cache, lm, unique_server):
    """A module gives an equal prediction, without a second call."""
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        first, second = (dict(dspy.Predict("question -> answer")(question="why?")) for _ in range(2))
    assert first == second
    assert unique_server.count == 1


def test_embeddings_are_kept(cache, unique_server):
    """An embedder's vectors are the same the second time."""
    embedder = dspy.Embedder("openai/text-embedding-3-small", api_base=unique_server.openai_url, api_key="simulated")
    assert embedder(["a", "b"]).tolist() == embedder(["a", "b"]).tolist()
    assert unique_server.count == 1


def test_an_answer_survives_another_process(cache, store, lm, unique_server):
    """A new adapter over the same store serves what the first one stored."""
    first = lm("hello")
    dspy.cache = DSPyCache(store)
    assert lm("hello") == first
    assert unique_server.count == 1


def test_an_answer_of_litellms_is_marked(cache):
    """What is kept as fields is an answer of LiteLLM's again, with what it said, and says that it is a hit."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    cache.put(REQUEST, litellm.ModelResponse(choices=[choice]))
    found = cache.get(REQUEST)
    assert isinstance(found, litellm.ModelResponse)
    assert found.choices[0].message.content == "hello"
    assert (found.cache_hit, found.usage) == (True, {})


def test_endpoints_are_kept_apart(cache):
    """Two endpoints are two models; two keys of one are not."""
    cache.put(REQUEST, {"a": 1}, IGNORED)
    assert cache.get({**REQUEST, "api_key": "another"}, IGNORED) == {"a": 1}
    assert cache.get({**REQUEST, "api_base": "http://b"}, IGNORED) is None


def test_what_is_read_may_be_changed(cache):
    """The next caller gets a fresh copy."""
    cache.put(REQUEST, {"a": [1]})
    cache.get(REQUEST)["a"].append(2)
    assert cache.get(REQUEST) == {"a": [1]}


def test_truncated_answers_are_not_kept(cache, store, lm, unique_server):
    """An answer that was cut off is asked for again."""
    unique_server.fail_next(Fault.TRUNCATED)
    lm("hello")
    assert store.keys() == []
    lm("hello")
    assert unique_server.count == 2


@pytest.mark.parametrize("value", [object(), litellm.ModelResponse, {1, 2}], ids=["object", "class", "set"])
def test_what_is_no_data_is_not_kept(cache, store, events, value):
    """Nothing is pickled: what is no plain data is told of, and not kept."""
    cache.put(REQUEST, value)
    assert store.keys() == []
    assert [event.error for event in events] == ["UncacheableRequest"]


def test_a_function_is_no_name(cache, store, events):
    """A request that holds a function has no key: another one may look the same."""
    cache.put({**REQUEST, "model": lambda text: text}, [1.0])
    assert cache.get({**REQUEST, "model": lambda text: text}) is None
    assert store.keys() == []
    assert {event.error for event in events} == {"UncacheableRequest"}


@pytest.mark.parametrize(
    "kept",
    [
        b"bytes", 7, {}, {"kind": "data"}, {"kind": "Popen", "value": {"args": "id"}, "cost": None},
        {"kind": "ModelResponse", "value": {"choices": 7}, "cost": None},
        {"kind": "ResponsesAPIResponse", "value": {}, "cost": None},
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_no_answer_is_a_miss(cache, store, events, kept):
    """An entry that is no answer of DSPy's is never served, and no other class is made of it."""
    cache.put(REQUEST, {"a": 1})
    (key,) = store.keys()
    store.set(key, kept)
    assert cache.get(REQUEST) is None
    assert [event.error for event in events] == ["EntryUndecodable"]
    cache.put(REQUEST, {"a": 2})
    assert cache.get(REQUEST) == {"a": 2}


def test_ttl_and_tags_reach_the_entries(store):
    """Entries carry the tags and the time to live that were given, and a wrong option is told at once."""
    DSPyCache(store, ttl="1h", tags=("demo",)).put(REQUEST, {"a": 1})
    (item,) = store.catalogue.items()
    assert (item.header.ttl_s, set(item.metadata.tags)) == (3600, {TAG, "demo"})
    with pytest.raises(ConfigurationError):
        DSPyCache(store, ttl="soon")


def test_clear_leaves_the_rest(cache, store):
    """Clearing invalidates DSPy's answers and nothing else that lies in the namespace."""
    store.set("mine", 1)
    cache.put(REQUEST, {"a": 1})
    cache.clear()
    assert cache.get(REQUEST) is None
    assert store.get("mine") == 1


def test_it_stands_aside_in_a_scope(cache, store, lm, isolated, unique_server):
    """In a scope the interceptors answer and count: this cache neither serves nor stores."""
    lm("hello")
    with llm_cache() as cell:
        lm("hello")
        lm("hello")
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit"]
    assert len(store.keys()) == 1
    assert unique_server.count == 2


def test_rollouts_are_kept_apart(cache, lm, unique_server):
    """Another `rollout_id` is another answer, and the same one the same."""
    first, second, third = (lm("hello", rollout_id=n, temperature=1.0) for n in (1, 2, 1))
    assert first == third
    assert first != second
    assert unique_server.count == 2


def test_dspys_own_tiers_stay_off(cache, tmp_path):
    """Neither DSPy's memory, which no invalidation reaches, nor its pickles are used."""
    cache.put(REQUEST, {"a": 1})
    assert (cache.enable_memory_cache, cache.enable_disk_cache) == (False, False)
    assert (cache.memory_cache, cache.disk_cache) == ({}, {})
    assert repr(cache) == "<DSPyCache in <Cache 'tests'>>"
