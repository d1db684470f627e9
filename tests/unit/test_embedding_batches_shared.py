"""Batches of texts where several share: a team, a budget, a run file, loops and threads, and what breaks half-way."""

from __future__ import annotations

import asyncio
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import orjson
import pytest
from embeddings import MODEL, asked, embed, texts, vectors
from machines import Team

from genai_cache_magic import llm_cache
from genai_cache_magic.api.asking.given import GivenAnswers
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.calls import keeping_parts
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Answered, Lead
from genai_cache_magic.core.model import Response
from genai_cache_magic.core.options import Options
from genai_cache_magic.errors import BudgetExceeded, ReplayMiss
from genai_cache_magic.events import Outcome, Tier
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.testing.simulated.call import Fault


@pytest.fixture
def client(isolated, server):
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        yield client


class Embedder:
    """A model that embeds by the length of a text, and says what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, body):
        inputs = orjson.loads(body)["input"]
        self.asked.append(inputs)
        data = [{"object": "embedding", "index": i, "embedding": [1.0, len(text)]} for i, text in enumerate(inputs)]
        answer = {"object": "list", "data": data, "model": MODEL, "usage": {"prompt_tokens": 9, "total_tokens": 9}}
        return Response(200, (("content-type", "application/json"),), orjson.dumps(answer))


def ask(machine, embedder, inputs):
    """Ask as an interceptor does; return the vectors, and the record of the call."""
    scope = CellScope(Options(), person="tester")
    body = orjson.dumps({"model": MODEL, "input": inputs})
    call = HttpCall(
        "POST", "https", "api.openai.com", None, "/v1/embeddings", "", {"content-type": "application/json"}, body
    )
    step = machine.cache.calls.begin(recognise(call, machine.cache.origins), scope, is_async=False)
    step = machine.waited(step)
    if isinstance(step, Lead):
        response = step.batch.answered(embedder(step.batch.body or body)) if step.batch else embedder(body)
        step.desk.commit(step, response)
    else:
        assert isinstance(step, Answered)
        response = step.response
    return [one["embedding"][1] for one in orjson.loads(response.body)["data"]], scope.calls[-1]


def test_a_team_shares_texts(tmp_path, monkeypatch):
    """What one machine asked about within a batch, another one knows in a batch of its own."""
    team, embedder = Team(tmp_path, monkeypatch), Embedder()
    ours = team.machine("ours")
    theirs = team.machine("theirs")
    ask(ours, embedder, ["a", "bb", "ccc"])
    ours.told()
    theirs.goes_stale()
    part, record = ask(theirs, embedder, ["ccc", "dddd", "a"])
    theirs.goes_stale()
    hit, whole = ask(theirs, embedder, ["bb", "a"])
    assert embedder.asked == [["a", "bb", "ccc"], ["dddd"]]
    assert (part, hit) == ([3, 4, 1], [2, 1])
    assert record.reason == "2 of 3 texts from the cache"
    assert (whole.outcome, whole.tier) == (Outcome.HIT, Tier.L2)
    team.close()


def test_a_team_that_is_away_costs_nothing_but_its_texts(tmp_path, monkeypatch):
    """With the tier out of reach, what is here answers, and the rest is asked."""
    team, embedder = Team(tmp_path, monkeypatch), Embedder()
    ours = team.machine("ours")
    ask(ours, embedder, ["a", "bb"])
    ours.tier.is_away = True
    ours.goes_stale()
    assert ask(ours, embedder, ["bb", "ccc"])[0] == [2, 3]
    assert embedder.asked[1:] == [["ccc"]]
    team.close()


def test_an_answer_that_was_bought_whole_is_kept_whole(tmp_path, monkeypatch):
    """What a batch of the vendor's has answered is kept, although some of its texts came to be known meanwhile."""
    team, embedder = Team(tmp_path, monkeypatch), Embedder()
    machine = team.machine("ours")
    ask(machine, embedder, ["a"])
    given = GivenAnswers(machine.cache)
    body = orjson.dumps({"model": MODEL, "input": ["a", "bb", "ccc"]})
    given.put(embedder(body).body)
    call = HttpCall(
        "POST", "https", "api.openai.com", None, "/v1/embeddings", "", {"content-type": "application/json"}, body
    )
    scope = CellScope(Options(), person="tester")
    step = machine.waited(given.calls.begin(recognise(call, machine.cache.origins), scope, is_async=False))
    assert isinstance(step, Answered)
    assert scope.calls[-1].stored
    assert ask(machine, embedder, ["ccc", "a", "bb"])[0] == [3, 1, 2]
    assert embedder.asked == [["a"], ["a", "bb", "ccc"]]
    team.close()


