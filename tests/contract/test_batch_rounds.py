"""What is asked or written together goes to a real Redis in a round, not one by one."""

from __future__ import annotations

import asyncio
import uuid

import httpx2
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.session import current_session, reset_session
from genai_cache_magic.events import Tier

pytestmark = pytest.mark.service

MANY = 1_000
MODEL = "gpt-4.1-mini"


@pytest.fixture
def team(redis_server, isolated, tmp_path):
    """Return what makes machines of a team of their own."""
    made = []
    namespace = f"batch-{uuid.uuid4().hex}"

    def machine(name):
        place = {"dir": tmp_path / name, "key_file": tmp_path / "key", "l2": redis_server.url}
        cache = create_cache("redis", namespace=namespace, **place)
        made.append(cache)
        cache.get("nothing")  # it has seen its team
        return cache

    yield machine
    for cache in made:
        cache.close()


@pytest.fixture
def scripts(redis_server):
    """Return what counts the scripts that the server has run."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        yield lambda: client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]


def told(cache):
    assert cache._team._drain.finish(within_s=60)


def test_many_values_are_a_round_each_way(team, scripts):
    """A thousand are told by one script and looked up by two, that one for the document included."""
    a, b = team("a"), team("b")
    values = {f"k{number}": [number] for number in range(MANY)}
    before = scripts()
    a.mset(values)
    told(a)
    assert scripts() - before <= 4
    before = scripts()
    assert b.mget(list(values)) == list(values.values())
    assert scripts() - before == 2
    assert b.mget(list(values)) == list(values.values())


def test_a_pipeline_is_a_round_each_way(team, scripts):
    """One look at all that it reads, one invalidation of all that it changes, one script with what is new."""
    a, b = team("a"), team("b")
    a.mset({f"k{number}": number for number in range(300)})
    told(a)
    batch = b.pipeline()
    for number in range(300):
        batch.get(f"k{number}").set(f"k{number}", -number)
    before = scripts()
    assert batch.execute()[::2] == list(range(300))
    told(b)
    assert scripts() - before <= 12
    a._team._snapshot.look()
    assert a.mget([f"k{number}" for number in range(300)]) == [-number for number in range(300)]


def test_a_batch_is_looked_up_in_one_round(team, scripts):
    """A teammate's results are there at once, and nothing is computed."""
    a, b = team("a"), team("b")
    asked = []

    def ask(item):
        asked.append(item)
        return item

    items = list(range(MANY))
    a.map(ask, items)
    told(a)
    before = scripts()
    assert b.map(ask, items) == items
    assert scripts() - before == 2
    assert len(asked) == MANY


def test_one_gather_is_one_round(redis_server, scripts, isolated, tmp_path, monkeypatch):
    """Calls that are made together are looked up together: all are hits, by one round."""
    asked = []

    def answer(request):
        asked.append(request)
        message = {"role": "assistant", "content": f"answer {len(asked)}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = {"id": f"chatcmpl-{len(asked)}", "object": "chat.completion", "model": MODEL}
        return httpx2.Response(200, json={**body, "choices": [choice], "usage": usage})

    async def ask(client, number):
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}]}
        return (await client.post("https://api.openai.com/v1/chat/completions", json=body)).json()["id"]

    async def ask_all():
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(200)))

    def machine(name):
        monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / name))
        reset_session()
        cache = current_session().cache(namespace)
        cache.get("nothing")  # it has seen its team
        return cache

    namespace = f"batch-{uuid.uuid4().hex}"
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    fetching = machine("a")
    with llm_cache(namespace=namespace):
        fetched = asyncio.run(ask_all())
    told(fetching)
    machine("b")
    before = scripts()
    with llm_cache(namespace=namespace) as cell:
        assert asyncio.run(ask_all()) == fetched
    assert scripts() - before == 2
    assert ({call.tier for call in cell.calls}, cell.hits, len(asked)) == ({Tier.L2}, 200, 200)
    with llm_cache(namespace=namespace) as again:
        assert asyncio.run(ask_all()) == fetched
    assert again.hits == 200


def test_in_a_cluster_too(redis_nodes, isolated, tmp_path):
    """Where one command can't name keys of several slots, each node is asked once."""
    namespace = f"batch-{uuid.uuid4().hex}"
    place = {"key_file": tmp_path / "key", "l2": redis_nodes.url, "namespace": namespace}
    values = {f"k{number}": [number] for number in range(200)}
    with (
        create_cache("redis", dir=tmp_path / "a", **place) as a,
        create_cache("redis", dir=tmp_path / "b", **place) as b,
    ):
        a.mset(values)
        told(a)
        assert b.mget(list(values)) == list(values.values())
