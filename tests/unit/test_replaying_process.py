"""``GENAI_CACHE_MODE=replay``: no call of the process reaches a model, wherever it is made."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.asking.placeholders import PLACEHOLDER
from genai_cache_magic.api.scopes.process import process
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
import asyncio, queue, sys, threading
import openai
import genai_cache_magic
from genai_cache_magic.errors import ReplayMiss

url = sys.argv[1]
client = openai.OpenAI(base_url=url, max_retries=2)
print(len(sys.modules["genai_cache_magic"].__all__) > 0)

def ask(text):
    try:
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}]).id
    except ReplayMiss:
        return "miss"

async def aask(text):
    try:
        async with openai.AsyncOpenAI(base_url=url) as aclient:
            return (await aclient.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])).id
    except ReplayMiss:
        return "miss"

found = [ask("new")]
thread = threading.Thread(target=lambda: found.append(ask("thread")))
thread.start()
thread.join()
async def main():
    found.extend(await asyncio.gather(aask("a"), aask("b"), asyncio.to_thread(ask, "c")))
asyncio.run(main())
print(found == ["miss"] * 5, ask("known") != "miss")

work = queue.Queue()
def consume():
    while True:
        work.get()
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "queue"}])
        work.task_done()
threading.Thread(target=consume, daemon=True).start()
work.put(1)
work.join()
"""


@pytest.fixture
def in_force(isolated, monkeypatch):
    """The process of the tests replays for a while."""
    monkeypatch.setenv("GENAI_CACHE_MODE", "replay")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    process.put_in_force()
    yield
    process.end()


def ask(client, text="hello"):
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def test_script(isolated, unique_server, tmp_path):
    """After the first import of the package no call of a script goes out, and a wait for a lost worker ends."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache():
        ask(client, "known")
    reset_session()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(
        [sys.executable, str(script), unique_server.openai_url],
        env={**environment, "GENAI_CACHE_MODE": "replay"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True"] * 3, done.stderr
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("genai_cache_magic.errors.ReplayMiss: m: not in the cache")
    assert unique_server.count == 1


def test_threads_and_tasks_of_no_scope(in_force, unique_server):
    """Threads that were there before, tasks and plain code: all of them replay."""
    ready, found = threading.Event(), []

    def later():
        ready.wait()
        with openai.OpenAI(base_url=unique_server.openai_url) as client:
            with pytest.raises(ReplayMiss):
                ask(client)
            found.append(client.api_key)

    process.end()
    thread = threading.Thread(target=later)
    thread.start()
    process.put_in_force()
    ready.set()
    thread.join()
    assert found == [PLACEHOLDER]

    async def main():
        async with openai.AsyncOpenAI(base_url=unique_server.openai_url) as client:
            return await asyncio.gather(*(ask(client) for _ in range(2)), return_exceptions=True)

    assert {type(error).__name__ for error in asyncio.run(main())} == {"ReplayMiss"}
    assert unique_server.count == 0


def test_block_of_another_mode(in_force, unique_server):
    """A block that asks for another mode has it, and the process is in force again afterwards."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        with llm_cache(mode="use") as cell:
            known = ask(client)
        assert [call.outcome for call in cell.calls] == [Outcome.MISS]
        assert ask(client) == known
        with pytest.raises(ReplayMiss):
            ask(client, "unknown")
        with llm_cache(), pytest.raises(ReplayMiss):
            ask(client, "unknown")
    assert unique_server.count == 1


def test_wrong_setting_lets_nothing_out(in_force, unique_server, monkeypatch):
    """A setting that can't be used is said by the call, which is not made."""
    monkeypatch.setenv("GENAI_CACHE_TTL", "soon")
    reset_session()
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, pytest.raises(ReplayMiss) as caught:
        ask(client)
    assert "ttl" in str(caught.value)
    assert unique_server.count == 0


def test_end(in_force, unique_server):
    """What was put in force ends, once, and may be put in force again."""
    process.put_in_force()
    process.end()
    process.end()
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        ask(client)
    assert unique_server.count == 1
    assert os.environ.get("OPENAI_API_KEY") != PLACEHOLDER
