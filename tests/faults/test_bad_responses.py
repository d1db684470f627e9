"""Whatever an origin sends, the caller gets what it gets without us, nothing wrong is kept, and memory is bounded."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from contextlib import suppress

import httpx2
import pytest
import zstandard
from faults.scripted_server import CHAT, READERS, ScriptedServer, answer_of, chunked, head
from torture.streams import run_streams

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome

JSON = "content-type: application/json"
EVENTS = "content-type: text/event-stream"
LIMIT_BYTES = 1024**2
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'

UNPACKED = [
    (client, packed_by)
    for client in READERS
    for packed_by in ("gzip", "deflate", "zstd")
    if client != "botocore" and (client, packed_by) != ("aiohttp", "zstd")
]
"""Client and compression that it undoes."""

clients = pytest.mark.parametrize("client", READERS)


def length_of(body, more=0):
    return f"content-length: {len(body) + more}"


# Name -> (good answer -> bytes of the whole response).
LIES = {
    "length too long": lambda good: head(JSON, length_of(good, 50)) + good,
    "length too short": lambda good: head(JSON, length_of(good, -10)) + good,
    "length is no number": lambda good: head(JSON, "content-length: many") + good,
    "length below zero": lambda good: head(JSON, "content-length: -1") + good,
    "two lengths": lambda good: head(JSON, length_of(good), length_of(good, 7)) + good,
    "gigabytes announced": lambda good: head(JSON, "content-length: 5000000000") + good,
    "no end of chunks": lambda good: head(JSON, "transfer-encoding: chunked") + chunked(good),
    "chunk longer than it says": lambda good: head(JSON, "transfer-encoding: chunked") + b"3\r\n" + good,
    "chunk without a size": lambda good: head(JSON, "transfer-encoding: chunked") + chunked(good, "?%x"),
    "gzip that is plain": lambda good: head(JSON, "content-encoding: gzip", length_of(good)) + good,
    "gzip that is cut": lambda good: (
        head(JSON, "content-encoding: gzip", length_of(gzip.compress(good), -12)) + gzip.compress(good)
    ),
    "deflate that is plain": lambda good: head(JSON, "content-encoding: deflate", length_of(good)) + good,
    "plain that is gzip": lambda good: head(JSON, length_of(gzip.compress(good))) + gzip.compress(good),
    "brotli or not": lambda good: head(JSON, "content-encoding: br", "content-length: 20") + b"\x8b\x09" * 10,
    "zstd that is plain": lambda good: head(JSON, "content-encoding: zstd", "content-length: 20") + b"\x8b\x09" * 10,
    "encoding of the future": lambda good: head(JSON, "content-encoding: x-new", "content-length: 4") + b"\1\2\3\4",
    "not the text that it says": lambda good: head(JSON, length_of(good)) + good.replace(b'"x"', b'"\xff"', 1),
    "type of the future": lambda good: head("content-type: application/x-new", "content-length: 3") + b"\1\2\3",
    "a page for people": lambda good: head("content-type: text/html", "content-length: 13") + b"<html></html>",
    "no type, no body": lambda good: head("content-length: 0"),
    "events that are called JSON": lambda good: head(JSON, length_of(EVENT)) + EVENT,
    "JSON that is called events": lambda good: head(EVENTS, length_of(good)) + good,
    "events without the last": lambda good: head(EVENTS, length_of(EVENT * 3)) + EVENT * 3,
    "binary events that are none": lambda good: (
        head("content-type: application/vnd.amazon.eventstream", length_of(good)) + good
    ),
    "nested beyond reason": lambda good: head(JSON, "content-length: 200000") + b"[" * 200_000,
    "another kind of JSON": lambda good: head(JSON, "content-length: 4") + b"null",
    "nothing": lambda good: b"",
    "no HTTP": lambda good: b"SSH-2.0-OpenSSH_9.2\r\n",
    "charset that is wrong": lambda good: head(f"{JSON}; charset=utf-16", length_of(good)) + good,
    "JSON of another type": lambda good: head("content-type: application/x-new", length_of(good)) + good,
    "no type": lambda good: head(length_of(good)) + good,
    "encoding of the future that is plain": lambda good: head(JSON, "content-encoding: x-new", length_of(good)) + good,
    "raw deflate": lambda good: (
        head(JSON, "content-encoding: deflate", length_of(zlib.compress(good, wbits=-15)))
        + zlib.compress(good, wbits=-15)
    ),
    "gzip and more": lambda good: (
        head(JSON, "content-encoding: gzip", length_of(gzip.compress(good), 4)) + gzip.compress(good) + b"more"
    ),
    "length and chunks": lambda good: (
        head(JSON, "content-length: 3", "transfer-encoding: chunked") + chunked(good) + b"0\r\n\r\n"
    ),
}


async def outcome(client, url, **options):
    """What a caller sees: the bytes, and the kind of error that ends them."""
    seen = bytearray()
    try:
        await READERS[client](url, seen.extend, **options)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must be the same without us
        return bytes(seen), type(exc)
    return bytes(seen), None


@clients
@pytest.mark.parametrize("name", LIES)
async def test_answer_that_lies(isolated, client, name):
    """Bytes and error are those without us, twice; only what its caller got whole is kept, and the record says why."""
    good = answer_of(client)
    response = LIES[name](good)
    with ScriptedServer(lambda: [response]) as server:
        plain = await outcome(client, server.url)
        with llm_cache() as cell:
            assert [await outcome(client, server.url) for _ in range(2)] == [plain, plain]
        first, second = cell.calls
        assert server.count == 3 - first.stored
    if first.stored:
        assert plain == (good, None)
        assert second.outcome is Outcome.HIT
    else:
        assert {first.outcome, second.outcome} <= {Outcome.REFUSED, Outcome.ERROR}
        assert first.reason
    assert cell.troubles == ()


@clients
@pytest.mark.parametrize("name", [name for name in LIES if b"content-encoding" in LIES[name](b"{}")])
async def test_answer_that_lies_to_one_who_unpacks_himself(isolated, client, name):
    """A caller who reads the bytes of the wire gets them as without us, and we keep what they mean, or nothing."""
    good = answer_of(client)
    response = LIES[name](good)
    with ScriptedServer(lambda: [response]) as server:
        plain = await outcome(client, server.url, raw=True)
        with llm_cache() as cell:
            assert await outcome(client, server.url, raw=True) == plain
            again = await outcome(client, server.url, raw=True)
    first, second = cell.calls
    assert again == ((good, None) if second.outcome is Outcome.HIT else plain)
    assert first.stored or first.reason
    assert cell.troubles == ()


class LeaveError(Exception):
    """The caller has enough."""


def taking(enough):
    """A taker that leaves once it has `enough` [bytes]."""

    def take(chunk):
        take.size_bytes += len(chunk)
        if take.size_bytes >= enough:
            raise LeaveError

    take.size_bytes = 0
    return take


def endless(event=EVENT):
    """Events without an end, sent as long as someone reads."""
    yield head(EVENTS, "transfer-encoding: chunked")
    piece = chunked(event)
    while True:
        yield piece


@clients
async def test_stream_that_never_ends_and_is_left(isolated, client):
    """The caller leaves when it likes; its connection is closed, and nothing is kept."""
    for is_ours in (False, True):
        with ScriptedServer(endless) as server:
            with llm_cache(mode="use" if is_ours else "off") as cell, pytest.raises(LeaveError):
                await READERS[client](server.url, taking(20_000))
            assert server.left.wait(10)
    assert [(call.stored, bool(call.reason)) for call in cell.calls] == [(False, True)]
    assert cell.troubles == ()


@clients
@pytest.mark.parametrize("sent", [b"", EVENT], ids=["head", "event"])
async def test_stream_that_falls_silent(isolated, client, sent):
    """The caller's own time-out ends it as without us, and nothing is kept."""
    silent = ScriptedServer(lambda: silence(server))

    def silence(server):
        yield head(EVENTS, "transfer-encoding: chunked")
        yield chunked(sent) if sent else b""
        server._is_stopping.wait()

    with silent as server:
        plain = await outcome(client, server.url, timeout_s=0.2)
        assert plain[1] is not None
        with llm_cache() as cell:
            assert await outcome(client, server.url, timeout_s=0.2) == plain
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.ERROR, False)]
    assert cell.troubles == ()


