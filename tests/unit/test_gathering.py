"""What the tasks of a loop ask in one tick goes together; who blocks its thread asks at once."""

from __future__ import annotations

import asyncio

import pytest

from genai_cache_magic.calls.gathering import Gathered


@pytest.fixture
def rounds():
    return []


@pytest.fixture
def gathered(rounds):
    return Gathered(lambda asked: rounds.append([entry_id for entry_id, _ in asked]))


async def ask(gathered, name, ticks=0):
    for _ in range(ticks):
        await asyncio.sleep(0)
    gathered.ask(name, print, is_async=True)


def test_one_gather_is_one_round(gathered, rounds):
    """A thousand tasks that are ready together are asked for together, in order."""

    async def main():
        await asyncio.gather(*(ask(gathered, number) for number in range(1000)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert rounds == [list(range(1000))]


def test_later_ticks_are_later_rounds(gathered, rounds):
    """Nobody waits for who comes later."""

    async def main():
        await asyncio.gather(*(ask(gathered, number, ticks=number % 2 * 5) for number in range(6)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert rounds == [[0, 2, 4], [1, 3, 5]]


def test_who_blocks_is_not_held_up(gathered, rounds):
    """A synchronous call in a task's thread, as in any cell of a notebook, is asked for before it waits."""

    async def main():
        gathered.ask("now", print, is_async=False)
        assert rounds == [["now"]]

    asyncio.run(main())
    gathered.ask("outside of any loop", print, is_async=True)
    assert rounds[1:] == [["outside of any loop"]]


def test_a_loop_that_was_left_holds_up_no_other(gathered, rounds):
    """What a loop asked in its last tick is nobody's any more."""
    asyncio.run(ask(gathered, "left"))
    rounds.clear()
    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: (gathered.ask("lost", print, is_async=True), loop.stop()))
    loop.run_forever()
    loop.close()

    async def main():
        await ask(gathered, "next")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert rounds[-1] == ["next"]


def test_under_trio(gathered, rounds):
    """Its tasks are gathered too."""
    trio = pytest.importorskip("trio", reason="pip install trio")

    async def one(number):
        gathered.ask(number, print, is_async=True)

    async def main():
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
        while not rounds:
            await trio.sleep(0)

    trio.run(main)
    assert [sorted(asked) for asked in rounds] == [list(range(20))]
