"""Samples: by default identical calls share an answer; `distinct` numbers them, without a hole."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic import llm_cache
from genai_cache_magic.calls.scope import SampleNumbers
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "throw a die"}]}


@pytest.fixture
def client(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield client


def ask(client, **more):
    return client.chat.completions.create(**QUESTION, **more).id


def read(client):
    return [chunk.id for chunk in client.chat.completions.create(stream=True, **QUESTION)]


def throw(client, times):
    with llm_cache(samples="distinct") as cell:
        return [ask(client) for _ in range(times)], cell


def test_same_by_default(client, unique_server):
    """Identical calls share one answer unless told otherwise."""
    with llm_cache():
        assert len({ask(client) for _ in range(5)}) == 1
    assert unique_server.count == 1


def test_five_loops_then_six(client, unique_server):
    """Five loops store five samples, the same five come next time in their order, and a sixth loop adds one."""
    first, _ = throw(client, 5)
    again, cell = throw(client, 5)
    more, _ = throw(client, 6)
    assert len(set(first)) == 5
    assert again == first
    assert more[:5] == first
    assert more[5] not in first
    assert unique_server.count == 6
    assert [call.sample for call in cell.calls] == [0, 1, 2, 3, 4]


def test_first_sample_is_the_shared_answer(client, unique_server):
    """The first sample is the answer that a cell without samples gets."""
    with llm_cache():
        shared = ask(client)
    assert throw(client, 2)[0][0] == shared


def test_failed_call_leaves_no_hole(client, unique_server):
    """A call that fails, or whose answer is not stored, gives its number back to the next one."""
    for fault in (Fault.SERVER_ERROR, Fault.TRUNCATED, Fault.STREAM_CUT):
        with llm_cache(samples="distinct", salt=fault.value) as cell:
            first = ask(client)
            unique_server.fail_next(fault)
            with contextlib.suppress(openai.OpenAIError):
                ask(client)
            second = ask(client)
        with llm_cache(samples="distinct", salt=fault.value):
            assert [ask(client), ask(client)] == [first, second]
        assert [call.sample for call in cell.calls] == [0, 1, 1]


def test_left_stream_and_replay_miss_leave_no_hole(client, unique_server):
    """A stream that was left, and a miss in mode replay, give their numbers back as well."""
    with llm_cache(samples="distinct") as cell:
        unique_server.hold(after_events=2)
        with client.chat.completions.create(stream=True, **QUESTION) as stream:
            next(stream)
        unique_server.release()
        first = read(client)[0]
        assert cell.sample_numbers.take(cell.calls[0].entry_id) == 1
    with llm_cache(samples="distinct", mode="replay") as cell:
        assert read(client)[0] == first
        with pytest.raises(ReplayMiss):
            ask(client, seed=1)
        assert cell.sample_numbers.take(cell.calls[-1].entry_id) == 0


async def test_gather(isolated, unique_server):
    """Samples asked for at the same time are as many, none shared, and the next cell gets the same set."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0)

    async def five():
        with llm_cache(samples="distinct"):
            answers = await asyncio.gather(*(client.chat.completions.create(**QUESTION) for _ in range(5)))
            return {answer.id for answer in answers}

    first = await five()
    assert len(first) == 5
    assert await five() == first
    assert unique_server.count == 5
    await client.close()


async def test_gather_with_a_failure(isolated, unique_server):
    """When one of several at a time fails, the cell's next call fills its place."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0)
    unique_server.fail_next(Fault.SERVER_ERROR)
    with llm_cache(samples="distinct"):
        asked = (client.chat.completions.create(**QUESTION) for _ in range(4))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        good = [answer.id for answer in answers if not isinstance(answer, Exception)]
        good.append((await client.chat.completions.create(**QUESTION)).id)
    with llm_cache(samples="distinct") as cell:
        assert {(await client.chat.completions.create(**QUESTION)).id for _ in range(4)} == set(good)
    assert [call.outcome for call in cell.calls] == [Outcome.HIT] * 4
    await client.close()


def test_retry_of_the_sdk_is_the_same_sample(isolated, unique_server, no_pause_between_retries):
    """A call that an SDK repeats by itself takes one number, not two."""
    unique_server.fail_next(Fault.SERVER_ERROR)
    with (
        openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=2) as client,
        llm_cache(samples="distinct") as cell,
    ):
        ask(client)
        ask(client)
    assert [call.sample for call in cell.calls if call.stored] == [0, 1]


def test_different_calls_are_numbered_apart(client, unique_server):
    """Each different request has numbers of its own."""
    with llm_cache(samples="distinct") as cell:
        for seed in (1, 2, 1):
            ask(client, seed=seed)
    assert [call.sample for call in cell.calls] == [0, 0, 1]


def test_refresh_renews_each_sample(client, unique_server):
    """In mode refresh each sample is asked again under its own number."""
    old, _ = throw(client, 3)
    with llm_cache(samples="distinct", mode="refresh"):
        new = [ask(client) for _ in range(3)]
    assert throw(client, 3)[0] == new
    assert not set(old) & set(new)


class TestSampleNumbers:
    @given(st.lists(st.integers(0, 6)))
    def test_lowest_free_number(self, released):
        """A number is taken by one call at a time, and it is always the lowest that is free."""
        numbers, taken = SampleNumbers(), set()
        for index in released:
            numbers.give_back("r", index)
            taken.discard(index)
            expected = next(i for i in range(len(taken) + 1) if i not in taken)
            assert numbers.take("r") == expected
            taken.add(expected)

    def test_threads_never_share_a_number(self):
        """Many threads that take at once get as many different numbers, without a gap."""
        numbers = SampleNumbers()
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(lambda _: numbers.take("r"), range(200))) == list(range(200))
