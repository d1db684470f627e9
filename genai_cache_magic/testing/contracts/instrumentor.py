"""What every interceptor promises, as tests to inherit: whatever the client, a call is cached and not harmed.

Subclass ``InstrumentorContract`` in a test module under a name that starts with ``Test``, give it a
``Driver`` for your client, and the suite runs against a simulated model on loopback::

    class TestMyClient(InstrumentorContract):
        patched = ((my_client.Client, "send"),)

        def make_driver(self, server):
            return MyDriver(server.openai_url)

The suite is asynchronous throughout; a client that blocks is driven in threads (``in_thread``,
``ThreadedEvents``).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import pytest
import pytest_asyncio

from genai_cache_magic.api.scopes.cells import llm_cache, uninstall
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

T = TypeVar("T")

_END = object()


class Events(Protocol):
    """An open stream, event by event."""

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return what yields the events, as values that can be compared."""

    async def aclose(self) -> None:
        """Leave the stream, wherever it stands."""


class Driver(Protocol):
    """One client, asked by a prompt. Answers are values that can be compared, without response headers."""

    async def ask(self, prompt: str) -> Any:
        """Return the model's whole answer; raises what the client raises."""

    async def open(self, prompt: str) -> Events:
        """Return the model's answer as a stream, as soon as it has begun."""

    async def list_models(self) -> Any:
        """Send something that is no model call, ``GET .../models``, and return the answer."""

    async def aclose(self) -> None:
        """Close the client."""


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking function in a thread, in the present scope."""
    return await asyncio.to_thread(function, *args, **kwargs)


class ThreadedEvents:
    """An open stream of a client that blocks.

    Parameters
    ----------
    events
        Yields the events.
    close
        Leaves the stream.
    """

    def __init__(self, events: Iterable[Any], close: Callable[[], object]) -> None:
        self._events = iter(events)
        self._close = close

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        event = await in_thread(next, self._events, _END)
        if event is _END:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Leave the stream."""
        await in_thread(self._close)


