"""A call that isn't cached reaches the transport, and its answer the caller, exactly as without us."""

from __future__ import annotations

import asyncio
import inspect
import json

import httpx
import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.events import Outcome

MODULES = [httpx, httpx2]
MODEL_URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
CHOICE = {"message": {"content": "x"}, "finish_reason": "stop"}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}


class Recorder:
    """A transport that notes everything it is given, and answers with a stream."""

    def __init__(self, module):
        self.seen = []
        self.module = module

    def __call__(self, request):
        self.seen.append(
            {
                "method": request.method,
                "url": str(request.url),
                "headers": request.headers.raw,
                "extensions": dict(request.extensions),
                "body": request.read(),
            },
        )
        headers = [("X-Answer", "yes"), ("set-cookie", "a=b"), ("content-type", "text/plain")]
        return self.module.Response(200, headers=headers, content=iter([b"one", b"two"]))


def generated():
    yield b'{"model": "m", '
    yield b'"messages": [{"role": "user", "content": "hello"}]}'


async def agenerated():
    for part in generated():
        yield part


JSON = {"content-type": "application/json"}
NAN = b'{"model": "m", "messages": [{"role": "user", "content": NaN}]}'
FORM_DATA = {"content-type": "multipart/form-data; boundary=x"}
NAMED = {"X-Name": "\xe4".encode("latin-1"), "Accept": "x"}

CALLS = {
    "get": ("GET", "https://example.com/a?b=c", {}),
    "get-models": ("GET", "https://api.openai.com/v1/models", {}),
    "post-elsewhere": ("POST", "https://example.com/api", {"json": {"a": 1}}),
    "post-form": ("POST", "https://example.com/api", {"data": {"a": "1"}}),
    "multipart": ("POST", "https://api.openai.com/v1/audio/transcriptions", {"files": {"f": b"123"}}),
    "multipart-chat": ("POST", MODEL_URL, {"files": {"f": b"123"}, "headers": FORM_DATA}),
    "put": ("PUT", MODEL_URL, {"json": BODY}),
    "headers": ("POST", "https://example.com/", {"headers": NAMED, "content": b"\x00\xff"}),
    "options": ("POST", "https://example.com/", {"content": b"", "timeout": 3.5, "extensions": {"trace-me": 1}}),
    "unkeyable": ("POST", MODEL_URL, {"content": NAN, "headers": JSON}),
    "not-json": ("POST", MODEL_URL, {"content": b"{", "headers": JSON}),
    "files": ("POST", "https://api.openai.com/v1/files", {"json": BODY}),
    "batches": ("POST", "https://api.openai.com/v1/batches", {"json": BODY}),
    "count-tokens": ("POST", "https://api.anthropic.com/v1/messages/count_tokens", {"json": BODY}),
    "model-call": ("POST", MODEL_URL, {"json": BODY, "timeout": 7.0, "extensions": {"sni_hostname": "x"}}),
}


def build(client, name):
    method, url, options = CALLS[name]
    return client.build_request(method, url, **options)


def sent(module, name):
    """What the transport got and the caller received, of one call by a synchronous client."""
    recorder = Recorder(module)
    with module.Client(transport=module.MockTransport(recorder), headers={"x-client": "1"}) as client:
        response = client.send(build(client, name), stream=True)
        chunks = list(response.iter_raw())
        response.close()
    return recorder.seen, described(response), chunks


async def asent(module, name):
    recorder = Recorder(module)

    async def answer(request):
        response = recorder(request)
        return module.Response(response.status_code, headers=response.headers, content=agen(response.iter_raw()))

    async with module.AsyncClient(transport=module.MockTransport(answer), headers={"x-client": "1"}) as client:
        response = await client.send(build(client, name), stream=True)
        chunks = [chunk async for chunk in response.aiter_raw()]
        await response.aclose()
    return recorder.seen, described(response), chunks


async def agen(parts):
    for part in parts:
        yield part


def described(response):
    return {
        "status": response.status_code,
        "headers": response.headers.raw,
        "cookies": dict(response.cookies),
        "extensions": set(response.extensions),
        "history": response.history,
        "next": response.next_request,
        "encoding": response.encoding,
        "request": (response.request.method, str(response.request.url), response.request.headers.raw),
        "downloaded": response.num_bytes_downloaded,
        "closed": (response.is_closed, response.is_stream_consumed),
        "elapsed": response.elapsed.total_seconds() >= 0,
    }


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("module", MODULES)
async def test_bytes_are_the_same_everywhere(isolated, module, name):
    """Transport and caller see the same bytes, headers, extensions and flags: with no patch, no scope, or any scope."""
    plain, aplain = sent(module, name), await asent(module, name)
    with llm_cache():
        pass
    assert fixed(sent(module, name)) == fixed(plain)
    assert fixed(await asent(module, name)) == fixed(aplain)
    for mode in ("off", "read", "use", "refresh"):
        with llm_cache(mode=mode) as cell:
            assert fixed(sent(module, name)) == fixed(plain)
            assert fixed(await asent(module, name)) == fixed(aplain)
            assert cell.troubles == ()


