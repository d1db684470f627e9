"""What the head of an answer says of its body: nothing is stored that may be cut short, or that forbids it."""

from __future__ import annotations

import http.server
import json

import httpx
import httpx2
import pytest
from loopback import serving

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.intercept.heads import forbids_storing, is_framed, is_opaque
from genai_cache_magic.intercept.recording import NO_STORE, UNFRAMED
from genai_cache_magic.providers.formats import streams

aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
requests = pytest.importorskip("requests", reason="pip install requests")

SPEECH = "/v1/audio/speech"
SPOKEN = {"model": "tts-1", "input": "hello", "voice": "alloy"}
SOUND = b"ID3" + bytes(range(256)) * 8
CHAT = "/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
ANSWER = json.dumps({"object": "chat.completion", "model": "m", "choices": [CHOICE]}).encode()
SAID = {SPEECH: ("audio/mpeg", SOUND), CHAT: ("application/json", ANSWER)}


class Speaking(http.server.BaseHTTPRequestHandler):
    """Answers as its server's `framing` and `headers` say."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        kind, body = SAID[self.path]
        framing = {"length": ("content-length", str(len(body))), "chunks": ("transfer-encoding", "chunked")}
        self.send_response(200)
        for header in (("content-type", kind), *self.server.headers):
            self.send_header(*header)
        self.send_header(*framing.get(self.server.framing, ("connection", "close")))
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if self.server.framing == "chunks" else body)
        self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


def speaking(framing="length", headers=()):
    return serving(Speaking, framing=framing, headers=headers, asked=0)


async def by_httpx(url, body):
    with httpx.Client(trust_env=False) as client:
        return client.post(url, json=body).content  # noqa: ASYNC212 - one of several ways to ask


async def by_httpx2_async(url, body):
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.post(url, json=body)).content


async def by_requests(url, body):
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, json=body, timeout=10).content


async def by_aiohttp(url, body):
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return await response.read()


WAYS = (by_httpx, by_httpx2_async, by_requests, by_aiohttp)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("ask", WAYS)
async def test_sound_is_stored_if_its_end_can_be_told(ask, framing):
    """Sound that ends with its connection may be cut short, and looks the same: it is passed on and not stored."""
    with speaking(framing) as server, llm_cache() as cell:
        assert [await ask(server.url + SPEECH, SPOKEN) for _ in range(2)] == [SOUND] * 2
    if framing == "close":
        assert [(call.stored, call.reason) for call in cell.calls] == [(False, UNFRAMED)] * 2
    assert server.asked == (2 if framing == "close" else 1)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("ask", WAYS)
async def test_json_says_itself_that_it_is_whole(ask):
    """An answer in JSON is stored however its body ends: half of one is none."""
    with speaking("close") as server, llm_cache() as cell:
        assert [await ask(server.url + CHAT, ASKED) for _ in range(2)] == [ANSWER] * 2
    assert (cell.hits, server.asked) == (1, 1)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("told", ["no-store", "private, No-Store", 'no-cache="x", no-store'])
async def test_no_store_is_obeyed(ask, told):
    """A gateway that says so keeps its answers out of the cache, and the record says why."""
    with speaking(headers=[("Cache-Control", told)]) as server, llm_cache() as cell:
        for _ in range(2):
            await ask(server.url + CHAT, ASKED)
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, NO_STORE)] * 2
    assert server.asked == 2


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("path", ["", "/v1"])
async def test_no_store_is_ignored_where_the_settings_say_so(monkeypatch, path):
    """An origin that says so of everything by habit is cached all the same, if that is configured."""
    with speaking(headers=[("Cache-Control", "no-store")]) as server:
        monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.url + path: {"no_store": "ignore"}}))
        with llm_cache() as cell:
            for _ in range(2):
                await by_httpx(server.url + CHAT, ASKED)
    assert (cell.hits, server.asked) == (1, 1)


def test_heads_are_read():
    """Length, chunks and directives are told in any case, and only by whole words."""
    assert is_framed((("Content-Length", "3"),))
    assert is_framed((("Transfer-Encoding", "gzip, Chunked"),))
    assert not is_framed((("content-length", "many"), ("transfer-encoding", "gzip")))
    assert not forbids_storing((("cache-control", "no-cache, x-no-store, max-age=0"),))
    assert is_opaque(Response(200, (), b"a transcript"))
    assert not is_opaque(Response(200, (), b'[{"a": 1}]'))
    assert not is_opaque(Response(200, (), b"data: x\n\n", Form.STREAM))


KINDS = {
    "text/event-stream": b"data:{}\n\n",
    "application/x-ndjson": b"{}\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_finely_cut_stream_is_told(kind):
    """A stream of tiny events counts by their number, at a cost that is bounded: no more of it is looked at."""
    limit = 64 * 100
    head = (("content-type", kind),)
    within, beyond = (Response(200, head, KINDS[kind] * n, Form.STREAM) for n in (100, 101))
    assert [streams.is_fine(response, limit) for response in (within, beyond)] == [False, True]
    long = Response(200, head, (b"x" * 5000).join([KINDS[kind]] * 90), Form.STREAM)
    assert not streams.is_fine(long, limit)


@pytest.mark.usefixtures("isolated")
async def test_stream_of_tiny_events_is_passed_on(monkeypatch):
    """Eight megabytes in tiny events reach their caller, and are refused as too large before anything reads them."""
    tiny = b"data:{}\n\n" * (8 * 1024**2 // 9)
    monkeypatch.setitem(SAID, CHAT, ("text/event-stream", tiny))
    with speaking() as server, llm_cache() as cell:
        assert await by_httpx(server.url + CHAT, {**ASKED, "stream": True}) == tiny
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, "too large (status 200)")]