def test_a_budget_reserves_for_the_part(client, server, monkeypatch):
    """What may be spent is compared with the part that is asked, not with the whole batch."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
    long = [f"{number} {'word ' * 2_000}" for number in range(10)]
    with llm_cache():
        embed(client, long[:9])
    with llm_cache(budget="0.0002") as cell:
        embed(client, long)
    reset_session()
    current_session().cache("default").clear()
    with pytest.raises(BudgetExceeded), llm_cache(budget="0.0002"):
        embed(client, long)
    assert asked(server) == [long[:9], long[9:]]
    assert cell.budgets.state.stopped == 0


def test_a_run_file_holds_the_whole_call(client, server, tmp_path, monkeypatch):
    """What is recorded is the call as it was asked, with the answer that its caller got."""
    monkeypatch.chdir(tmp_path)
    with llm_cache():
        embed(client, texts(1, 2))
    with llm_cache(mode="record", run_file="run.jsonl"):
        recorded = embed(client, texts(2, 3, 1))
    current_session().cache("default").clear()
    server.reset()
    with llm_cache(mode="replay", run_file="run.jsonl") as cell:
        replayed = embed(client, texts(2, 3, 1))
    assert replayed == recorded
    assert server.count == 0
    assert [call.tier for call in cell.calls] == [Tier.FILE]


def test_what_was_put_together_is_an_entry_like_all_others(client, tmp_path):
    """A run that has a batch of texts known from others is exported like any, and its entry id means these texts."""
    with llm_cache():
        embed(client, texts(1, 2, 3))
    with llm_cache(mode="read"):
        embed(client, texts(2, 1))
    cache = current_session().cache("default")
    assert cache.stats().entries == 4
    with llm_cache(run="one") as cell:
        first = embed(client, texts(3, 2))
        again = embed(client, texts(3, 2))
    assert [call.outcome for call in cell.calls] == [Outcome.HIT, Outcome.HIT]
    assert (cell.calls[1].input_tokens, cell.calls[1].saved_usd) == (
        cell.calls[0].input_tokens,
        cell.calls[0].saved_usd,
    )
    assert again.data == first.data
    assert cache.runs.export("one", tmp_path / "one.run").count == 1
    assert cache.invalidate_entry(cell.calls[0].entry_id[:16]).count == 1
    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        embed(client, texts(3, 2))


def test_many_tasks_ask_about_each_text_once(isolated, server):
    """Of batches that overlap in a chain, asked by tasks of one loop, no text is asked about twice."""

    async def run():
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
            with llm_cache():
                return await asyncio.gather(*(embed(client, texts(n, n + 1, n + 2)) for n in range(0, 8, 2)))

    answers = asyncio.run(run())
    every = [text for one in asked(server) for text in one]
    assert sorted(every) == sorted(set(every)) == sorted(texts(*range(9)))
    assert all(vectors(before)[2] == vectors(after)[0] for before, after in itertools.pairwise(answers))


def test_threads_that_need_of_each_other_never_wait_for_each_other(client, server):
    """Batches that overlap crosswise come to their ends, whoever was first."""
    with llm_cache(), ThreadPoolExecutor(8) as pool:
        wanted = [texts(*((n + step) % 7 for n in range(4))) for step in range(8)]
        answers = list(pool.map(lambda one: embed(client, one), wanted, timeout=60))
    known = {}
    for batch, answer in zip(wanted, answers, strict=True):
        for text, vector in zip(batch, vectors(answer), strict=True):
            assert known.setdefault(text, vector) == vector


def test_who_waits_for_a_text_asks_itself_if_the_other_fails(client, server):
    """A failure of another batch is not that of one that shares a text with it."""
    server.hold()
    server.fail_next(Fault.SERVER_ERROR)
    with llm_cache(), ThreadPoolExecutor(2) as pool:
        first = pool.submit(embed, client, texts(1, 2))
        assert server.wait_for(1, 30)
        second = pool.submit(embed, client, texts(2, 3))
        server.release()
        with pytest.raises(openai.InternalServerError):
            first.result(30)
        assert len(second.result(30).data) == 2
    assert asked(server)[1:] == [texts(2, 3)]


@pytest.mark.parametrize("fault", [Fault.BAD_JSON, Fault.ERROR_BODY, Fault.EMPTY])
def test_an_answer_to_a_part_that_is_of_no_use(isolated, server, fault):
    """Half an answer, or none, is never put together: the whole call is made, and gets what it gets."""
    body = {"model": MODEL, "input": texts(1, 2)}
    with httpx.Client() as client, llm_cache():
        client.post(f"{server.openai_url}/embeddings", json={**body, "input": texts(1)})
        server.fail_next(fault)
        answer = client.post(f"{server.openai_url}/embeddings", json=body).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert asked(server) == [texts(1), texts(2), texts(1, 2)]


def test_a_connection_that_breaks_is_the_callers_error(isolated, server):
    """What the part's answer breaks off with, the caller gets; and the next time it is asked again."""
    body = {"model": MODEL, "input": texts(1, 2)}
    with httpx.Client() as client, llm_cache():
        client.post(f"{server.openai_url}/embeddings", json={**body, "input": texts(1)})
        server.fail_next(Fault.STREAM_CUT)
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(f"{server.openai_url}/embeddings", json=body)
        assert len(client.post(f"{server.openai_url}/embeddings", json=body).json()["data"]) == 2
    assert asked(server)[1:] == [texts(2), texts(2)]