async def peak_bytes(client, url, enough, **options):
    """How much memory a caller that keeps nothing takes at most [bytes]."""
    tracemalloc.start()
    try:
        with suppress(LeaveError):
            await READERS[client](url, taking(enough), **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def check_memory(client, script, enough, **options):
    """Read `enough` of what `script` sends with and without us: we add no more than twice the limit, and keep nothing.

    Parameters
    ----------
    enough : int
        Bytes after which the caller leaves.
    """
    with ScriptedServer(script) as server:
        with llm_cache():
            await peak_bytes(client, server.url, 1, **options)  # what is made at first use is no part of it
        plain = await peak_bytes(client, server.url, enough, **options)
        with llm_cache() as cell:
            ours = await peak_bytes(client, server.url, enough, **options)
    assert ours - plain <= 2 * LIMIT_BYTES
    assert [(call.outcome, call.stored, call.reason) for call in cell.calls] == [
        (Outcome.REFUSED, False, "too large (status 200)")
    ]
    assert cell.troubles == ()


@pytest.fixture
def limited(isolated, monkeypatch):
    """Answers above 1 MiB are not stored."""
    monkeypatch.setenv("GENAI_CACHE_MAX_RESPONSE", "1MiB")


@clients
async def test_stream_beyond_the_limit(limited, client):
    """A stream of ten times the limit, and more to come, takes no more than twice the limit, and is not stored."""
    await check_memory(client, lambda: endless(EVENT * 50), 10 * LIMIT_BYTES)


async def test_stream_of_small_pieces(limited):
    """Memory goes by bytes, in however many pieces they come."""

    def script():
        yield head(EVENTS, "transfer-encoding: chunked")
        while True:
            yield chunked(b": wait for what is still to come\n\n") * 1000

    await check_memory("httpx2", script, LIMIT_BYTES + 100_000)


@pytest.mark.parametrize(("client", "packed_by"), UNPACKED)
async def test_answer_that_unpacks_beyond_the_limit(limited, client, packed_by):
    """A few bytes that unpack to gigabytes are weighed before anything is allocated for them."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}
    packed = pack[packed_by](b'{"padding":"' + bytes(32 * LIMIT_BYTES))
    response = head(JSON, f"content-encoding: {packed_by}", length_of(packed)) + packed
    await check_memory(client, lambda: [response], 10 * LIMIT_BYTES, raw=True)


@clients
async def test_length_beyond_the_limit(limited, client):
    """An answer that tells a length beyond the limit is not recorded at all."""
    body = b" " * (3 * LIMIT_BYTES)
    with ScriptedServer(lambda: [head(JSON, length_of(body)), body]) as server, llm_cache() as cell:
        assert await outcome(client, server.url) == (body, None)
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.REFUSED, "too large (status 200)")]


async def test_who_waits_for_a_stream_that_grew_too_large(limited):
    """Whoever waits for a stream is let go as soon as it is too large to be kept, not at its end."""
    is_large, may_end = asyncio.Event(), asyncio.Event()

    async def lead(url):
        size_bytes = 0
        async with (
            httpx2.AsyncClient() as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as got,
        ):
            async for chunk in got.aiter_bytes():
                size_bytes += len(chunk)
                if size_bytes > 2 * LIMIT_BYTES:
                    is_large.set()
                    await may_end.wait()
                    return

    with ScriptedServer(lambda: endless(EVENT * 50)) as server, llm_cache() as cell:
        leader = asyncio.create_task(lead(server.url))
        await is_large.wait()
        assert [call.reason for call in cell.calls] == ["too large (status 200)"]
        await peak_bytes("httpx2 async", server.url, 1)
        may_end.set()
        await leader
        assert server.count == 2
    assert len(cell.calls) == 2


def test_process_that_reads_far_beyond_the_limit():
    """What a process takes for a stream of many times the limit is bounded, too; the full torture reads 5 GB."""
    report = run_streams(100_000_000)
    assert len(report.lines) == len(READERS)
    assert report.faults == []


def test_a_model_whose_name_is_a_book(isolated):
    """Its name is listed by the start of it, so the answer is stored as any other, and comes back whole."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    answer = {"object": "chat.completion", "model": "m" * 2_000_000, "choices": [choice]}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
    with httpx2.Client(transport=transport, base_url="https://api.openai.com/v1") as client, llm_cache() as cell:
        for _ in range(2):
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            assert client.post("/chat/completions", json=body).json() == answer
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert cell.troubles == ()
