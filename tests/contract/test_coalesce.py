"""One call to the model for all who ask the same at the same time, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.calls.coalesce import Caller, Failed, Flight, Flights, Landed, Promoted, Released, Seat
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept import base
from genai_cache_magic.testing.model_server import Fault

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "the same"}]}


def caller(thread=0, task=None, *, is_async=False):
    return Caller(thread, task, is_async)


class TestFlights:
    def test_first_leads_and_others_wait(self):
        """The first to join leads; the next gets a seat in which the landing arrives."""
        flights = Flights()
        flight = flights.join("a", caller(1))
        seats = [flights.join("a", caller(thread)) for thread in (2, 3)]
        assert isinstance(flight, Flight)
        assert isinstance(flights.join("b", caller(4)), Flight)
        flights.land(flight, Landed("answer"))
        assert [seat.result(0) for seat in seats] == [Landed("answer")] * 2
        assert isinstance(flights.join("a", caller(2)), Flight)

    def test_one_follower_is_promoted(self):
        """When the leader gives up exactly one of those still there leads on, and the others wait for it."""
        flights = Flights()
        flight = flights.join("a", caller(1))
        gone, second, third = (flights.join("a", caller(thread)) for thread in (2, 3, 4))
        assert gone.cancel()
        flights.abandon(flight)
        assert second.result(0) == Promoted(flight)
        assert not third.done()
        flights.land(flight, Failed("error"))
        assert third.result(0) == Failed("error")

    def test_abandoned_by_all(self):
        """With nobody left a new caller leads afresh."""
        flights = Flights()
        flight = flights.join("a", caller(1))
        flights.abandon(flight)
        assert flights.join("a", caller(2)) is not flight

    def test_landing_leaves_a_later_flight_alone(self):
        """An abandoned leader that lands late ends no one else's flight."""
        flights = Flights()
        old = flights.join("a", caller(1))
        flights.abandon(old)
        new = flights.join("a", caller(2))
        seat = flights.join("a", caller(3))
        flights.land(old, Released())
        assert not seat.done()
        flights.land(new, Landed(1))
        assert seat.done()

    @pytest.mark.parametrize(
        ("follower", "leader", "may"),
        [
            (caller(1), caller(1), False),
            (caller(1), caller(2), True),
            (caller(1), caller(1, "task", is_async=True), False),
            (caller(1, "task", is_async=True), caller(1, "other", is_async=True), True),
            (caller(1, "task", is_async=True), caller(1, "task", is_async=True), False),
            (caller(1, "task", is_async=True), caller(2, None), True),
        ],
    )
    def test_nobody_waits_for_oneself(self, follower, leader, may):
        """Whoever would block its own leader gets no seat, and goes alone."""
        flights = Flights()
        flight = flights.join("a", leader)
        assert isinstance(flights.join("a", follower), Seat) is may
        flights.land(flight, Released())

    def test_forgotten_flight_releases(self):
        """A leader that vanishes without a word leaves nobody waiting, and the next caller leads."""
        flights = Flights()
        flight = flights.join("a", caller(1))
        seat = flights.join("a", caller(2))
        del flight
        gc.collect()
        assert seat.result(0) == Released()
        assert isinstance(flights.join("a", caller(3)), Flight)

    def test_a_flight_that_is_collected_with_who_leads_it(self):
        """One that is asked to be given up by what goes with it is over already, and says so in no other way."""
        flights, given_up = Flights(), []
        flight = flights.join("a", caller(1))
        gone, seat = flights.join("a", caller(2)), flights.join("a", caller(3))
        assert gone.cancel()
        left = Left(flight, flights, given_up)
        del flight, left
        gc.collect()
        assert seat.result(0) == Released()
        assert given_up == [None]


class Left:
    """What leads a flight, and is left to the garbage collector, which comes to the flight first."""

    def __init__(self, flight, flights, given_up):
        self.flight, self.flights, self.given_up = flight, flights, given_up
        self.itself = self

    def __del__(self):
        self.given_up.append(self.flights.abandon(self.flight))


class Asking:
    """Clients of one prompt, by thread and by task."""

    def __init__(self, url):
        self.client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
        self.aclient = openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0)

    def ask(self, **more):
        return self.client.chat.completions.create(**QUESTION, **more).model_dump()

    async def aask(self, **more):
        return (await self.aclient.chat.completions.create(**QUESTION, **more)).model_dump()