def test_a_huge_batch(client, server):
    """Two thousand texts, of which one is new, ask for one."""
    with llm_cache():
        embed(client, texts(*range(2_000)), dimensions=8)
        answer = embed(client, texts(*range(2_001)), dimensions=8)
    assert len(answer.data) == 2_001
    assert asked(server)[1:] == [texts(2_000)]


def test_an_answer_too_large_for_one_entry_is_kept_text_by_text(client, server, monkeypatch):
    """The largest answer that is stored is that to one text: a batch of many may come to more."""
    monkeypatch.setenv("GENAI_CACHE_MAX_RESPONSE", "4096")
    with llm_cache() as cell:
        embed(client, texts(*range(30)), dimensions=64, encoding_format="base64")
        embed(client, texts(*range(30)), dimensions=64, encoding_format="base64")
        embed(client, texts(*range(20, 31)), dimensions=64, encoding_format="base64")
    assert asked(server) == [texts(*range(30)), texts(30)]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.MISS]


def test_refreshing_a_corpus_invalidates_nothing_else(client, server, monkeypatch):
    """However many texts are refreshed, other entries stay; and the texts are those of the refresh."""
    monkeypatch.setattr(keeping_parts, "_MOST_RECORDS", 10)
    with llm_cache():
        client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "hello"}])
        embed(client, texts(*range(40)), dimensions=8)
    with llm_cache(mode="refresh"):
        embed(client, texts(*range(40)), dimensions=8)
    with llm_cache() as cell:
        embed(client, texts(*range(40)), dimensions=8)
        embed(client, texts(5, 3), dimensions=8)
        client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "hello"}])
    assert [call.outcome for call in cell.calls] == [Outcome.HIT] * 3
    assert server.count == 3


def test_a_stream_of_the_answer_is_the_whole(isolated, server):
    """Who reads the answer as a stream, or raw, gets the whole one."""
    body = {"model": MODEL, "input": texts(1, 2)}
    with httpx.Client() as client, llm_cache():
        client.post(f"{server.openai_url}/embeddings", json={**body, "input": texts(1)})
        with client.stream("POST", f"{server.openai_url}/embeddings", json=body) as response:
            read = b"".join(response.iter_bytes())
    assert len(json.loads(read)["data"]) == 2
    assert response.headers["content-length"] == str(len(read))


def test_hooks_see_what_is_sent(isolated, server):
    """A hook of the client sees the request that goes out, and may still change its headers."""
    seen = []
    hooks = {"request": [lambda request: seen.append(json.loads(request.content)["input"])]}
    with httpx.Client(event_hooks=hooks) as client, llm_cache():
        for wanted in (texts(1), texts(1, 2)):
            client.post(f"{server.openai_url}/embeddings", json={"model": MODEL, "input": wanted})
    assert seen == [texts(1), texts(2)]


def test_rules_about_noise_reach_each_text(client, server):
    """Texts that differ in what a rule calls noise are one entry."""
    with llm_cache(ignore="iso-time"):
        embed(client, ["at 2026-01-02T03:04:05Z it rains", "a"])
        embed(client, ["at 2026-11-12T13:14:15Z it rains", "b"])
    assert asked(server)[1:] == [["b"]]
