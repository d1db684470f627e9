"""Whatever fails in us, the user's call gets its answer, nobody waits for ever, and the cell says what happened."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.calls import coalesce
from genai_cache_magic.calls.coalesce import Flights, Seat
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.calls.keeping import Keeper
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.entries import Entries
from genai_cache_magic.entries.filling import LookThenPut
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.intercept import base, recording, replay
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.clients import httpx as adapter
from genai_cache_magic.intercept.clients import httpx_sent
from genai_cache_magic.intercept.stainless.answers import Answers
from genai_cache_magic.intercept.stainless.kit import Kit
from genai_cache_magic.testing.chaos import Chaos, ChaosStore

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


class OurFaultError(Exception):
    """A mistake of ours."""


def fail(*_, **__):
    raise OurFaultError("a mistake of ours")


@pytest.fixture
def client(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield client


def ask(client, **more):
    return client.chat.completions.create(**QUESTION, **more)


FAULTS = {
    "recognise": (base, "recognise"),
    "begin": (CallDesk, "begin"),
    "key": (Keeper, "request_id"),
    "look up": (Entries, "find"),
    "join": (Flights, "join"),
    "stamp": (Entries, "stamp"),
    "reading the request": (httpx_sent, "judged"),
    "attaching": (recording.Recording, "attempt"),
    "decoding": (recording.Recording, "_unpacked"),
    "what is kept": (recording, "recorded"),
    "commit": (CallDesk, "commit"),
    "entry": (Keeper, "entry"),
    "store": (Entries, "fill"),
    "land": (Flights, "land"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_call_gets_its_answer(client, unique_server, monkeypatch, fault, stream):
    """A mistake anywhere in our code leaves the call with its answer, and no call raises or waits."""
    monkeypatch.setattr(*FAULTS[fault], fail)
    with llm_cache() as cell:
        for _ in range(2):
            answer = ask(client, stream=stream)
            assert len(list(answer)) > 3 if stream else answer.choices[0].message.content
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]
    assert unique_server.count == (1 if fault == "land" else 2)
    assert any(call.stored for call in cell.calls) is (fault == "land")
    assert len(cell.calls) == 2


@pytest.mark.parametrize("where", [(recording, "recognise"), (CallDesk, "request_id")], ids=["recognise", "key"])
def test_what_is_sent_can_not_be_told(isolated, unique_server, monkeypatch, where):
    """What a hook of the client's has changed is looked into anew; if we fail in that, the call has its answer."""
    monkeypatch.setattr(*where, fail)
    hooks = {"request": [lambda request: request.headers.update({"openai-organization": "another"})]}
    with httpx2.Client(event_hooks=hooks) as http, llm_cache() as cell:
        client = openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0, http_client=http)
        answers = {ask(client).id for _ in range(2)}
    assert len(answers) == 2
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]
    assert not any(call.stored for call in cell.calls)


def test_first_look_that_fails(client, unique_server, monkeypatch):
    """The look that sorts out requests early is no more than that: without it they are judged as ever."""
    monkeypatch.setattr(httpx_sent, "path_ends", fail)
    with llm_cache() as cell:
        assert ask(client).id == ask(client).id
        httpx2.post(f"{unique_server.url}/v1/items", json={})
    assert (cell.hits, cell.misses, cell.troubles) == (1, 1, ())


def test_client_that_we_see_only_from_above(isolated):
    """A client that sends in its own way is not recorded, and says so at once."""

    class Client(httpx2.Client):
        def _send_single_request(self, request):
            return httpx2.Response(200, json={}, request=request)

    with llm_cache() as cell, Client() as client:
        assert client.post("https://api.openai.com/v1/chat/completions", json=QUESTION).status_code == 200
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.REFUSED, "the cache failed")]


