"""What the cache does and leaves undone in each mode, and replays without a key."""

from __future__ import annotations

import asyncio
import os
import threading

import anthropic
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache, replay_credential
from genai_cache_magic.api.asking.placeholders import PLACEHOLDER, VARIABLES, Placeholders
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def client(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        yield client


def ask(client, text="hello", **more):
    question = {**QUESTION, "messages": [{"role": "user", "content": text}]}
    return client.chat.completions.create(**question, **more)


def outcomes(cell):
    return [(call.outcome, call.stored) for call in cell.calls]


def test_use(client, unique_server):
    """`use` serves what is there, and stores what is not."""
    with llm_cache(mode="use") as cell:
        assert ask(client) == ask(client)
    assert outcomes(cell) == [(Outcome.MISS, True), (Outcome.HIT, True)]
    assert unique_server.count == 1


def test_refresh(client, unique_server):
    """`refresh` asks although the answer is there, and others then get the new one."""
    with llm_cache():
        old = ask(client)
    with llm_cache(mode="refresh") as cell:
        new = ask(client)
    with llm_cache():
        assert ask(client).id == new.id != old.id
    assert outcomes(cell) == [(Outcome.MISS, True)]
    assert cell.calls[0].reason == "refresh asked for"
    assert unique_server.count == 2


def test_refresh_invalidates_before_it_asks(client, unique_server):
    """Once a refresh has begun, the old answer is served to nobody, even if the refresh fails."""
    with llm_cache():
        ask(client)
    unique_server.hold()
    with llm_cache(mode="refresh"), pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.05, max_retries=0))
    unique_server.release()
    with llm_cache() as cell:
        ask(client)
    assert [call.outcome for call in cell.calls] == [Outcome.STALE]


def test_read(client, unique_server):
    """`read` serves what is there, and keeps nothing of what it asks."""
    with llm_cache():
        known = ask(client)
    with llm_cache(mode="read") as cell:
        assert ask(client) == known
        assert ask(client, "new").id != ask(client, "new").id
    assert outcomes(cell) == [(Outcome.HIT, True), (Outcome.MISS, False), (Outcome.MISS, False)]
    assert unique_server.count == 3


def test_off(client, unique_server):
    """`off` takes no part, and says so."""
    with llm_cache():
        known = ask(client)
    with llm_cache(mode="off") as cell:
        assert ask(client).id != known.id
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.BYPASS, "mode off")]


def test_replay_hits(client, unique_server):
    """`replay` serves what is there with no key, no authentication and no connection."""
    with llm_cache():
        known, events = ask(client), [chunk.id for chunk in ask(client, "s", stream=True)]
    count = unique_server.count
    unique_server.stop()
    with llm_cache(mode="replay") as cell:
        assert ask(client) == known
        assert [chunk.id for chunk in ask(client, "s", stream=True)] == events
    assert (cell.hits, unique_server.count) == (2, count)


def test_replay_misses_are_raised_once(client, unique_server):
    """A `ReplayMiss` comes through each SDK as itself, on the first send, and is no `Exception`."""
    claude = anthropic.Anthropic(base_url=unique_server.url, api_key="k", max_retries=3)
    with llm_cache(mode="replay") as cell:
        with pytest.raises(ReplayMiss) as one:
            ask(client)
        with pytest.raises(ReplayMiss):
            ask(client, stream=True)
        with pytest.raises(ReplayMiss):
            claude.messages.create(model="claude-sonnet-5", max_tokens=5, messages=QUESTION["messages"])
        with (
            pytest.raises(ReplayMiss),
            claude.messages.stream(model="claude-sonnet-5", max_tokens=5, messages=QUESTION["messages"]),
        ):
            pass
    assert not isinstance(one.value, Exception)
    assert "hello" not in str(one.value)
    assert unique_server.count == 0
    assert len(cell.calls) == 4
    claude.close()


