"""What a caller of httpx or httpx2 can see of a replay, next to the answer that was recorded."""

from __future__ import annotations

import functools
import json

import pytest
from passthrough.httpx_calls import ANSWER, BODY, MARKS, MODEL_URL, answering, both, kept, post

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.clients import httpx as httpx_patches
from genai_cache_magic.testing.model_server import SimulatedModelServer


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@both
@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_replay_has_what_the_original_had(isolated, module, colour, is_gzip, is_stream):
    """Status, body and headers are the original's, decoded, with the two marks and nothing else."""
    body = {**BODY, "stream": is_stream}
    with SimulatedModelServer("unique", gzip=is_gzip) as server, llm_cache() as cell:
        first, second = await post(module, colour, f"{server.openai_url}/chat/completions", body=body)
        assert server.count == 1
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())
    assert first.headers.get("content-encoding") == ("gzip" if is_gzip else None)
    assert "x-genai-cache" not in first.headers
    assert second.content == first.content
    assert second.status_code == 200
    length = [("content-length", str(len(first.content)))] if not is_stream else []
    assert sorted(second.headers.multi_items()) == sorted([*kept(first), *MARKS.items(), *length])
    assert second.encoding == first.encoding
    assert second.text == first.text


@both
async def test_cookies_stay_with_whom_they_were_given_to(isolated, module, colour):
    """The first caller gets its cookie as ever; a replay sets none, and none is at rest in the answer."""
    with SimulatedModelServer("unique") as server, llm_cache():
        url = f"{server.openai_url}/chat/completions"
        (first,) = await post(module, colour, url, times=1)
        assert first.cookies
        with module.Client() as client:
            second = client.post(url, json=BODY)
            assert second.headers["x-genai-cache"] == "hit"
            assert not client.cookies
            assert not second.cookies


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_properties_of_a_response(isolated, module, colour, stream):
    """A hit's response answers everything that a miss's does."""
    with SimulatedModelServer() as server, llm_cache():
        url = f"{server.openai_url}/chat/completions"
        miss, hit = await post(module, colour, url, default_encoding="latin-1", stream=stream)
        assert server.count == 1
    for response in (miss, hit):
        assert response.raise_for_status() is response
        assert str(response.request.url) == url
        assert response.request.content == miss.request.content
        assert response.url == miss.url
        assert response.history == []
        assert response.next_request is None
        assert response.default_encoding == "latin-1"
        assert response.http_version == "HTTP/1.1"
        assert response.reason_phrase == "OK"
        assert response.is_closed
        assert response.is_stream_consumed
        assert response.elapsed.total_seconds() >= 0
        assert response.num_bytes_downloaded == len(response.content)
        assert response.json() == miss.json()
    assert hit.request is not miss.request


@both
async def test_open_replay_is_read_like_an_open_response(isolated, module):
    """With ``stream=True`` a replay is unread, its body can be had in every way, and only once."""
    event = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
    chunks = [b"data: " + json.dumps(event).encode() + b"\n\n", b"data: [DONE]\n\n"]
    transport = answering(module, headers={"content-type": "text/event-stream"}, content=b"".join(chunks))
    with llm_cache() as cell, module.Client(transport=transport.transport) as client:
        client.post(MODEL_URL, json={**BODY, "stream": True})
        for read in ("iter_bytes", "iter_raw", "iter_lines", "iter_text"):
            with client.stream("POST", MODEL_URL, json={**BODY, "stream": True}) as response:
                assert not response.is_closed
                with pytest.raises(module.ResponseNotRead):
                    response.content  # noqa: B018 - the property raises
                parts = list(getattr(response, read)())
                assert len(parts) > 1
                with pytest.raises(module.StreamConsumed):
                    next(response.iter_raw())
            assert response.is_closed
    assert cell.hits == 4
    async with module.AsyncClient(transport=transport.transport) as client:
        with llm_cache() as cell:
            async with client.stream("POST", MODEL_URL, json={**BODY, "stream": True}) as response:
                assert [chunk async for chunk in response.aiter_raw()] == chunks
    assert cell.hits == 1


@both
async def test_a_hook_finds_an_answer_that_nobody_has_read(isolated, module):
    """A response hook of a hit may read it as it comes, as it may that of a miss, though its caller gets it read."""
    transport, read = answering(module), []

    def after(response):
        assert not response.is_closed
        read.append(b"".join(response.iter_raw()))

    with llm_cache() as cell:
        with module.Client(transport=transport.transport) as client:
            client.post(MODEL_URL, json=BODY)
        hooks = {"response": [after]}
        with (
            module.Client(transport=transport.transport, event_hooks=hooks) as client,
            pytest.raises(module.StreamConsumed),  # as ever, where a hook leaves nothing to read
        ):
            client.post(MODEL_URL, json=BODY)
    assert cell.hits == 1
    assert json.loads(read[0]) == ANSWER


@both
async def test_a_release_that_reads_otherwise_reads_a_hit_itself(isolated, module, monkeypatch):
    """Where what we make of a response is not what the library makes of it, a hit is read by the library."""
    # Tried out once for each library, which earlier tests have done.
    monkeypatch.setattr(httpx_patches, "_kit_of", functools.cache(httpx_patches._Kit))
    monkeypatch.setattr(httpx_patches, "_read", lambda outcome: setattr(outcome, "_content", b"{ }"))
    transport = answering(module)
    with llm_cache() as cell, module.Client(transport=transport.transport) as client:
        answers = [client.post(MODEL_URL, json=BODY) for _ in range(2)]
    assert cell.hits == 1
    assert [answer.json() for answer in answers] == [ANSWER, ANSWER]


@both
async def test_event_hooks_run_once_and_may_read(isolated, module, colour):
    """Request and response hooks run once on a miss and once on a hit, and may read the body."""
    log = []
    transport = answering(module)

    def before(request):
        log.append(request.method)

    def after(response):
        response.read()
        log.append(response.json()["model"])

    async def abefore(request):
        before(request)

    async def aafter(response):
        await response.aread()
        log.append(response.json()["model"])

    hooks = {"request": [before], "response": [after]}
    if colour == "async":
        hooks = {"request": [abefore], "response": [aafter]}
    with llm_cache() as cell:
        first, second = await post(module, colour, MODEL_URL, transport=transport.transport, event_hooks=hooks)
    assert log == ["POST", "m"] * 2
    assert first.json() == second.json() == ANSWER
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