@pytest.fixture
def asking(isolated, unique_server):
    asking = Asking(unique_server.openai_url)
    yield asking
    asking.client.close()


def when_following(monkeypatch, count):
    """Return an event that is set once `count` callers wait for another."""
    reached, lock, seen = threading.Event(), threading.Lock(), []
    original = Flights.join

    def join(self, entry_id, who):
        joined = original(self, entry_id, who)
        with lock:
            seen.extend([1] * isinstance(joined, Seat))
            if len(seen) >= count:
                reached.set()
        return joined

    monkeypatch.setattr(Flights, "join", join)
    return reached


def test_32_threads_ask_once(asking, unique_server, monkeypatch):
    """32 threads with one new prompt make one call to the model and share its answer."""
    following = when_following(monkeypatch, 31)
    unique_server.hold()
    with llm_cache() as cell, ThreadPoolExecutor(32) as pool:
        futures = [pool.submit(asking.ask) for _ in range(32)]
        assert following.wait(30)
        unique_server.release()
        answers = [future.result() for future in futures]
    assert answers == answers[:1] * 32
    assert unique_server.count == 1
    assert (cell.hits, cell.misses, len(cell.calls)) == (31, 1, 32)


async def test_tasks_and_threads_ask_once(asking, unique_server, monkeypatch):
    """32 tasks and 8 threads with one new prompt make one call to the model and share its answer."""
    following = when_following(monkeypatch, 39)
    loop = asyncio.get_running_loop()
    unique_server.hold()
    with llm_cache() as cell, ThreadPoolExecutor(8) as pool:
        tasks = [asyncio.ensure_future(asking.aask()) for _ in range(32)]
        threads = [loop.run_in_executor(pool, asking.ask) for _ in range(8)]
        assert await asyncio.to_thread(following.wait, 30)
        unique_server.release()
        answers = await asyncio.gather(*tasks, *threads)
    assert answers == answers[:1] * 40
    assert unique_server.count == 1
    assert (cell.hits, cell.misses) == (39, 1)
    await asking.aclient.close()


async def test_cancelled_leader_promotes_one(asking, unique_server, monkeypatch):
    """When the leading task is cancelled, one waiting thread or task asks instead, once for all."""
    following = when_following(monkeypatch, 6)
    unique_server.hold()
    with llm_cache() as cell:
        leader = asyncio.ensure_future(asking.aask())
        assert await asyncio.to_thread(unique_server.wait_for, 1)
        followers = [asyncio.ensure_future(asking.aask()) for _ in range(3)]
        followers += [asyncio.ensure_future(asyncio.to_thread(asking.ask)) for _ in range(3)]
        assert await asyncio.to_thread(following.wait, 30)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        assert await asyncio.to_thread(unique_server.wait_for, 2)
        unique_server.release()
        answers = await asyncio.gather(*followers)
    assert answers == answers[:1] * 6
    assert unique_server.count == 2
    assert [call.outcome for call in cell.calls].count(Outcome.MISS) == 1
    await asking.aclient.close()


async def test_cancelled_follower_is_recorded(asking, unique_server, monkeypatch):
    """A cancelled follower is cancelled, takes nobody along, and stands in the cell's record."""
    following = when_following(monkeypatch, 1)
    unique_server.hold()
    with llm_cache(samples="same") as cell:
        leader = asyncio.ensure_future(asking.aask())
        assert await asyncio.to_thread(unique_server.wait_for, 1)
        follower = asyncio.ensure_future(asking.aask())
        assert await asyncio.to_thread(following.wait, 30)
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follower
        unique_server.release()
        await leader
    assert [(call.outcome, call.reason) for call in cell.calls] == [
        (Outcome.ERROR, "CancelledError"),
        (Outcome.MISS, ""),
    ]
    await asking.aclient.close()