async def test_replay_miss_through_gather(isolated, unique_server):
    """A `ReplayMiss` in one of several tasks reaches whoever gathers them, as itself."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k")
    with llm_cache():
        known = await ask(client)

    async def replay():
        with llm_cache(mode="replay"):
            return await asyncio.gather(ask(client), ask(client, "unknown"))

    with pytest.raises(ReplayMiss):
        await replay()
    with llm_cache(mode="replay"):
        assert (await ask(client)) == known
    assert unique_server.count == 1
    await client.close()


def test_replay_lets_other_requests_pass(client, unique_server):
    """`replay` is about model calls: another request is made as ever."""
    with llm_cache(mode="replay") as cell:
        assert client.models.list().data
    assert cell.calls == ()


def test_replay_of_what_can_not_be_keyed(client, unique_server):
    """`replay` makes no call that it can't even look up."""

    def body():
        yield b"{}"

    with llm_cache(mode="replay"), httpx2.Client() as http, pytest.raises(ReplayMiss):
        http.post(
            f"{unique_server.openai_url}/chat/completions",
            content=body(),
            headers={"content-type": "application/json"},
        )
    assert unique_server.count == 0


def test_replay_with_a_cache_that_can_not_be_opened(isolated, unique_server, monkeypatch):
    """`replay` calls no model when the cache can't be opened; other modes let the call pass, visibly."""
    (isolated / "file").write_text("not a directory")
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "file" / "sub"))
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            ask(client)
        assert unique_server.count == 0
        with llm_cache() as cell:
            assert ask(client).id
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS]
    assert cell.troubles


def test_replay_needs_no_key(isolated, unique_server, monkeypatch):
    """With no key anywhere the SDKs' clients are made and replays are served."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with llm_cache(), openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        known = ask(client)
    with pytest.raises(openai.OpenAIError):
        openai.OpenAI()
    with llm_cache(mode="replay"):
        with openai.OpenAI(base_url=unique_server.openai_url) as keyless:
            assert ask(keyless) == known
        with anthropic.Anthropic(base_url=unique_server.url) as claude, pytest.raises(ReplayMiss):
            claude.messages.create(model="claude-sonnet-5", max_tokens=5, messages=QUESTION["messages"])
    assert not any(name in os.environ for name in VARIABLES)


def test_entra_users_replay(isolated, unique_server):
    """With `replay_credential` an Azure client of an Entra user replays what another recorded by key."""
    azure = {"azure_endpoint": unique_server.url, "api_version": "2024-10-21", "max_retries": 0}
    with llm_cache(), openai.AzureOpenAI(api_key="k", **azure) as client:
        known = ask(client)
    credential = replay_credential()
    with llm_cache(mode="replay"), openai.AzureOpenAI(azure_ad_token_provider=credential, **azure) as client:
        assert ask(client) == known
    assert unique_server.count == 1
    token = credential.get_token("https://cognitiveservices.azure.com/.default")
    assert token.token == PLACEHOLDER
    assert token.expires_on > 0
    credential.close()


class TestPlaceholders:
    def test_only_absent_variables_are_filled(self, monkeypatch):
        """A variable that is set stays as it is, an absent or empty one is filled, and all is as before at the end."""
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", "mine")
        monkeypatch.setenv("GROQ_API_KEY", "")
        before = dict(os.environ)
        placeholders = Placeholders()
        placeholders.fill()
        assert os.environ["OPENAI_API_KEY"] == "mine"
        assert os.environ["GROQ_API_KEY"] == os.environ["ANTHROPIC_API_KEY"] == PLACEHOLDER
        placeholders.take_back()
        assert dict(os.environ) == before

    def test_last_one_takes_back(self, monkeypatch):
        """Scopes that overlap share the placeholders until the last of them ends."""
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        placeholders = Placeholders()
        placeholders.fill()
        placeholders.fill()
        placeholders.take_back()
        assert os.environ["OPENAI_API_KEY"] == PLACEHOLDER
        placeholders.take_back()
        assert "OPENAI_API_KEY" not in os.environ

    def test_key_set_meanwhile_stays(self, monkeypatch):
        """A key that the user sets meanwhile is the user's, and stays."""
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        placeholders = Placeholders()
        placeholders.fill()
        monkeypatch.setenv("OPENAI_API_KEY", "mine")
        placeholders.take_back()
        assert os.environ["OPENAI_API_KEY"] == "mine"

    def test_failing_cell_takes_back(self, isolated, monkeypatch):
        """A cell that ends with an error takes its placeholders back too, in whatever thread."""
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)

        def run():
            with pytest.raises(ZeroDivisionError), llm_cache(mode="replay"):
                raise ZeroDivisionError

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "OPENAI_API_KEY" not in os.environ
