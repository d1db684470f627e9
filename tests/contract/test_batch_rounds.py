"""What is asked or written together goes to a real Redis in a round, not one by one."""

from __future__ import annotations

import asyncio
import uuid

import httpx2
import openai
import pytest
from services import started

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Tier
from genai_cache_magic.intercept.clients import httpx as http_level
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.testing.servers import RedisServer

pytestmark = pytest.mark.service

MANY = 1_000
MODEL = "gpt-4.1-mini"


@pytest.fixture(scope="module")
def redis_server():
    """A redis-server of these tests' own: what others have left in the background would be counted, too."""
    with started(RedisServer) as server:
        yield server


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


def by_itself(client):
    """Return what asks without any SDK, and gives the id of its answer."""

    async def ask(text):
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        return (await client.post("https://api.openai.com/v1/chat/completions", json=body)).json()["id"]

    return ask


def through_an_sdk(client):
    """Return what asks through OpenAI's."""
    sdk = openai.AsyncOpenAI(api_key="none", http_client=client, max_retries=0)

    async def ask(text):
        answer = await sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
        return answer.id

    return ask


def told(cache):
    """Wait until the team was told all, and every lease is given back, which takes scripts as well."""
    assert cache._team._drain.finish(within_s=60)
    permits = cache.parts.permits._thread
    if permits is not None:
        permits.join(60)
        assert not permits.is_alive()


def test_many_values_are_a_round_each_way(team, scripts, monkeypatch):
    """A thousand are told by one script and looked up by two, that one for the document included; and here once."""
    a, b = team("a"), team("b")
    values = {f"k{number}": [number] for number in range(MANY)}
    before = scripts()
    a.mset(values)
    told(a)
    assert scripts() - before <= 4
    before = scripts()
    looked_for = looks_here(monkeypatch)
    assert b.mget(list(values)) == list(values.values())
    assert scripts() - before == 2
    assert len(looked_for) == MANY
    assert b.mget(list(values)) == list(values.values())


def looks_here(monkeypatch):
    """Return a list that gets each key that this machine's own disk is asked for."""
    looked_for = []
    get, get_many = DiskStore.get, DiskStore.get_many
    monkeypatch.setattr(DiskStore, "get", lambda disk, key: (looked_for.append(key), get(disk, key))[1])
    monkeypatch.setattr(
        DiskStore,
        "get_many",
        lambda disk, keys: (looked_for.extend(keys := list(keys)), get_many(disk, keys))[1],
    )
    return looked_for


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


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("sends", [by_itself, through_an_sdk])
def test_one_gather_is_one_round(redis_server, scripts, tmp_path, monkeypatch, sends):
    """Calls that are made together are looked up together: here once, and with the team by one round; all are hits."""
    asked = []

    def answer(request):
        asked.append(request)
        message = {"role": "assistant", "content": f"answer {len(asked)}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = {"id": f"chatcmpl-{len(asked)}", "object": "chat.completion", "model": MODEL}
        return httpx2.Response(200, json={**body, "choices": [choice], "usage": usage})

    async def ask_all():
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            ask = sends(client)
            return await asyncio.gather(*(ask(f"question {number}") for number in range(200)))

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
    looked_for, by_http = looks_here(monkeypatch), []
    turn_for = http_level.turn_for
    monkeypatch.setattr(
        http_level, "turn_for", lambda *args, **more: (by_http.append(args), turn_for(*args, **more))[1]
    )
    with llm_cache(namespace=namespace) as cell:
        assert asyncio.run(ask_all()) == fetched
    assert scripts() - before == 2
    assert ({call.tier for call in cell.calls}, cell.hits, len(asked)) == ({Tier.L2}, 200, 200)
    assert len(looked_for) == 200
    assert len(by_http) == (200 if sends is by_itself else 0)
    with llm_cache(namespace=namespace) as again:
        assert asyncio.run(ask_all()) == fetched
    assert again.hits == 200


def test_trouble_of_ours_lets_nothing_out_in_replay(redis_server, isolated, tmp_path, monkeypatch):
    """Where we fail to decide about what the team has, a call in mode replay is refused, above HTTP and by it."""
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    monkeypatch.setattr(CallDesk, "resume", lambda *_: 1 / 0)
    asked = []
    transport = httpx2.MockTransport(lambda request: (asked.append(request), httpx2.Response(500))[1])

    async def ask(sends):
        async with httpx2.AsyncClient(transport=transport) as client:
            with pytest.raises(ReplayMiss):
                await sends(client)("a question")

    for sends in (by_itself, through_an_sdk):
        with pytest.raises(ReplayMiss), llm_cache(mode="replay", namespace=f"batch-{uuid.uuid4().hex}") as cell:
            asyncio.run(ask(sends))
        assert "ZeroDivisionError" in {trouble.error for trouble in cell.troubles}
    assert asked == []


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
