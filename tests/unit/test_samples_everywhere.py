"""Samples wherever calls come from: loops, tasks, threads, streams and several SDKs at once, in one numbering."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Mode, Options, Samples
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter.shown.summary import summarise

ASKED = [{"role": "user", "content": "throw a die"}]
CHAT = {"model": "gpt-4.1-mini", "messages": ASKED}
# A stream without its usage would not do for a caller of the whole, who gets it.
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": ASKED}


class Chat:
    """One request by OpenAI's SDK; what tells its answers apart is their id."""

    def __init__(self, server):
        self.client = openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0)
        self.async_client = openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0)

    def ask(self):
        return self.client.chat.completions.create(**CHAT).id

    def stream(self):
        return {event.id for event in self.client.chat.completions.create(**STREAMED)}.pop()

    async def ask_async(self):
        return (await self.async_client.chat.completions.create(**CHAT)).id

    async def stream_async(self):
        return {event.id async for event in await self.async_client.chat.completions.create(**STREAMED)}.pop()


class Messages:
    """One request by Anthropic's SDK."""

    def __init__(self, server):
        self.client = anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0)
        self.async_client = anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0)

    def ask(self):
        return self.client.messages.create(**MESSAGES).id

    def stream(self):
        with self.client.messages.stream(**MESSAGES) as events:
            return events.get_final_message().id

    async def ask_async(self):
        return (await self.async_client.messages.create(**MESSAGES)).id

    async def stream_async(self):
        async with self.async_client.messages.stream(**MESSAGES) as events:
            return (await events.get_final_message()).id


async def looped(sdk, times):
    """Ask in a loop, whole and streamed in turn."""
    return [ask() for ask in itertools.islice(itertools.cycle((sdk.ask, sdk.stream)), times)]


async def threaded(sdk, times):
    """Ask in a pool of threads that the cell starts, whole and streamed in turn."""
    asks = list(itertools.islice(itertools.cycle((sdk.ask, sdk.stream)), times))
    with ThreadPoolExecutor(4) as pool:
        return await asyncio.to_thread(lambda: [future.result() for future in [pool.submit(ask) for ask in asks]])


