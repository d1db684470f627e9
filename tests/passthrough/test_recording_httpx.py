"""Which answers are recorded through httpx and httpx2, whole and as they came, and that recording changes nothing."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging

import pytest
from passthrough.httpx_calls import ANSWER, BODY, MARKS, MODEL_URL, answering, both, post

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import SimulatedModelServer


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@both
async def test_failing_response_hook_is_raised(isolated, module, colour):
    """What a hook raises reaches the caller, and the answer is not stored."""

    def after(response):
        response.read()
        raise ZeroDivisionError

    async def aafter(response):
        await response.aread()
        raise ZeroDivisionError

    hooks = {"response": [after if colour == "sync" else aafter]}
    transport = answering(module)
    with llm_cache() as cell:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await post(module, colour, MODEL_URL, transport=transport.transport, event_hooks=hooks, times=1)
    assert [call.stored for call in cell.calls] == [False, False]


@both
async def test_hook_that_changes_the_request(isolated, module, colour):
    """An answer to what a hook made of the request is not stored under what was asked at first."""
    transport = answering(module)

    def change(request):
        request.headers["anthropic-beta"] = "another-model-behind"

    async def achange(request):
        change(request)

    hooks = {"request": [change if colour == "sync" else achange]}
    with llm_cache() as cell:
        await post(module, colour, MODEL_URL, transport=transport.transport, event_hooks=hooks)
    assert len(transport.calls) == 2
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, "changed after it was looked up")] * 2


def another_stream(module, kind, body):
    """What sends `body`: the library's own, one of somebody else's, or one that makes it as it goes."""
    if kind == "own":
        return module.ByteStream(body)

    class Theirs(module.SyncByteStream, module.AsyncByteStream):
        def __init__(self):
            self._stream = body

        def __iter__(self):
            yield self._stream

        async def __aiter__(self):
            yield self._stream

    return Theirs()


@pytest.mark.parametrize("kind", ["own", "theirs"])
@both
async def test_hook_that_puts_another_body_in_its_place(isolated, module, colour, kind):
    """What a hook sends in the place of a body is not stored as the answer to that body, which httpx still holds."""
    transport = answering(module)
    other = json.dumps({**BODY, "model": "another"}).encode()

    def change(request):
        request.stream = another_stream(module, kind, other)
        request.headers["content-length"] = str(len(other))

    async def achange(request):
        change(request)

    hooks = {"request": [change if colour == "sync" else achange]}
    with llm_cache() as cell:
        await post(module, colour, MODEL_URL, transport=transport.transport, event_hooks=hooks)
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, "changed after it was looked up")] * 2
    assert len(transport.calls) == 2


@both
async def test_a_body_that_was_put_in_its_place_before(isolated, module, colour):
    """A request is known by the body that it is sent with, not by the one that it was made with."""
    transport = answering(module)
    other = json.dumps({**BODY, "model": "another"}).encode()
    request = module.Request("POST", MODEL_URL, json=BODY)
    request.stream = module.ByteStream(other)
    request.headers["content-length"] = str(len(other))
    with llm_cache() as cell:
        if colour == "sync":
            with module.Client(transport=transport.transport) as client:
                client.send(request)
        else:
            async with module.AsyncClient(transport=transport.transport) as client:
                await client.send(request)
        await post(module, colour, MODEL_URL, transport=transport.transport, times=1)
        await post(module, colour, MODEL_URL, transport=transport.transport, times=1, body=json.loads(other))
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]


class Rounds:
    """Makes an authentication that is sent away once, for a module: token, 401, then the answer."""

    def __init__(self, module):
        outer = self
        self.module = module
        self.log = []

        class Auth(module.Auth):
            requires_response_body = True

            def auth_flow(self, request):
                token = yield module.Request("POST", "https://login.example.com/token", json={"a": 1})
                request.headers["authorization"] = token.json()["token"] + "-stale"
                response = yield request
                if response.status_code == 401:
                    assert response.json() == {"error": "stale"}
                    request.headers["authorization"] = token.json()["token"]
                    yield request

        self.auth = Auth()

        def handle(request):
            outer.log.append((request.url.host, request.headers.get("authorization", "")))
            if request.url.path == "/token":
                return module.Response(200, json={"token": "t"})
            is_stale = request.headers["authorization"].endswith("stale")
            return module.Response(401, json={"error": "stale"}) if is_stale else module.Response(200, json=ANSWER)

        self.transport = module.MockTransport(handle)


@both
async def test_authentication_rounds(isolated, module, colour):
    """Of an authentication's rounds only the answer is recorded, and a hit asks nobody for a token."""
    rounds = Rounds(module)
    with llm_cache() as cell:
        first, second = await post(module, colour, MODEL_URL, transport=rounds.transport, auth=rounds.auth)
    assert [host for host, _ in rounds.log] == ["login.example.com", "api.openai.com", "api.openai.com"]
    assert first.json() == second.json() == ANSWER
    assert [response.status_code for response in first.history] == [200, 401]
    assert second.history == []
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.MISS, True), (Outcome.HIT, True)]