def test_leaders_timeout_is_its_own(asking, unique_server, monkeypatch):
    """The leader's time-out is raised to the leader; who waited asks itself, and gets an answer."""
    following = when_following(monkeypatch, 2)
    unique_server.hold()
    with llm_cache(), ThreadPoolExecutor(3) as pool:
        leader = pool.submit(asking.ask, timeout=httpx2.Timeout(60, read=0.5))
        assert unique_server.wait_for(1)
        followers = [pool.submit(asking.ask) for _ in range(2)]
        assert following.wait(30)
        with pytest.raises(openai.APITimeoutError):
            leader.result()
        assert unique_server.wait_for(2)
        unique_server.release()
        first, second = (future.result() for future in followers)
    assert first == second
    assert unique_server.count == 2


def test_followers_timeout_bounds_its_wait(asking, unique_server, monkeypatch):
    """A follower waits no longer than its own time-out: then it asks for itself."""
    following = when_following(monkeypatch, 1)
    unique_server.hold()
    with llm_cache(), ThreadPoolExecutor(2) as pool:
        leader = pool.submit(asking.ask)
        assert unique_server.wait_for(1)
        follower = pool.submit(asking.ask, timeout=httpx2.Timeout(60, read=0.2))
        assert following.wait(30)
        assert unique_server.wait_for(2)
        unique_server.release()
        leader.result()
        follower.exception()
    assert unique_server.count == 2


def test_server_error_goes_to_those_waiting(asking, unique_server, monkeypatch):
    """A 500 is the answer to all who waited for it, without further calls, and is not cached."""
    following = when_following(monkeypatch, 3)
    unique_server.fail_next(Fault.SERVER_ERROR)
    unique_server.hold()
    with llm_cache() as cell, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(asking.ask) for _ in range(4)]
        assert following.wait(30)
        unique_server.release()
        errors = [future.exception() for future in futures]
        asking.ask()
    assert [type(error) for error in errors] == [openai.InternalServerError] * 4
    assert [error.status_code for error in errors] == [500] * 4
    assert unique_server.count == 2
    assert (cell.errors, cell.misses) == (4, 1)


@pytest.mark.parametrize("fault", [Fault.TOO_MANY_REQUESTS, Fault.TRUNCATED, Fault.EMPTY, Fault.ERROR_BODY])
def test_what_may_be_the_leaders_own_releases_all(asking, unique_server, monkeypatch, fault):
    """A 429, or an answer that must not be stored, is shared with nobody: each asks for itself at once."""
    following = when_following(monkeypatch, 3)
    unique_server.fail_next(fault)
    unique_server.hold()
    with llm_cache(), ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(lambda: asking.client.chat.completions.with_raw_response.create(**QUESTION))]
        assert unique_server.wait_for(1)
        futures += [pool.submit(asking.ask) for _ in range(3)]
        assert following.wait(30)
        unique_server.release()
        futures[0].exception()
        assert all(future.exception() is None for future in futures[1:])
    assert unique_server.count >= 2


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_lost_connection_is_raised_as_the_followers_own(isolated, module, monkeypatch):
    """A follower gets the leader's connection error as a new one, of its own library and with its own request."""
    following = when_following(monkeypatch, 1)
    is_led, is_followed = threading.Event(), threading.Event()

    def lose(request):
        is_led.set()
        assert is_followed.wait(30)
        raise httpx.ReadError("connection reset", request=request)

    def never(request):
        raise AssertionError("the follower asked")

    leading = httpx.Client(transport=httpx.MockTransport(lose))
    waiting = module.Client(transport=module.MockTransport(never))
    url = "https://api.openai.com/v1/chat/completions"
    with llm_cache(), ThreadPoolExecutor(2) as pool:
        leader = pool.submit(leading.post, url, json=QUESTION)
        assert is_led.wait(30)
        follower = pool.submit(waiting.post, url, json=QUESTION)
        assert following.wait(30)
        is_followed.set()
        first, second = leader.exception(), follower.exception()
    assert (type(first), type(second)) == (httpx.ReadError, module.ReadError)
    assert second is not first
    assert str(second) == "connection reset"
    assert str(second.request.url) == url
    assert second.request is not first.request


def test_open_stream_of_the_same_thread_is_not_waited_for(asking, unique_server):
    """Who holds an open stream and asks the same again goes alone, instead of waiting for itself."""
    with llm_cache() as cell:
        stream = asking.client.chat.completions.create(stream=True, **QUESTION)
        first = next(stream)
        assert asking.client.chat.completions.create(stream=True, **QUESTION).response.status_code == 200
        rest = list(stream)
    assert first.id == rest[0].id
    assert unique_server.count == 2
    assert cell.troubles == ()


