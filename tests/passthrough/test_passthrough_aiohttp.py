"""Below aiohttp, a call that isn't cached is sent and answered as without us, and a replay is a real response."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault

aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")

BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**BODY, "stream": True}
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


async def generated():
    yield b'{"model": "m", '
    yield b'"messages": [{"role": "user", "content": "hello"}]}'


CALLS = {
    "get": ("GET", "/a?b=c", dict),
    "params": ("GET", "/a", lambda: {"params": {"d": "e"}}),
    "post-elsewhere": ("POST", "/api", lambda: {"json": {"a": 1}}),
    "post-form": ("POST", "/api", lambda: {"data": {"a": "1"}}),
    "put": ("PUT", CHAT, lambda: {"json": BODY}),
    "generator": ("POST", CHAT, lambda: {"data": generated(), "headers": JSON}),
    "unkeyable": ("POST", CHAT, lambda: {"data": b'{"messages": [NaN]}', "headers": JSON}),
    "redirect": ("POST", "/redirect/there", lambda: {"json": BODY}),
    "no-redirect": ("POST", "/redirect/there", lambda: {"json": BODY, "allow_redirects": False}),
    "model-call": ("POST", CHAT, lambda: {"json": BODY, "headers": {"x-a": "b"}, "cookies": {"c": "d"}}),
    "text": ("POST", CHAT, lambda: {"data": json.dumps(BODY), "headers": JSON}),
}


@pytest.fixture
async def echo():
    """A server that answers with what it was asked, as it came."""

    async def answer(request):
        told = [request.method, request.path_qs, sorted(request.headers.items()), (await request.read()).decode()]
        if request.path.startswith("/redirect/"):
            raise aiohttp.web.HTTPTemporaryRedirect("/there")
        return aiohttp.web.json_response(told, headers={"set-cookie": "a=b", "x-answer": "yes"})

    import aiohttp.web

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


async def described(name, url):
    """What server and caller see of a call."""
    method, path, options = CALLS[name]
    async with aiohttp.ClientSession() as session, session.request(method, url + path, **options()) as response:
        return {
            "said": await response.text(),
            "status": (response.status, response.reason, response.url, response.version),
            "headers": {n: v for n, v in response.headers.items() if n != "Date"},
            "cookies": {name: morsel.value for name, morsel in response.cookies.items()},
            "history": [earlier.status for earlier in response.history],
            "content": type(response.content),
        }


@pytest.mark.parametrize("name", CALLS)
async def test_server_is_asked_the_same(isolated, echo, name):
    """Below and above, everything is as without us: with no scope, and with a scope of any mode."""
    plain = await described(name, echo)
    with llm_cache():
        pass
    assert await described(name, echo) == plain
    for mode in ("off", "read", "use", "refresh"):
        with llm_cache(mode=mode) as cell:
            assert await described(name, echo) == plain
        assert cell.troubles == ()


async def test_body_that_is_not_buffered_bypasses(isolated, echo):
    """A body that is a generator is sent as it is, and the cell says why it was not cached."""
    with llm_cache() as cell:
        await described("generator", echo)
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS]
    assert "streamed" in cell.calls[0].reason


async def test_one_entry_however_the_body_is_given(isolated, unique_server):
    """The same body as JSON, text or bytes, by a full URL or the session's base, is one entry."""
    text = json.dumps(BODY)
    with llm_cache() as cell:
        async with aiohttp.ClientSession(unique_server.url, headers=JSON) as session:
            for options in ({"json": BODY}, {"data": text}, {"data": text.encode()}):
                async with session.post(CHAT, **options) as response:
                    await response.read()
        async with aiohttp.request("POST", unique_server.url + CHAT, json=BODY) as response:
            await response.read()
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, *[Outcome.HIT] * 3]


def test_signatures_are_kept(isolated):
    """Wrapped methods stay coroutine functions, with name, documentation and signature: an SDK reads one of them."""
    places = ((aiohttp.ClientSession, "_request"), (aiohttp.BaseConnector, "connect"))
    before = [getattr(owner, name) for owner, name in places]
    with llm_cache():
        for (owner, name), original in zip(places, before, strict=True):
            method = getattr(owner, name)
            assert method is not original
            assert (inspect.signature(method), method.__doc__) == (inspect.signature(original), original.__doc__)
            assert inspect.iscoroutinefunction(method)


async def all_lines(content):
    return b"".join([line async for line in content])


async def all_of(pieces):
    return b"".join([piece async for piece in pieces])


async def by_http_chunk(content):
    return b"".join([piece async for piece, _ in content.iter_chunks()])


READINGS = {
    "read": lambda response: response.read(),
    "content-read": lambda response: response.content.read(),
    "lines": lambda response: all_lines(response.content),
    "chunked": lambda response: all_of(response.content.iter_chunked(100)),
    "any": lambda response: all_of(response.content.iter_any()),
    "chunks": lambda response: by_http_chunk(response.content),
}


@pytest.mark.parametrize("how", READINGS)
@pytest.mark.parametrize("body", [BODY, STREAMED])
async def test_every_way_to_read_is_recorded_and_replayed(isolated, unique_server, body, how):
    """However a caller reads a response, it is stored, and gives the same when it is replayed."""
    said = []
    with llm_cache() as cell:
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(unique_server.url + CHAT, json=body) as response:
                    said.append(await READINGS[how](response))
    assert said[0] == said[1]
    assert said[0]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