def test_stream_that_we_fail_to_give_up(client, unique_server, monkeypatch):
    """A mistake of ours while a caller leaves its stream stays with us."""
    monkeypatch.setattr(CallDesk, "abort", fail)
    unique_server.hold()
    with llm_cache() as cell:
        with pytest.raises(openai.APITimeoutError):
            ask(client, timeout=0.05)
        unique_server.release()
        assert ask(client).choices
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", ["_foretold", "_played", "makes", "model", "streams"])
def test_hit_that_cannot_be_given_above_http_is_given_by_it(client, unique_server, monkeypatch, fault, stream):
    """If we fail to foretell a call, or to make the SDK's object of a stored answer, the SDK makes it, by HTTP."""
    with llm_cache() as cell:
        whole = ask(client).model_dump()
        place = Kit if fault.startswith("_") else Answers
        monkeypatch.setattr(place, fault, fail)
        again = ask(client, stream=stream)
        assert len(list(again)) > 3 if stream else again.model_dump() == whole
    is_met = fault in ({"_foretold", "_played", "streams"} if stream else {"_foretold", "makes", "model"})
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"] * is_met
    assert unique_server.count == 1
    assert cell.hits == 1


@pytest.fixture
def client_by_http(isolated, unique_server):
    """A client whose calls go by HTTP: somebody looks at its requests."""
    looked_at = openai.DefaultHttpxClient(event_hooks={"request": [lambda _: None]})
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0, http_client=looked_at) as client:
        yield client


@pytest.mark.parametrize("fault", ["response", "chunks", "marked"])
def test_hit_that_cannot_be_replayed_is_asked(client_by_http, unique_server, monkeypatch, fault):
    """If a stored answer can't be turned into a response, the model is asked, with the caller's own key."""
    client = client_by_http
    places = {"response": (adapter._Kit, "_response"), "chunks": (replay, "chunks"), "marked": (replay, "marked")}
    with llm_cache() as cell:
        ask(client)
        with monkeypatch.context() as patch:
            patch.setattr(*places[fault], fail)
            assert ask(client).choices
        assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]
    assert unique_server.count == 2
    assert unique_server.requests[1].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("fault", ["recognise", "begin", "look up"])
def test_replay_calls_no_model_whatever_fails(client, unique_server, monkeypatch, fault):
    """In mode replay a mistake of ours is a miss, never a call."""
    monkeypatch.setenv("GENAI_CACHE_MEMORY", "0")  # or what was recognised before would be known again
    with llm_cache():
        ask(client)
    monkeypatch.setattr(*FAULTS[fault], fail)
    with llm_cache(mode="replay") as cell, pytest.raises(ReplayMiss):
        ask(client)
    assert unique_server.count == 1
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]


@pytest.mark.parametrize("fault", ["commit", "store", "entry", "decoding", "what is kept"])
def test_followers_of_a_failed_commit_go_on(client, unique_server, monkeypatch, fault):
    """If we fail to take an answer, those who wait for it are released and ask for themselves."""
    monkeypatch.setattr(*FAULTS[fault], fail)
    is_followed = threading.Event()
    monkeypatch.setattr(Seat, "__init__", _then(Seat.__init__, is_followed.set))
    unique_server.hold()
    with llm_cache(), ThreadPoolExecutor(2) as pool:
        leader = pool.submit(ask, client)
        assert unique_server.wait_for(1)
        follower = pool.submit(ask, client)
        assert is_followed.wait(30)
        unique_server.release()
        assert leader.result().id != follower.result(30).id
    assert unique_server.count == 2


def _then(function, act):
    def run(*args):
        function(*args)
        act()

    return run


@pytest.mark.parametrize("fault", ["commit", "store", "recognise", "begin"])
async def test_asynchronous_call_gets_its_answer(isolated, unique_server, monkeypatch, fault):
    """The same for tasks: they get their answers, each its own."""
    monkeypatch.setattr(*FAULTS[fault], fail)
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0)
    with llm_cache() as cell:
        answers = await asyncio.gather(*(client.chat.completions.create(**QUESTION) for _ in range(4)))
    assert len({answer.id for answer in answers}) == 4
    assert [trouble.error for trouble in cell.troubles] == ["OurFaultError"]
    await client.close()