async def test_blocking_call_within_a_loop_does_not_wait_for_it(asking, unique_server):
    """A blocking call in a loop whose task leads goes alone, since it keeps that very task from going on."""
    unique_server.hold()
    with llm_cache() as cell:
        leader = asyncio.ensure_future(asking.aask())
        assert await asyncio.to_thread(unique_server.wait_for, 1)
        unique_server.release()
        asking.ask()
        await leader
    assert unique_server.count == 2
    assert cell.hits == 0
    await asking.aclient.close()


async def test_streams_opened_together_don_t_wait_to_be_read(asking, unique_server, monkeypatch):
    """Streams of one prompt that are all opened before any is read all open: nobody waits for an idle reader."""
    monkeypatch.setattr(base, "MAX_IDLE_S", 0.05)
    with llm_cache() as cell:
        streams = await asyncio.gather(
            *(asking.aclient.chat.completions.create(stream=True, **QUESTION) for _ in range(3)),
        )
        texts = [[chunk async for chunk in stream] for stream in streams]
    assert all(texts)
    assert len(cell.calls) == 3
    await asking.aclient.close()


def test_unclosed_stream_releases_when_collected(asking, unique_server, monkeypatch):
    """A stream that is dropped unread and unclosed lets its followers go on, raises nowhere, and is recorded."""
    monkeypatch.setattr(base, "MAX_IDLE_S", 60.0)
    following = when_following(monkeypatch, 1)
    request = asking.client._client.build_request("POST", "/chat/completions", json={**QUESTION, "stream": True})
    with llm_cache() as cell, ThreadPoolExecutor(1) as pool:
        response = asking.client._client.send(request, stream=True)
        follower = pool.submit(lambda: list(asking.client.chat.completions.create(stream=True, **QUESTION)))
        assert following.wait(30)
        del response
        gc.collect()
        assert follower.result(30)
    assert [(call.outcome, call.stored) for call in cell.calls] == [(Outcome.ERROR, False), (Outcome.MISS, True)]
    assert cell.troubles == ()


def test_scopes_of_different_namespaces_share_nothing(asking, unique_server):
    """The same prompt in another namespace, or with another salt, is another call."""
    with llm_cache() as outer:
        first = asking.ask()
        with llm_cache(namespace="other") as inner:
            second = asking.ask()
        with llm_cache(salt="x") as salted:
            third = asking.ask()
        assert asking.ask() == first
    assert len({answer["id"] for answer in (first, second, third)}) == 3
    assert [len(cell.calls) for cell in (outer, inner, salted)] == [2, 1, 1]


def test_follower_of_another_scope_is_recorded_there(asking, unique_server, monkeypatch):
    """Each caller's part in a shared call stands in its own scope."""
    following = when_following(monkeypatch, 1)
    unique_server.hold()
    with ThreadPoolExecutor(2) as pool:
        with llm_cache() as one:
            leading = pool.submit(asking.ask)
            assert unique_server.wait_for(1)
        with llm_cache() as two:
            waiting = pool.submit(asking.ask)
            assert following.wait(30)
        unique_server.release()
        assert leading.result() == waiting.result()
    assert [call.outcome for call in one.calls] == [Outcome.MISS]
    assert [call.outcome for call in two.calls] == [Outcome.HIT]


def test_coroutine_without_asyncio_goes_alone(isolated, monkeypatch):
    """A caller on another kind of event loop can't wait for our future: it is served all the same."""
    following = when_following(monkeypatch, 1)
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    is_led, may_end = threading.Event(), threading.Event()

    def hold(request):
        is_led.set()
        assert may_end.wait(30)
        return httpx2.Response(200, json=answer)

    url = "https://api.openai.com/v1/chat/completions"
    leading = httpx2.Client(transport=httpx2.MockTransport(hold))
    alone = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer)))
    with llm_cache(), ThreadPoolExecutor(1) as pool:
        leader = pool.submit(leading.post, url, json=QUESTION)
        assert is_led.wait(30)
        with pytest.raises(StopIteration) as ended:
            alone.post(url, json=QUESTION).send(None)
        assert following.is_set()
        may_end.set()
        assert leader.result().status_code == 200
    assert ended.value.value.json() == answer