@pytest.fixture
async def serving():
    """Start a server that answers model calls by a given handler, and return their URL."""
    import aiohttp.web

    runners = []

    async def serve(handler):
        app = aiohttp.web.Application()
        app.router.add_post(CHAT, handler)
        runners.append(aiohttp.web.AppRunner(app))
        await runners[-1].setup()
        await aiohttp.web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return "http://{}:{}".format(*runners[-1].addresses[0]) + CHAT

    yield serve
    for runner in runners:
        await runner.cleanup()


def answer_of(text):
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


async def test_large_answer_is_replayed_whole(isolated, serving):
    """An answer that is larger than what aiohttp buffers passes, and is replayed, whole."""
    answer = answer_of("x" * 1_000_000)

    async def large(_):
        return aiohttp.web.Response(body=answer, content_type="application/json")

    url = await serving(large)
    with llm_cache() as cell:
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(url, json=BODY) as response:
                    assert await all_of(response.content.iter_chunked(1000)) == answer
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


async def test_end_that_comes_late_is_seen(isolated, serving):
    """An answer whose end comes only after its caller has taken all of it is whole."""
    may_end, answer = asyncio.Event(), answer_of("x")

    async def late(request):
        response = aiohttp.web.StreamResponse(headers=JSON)
        await response.prepare(request)
        await response.write(answer)
        await may_end.wait()
        return response

    url = await serving(late)
    with llm_cache() as cell:
        async with aiohttp.ClientSession() as session, session.post(url, json=BODY) as response:
            assert await response.content.readany() == answer
            may_end.set()
            assert await response.content.readany() == b""
    assert [call.stored for call in cell.calls] == [True]


@pytest.mark.parametrize("auto_decompress", [True, False])
@pytest.mark.parametrize("body", [BODY, STREAMED])
async def test_compressed_answer_is_replayed_to_anyone(isolated, unique_server, body, auto_decompress):
    """What came compressed, undone by aiohttp or by its caller, is replayed decoded."""
    headers = {"x-simulate-gzip": "1", "accept-encoding": "gzip"}
    with llm_cache() as cell:
        async with aiohttp.ClientSession(auto_decompress=auto_decompress) as session:
            async with session.post(unique_server.url + CHAT, json=body, headers=headers) as response:
                assert response.headers["content-encoding"] == "gzip"
                first = await response.read()
            async with session.post(unique_server.url + CHAT, json=body) as response:
                assert "content-encoding" not in response.headers
                second = await response.read()
    assert (first == second) is auto_decompress
    assert b"fp_simulated" in second
    assert cell.hits == 1


async def test_replay_does_not_enter_the_pool(isolated, unique_server):
    """After a hit, the next request to the same host is made on a real connection."""
    with llm_cache() as cell:
        async with aiohttp.ClientSession() as session:
            for seed in (1, 1, 2):
                async with session.post(unique_server.url + CHAT, json={**BODY, "seed": seed}) as response:
                    assert (await response.json())["choices"]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.MISS]
    assert unique_server.count == 2


async def test_error_status_is_as_ever(isolated, unique_server):
    """With ``raise_for_status`` an error is raised as without us, and is not stored."""
    with llm_cache() as cell:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            unique_server.fail_next(Fault.SERVER_ERROR)
            with pytest.raises(aiohttp.ClientResponseError):
                await session.post(unique_server.url + CHAT, json=BODY)
            async with session.post(unique_server.url + CHAT, json=BODY) as response:
                await response.read()
    assert [call.stored for call in cell.calls] == [False, True]


async def test_refused_connection_is_as_ever(isolated):
    """Nobody at home: the caller gets the error that it gets without us, and the cell has a failed call."""
    url = f"http://127.0.0.1:9{CHAT}"  # the discard port: nobody listens
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, json=BODY)
        with llm_cache() as cell, pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, json=BODY)
    assert [call.outcome for call in cell.calls] == [Outcome.ERROR]


async def test_connector_of_its_own_kind_is_said(isolated, unique_server):
    """A connector that connects in a way of its own could not be given a stored answer: its calls go past, visibly."""

    class Own(aiohttp.TCPConnector):
        async def connect(self, *args, **options):
            return await super().connect(*args, **options)

    with llm_cache() as cell:
        async with (
            aiohttp.ClientSession(connector=Own()) as session,
            session.post(unique_server.url + CHAT, json=BODY) as response,
        ):
            await response.read()
    assert ([call.outcome for call in cell.calls], unique_server.count) == ([Outcome.BYPASS], 1)


async def test_uninstalled_in_mid_stream(isolated, unique_server):
    """Uninstalling while a stream is read does it no harm."""
    unique_server.hold(after_events=1)
    with llm_cache():
        async with aiohttp.ClientSession() as session:
            response = await session.post(unique_server.url + CHAT, json=STREAMED)
            first = await response.content.readline()
            uninstall()
            unique_server.release()
            rest = await asyncio.wait_for(response.read(), 10)
    assert first.startswith(b"data: ")
    assert b"[DONE]" in rest