@both
async def test_refused_authentication_is_not_stored(isolated, module, colour):
    """A 401 that authentication can't help is given to the caller and asked again by the next."""
    transport = module.MockTransport(lambda _: module.Response(401, json={"error": {"message": "no"}}))
    with llm_cache() as cell:
        first, second = await post(module, colour, MODEL_URL, transport=transport, auth=("user", "secret"))
    assert [first.status_code, second.status_code] == [401, 401]
    assert cell.errors == 2


@both
async def test_redirects(isolated, module, colour):
    """A followed redirect's last answer is recorded; a hit goes nowhere, and has no history."""
    with SimulatedModelServer("unique") as server, llm_cache() as cell:
        url = f"{server.url}/redirect/v1/chat/completions"
        first, second = await post(module, colour, url, send={"follow_redirects": True})
        assert server.count == 1
    assert [response.status_code for response in (first, *first.history)] == [200, 307]
    assert (second.history, second.content) == ([], first.content)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


@both
async def test_redirect_that_is_not_followed(isolated, module, colour):
    """A redirect that the client hands to its caller is no answer: it comes each time anew, at once."""
    with SimulatedModelServer() as server, llm_cache() as cell:
        url = f"{server.url}/redirect/v1/chat/completions"
        first, second = await post(module, colour, url, stream=True)
    for response in (first, second):
        assert response.status_code == 307
        assert response.next_request.url.path == "/v1/chat/completions"
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.ERROR, "status 307")] * 2


@both
async def test_mounted_transport_is_used_and_spared(isolated, module, colour):
    """A miss goes through the transport that is mounted for its URL, a hit through none."""
    mounted, other = answering(module), answering(module)
    with llm_cache() as cell:
        await post(
            module, colour, MODEL_URL, transport=other.transport, mounts={"https://api.openai.com": mounted.transport}
        )
    assert (len(mounted.calls), len(other.calls)) == (1, 0)
    assert (cell.misses, cell.hits) == (1, 1)


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_transport_that_delivers_the_whole_answer(isolated, module, colour, stream):
    """An answer that its transport has read already, decoded, is recorded as it is."""
    packed = {"content": gzip.compress(json.dumps(ANSWER).encode()), "headers": {"content-encoding": "gzip"}}
    transport = answering(module, **packed)
    with llm_cache() as cell:
        first, second = await post(module, colour, MODEL_URL, transport=transport.transport, stream=stream)
    assert first.json() == second.json() == ANSWER
    assert "content-encoding" not in second.headers
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())


@both
async def test_header_beyond_ascii(isolated, module, colour):
    """A header value that is not ASCII comes back byte for byte."""
    transport = answering(module, json=ANSWER, headers=[(b"X-Name", "Jörg".encode()), (b"x-raw", b"\xff")])
    with llm_cache() as cell:
        _, hit = await post(module, colour, MODEL_URL, transport=transport.transport)
    assert (b"x-raw", b"\xff") in hit.headers.raw
    assert ("Jörg".encode()) in dict(hit.headers.raw).values()
    assert (cell.hits, cell.troubles) == (1, ())


@both
async def test_json_without_a_length_is_replayed_without(isolated, module, colour):
    """A replay tells its length only if the original did."""

    async def pieces():
        yield json.dumps(ANSWER).encode()

    def make(request):
        content = pieces() if colour == "async" else iter([json.dumps(ANSWER).encode()])
        return module.Response(200, content=content, headers={"content-type": "application/json"})

    with llm_cache():
        miss, hit = await post(module, colour, MODEL_URL, transport=module.MockTransport(make))
    assert "content-length" not in miss.headers
    assert set(hit.headers) == {"content-type", *MARKS}


@both
@pytest.mark.parametrize("status", [204, 304, 404, 503])
async def test_other_statuses_are_the_callers(isolated, module, colour, status):
    """An answer that is none is given to the caller as it is, and never stored."""
    transport = module.MockTransport(lambda _: module.Response(status))
    with llm_cache() as cell:
        first, second = await post(module, colour, MODEL_URL, transport=transport)
    assert (first.status_code, second.status_code) == (status, status)
    assert not any(call.stored for call in cell.calls)
    assert len(cell.calls) == 2
    assert cell.troubles == ()


