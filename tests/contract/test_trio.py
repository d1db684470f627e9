"""Under trio a call is cached as under asyncio: equal ones at one time are one, and those who wait can be cancelled."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from genai_cache_magic import cached, llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome

trio = pytest.importorskip("trio", reason="pip install trio")
pytest.importorskip("trio.testing", reason="pip install trio")

BODY = {"model": "m", "messages": [{"role": "user", "content": "a"}]}


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


async def ask(url, **options):
    async with httpx2.AsyncClient() as client:
        return (await client.post(f"{url}/chat/completions", json=BODY, **options)).json()


def test_equal_calls_at_once_are_one(unique_server):
    """Whoever asks first asks for all of them."""
    answers = []

    async def asker():
        answers.append(await ask(unique_server.openai_url))

    async def main():
        with llm_cache() as cell:
            async with trio.open_nursery() as nursery:
                unique_server.hold()
                for _ in range(5):
                    nursery.start_soon(asker)
                assert await trio.to_thread.run_sync(unique_server.wait_for, 1)
                unique_server.release()
        return cell

    cell = trio.run(main)
    assert answers == [answers[0]] * 5
    assert (unique_server.count, cell.misses, cell.hits) == (1, 1, 4)
    assert cell.troubles == ()


def test_a_cancelled_leader_leaves_the_call_to_another(unique_server):
    """It is cancelled as ever, and one of those who waited asks instead."""
    answers = []

    async def asker(scope):
        with scope:
            answers.append(await ask(unique_server.openai_url))

    async def main():
        with llm_cache() as cell:
            leader = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                unique_server.hold()
                nursery.start_soon(asker, leader)
                assert await trio.to_thread.run_sync(unique_server.wait_for, 1)
                for _ in range(2):
                    nursery.start_soon(asker, trio.CancelScope())
                await trio.testing.wait_all_tasks_blocked()
                leader.cancel()
                assert await trio.to_thread.run_sync(unique_server.wait_for, 2)
                unique_server.release()
        return cell

    cell = trio.run(main)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert (unique_server.count, cell.errors, cell.misses, cell.hits) == (2, 1, 1, 1)


def test_a_cancelled_follower_is_cancelled_alone(unique_server):
    """Who waits for another's call can be cancelled, and the other one's goes on."""

    async def asker(scope):
        with scope:
            await ask(unique_server.openai_url)

    async def main():
        with llm_cache() as cell:
            follower = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                unique_server.hold()
                nursery.start_soon(asker, trio.CancelScope())
                assert await trio.to_thread.run_sync(unique_server.wait_for, 1)
                nursery.start_soon(asker, follower)
                await trio.testing.wait_all_tasks_blocked()
                follower.cancel()
                unique_server.release()
        return cell

    cell = trio.run(main)
    assert unique_server.count == 1
    assert sorted(call.outcome for call in cell.calls) == [Outcome.ERROR, Outcome.MISS]


def test_tasks_and_threads_of_trio_carry_the_scope(unique_server):
    """What a nursery starts, and what runs in trio's threads, belongs to the cell."""

    def in_thread():
        with httpx2.Client() as client:
            client.post(f"{unique_server.openai_url}/chat/completions", json=BODY)

    async def main():
        with llm_cache() as cell:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, unique_server.openai_url)
            await trio.to_thread.run_sync(in_thread)
        return cell

    assert [call.outcome for call in trio.run(main).calls] == [Outcome.MISS, Outcome.HIT]


def test_streams_under_trio(unique_server):
    """A stream is recorded and replayed as ever, also one that is left at its reason."""

    async def read(client, lines):
        body = {**BODY, "stream": True}
        async with client.stream("POST", f"{unique_server.openai_url}/chat/completions", json=body) as answer:
            return [line async for line in answer.aiter_lines()][:lines]

    async def main():
        with llm_cache() as cell:
            async with httpx2.AsyncClient() as client:
                assert await read(client, 99) == await read(client, 99)
        return cell

    cell = trio.run(main)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert cell.troubles == ()


def test_a_replay_miss_ends_the_cell(unique_server):
    """In the cell's own code it is raised there, once; in a task of a nursery it comes out of that."""

    async def own():
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            await ask(unique_server.openai_url)

    async def started():
        with llm_cache(mode="replay"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, unique_server.openai_url)

    trio.run(own)
    with pytest.raises(BaseExceptionGroup) as raised:
        trio.run(started)
    assert raised.group_contains(ReplayMiss)
    assert unique_server.count == 0


@pytest.mark.parametrize("run", [trio.run, asyncio.run], ids=["trio", "asyncio"])
def test_equal_computations_at_once_are_one(run):
    """The same for a function of one's own that is cached."""
    computed = []

    @cached
    async def slow(number):
        computed.append(number)
        # Until the others wait.
        await (trio.testing.wait_all_tasks_blocked() if run is trio.run else asyncio.sleep(0))
        return number + 1

    async def main():
        if run is asyncio.run:
            return await asyncio.gather(*(slow(1) for _ in range(4)))
        found = []

        async def one():
            found.append(await slow(1))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
        return found

    assert (run(main) if run is trio.run else run(main())) == [2] * 4
    assert computed == [1]
