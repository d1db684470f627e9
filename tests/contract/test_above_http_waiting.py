"""Who waits above HTTP for another one's answer: in tasks and threads, as long as by HTTP, and who is left to lead."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from sdk_forms import CHAT, MESSAGES, carried_by_http, chat, left_unclosed, open_ai, shown  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.intercept.clients import httpx as http_level
from genai_cache_magic.intercept.stainless.asked import Posted, Requested
from genai_cache_magic.intercept.stainless.kit import kit_of

ANSWERED = (None, False, None)  # as what, in a stream, of which kind


def test_a_coroutine_that_is_closed_elsewhere(isolated, unique_server):
    """A call that waits before it is sent is closed in another context without a sound, and nobody waits for it."""

    async def ask():
        with llm_cache() as scope:
            async with openai.AsyncOpenAI(**open_ai(unique_server.url)) as client:
                left = chat(client)
                waits_for = contextvars.copy_context().run(left.send, None)  # for what the SDK asks of the machine
                left.close()
                waits_for.cancel()
                await asyncio.wait_for(chat(client), 60)
        return scope

    scope = asyncio.run(ask())
    assert [call.outcome.value for call in scope.calls] == ["error", "miss"]
    assert scope.troubles == ()


class Held(httpx2.AsyncBaseTransport):
    """Holds what is sent until it may go on."""

    def __init__(self):
        self.sent = []
        self.inner = httpx2.AsyncHTTPTransport()
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request):
        self.sent.append(request.content)
        self.is_asked.set()
        await self.may_go_on.wait()
        return await self.inner.handle_async_request(request)

    async def aclose(self):
        await self.inner.aclose()


def test_who_waits_is_answered_above_http(isolated, unique_server, by_http):
    """Of the tasks that ask one thing at one time only the one that asks the model goes by HTTP."""

    async def ask():
        async with openai.AsyncOpenAI(**open_ai(unique_server.url)) as client:
            return await asyncio.gather(*(chat(client) for _ in range(8)))

    with llm_cache() as scope:
        answers = asyncio.run(ask())
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 7, 1, ())
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_a_thread_that_waits_is_answered_above_http(isolated, unique_server, by_http):
    """So it is in threads."""
    transport = Blocking()
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        http = httpx2.Client(transport=transport)
        with openai.OpenAI(**open_ai(unique_server.url), http_client=http) as first, ThreadPoolExecutor(2) as pool:
            leader = pool.submit(llm_cache.wrap(chat), first)
            assert transport.is_asked.wait(30)
            follower = pool.submit(llm_cache.wrap(chat), client)
            transport.may_go_on.set()
            assert shown(leader.result()) == shown(follower.result())
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 1, 1, ())


@pytest.mark.parametrize("of_client", [20, None, httpx2.Timeout(9, read=7)])
@pytest.mark.parametrize("of_call", [openai.NOT_GIVEN, 3, None, httpx2.Timeout(9, read=5), httpx2.Timeout(None)])
def test_who_waits_is_as_patient_as_by_http(of_client, of_call):
    """A call above HTTP waits for another one as long as its HTTP client would wait for an answer."""
    with openai.OpenAI(api_key="simulated", timeout=of_client) as client:
        options = openai._models.FinalRequestOptions(method="post", url="/chat/completions", timeout=of_call)
        read = http_level._read_timeout(client._client, client._build_request(options))
        given = openai._base_client.make_request_options(timeout=of_call)
        for asked in (Requested(options, *ANSWERED), Posted("/chat/completions", {}, given, *ANSWERED)):
            assert kit_of("openai").patience_s(client, asked) == read


class Blocking(httpx2.BaseTransport):
    """Holds what is sent until it may go on, in a thread."""

    def __init__(self):
        self.inner = httpx2.HTTPTransport()
        self.is_asked, self.may_go_on = threading.Event(), threading.Event()

    def handle_request(self, request):
        self.is_asked.set()
        assert self.may_go_on.wait(30)
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


def test_who_has_waited_asks_what_it_asked_before(isolated, unique_server):
    """One who leads on sends what it was called with, though its caller has gone on with the same list since."""

    async def ask():
        transport = Held()
        http = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(**open_ai(unique_server.url), http_client=http) as client:
            messages = [dict(message) for message in MESSAGES]
            leader, follower = (
                asyncio.ensure_future(client.chat.completions.create(model=CHAT["model"], messages=own, **more))
                for own in (MESSAGES, messages)
            )
            await transport.is_asked.wait()  # the other one has begun by then
            messages[0]["content"] = "Be verbose."
            messages.append({"role": "user", "content": "And now?"})
            leader.cancel()
            transport.may_go_on.set()
            await follower
        return transport.sent

    more = {"extra_body": {"b": 1.5}, "stop": ["é"], "temperature": 1e-7, "seed": 2**53}
    with llm_cache() as scope:
        sent = asyncio.run(ask())
    assert (len(sent), len(set(sent)), scope.troubles) == (2, 1, ())
    assert [call.outcome.value for call in scope.calls] == ["error", "miss"]