class InstrumentorContract:
    """Inherit, set ``patched`` and override ``make_driver``.

    Attributes
    ----------
    patched
        The attributes that the interceptor replaces: (class, name).
    retries
        How often the driver's client asks again after a 500.
    can_cancel
        Whether a call that waits can be cancelled; false for one in a thread.
    """

    patched: ClassVar[tuple[tuple[type, str], ...]] = ()
    retries: ClassVar[int] = 0
    can_cancel: ClassVar[bool] = True
    pytestmark = pytest.mark.asyncio

    def make_driver(self, server: SimulatedModelServer) -> Driver:
        """Return a client that asks `server`; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override make_driver, to ask {server}")

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Give each test an empty cache, and leave no patch behind."""
        monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "default.key"))
        reset_session()
        yield
        uninstall()
        reset_session()

    @pytest.fixture
    def server(self) -> Iterator[SimulatedModelServer]:
        """Return a model that never gives the same answer twice, so that a replay is seen as one."""
        with SimulatedModelServer("unique") as running:
            yield running

    @pytest_asyncio.fixture
    async def driver(self, server: SimulatedModelServer) -> AsyncIterator[Driver]:
        """Return the driver, closed afterwards."""
        driver = self.make_driver(server)
        yield driver
        await driver.aclose()

    async def test_outside_a_scope_nothing_is_cached(self, driver: Driver, server: SimulatedModelServer) -> None:
        """Without a scope each call reaches the model, though the patches are in place."""
        with llm_cache() as cell:
            pass
        assert await driver.ask("a") != await driver.ask("a")
        assert (server.count, cell.calls) == (2, ())

    async def test_second_call_is_a_hit(self, driver: Driver, server: SimulatedModelServer) -> None:
        """The same request is answered from the cache, field by field as the model answered it."""
        with llm_cache() as cell:
            first, second, other = [await driver.ask(prompt) for prompt in ("a", "a", "b")]
        assert first == second
        assert first != other
        assert (server.count, cell.hits, cell.misses) == (2, 1, 2)
        assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.MISS]
        assert cell.troubles == ()

    async def test_outlives_the_scope(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A later scope is answered with what an earlier one stored."""
        with llm_cache():
            first = await driver.ask("a")
        with llm_cache() as cell:
            assert await driver.ask("a") == first
        assert (cell.hits, server.count) == (1, 1)

    async def test_stream_is_replayed_event_by_event(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A replayed stream gives the very same events, ids included, one by one."""
        with llm_cache() as cell:
            first = await _read(driver, "a")
            second = await _read(driver, "a")
        assert first == second
        assert first[1:-1]
        assert server.count == 1
        assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]

    async def test_stream_is_passed_on_at_once(self, driver: Driver, server: SimulatedModelServer) -> None:
        """The caller has the first event before the model has sent the others."""
        server.hold(after_events=2)
        with llm_cache() as cell:
            events = await driver.open("a")
            reading = aiter(events)
            first = await anext(reading)
            assert [call.outcome for call in cell.calls] == [Outcome.OPEN]
            assert (cell.open, cell.spent_usd) == (1, None)
            server.release()
            rest = [event async for event in reading]
            await events.aclose()
            assert await _read(driver, "a") == [first, *rest]
        assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]

    async def test_left_stream_is_not_stored(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A stream that its caller leaves before the model's last event is not stored."""
        server.hold(after_events=3)
        with llm_cache() as cell:
            events = await driver.open("a")
            await anext(aiter(events))
            await events.aclose()
            server.release()
            assert [call.stored for call in cell.calls] == [False]
            await _read(driver, "a")
        assert [call.stored for call in cell.calls] == [False, True]
        assert len(server.requests) == len(cell.calls)

    async def test_error_of_the_caller_passes(self, driver: Driver, server: SimulatedModelServer) -> None:
        """What the caller raises in its own loop comes out as itself, and nothing is stored."""
        server.hold(after_events=3)
        with llm_cache() as cell:
            with pytest.raises(ZeroDivisionError):
                await _read(driver, "a", lambda _: 1 // 0)
            server.release()
        assert [call.stored for call in cell.calls] == [False]

    async def test_cut_stream_fails_as_ever(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A connection that breaks in mid-stream gives the caller the very error that it gives without us."""
        without, _ = await self._outcome(driver, server, Fault.STREAM_CUT)
        with llm_cache() as cell:
            within, events = await self._outcome(driver, server, Fault.STREAM_CUT)
            await _read(driver, "a")
        assert (type(within), str(within)) == (type(without), str(without))
        assert isinstance(within, Exception)
        assert events
        assert [call.stored for call in cell.calls] == [False, True]

    async def test_error_answer_is_not_stored(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A 500 reaches the caller as ever, after as many attempts as ever, and the next call asks again."""
        attempts = self.retries + 1
        server.fail_next(Fault.SERVER_ERROR, times=2 * attempts)
        without = await _ask(driver, "a")
        with llm_cache() as cell:
            within = await _ask(driver, "a")
            assert (type(within), str(within)) == (type(without), str(without))
            await driver.ask("a")
        assert [call.stored for call in cell.calls] == [False] * attempts + [True]
        assert server.count == attempts + len(cell.calls)

    async def test_retry_of_the_client_is_served(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A client that asks again by itself gets the answer, and that one is stored."""
        if not self.retries:
            pytest.skip("this client never asks again by itself")
        server.fail_next(Fault.SERVER_ERROR)
        with llm_cache() as cell:
            first = await driver.ask("a")
            assert await driver.ask("a") == first
        assert [call.outcome for call in cell.calls] == [Outcome.ERROR, Outcome.MISS, Outcome.HIT]
        assert (server.count, cell.errors, cell.misses) == (2, 1, 1)

    async def test_one_of_many_asks(self, driver: Driver, server: SimulatedModelServer) -> None:
        """Callers that ask the same at the same time share one call to the model."""
        server.hold()
        with llm_cache() as cell:
            asking = [asyncio.ensure_future(driver.ask("a")) for _ in range(4)]
            assert await in_thread(server.wait_for, 1)
            server.release()
            first, *others = await asyncio.gather(*asking)
        assert others == [first] * 3
        assert (server.count, cell.hits, cell.misses) == (1, 3, 1)

    async def test_cancelled_call_is_no_one_elses_trouble(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A cancelled call is cancelled as ever; one of those who waited for it asks instead."""
        if not self.can_cancel:
            pytest.skip("a call in a thread can't be cancelled")
        server.hold()
        with llm_cache() as cell:
            leader = asyncio.ensure_future(driver.ask("a"))
            assert await in_thread(server.wait_for, 1)
            followers = [asyncio.ensure_future(driver.ask("a")) for _ in range(3)]
            await asyncio.sleep(0)
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            assert await in_thread(server.wait_for, 2)
            server.release()
            first, *others = await asyncio.gather(*followers)
        assert others == [first] * 2
        assert (server.count, cell.errors, cell.misses, cell.hits) == (2, 1, 1, 2)

    async def test_cancelled_stream_is_not_stored(self, driver: Driver, server: SimulatedModelServer) -> None:
        """A task that is cancelled while it reads a stream is cancelled as ever, and nothing is stored."""
        if not self.can_cancel:
            pytest.skip("a call in a thread can't be cancelled")
        server.hold(after_events=2)
        has_begun = asyncio.Event()
        with llm_cache() as cell:
            reading = asyncio.ensure_future(_read(driver, "a", lambda _: has_begun.set()))
            await has_begun.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            server.release()
        assert [call.stored for call in cell.calls] == [False]

    async def test_what_is_no_model_call_passes(self, driver: Driver) -> None:
        """Another request is answered as ever, and is no call of the cell."""
        without = await driver.list_models()
        with llm_cache() as cell:
            assert await driver.list_models() == without
            assert await driver.list_models() == without
        assert cell.calls == ()

    async def test_off_leaves_the_call_alone(self, driver: Driver, server: SimulatedModelServer) -> None:
        """In mode off each call reaches the model, and the cell says so."""
        with llm_cache(mode="off") as cell:
            assert await driver.ask("a") != await driver.ask("a")
        assert (cell.bypassed, server.count) == (2, 2)

    async def test_replay_never_asks(self, driver: Driver, server: SimulatedModelServer) -> None:
        """In mode replay a hit is served and a miss is `ReplayMiss` itself: nothing was sent, nothing retried."""
        with llm_cache():
            known = await driver.ask("a")
        with llm_cache(mode="replay"):
            assert await driver.ask("a") == known
            with pytest.raises(ReplayMiss):
                await driver.ask("b")
            with pytest.raises(ReplayMiss):
                await _read(driver, "b")
        assert server.count == 1

    async def test_uninstall_leaves_no_trace(self, driver: Driver, server: SimulatedModelServer) -> None:
        """Uninstalling puts back the very objects that were there; installing again works."""
        before = [owner.__dict__[name] for owner, name in self.patched]
        for _ in range(2):
            with llm_cache() as cell:
                assert [owner.__dict__[name] for owner, name in self.patched] != before
                await driver.ask("a")
            assert len(cell.calls) == 1
            uninstall()
            uninstall()
            assert [owner.__dict__[name] for owner, name in self.patched] == before
        assert server.count == 1
        assert before

    async def _outcome(
        self,
        driver: Driver,
        server: SimulatedModelServer,
        fault: Fault,
    ) -> tuple[BaseException | None, list[Any]]:
        server.fail_next(fault)
        seen: list[Any] = []
        try:
            await _read(driver, "a", seen.append)
        except Exception as exc:  # noqa: BLE001 - whatever the client raises is the outcome
            return exc, seen
        return None, seen


async def _ask(driver: Driver, prompt: str) -> Any:
    """Return the answer, or the error that the client raised."""
    try:
        return await driver.ask(prompt)
    except Exception as exc:  # noqa: BLE001 - whatever the client raises is the outcome
        return exc


async def _read(driver: Driver, prompt: str, look: Callable[[Any], object] = lambda _: None) -> list[Any]:
    """Return all events of a stream, which is left whatever `look` raises at one of them."""
    async with contextlib.aclosing(await driver.open(prompt)) as events:
        seen = []
        async for event in events:
            look(event)
            seen.append(event)
        return seen