def fixed(seen):
    """Without the random boundary of a multipart body."""
    text = repr(seen)
    marker = "multipart/form-data; boundary="
    if marker in text:
        boundary = text.partition(marker)[2].partition("'")[0]
        text = text.replace(boundary, "BOUNDARY")
    return text


@pytest.mark.parametrize("module", MODULES)
async def test_streamed_body_is_sent_as_it_is(isolated, module):
    """A body that a generator makes is not read ahead: the same chunks go out, and the cell says why uncached."""
    parts = []

    class Transport(module.BaseTransport, module.AsyncBaseTransport):
        def handle_request(self, request):
            parts.append(list(request.stream))
            return module.Response(200, json={})

        async def handle_async_request(self, request):
            parts.append([part async for part in request.stream])
            return module.Response(200, json={})

    headers = {"content-type": "application/json"}
    with llm_cache() as cell:
        with module.Client(transport=Transport()) as client:
            client.post(MODEL_URL, content=generated(), headers=headers)
        async with module.AsyncClient(transport=Transport()) as client:
            await client.post(MODEL_URL, content=agenerated(), headers=headers)
    assert parts == [list(generated())] * 2
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS] * 2
    assert all("streamed" in call.reason for call in cell.calls)


@pytest.mark.parametrize("module", MODULES)
def test_client_is_asked_for_nothing_more(isolated, module):
    """Event hooks, mounts, redirect flags and authentication of an uncached call are called as often as ever."""

    def run():
        log = []
        recorder = Recorder(module)

        class Auth(module.Auth):
            def auth_flow(self, request):
                log.append("auth")
                request.headers["authorization"] = "x"
                yield request

        hooks = {"request": [lambda r: log.append(r.method)], "response": [lambda r: log.append(r.status_code)]}
        mounts = {"https://api.openai.com": module.MockTransport(recorder)}
        with module.Client(event_hooks=hooks, mounts=mounts, auth=Auth(), follow_redirects=True) as client:
            client.post(MODEL_URL, json=BODY)
        return log, repr(recorder.seen)

    plain = run()
    with llm_cache():
        assert run() == plain
    assert plain[0] == ["auth", "POST", 200]


@pytest.mark.parametrize("module", MODULES)
def test_signatures_are_kept(isolated, module):
    """Wrapped methods keep name, documentation and signature, and the public coroutine function stays one."""
    before = {
        (owner, name): (inspect.signature(getattr(owner, name)), getattr(owner, name).__doc__)
        for owner in (module.Client, module.AsyncClient)
        for name in ("send", "_send_single_request")
    }
    with llm_cache():
        for (owner, name), described in before.items():
            method = getattr(owner, name)
            assert (inspect.signature(method), method.__doc__) == described
            assert method.__name__ == name
        assert inspect.iscoroutinefunction(module.AsyncClient.send)
        assert not inspect.iscoroutinefunction(module.Client.send)


@pytest.mark.parametrize("module", MODULES)
def test_call_in_the_course_of_another_is_none_of_the_cells(isolated, module):
    """What a hook or an authentication sends on its own goes to the network, on a miss and on a hit alike."""
    log = []

    def transport(request):
        log.append(f"{request.method} {request.url.path}")
        return module.Response(200, json=ANSWER if request.url.path.endswith("completions") else {"side": True})

    mock = module.MockTransport(transport)
    side = module.Client(transport=mock)

    def hook(_):
        assert side.get("https://example.com/side").json() == {"side": True}
        assert side.post("https://example.com/v1/messages", json=BODY).json() == {"side": True}

    client = module.Client(transport=mock, event_hooks={"request": [hook]})
    with llm_cache() as cell:
        assert client.post(MODEL_URL, json=BODY).json() == ANSWER
        assert client.post(MODEL_URL, json=BODY).json() == ANSWER
    sides = ["GET /side", "POST /v1/messages"]
    assert log == [*sides, "POST /v1/chat/completions", *sides]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


async def test_task_started_by_a_hook_is_of_the_cell_again(isolated):
    """A task that a hook starts, and that goes on after the call, makes calls of the cell."""
    tasks, is_over = [], asyncio.Event()
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=ANSWER))

    async def later():
        await is_over.wait()
        async with httpx2.AsyncClient(transport=mock) as other:
            await other.post(MODEL_URL, json={**BODY, "seed": 2})

    async def hook(_):
        tasks.append(asyncio.ensure_future(later()))

    async with httpx2.AsyncClient(transport=mock, event_hooks={"request": [hook]}) as client:
        with llm_cache() as cell:
            await client.post(MODEL_URL, json=BODY)
            is_over.set()
            await asyncio.gather(*tasks)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS]


@pytest.mark.parametrize("module", MODULES)
def test_closed_client_says_so(isolated, module):
    """A closed client raises its own error, whatever the cache holds."""
    with llm_cache():
        client = module.Client(transport=module.MockTransport(lambda _: module.Response(200, json={})))
        client.close()
        with pytest.raises(RuntimeError):
            client.post(MODEL_URL, json=BODY)


def test_uninstalled_within_a_scope(isolated):
    """After uninstalling, even a call in an open scope is left alone."""
    with llm_cache() as cell:
        uninstall()
        seen, _, _ = sent(httpx2, "model-call")
    assert len(seen) == 1
    assert cell.calls == ()
    assert json.loads(seen[0]["body"]) == BODY