@pytest.mark.parametrize("chaos", [Chaos(unavailable=1), Chaos(unavailable_after=1), Chaos(lost=1), Chaos(corrupt=1)])
def test_store_in_trouble(client, unique_server, chaos):
    """With a store that refuses, loses or garbles, each call is answered by the model or rightly by the cache."""
    with llm_cache() as cell:
        entries = current_session().cache("default")._entries
        inner = entries.store
        fills, store = entries.places.fills, ChaosStore(inner, chaos)
        entries.store = entries.places.store = store
        entries.places.fills = LookThenPut(store)
        answers = [ask(client) for _ in range(3)]
        entries.store = entries.places.store = inner
        entries.places.fills = fills
    assert len({answer.id for answer in answers}) == 3
    assert cell.hits == 0
    if not chaos.lost:
        assert cell.troubles


def test_hook_that_raises(client, unique_server):
    """A hook that breaks its promise not to raise costs the cell an entry at most, never a call."""
    session = current_session()
    opened = open_cell(session, session.options(), hooks=[fail])
    try:
        assert ask(client).id
        assert len(list(ask(client, stream=True))) > 3
        assert ask(client).id
    finally:
        opened.close()


def test_interrupt_in_our_own_code(client, unique_server, monkeypatch):
    """An interrupt while we decide or store is raised as itself, and nobody waits for that call afterwards."""
    for place in ((Entries, "stamp"), (Entries, "fill"), (Flights, "join"), (recording, "recognise")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, _interrupt)
            with llm_cache(), pytest.raises(KeyboardInterrupt) as interrupted:
                ask(client)
        with llm_cache(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(ask, client).result(30)
        current_session().cache("default").clear()
        assert interrupted.type is KeyboardInterrupt


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_abandoned_coroutine_raises_nowhere(isolated):
    """A call whose event loop is gone is cleaned up by the garbage collector, in silence and in any context."""
    client = httpx2.AsyncClient(transport=_Never())

    def start():
        with llm_cache() as cell:
            coroutine = client.post("https://api.openai.com/v1/chat/completions", json=QUESTION)
            coroutine.send(None)
        return coroutine, cell

    coroutine, first = copy_context().run(start)
    with llm_cache() as second:
        del coroutine
        gc.collect()
        assert base_scope() is second
    assert [(call.outcome, call.reason) for call in first.calls] == [(Outcome.ERROR, "GeneratorExit")]
    assert (first.troubles, second.calls) == ((), ())


def test_block_lets_go_of_what_people_hold(client):
    """What the code around a block holds is freed as it returns, as without the block: a table may be large."""

    class Table:
        pass

    def work():
        table = Table()
        with llm_cache():
            ask(client)
        return weakref.ref(table)

    gc.collect()
    gc.disable()
    try:
        assert work()() is None
    finally:
        gc.enable()


def base_scope():
    here = active.get()
    return here and here.scope


class _Never(httpx2.AsyncBaseTransport):
    """A transport that is still waiting."""

    async def handle_async_request(self, request):
        await _Suspended()
        raise AssertionError


class _Suspended:
    def __await__(self):
        yield


def test_collection_in_the_middle_of_our_own_code(isolated, unique_server):
    """The garbage collector may end a call while this very thread is at its lock: that is no deadlock."""
    flights = Flights()
    caller = coalesce.Caller(1, None, is_async=False)
    mine = flights.join(EntryId("a"), caller)
    others = flights.join(EntryId("b"), caller)
    with llm_cache() as cell, flights._lock, cell._lock, cell.sample_numbers._lock:
        flights.abandon(others)
        flights.land(mine, coalesce.Released())
        cell.emit(CallRecord(Outcome.ERROR))
        cell.sample_numbers.give_back("a", 0)
    assert len(cell.calls) == 1
