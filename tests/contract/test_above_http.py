"""Hits above HTTP: of the entries that are made and found at HTTP level, with the very answers that are given there."""

from __future__ import annotations

import functools
import logging

import httpx
import httpx2
import openai
import pydantic
import pytest
from sdk_forms import CHAT, FORMS, asked, carried_by_http, chat, http_client, left_unclosed, made, open_ai, shown  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept.stainless import client as stainless
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.testing.model_server import Fault


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FORMS)
def test_one_entry(isolated, unique_server, by_http, name, is_async):
    """What is stored at HTTP level is given above it and the other way round, alike in all that can be told.

    However often it is asked for, and in mode replay; at HTTP level nothing is seen of what is answered above.
    """

    def ask(*, is_hooked):
        return shown(asked(made(name, unique_server.url, is_async=is_async, is_hooked=is_hooked), is_async=is_async))

    with llm_cache() as scope:
        ask(is_hooked=True)
        below = ask(is_hooked=True)
        assert len(by_http) == 2
        assert [ask(is_hooked=False) for _ in range(4)] == [below] * 4
        assert len(by_http) == 2
    assert (scope.hits, scope.misses, scope.bypassed, scope.troubles) == (5, 1, 0, ())
    with llm_cache(salt="again") as scope:
        ask(is_hooked=False)
        assert len(by_http) == 3
        below = ask(is_hooked=True)
    with llm_cache(salt="again", mode="replay") as replayed:
        assert ask(is_hooked=False) == below
    assert (scope.hits, scope.misses, replayed.hits) == (1, 1, 1)
    assert scope.troubles == replayed.troubles == ()
    assert (len(by_http), unique_server.count) == (4, 2)


@pytest.mark.parametrize("is_hooked", [False, True], ids=["above", "by HTTP"])
def test_headers_of_a_hit_are_its_callers_own(isolated, unique_server, is_hooked):
    """What a caller changes in the headers of an answer is in nobody else's."""
    client, call = made("chat, raw", unique_server.url, is_async=False, is_hooked=is_hooked)
    with llm_cache() as scope, client:
        call(client)
        told = [*call(client).headers.multi_items()]
        for _ in range(2):
            headers = call(client).headers
            assert [*headers.multi_items()] == told
            headers["content-length"] = "0"
            headers["x-changed"] = "1"
    assert (scope.hits, scope.misses) == (3, 1)


def test_whoever_reads_the_log(isolated, unique_server, caplog):
    """Who listens to what an SDK notes of requests reads the same lines of a hit as of a miss, from that moment on."""
    name = "openai"

    def lines(client, **more):
        caplog.clear()
        chat(client, **more)
        return [record.msg for record in caplog.records if record.name.startswith(name)]

    with llm_cache(), openai.OpenAI(**open_ai(unique_server.url)) as client:
        for _ in range(2):  # for nobody: that is remembered
            assert lines(client) == []
        with caplog.at_level(logging.DEBUG, logger=name):
            hit = lines(client)
            missed = lines(client, seed=1)
        assert lines(client) == []
    assert hit == missed != []


def test_each_gets_an_answer_of_its_own(isolated, unique_server):
    """What a caller changes in an answer is in nobody else's."""
    with llm_cache(), openai.OpenAI(**open_ai(unique_server.url)) as client:
        told = chat(client).choices[0].message.content
        for _ in range(4):
            answer = chat(client)
            assert answer.choices[0].message.content == told
            answer.choices[0].message.content = "changed"
            answer.choices.clear()


