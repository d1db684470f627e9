"""A hit is what the miss was, whichever client asks, however a server labels, ends and counts its streams."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress

import openai
import pytest
from faults.scripted_server import CHAT, READERS, ScriptedServer, chunked, head

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.clients import httpx_streams
from genai_cache_magic.intercept.recording import Recording
from genai_cache_magic.testing.simulated.bedrock import frame

DONE = b"data: [DONE]\n\n"
clients = pytest.mark.parametrize("client", [name for name in READERS if name != "botocore"])


def event(**fields):
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
    return b"data: %b\n\n" % json.dumps(told).encode()


def piece(content="x", reason=None, **more):
    return event(
        choices=[{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": reason}], **more
    )


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
COUNTED = event(choices=[], usage=USAGE)


def answers(*events, kind="text/event-stream"):
    """A script that answers with `events`, in good form."""
    return lambda: [head(f"content-type: {kind}", "transfer-encoding: chunked"), *map(chunked, events), b"0\r\n\r\n"]


def read(client, url, count=2):
    """What `client` reads, asking `count` times, and the record of each call."""

    async def ask():
        seen = []
        for _ in range(count):
            chunks = []
            await READERS[client](url, chunks.append)
            seen.append(b"".join(chunks))
        return seen

    with llm_cache() as cell:
        seen = asyncio.run(ask())
    return seen, cell.calls


@pytest.fixture(autouse=True)
def _streamed(monkeypatch):
    """Let all clients ask for a stream."""
    monkeypatch.setitem(CHAT, "stream", True)  # noqa: FBT003 - a field's value


@clients
@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "application/octet-stream"])
def test_events_under_another_label(isolated, client, kind):
    """An event stream that is labelled as something else is stored, and replayed under its label."""
    sent = (piece(), piece(reason="stop"), DONE)
    with ScriptedServer(answers(*sent, kind=kind)) as server:
        seen, calls = read(client, server.url)
    assert seen == [b"".join(sent)] * 2
    assert [call.outcome for call in calls] == [Outcome.MISS, Outcome.HIT]
    assert server.count == 1


@clients
@pytest.mark.parametrize(
    "sent",
    [
        (piece(), piece(reason="stop")),
        (piece(), piece(reason="stop"), piece("", ""), DONE),
        (piece(), piece(reason="stop"), piece("", None), COUNTED),
    ],
    ids=["without its last event", "reason taken back", "both"],
)
def test_streams_that_end_otherwise(isolated, client, sent):
    """A stream whose choices all have their reason is whole at the orderly end of its body."""
    with ScriptedServer(answers(*sent)) as server:
        seen, calls = read(client, server.url)
    assert seen == [b"".join(sent)] * 2
    assert [call.outcome for call in calls] == [Outcome.MISS, Outcome.HIT]


@clients
def test_a_stream_that_breaks_after_its_reason(isolated, client):
    """Without that end nobody knows what else would have come."""
    script = [head("content-type: text/event-stream", "transfer-encoding: chunked"), chunked(piece(reason="stop"))]
    with ScriptedServer(lambda: script) as server, llm_cache() as cell, pytest.raises(Exception, match=r"."):
        asyncio.run(READERS[client](server.url, lambda _: None))
    assert [call.stored for call in cell.calls] == [False]


@pytest.fixture
def gpt(isolated):
    """Make an `openai` client of a server that sends `events`."""
    opened = []

    def open_client(*events):
        server = ScriptedServer(answers(*events)).__enter__()
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0)
        opened.append((server, client))
        return client

    yield open_client
    for server, client in opened:
        client.close()
        server.__exit__()


UNASKED = {
    "event of its own": (piece(), piece(reason="stop"), COUNTED, DONE),
    "beside the reason": (piece(), piece(reason="stop", usage=USAGE), DONE),
    "all along": (piece(usage=USAGE), piece(reason="stop", usage=USAGE), COUNTED, DONE),
    "announced": (piece(usage=None), piece(reason="stop", usage=None), COUNTED, DONE),
}


def create(client, **more):
    return list(client.chat.completions.create(**{**CHAT, "stream": True}, **more))


def helper(client, **more):
    with client.chat.completions.stream(**{n: v for n, v in CHAT.items() if n != "stream"}, **more) as stream:
        return [*map(repr, stream), stream.get_final_completion().usage]


def raw(client, **more):
    response = client.chat.completions.with_raw_response.create(**{**CHAT, "stream": True}, **more)
    return list(response.parse())


def streaming(client, **more):
    with client.chat.completions.with_streaming_response.create(**{**CHAT, "stream": True}, **more) as response:
        return list(response.iter_lines())


@pytest.mark.parametrize("ask", [create, helper, raw, streaming], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("events", UNASKED.values(), ids=UNASKED)
@pytest.mark.parametrize(
    "options", [{}, {"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": False}}], ids=str
)
def test_who_asks_the_same_gets_the_same(gpt, ask, events, options):
    """Usage that nobody asked for, as many servers send it, is there on a hit as it was on the miss."""
    client = gpt(*events)
    with llm_cache() as cell:
        assert ask(client, **options) == ask(client, **options)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_who_asks_otherwise_gets_what_was_asked_for(gpt):
    """Usage is converted only for a question of another form, and is asked for anew where there is none."""
    client = gpt(*UNASKED["event of its own"])
    with llm_cache() as cell:
        assert create(client)[-1].usage is not None
        counted = create(client, stream_options={"include_usage": True})
        assert counted[-1].usage is not None
        assert create(client, stream_options={"include_obfuscation": False})[-1].usage is None
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.HIT]


def test_a_server_that_never_counts(gpt):
    """Who asks for usage that never comes gets the same nothing from the cache."""
    client = gpt(piece(), piece(reason="stop"), DONE)
    with llm_cache() as cell:
        first = create(client, stream_options={"include_usage": True})
        assert create(client, stream_options={"include_usage": True}) == first
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_those_who_wait_get_the_same(gpt):
    """A caller that shares a call in flight gets what its leader got, if it asked in the same form."""
    client = gpt(*UNASKED["event of its own"])

    async def ask():
        async with openai.AsyncOpenAI(base_url=str(client.base_url), api_key="k", max_retries=0) as asker:

            async def one():
                return [chunk async for chunk in await asker.chat.completions.create(**CHAT)]

            return await asyncio.gather(one(), one())

    with llm_cache() as cell:
        first, second = asyncio.run(ask())
    assert first == second
    assert first[-1].usage is not None
    assert sorted(call.outcome for call in cell.calls) == sorted([Outcome.MISS, Outcome.HIT])


# --- callers that leave


class LeftError(Exception):
    """The caller has what it wants."""


def in_segments(*segments):
    """A script that sends each segment once the one before was seen, and the events by which its reader says so."""
    seen = [threading.Event() for _ in segments]

    def script():
        yield head("content-type: text/event-stream", "transfer-encoding: chunked")
        for segment, event in zip(segments, seen, strict=True):
            if segment is None:
                event.wait(10)  # nothing more comes
                return
            yield chunked(segment)
            if segment != segments[-1]:
                event.wait(10)
        yield b"0\r\n\r\n"

    return script, seen


async def leave(client, url, *, mark, seen):
    """Read with `client` until `mark` has come, and leave."""
    came = bytearray()

    def take(chunk):
        came.extend(chunk)
        if mark in came:
            for event in seen:
                event.set()
            raise LeftError

    with pytest.raises(LeftError):
        await READERS[client](url, take)
    return bytes(came)


REASON = piece(reason="stop")


@clients
@pytest.mark.parametrize(
    "rest", [(DONE,), (COUNTED, DONE), (piece("", None), DONE), (b"",)], ids=["last", "usage", "empty piece", "end"]
)
def test_a_caller_that_leaves_at_the_reason(isolated, monkeypatch, client, rest):
    """The little that comes in other segments is read as the stream is closed, so that the answer is a hit."""
    monkeypatch.setattr(Recording, "little_s", 10.0)
    segments = [piece(), REASON, *rest] if rest != (b"",) else [piece(), REASON]
    script, seen = in_segments(*segments)
    seen[0].set()
    with ScriptedServer(script) as server, llm_cache() as cell:
        asyncio.run(leave(client, server.url, mark=REASON, seen=seen))
        again, _ = read(client, server.url, count=1)
        assert server.count == 1
    assert again == [b"".join(segments)]
    assert [call.outcome for call in cell.calls][:1] == [Outcome.MISS]


@clients
def test_what_does_not_come_is_not_waited_for(isolated, client):
    """Nobody waits for an end that does not come: the caller leaves as ever, and nothing is stored."""
    script, seen = in_segments(piece(), REASON, None)
    seen[0].set()
    with ScriptedServer(script) as server, llm_cache() as cell:
        seen, last = seen[:2], seen[2]
        asyncio.run(leave(client, server.url, mark=REASON, seen=seen))
        last.set()
    assert [(call.stored, bool(call.reason)) for call in cell.calls] == [(False, True)]
    assert cell.troubles == ()


@clients
def test_who_leaves_before_is_let_go_at_once(isolated, monkeypatch, client):
    """Before the reason there may be much to come, and nothing of it is read."""
    monkeypatch.setattr(Recording, "little_s", 60.0)
    script, seen = in_segments(piece(), None)
    with ScriptedServer(script) as server, llm_cache() as cell:
        asyncio.run(leave(client, server.url, mark=piece(), seen=seen[:1]))
        seen[1].set()
    assert [call.stored for call in cell.calls] == [False]


@clients
def test_no_more_than_little_is_read(isolated, monkeypatch, client):
    """What goes on and on is left after 4 KiB."""
    monkeypatch.setattr(Recording, "little_s", 60.0)

    def script():
        yield head("content-type: text/event-stream", "transfer-encoding: chunked")
        yield chunked(piece())
        yield chunked(REASON)
        while True:
            yield chunked(b": and so on\n\n" * 50)

    with ScriptedServer(script) as server:
        with llm_cache() as cell:
            asyncio.run(leave(client, server.url, mark=REASON, seen=()))
        assert server.left.wait(10)
    assert [call.stored for call in cell.calls] == [False]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "usage"])
def test_sdk_that_leaves_at_the_reason(isolated, monkeypatch, options):
    """So it is for the openai SDK's own streams, left within their context."""
    monkeypatch.setattr(Recording, "little_s", 10.0)
    script, seen = in_segments(piece(), REASON, COUNTED, DONE)
    seen[0].set()
    with (
        ScriptedServer(script) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client,
        llm_cache() as cell,
    ):
        for _ in range(2):
            with client.chat.completions.create(**CHAT, **options) as stream:
                for chunk in stream:
                    if chunk.choices[0].finish_reason:
                        break
                for event in seen:
                    event.set()
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_botocore_that_leaves_at_the_reason(isolated, monkeypatch):
    """And for Bedrock's events, whose last one counts the tokens after the reason."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    monkeypatch.setattr(Recording, "little_s", 10.0)
    kinds = {
        "contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "x"}},
        "messageStop": {"stopReason": "end_turn"},
        "metadata": {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}},
    }
    frames = [
        frame(json.dumps(told).encode(), event_type=kind, content_type="application/json", message_type="event")
        for kind, told in kinds.items()
    ]
    last = threading.Event()

    def script():
        yield head("content-type: application/vnd.amazon.eventstream", "transfer-encoding: chunked")
        yield chunked(frames[0])
        yield chunked(frames[1])
        last.wait(10)
        yield chunked(frames[2])
        yield b"0\r\n\r\n"

    session = boto3.session.Session(aws_access_key_id="k", aws_secret_access_key="k")
    question = [{"role": "user", "content": [{"text": "hello"}]}]
    with ScriptedServer(script) as server, llm_cache() as cell:
        client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url)
        for _ in range(2):
            stream = client.converse_stream(modelId="amazon.nova-lite-v1:0", messages=question)["stream"]
            for event in stream:
                if "messageStop" in event:
                    break
            last.set()
            stream.close()
        client.close()
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_nothing_is_heard_of_what_was_read(isolated, monkeypatch, caplog):
    """Reading the little that remains leaves no generator running that the loop closes at its end."""
    monkeypatch.setattr(Recording, "little_s", 10.0)
    script, seen = in_segments(piece(), REASON, DONE)
    for event in seen:
        event.set()

    async def ask(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            stream = await client.chat.completions.create(**CHAT)
            async with stream:
                async for chunk in stream:
                    if chunk.choices[0].finish_reason:
                        break
            return stream  # alive until the loop ends

    with ScriptedServer(script) as server, llm_cache() as cell, caplog.at_level("ERROR", "asyncio"):
        asyncio.run(ask(server.url))
        asyncio.run(ask(server.url))
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert caplog.records == []


class Below:
    """A source that ends, or was closed, below its reader."""

    def __init__(self, *, closed):
        self._closed = closed

    def __iter__(self):
        return iter(())

    async def __aiter__(self):
        for chunk in ():
            yield chunk

    def close(self):
        """Nothing to close."""

    async def aclose(self):
        """Nothing to close."""


class Noted:
    """A recording of which everything was said, that notes what it hears."""

    little_s, little_bytes = 10.0, 4096

    def __init__(self):
        self.heard = []

    def __getattr__(self, name):
        return lambda: self.heard.append(name)

    def lacks_little(self):
        return "ended" not in self.heard

    def little(self):
        return suppress(Exception)


class Wire:
    """What nobody reads from."""

    def read(self, most, timeout=None):
        raise AssertionError((most, timeout))


@pytest.mark.parametrize("closed", [False, True])
def test_a_source_that_was_closed_below_has_not_ended(closed):
    """Garbage may be closed from below: what then ends is no end of the answer's."""
    sync, asynchronous = Noted(), Noted()
    tee = httpx_streams.Tee(Below(closed=closed), sync, Wire())
    reading = iter(tee)
    tee.close()
    del reading

    async def leave():
        tee = httpx_streams.AsyncTee(Below(closed=closed), asynchronous)
        reading = aiter(tee)
        await tee.aclose()
        del reading

    asyncio.run(leave())
    assert ("ended" in sync.heard, "ended" in asynchronous.heard) == (not closed, not closed)