async def started(sdk, times):
    """Ask in one thread each, that the cell starts by itself."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(sdk.ask())) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return answers


async def gathered(sdk, times):
    """Ask by tasks at the same time, whole and streamed in turn."""
    asks = list(itertools.islice(itertools.cycle((sdk.ask_async, sdk.stream_async)), times))
    return list(await asyncio.gather(*(ask() for ask in asks)))


async def mixed(sdk, times):
    """Ask by tasks and by threads of theirs at the same time."""
    asks = [sdk.ask_async() if i % 2 else asyncio.to_thread(sdk.stream) for i in range(times)]
    return list(await asyncio.gather(*asks))


WAYS = [looped, threaded, started, gathered, mixed]


@pytest.fixture(params=[Chat, Messages], ids=["openai", "anthropic"])
async def sdk(request, isolated, unique_server):
    made = request.param(unique_server)
    yield made
    made.client.close()
    await made.async_client.close()


async def sample(way, sdk, times):
    with llm_cache(samples="distinct") as cell:
        answers = await way(sdk, times)
    return answers, cell


@pytest.mark.parametrize("way", WAYS)
async def test_set_of_samples(sdk, unique_server, way):
    """As many calls are as many samples, the same set comes next time, in a new session, and one more call adds one."""
    first, _ = await sample(way, sdk, 5)
    reset_session()
    again, second = await sample(way, sdk, 5)
    more, third = await sample(way, sdk, 6)
    assert len(set(first)) == 5
    assert set(again) == set(first) < set(more)
    assert unique_server.count == len(set(more)) == 6
    assert sorted(call.sample for call in third.calls) == list(range(6))
    assert (second.hits, third.hits, third.misses) == (5, 5, 1)


@pytest.mark.parametrize(("grown_by", "asked_by"), list(itertools.permutations((looped, threaded, gathered), 2)))
async def test_set_is_one_however_it_is_asked(sdk, unique_server, grown_by, asked_by):
    """Whoever asks a set that another way of asking made gets that set, sync or async, whole or streamed."""
    first, _ = await sample(grown_by, sdk, 4)
    again, cell = await sample(asked_by, sdk, 4)
    assert set(again) == set(first)
    assert (cell.hits, unique_server.count) == (4, 4)


async def test_fewer_get_the_first_of_them(sdk, unique_server):
    """A shorter loop gets the beginning of the set, in its order."""
    first, _ = await sample(looped, sdk, 4)
    assert (await sample(looped, sdk, 2))[0] == first[:2]
    assert unique_server.count == 4


async def test_pool_of_another_cell(isolated, unique_server):
    """A pool that outlives its cell numbers each call in the cell that submitted it."""
    sdk = Chat(unique_server)
    with ThreadPoolExecutor(1) as pool:
        sets = []
        for _ in range(2):
            with llm_cache(samples="distinct"):
                sets.append([pool.submit(sdk.ask).result() for _ in range(2)])
    assert sets[0] == sets[1]
    assert unique_server.count == 2
    sdk.client.close()
    await sdk.async_client.close()


async def test_stream_that_is_left_in_a_thread(isolated, unique_server):
    """A stream that a thread leaves gives its number to whoever asks next, in whatever colour."""
    sdk = Chat(unique_server)

    def leave():
        with sdk.client.chat.completions.create(**STREAMED) as events:
            next(events)

    unique_server.hold(after_events=2)
    with llm_cache(samples="distinct") as cell:
        await asyncio.to_thread(leave)
        unique_server.release()
        await sdk.ask_async()
        await asyncio.to_thread(sdk.stream)
    assert [(call.sample, call.stored) for call in cell.calls] == [(0, False), (0, True), (1, True)]
    sdk.client.close()
    await sdk.async_client.close()


async def test_cancelled_task_leaves_no_hole(isolated, unique_server):
    """A task that is cancelled gives its number back."""
    sdk = Chat(unique_server)
    unique_server.hold()
    with llm_cache(samples="distinct") as cell:
        task = asyncio.create_task(sdk.ask_async())
        assert await asyncio.to_thread(unique_server.wait_for, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        unique_server.release()
        await sdk.ask_async()
    assert [(call.sample, call.stored) for call in cell.calls] == [(0, False), (0, True)]
    sdk.client.close()
    await sdk.async_client.close()


def hints(cell):
    return summarise(cell).hints


@pytest.mark.parametrize("way", WAYS)
async def test_hint(sdk, way):
    """A cell whose calls asked the same says so, and how to get samples, however they were made; a set says nothing."""
    with llm_cache() as cell:
        answers = await way(sdk, 4)
    assert len(set(answers)) == 1
    assert hints(cell) == (
        "3 calls asked what another had asked and shared its answer; --samples distinct keeps them apart",
    )
    _, cell = await sample(way, sdk, 4)
    assert hints(cell) == ()


def record(**given):
    return CallRecord(Outcome.HIT, Tier.L1, **{"provider": "openai.chat", "entry_id": "0" * 64, **given})


def cell_of(*calls, **options):
    scope = CellScope(Options(**options))
    for call in calls:
        scope.emit(call)
    return scope


def test_hint_is_for_what_is_sampled():
    """What no model draws a sample for is not hinted at: vectors, ranks, and what was not answered."""
    for provider in ("openai.embeddings", "cohere.embeddings", "google.embeddings.batch", "cohere.rerank"):
        assert hints(cell_of(record(provider=provider), record(provider=provider))) == ()
    failed = CallRecord(Outcome.ERROR, entry_id="0" * 64)
    assert hints(cell_of(record(), failed, failed)) == ()
    assert hints(cell_of(record(), record(entry_id="1" * 64))) == ()
    assert hints(cell_of(record(), record(), samples=Samples.DISTINCT)) == ()
    assert hints(cell_of(record(), record(), mode=Mode.OFF)) == ()
    assert hints(cell_of(record(), record())) == (
        "1 call asked what another had asked and shared its answer; --samples distinct keeps them apart",
    )


def test_vectors_asked_twice_give_no_hint(isolated, unique_server):
    """A cell that asks the same vectors twice is told nothing about samples."""
    body = {"model": "text-embedding-3-small", "input": ["a"]}
    with llm_cache() as cell:
        for _ in range(2):
            assert httpx2.post(f"{unique_server.openai_url}/embeddings", json=body).is_success
    assert (cell.hits, hints(cell)) == (1, ())