@both
async def test_unread_json_is_not_stored(isolated, module, colour):
    """A whole answer that its caller closes unread was not seen by us either."""
    with SimulatedModelServer() as server, llm_cache() as cell:
        url = f"{server.openai_url}/chat/completions"
        responses = await post(module, colour, url, times=1, stream=True, read=False)
        close = responses[0].close if colour == "sync" else responses[0].aclose
        done = close()
        if colour == "async":
            await done
            await responses[0].aclose()
        else:
            responses[0].close()
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.ERROR, False)]


@both
async def test_connection_is_released_as_without_us(isolated, module):
    """After an early close the pool holds no connection in use, with and without a scope."""

    def in_use(client):
        return [connection.info() for connection in client._transport._pool.connections if not connection.is_idle()]

    with SimulatedModelServer() as server, module.Client() as client:
        url = f"{server.openai_url}/chat/completions"

        def leave():
            with client.stream("POST", url, json={**BODY, "stream": True}) as response:
                next(response.iter_lines())
            return in_use(client)

        plain = leave()
        with llm_cache() as cell:
            assert leave() == plain == []
        assert cell.calls[0].stored is False
    async with module.AsyncClient() as client:
        with SimulatedModelServer() as server, llm_cache() as cell:
            async with client.stream(
                "POST", f"{server.openai_url}/chat/completions", json={**BODY, "stream": True}
            ) as response:
                await anext(response.aiter_lines())
            assert in_use(client) == []
        assert cell.calls[0].stored is False


@both
async def test_source_is_cleaned_up_as_without_us(isolated, module):
    """An asynchronous source that is left early is closed when, and as often as, it is without a scope."""

    class Source(module.AsyncByteStream):
        def __init__(self, log):
            self.log = log

        async def __aiter__(self):
            try:
                while True:
                    yield b"data: {}\n\n"
            finally:
                self.log.append("left")

        async def aclose(self):
            self.log.append("closed")

    async def leave():
        log = []
        transport = module.MockTransport(lambda _: module.Response(200, stream=Source(log)))
        async with (
            module.AsyncClient(transport=transport) as client,
            client.stream("POST", MODEL_URL, json=BODY) as response,
        ):
            async with contextlib.aclosing(response.aiter_raw()) as parts:
                await anext(parts)
            before = [*log]
        return before, log

    plain = await leave()
    with llm_cache() as cell:
        assert await leave() == plain
    assert "closed" in plain[1]
    assert [call.stored for call in cell.calls] == [False]


@both
def test_hit_logs_no_request(isolated, module, caplog):
    """The client's own log of requests names those that were sent, and no hit."""
    caplog.set_level(logging.INFO, logger=module.__name__)
    with llm_cache(), module.Client(transport=answering(module).transport) as client:
        for _ in range(3):
            client.post(MODEL_URL, json=BODY)
    assert len([record for record in caplog.records if record.name == module.__name__]) == 1


@both
def test_too_large_is_passed_on(isolated, module, monkeypatch):
    """An answer beyond the limit reaches the caller whole, is not stored, and the record says why."""
    monkeypatch.setenv("GENAI_CACHE_MAX_RESPONSE", "1000")
    big = json.dumps({**ANSWER, "padding": "x" * 2000}).encode()
    packed = {"content": iter([gzip.compress(big)]), "headers": {"content-encoding": "gzip"}}
    with llm_cache() as cell:
        for answer in ({"content": iter([big[:900], big[900:]])}, packed):
            with module.Client(transport=answering(module, **answer).transport) as client:
                assert client.post(MODEL_URL, json=BODY).content == big
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.REFUSED, False)] * 2
    assert all("too large" in call.reason for call in cell.calls)
    assert cell.troubles == ()


@both
def test_early_close_of_a_compressed_stream(isolated, module):
    """A compressed stream that is left in the middle is no trouble, and not stored."""
    with SimulatedModelServer(gzip=True) as server, llm_cache() as cell, module.Client() as client:
        url = f"{server.openai_url}/chat/completions"
        with client.stream("POST", url, json={**BODY, "stream": True}) as response:
            next(response.iter_lines())
        with client.stream("POST", url, json={**BODY, "stream": True}) as response:
            list(response.iter_raw())
        assert client.post(url, json={**BODY, "stream": True}).headers["x-genai-cache"] == "hit"
    assert [call.stored for call in cell.calls] == [False, True, True]
    assert cell.troubles == ()