@pytest.mark.parametrize("times", range(1, 5))
def test_a_stream_that_is_left(isolated, unique_server, times):
    """A stream that its caller leaves, or closes unread, is closed, however it makes its events, and is whole again."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        whole = [shown(event) for event in chat(client, stream=True)]
        for _ in range(times):
            stream = chat(client, stream=True)
            assert shown(next(stream)) == whole[0]
            stream.close()
            assert stream.response.is_closed
        with chat(client, stream=True) as stream:
            assert [shown(event) for event in stream] == whole
        assert stream.response.is_closed
        assert list(stream) == []
        unread = chat(client, stream=True)
        unread.close()
        with pytest.raises(httpx2.StreamClosed):
            next(unread)
    assert (scope.hits, scope.misses, scope.troubles) == (times + 2, 1, ())


def test_a_miss_in_replay(isolated, unique_server, by_http):
    """In mode replay a miss is raised as it is, and nothing is sent."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        chat(client)
    assert by_http == []
    assert unique_server.count == 0


def test_a_call_that_fails_before_it_is_sent(isolated, unique_server):
    """A call without a credential fails as without us, with a stored answer or none, and nobody waits for it."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        chat(client)
        client.api_key = ""
        for _ in range(2):
            with pytest.raises(TypeError, match="authentication"):
                chat(client)
        client.api_key = "simulated"
        chat(client)
    assert (scope.hits, scope.misses) == (1, 1)


def test_errors_are_retried(isolated, unique_server, no_pause_between_retries):
    """A call that failed is made again by the SDK, each one recorded; what it got in the end is a hit afterwards."""
    unique_server.fail_next(Fault.SERVER_ERROR)
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        answer = chat(client)
        assert shown(chat(client)) == shown(answer)
    assert [call.outcome.value for call in scope.calls] == ["error", "miss", "hit"]
    assert scope.troubles == ()


def test_an_http_client_of_the_other_generation(isolated, unique_server, by_http):
    """An SDK that is given a client of the older HTTP library is served above it, too."""
    options = open_ai(unique_server.url)
    with llm_cache() as scope:
        for _ in range(3):
            with openai.OpenAI(**options, http_client=http_client(is_hooked=False, library=httpx)) as client:
                chat(client)
    assert len(by_http) == 1
    assert (scope.hits, scope.misses, scope.troubles) == (2, 1, ())


def test_a_parser_that_refuses(isolated, unique_server):
    """What a helper raises about an answer is raised of a hit, too."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        for _ in range(3):
            with pytest.raises(pydantic.ValidationError):
                client.chat.completions.parse(**CHAT, response_format=Unmet)
    assert scope.hits + scope.misses == 3


class Unmet(pydantic.BaseModel):
    """What no answer fits, though its schema says so nowhere."""

    word: str

    @pydantic.field_validator("word")
    @classmethod
    def refuse(cls, value):
        raise ValueError("unmet")


FAMILY = {
    "groq": ("groq", "Groq", {}),
    "cerebras-cloud-sdk": ("cerebras.cloud.sdk", "Cerebras", {"warm_tcp_connection": False}),
    "together": ("together", "Together", {}),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FAMILY)
def test_another_of_the_family(isolated, unique_server, by_http, name, is_async):
    """What the same generator has made for others is served above HTTP, too: whole answers and streams."""
    package, kind, options = FAMILY[name]
    sdk = pytest.importorskip(package, reason=f"pip install --no-deps {name}, and detect-agent for together")
    client = getattr(sdk, f"Async{kind}" if is_async else kind)
    options = {"api_key": "simulated", "base_url": unique_server.url, **options}
    with llm_cache() as scope:
        for more in ({}, {"stream": True}):
            answers = [
                shown(asked((client(**options), functools.partial(chat, **more)), is_async=is_async)) for _ in range(5)
            ]
            assert answers == [answers[0]] * 5
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 9, 1, ())


def test_a_release_that_is_built_differently(isolated, monkeypatch):
    """It is served at HTTP level, which the doctor says."""
    assert stainless.slower() == ()

    def request(self, cast_to, options, remaining_retries):
        """Stands for what another release has."""

    monkeypatch.setattr(openai._base_client.SyncAPIClient, "request", request)
    assert stainless.patches(openai._base_client) == []
    said = [finding.says for finding in examine(Session()) if "given by HTTP" in finding.says]
    assert len(said) == 1
    assert said[0].startswith(f"hits of openai {openai.__version__} ")
