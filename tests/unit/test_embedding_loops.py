"""Large batches of texts on an event loop, which stands still neither while they are looked up nor while stored."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import httpx
import openai
import pytest
from embeddings import MODEL, asked, embed, texts

from genai_cache_magic import llm_cache
from genai_cache_magic.calls import keeping_parts
from genai_cache_magic.calls.batch import Batch
from genai_cache_magic.entries.entries import Entries
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.simulated.call import Fault


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_an_event_loop_goes_on_while_many_texts_are_looked_up_and_stored(isolated, server, monkeypatch, library):
    """What takes long of a batch is done by another thread, and by the time that it is answered."""
    threads = {}

    def noted(kind, name):
        original = getattr(kind, name)

        def method(*args, **options):
            threads.setdefault(name, []).append(threading.current_thread())
            return original(*args, **options)

        monkeypatch.setattr(kind, name, method)

    noted(Entries, "fill_many")
    noted(keeping_parts.PartsKeeper, "find")
    noted(Batch, "joined")

    async def ask(url, body):
        if library == "aiohttp":
            aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
            async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
                return await response.json()
        async with httpx.AsyncClient() as client:
            return (await client.post(url, json=body)).json()

    async def main():
        url = f"{server.openai_url}/embeddings"
        with llm_cache() as cell:
            for first, last in ((0, 80), (5, 75), (40, 200)):
                body = {"model": MODEL, "input": texts(*range(first, last)), "dimensions": 8}
                assert len((await ask(url, body))["data"]) == last - first
        return cell

    cell = asyncio.run(main())
    assert asked(server) == [texts(*range(80)), texts(*range(80, 200))]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.MISS]
    assert (len(threads["fill_many"]), len(threads["joined"])) == (3, 1)
    # What turned out to be missing is looked for once more, when it is asked for: that takes no time.
    noted_by = [threads["find"][0], *threads["joined"], *threads["fill_many"]]
    assert {thread.name for thread in noted_by} == {"genai-cache-aside"}


def test_tasks_run_while_a_batch_is_stored(isolated, server, monkeypatch):
    """A batch is not stored before another task of the loop has run, which could not if the loop stored it."""
    ticked, original = threading.Event(), Entries.fill_many

    async def main():
        loop, began = asyncio.get_running_loop(), asyncio.Event()

        def stored(*args, **options):
            loop.call_soon_threadsafe(began.set)
            assert ticked.wait(60)
            return original(*args, **options)

        monkeypatch.setattr(Entries, "fill_many", stored)
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
            with llm_cache() as cell:
                asking = asyncio.ensure_future(embed(client, texts(*range(100)), dimensions=8))
                await began.wait()
                ticked.set()
                await asking
        return cell

    cell = asyncio.run(main())
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.MISS, True)]


@pytest.mark.parametrize("how", ["read", "pieces", "left"])
def test_a_large_answer_is_stored_however_aiohttp_gives_it(isolated, server, how):
    """Read at once or piece by piece it is stored, by the time that it is read; who leaves it asks again."""
    aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
    body = {"model": MODEL, "input": texts(*range(80)), "dimensions": 8}

    async def main():
        async with aiohttp.ClientSession() as session:
            with llm_cache() as cell:
                async with session.post(f"{server.openai_url}/embeddings", json=body) as response:
                    if how == "read":
                        assert await response.read() == await response.read()
                    elif how == "pieces":
                        assert [chunk async for chunk in response.content.iter_chunked(100)]
                assert [call.stored for call in cell.calls] == [how != "left"]
                async with session.post(f"{server.openai_url}/embeddings", json=body) as response:
                    assert len((await response.json())["data"]) == 80
        return cell

    cell = asyncio.run(main())
    wanted = [Outcome.ERROR, Outcome.MISS] if how == "left" else [Outcome.MISS, Outcome.HIT]
    assert [call.outcome for call in cell.calls] == wanted


def test_a_large_answer_that_breaks_off_is_the_callers_error(isolated, server):
    """What is read aside raises what it would, leaves nobody waiting, and is asked for again the next time."""
    aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
    body = {"model": MODEL, "input": texts(*range(80)), "dimensions": 8}

    async def main():
        async with aiohttp.ClientSession() as session:
            with llm_cache() as cell:
                server.fail_next(Fault.STREAM_CUT)
                async with session.post(f"{server.openai_url}/embeddings", json=body) as response:
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await response.json()
                async with session.post(f"{server.openai_url}/embeddings", json=body) as response:
                    assert len((await response.json())["data"]) == 80
        return cell

    cell = asyncio.run(main())
    assert [call.outcome for call in cell.calls] == [Outcome.ERROR, Outcome.MISS]
    assert len(server.requests) == 2


def test_a_batch_that_can_not_be_looked_up_is_asked_for(isolated, server, monkeypatch):
    """What fails in that thread breaks no call, and whoever goes away leaves nobody waiting."""

    def fails(*_, **__):
        raise RuntimeError("of ours")

    async def main():
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
            with llm_cache() as cell:
                with monkeypatch.context() as patch:
                    patch.setattr(keeping_parts.PartsKeeper, "find", fails)
                    assert len((await embed(client, texts(*range(100)), dimensions=8)).data) == 100
                gone = asyncio.ensure_future(embed(client, texts(*range(100)), dimensions=8))
                await asyncio.sleep(0)
                gone.cancel()
                with suppress(asyncio.CancelledError):
                    await gone
                answer = await asyncio.wait_for(embed(client, texts(*range(100)), dimensions=8), 60)
                assert len(answer.data) == 100
        return cell

    cell = asyncio.run(main())
    assert cell.calls[-1].outcome in {Outcome.MISS, Outcome.HIT}
