"""Whatever a call ends with, it ends with the same in a scope as without one: error, time-out, interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading

import anthropic
import httpx
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.calls.coalesce import Seat
from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = {**QUESTION, "model": "claude-sonnet-5", "max_tokens": 50}


VERIFY = httpx2.create_ssl_context()  # costs more than all the rest of a client


def closed_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return listening.getsockname()[1]


class Bare:
    """A client of the httpx family."""

    def __init__(self, module):
        self.module = module

    def ask(self, url, timeout_s, *, stream):
        with self.module.Client(verify=VERIFY, timeout=self.module.Timeout(5, read=timeout_s)) as client:
            body = {**QUESTION, "stream": stream}
            with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                return response.status_code, list(response.iter_lines())

    async def aask(self, url, timeout_s, *, stream):
        async with self.module.AsyncClient(verify=VERIFY, timeout=self.module.Timeout(5, read=timeout_s)) as client:
            body = {**QUESTION, "stream": stream}
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                return response.status_code, [line async for line in response.aiter_lines()]


def options(timeout_s):
    return {"api_key": "k", "max_retries": 0, "timeout": httpx2.Timeout(5, read=timeout_s)}


class OpenAISdk:
    """OpenAI's client."""

    def ask(self, url, timeout_s, *, stream):
        http = httpx2.Client(verify=VERIFY)
        with openai.OpenAI(base_url=f"{url}/v1", http_client=http, **options(timeout_s)) as client:
            answer = client.chat.completions.create(**QUESTION, stream=stream)
            return [chunk.id for chunk in answer] if stream else answer.id

    async def aask(self, url, timeout_s, *, stream):
        http = httpx2.AsyncClient(verify=VERIFY)
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", http_client=http, **options(timeout_s)) as client:
            answer = await client.chat.completions.create(**QUESTION, stream=stream)
            return [chunk.id async for chunk in answer] if stream else answer.id


class AnthropicSdk:
    """Anthropic's client."""

    def ask(self, url, timeout_s, *, stream):
        http = httpx2.Client(verify=VERIFY)
        with anthropic.Anthropic(base_url=url, http_client=http, **options(timeout_s)) as client:
            answer = client.messages.create(**CLAUDE, stream=stream)
            return [event.type for event in answer] if stream else answer.id

    async def aask(self, url, timeout_s, *, stream):
        http = httpx2.AsyncClient(verify=VERIFY)
        async with anthropic.AsyncAnthropic(base_url=url, http_client=http, **options(timeout_s)) as client:
            answer = await client.messages.create(**CLAUDE, stream=stream)
            return [event.type async for event in answer] if stream else answer.id


CLIENTS = {"httpx": Bare(httpx), "httpx2": Bare(httpx2), "openai": OpenAISdk(), "anthropic": AnthropicSdk()}


def outcome(ask):
    """What a call ends with, as something to compare: a value, or an error with all that led to it."""
    try:
        return ask()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the outcome
        return described(exc)


async def aoutcome(ask):
    try:
        return await ask()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the outcome
        return described(exc)


def described(exc):
    return type(exc), str(exc), type(exc.__cause__), str(getattr(exc, "request", None))


def refused(server, _):
    server.stop()
    return f"http://127.0.0.1:{closed_port()}"


def held(server, events):
    server.hold(after_events=events)
    return server.url


def faulty(server, fault):
    server.fail_next(fault, times=9)
    return server.url


SCENARIOS = {
    "refused connection": (refused, None),
    "read time-out": (held, 0),
    "time-out in mid-stream": (held, 3),
    **{fault.value: (faulty, fault) for fault in (
        Fault.TOO_MANY_REQUESTS, Fault.SERVER_ERROR, Fault.ERROR_BODY, Fault.STREAM_CUT, Fault.STREAM_CLEAN_CUT,
        Fault.BAD_JSON, Fault.ERROR_EVENT, Fault.TRUNCATED, Fault.EMPTY,
    )},
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", CLIENTS)
async def test_same_with_and_without(isolated, name, scenario, stream):
    """A call that goes wrong ends in the same error, cause and message within a scope and without, and isn't stored."""
    client, (prepare, detail) = CLIENTS[name], SCENARIOS[scenario]
    timeout_s = 0.05 if "time-out" in scenario else 5
    with SimulatedModelServer() as server:
        url = prepare(server, detail)
        plain = outcome(lambda: client.ask(url, timeout_s, stream=stream))
        aplain = await aoutcome(lambda: client.aask(url, timeout_s, stream=stream))
        with llm_cache() as cell:
            within = outcome(lambda: client.ask(url, timeout_s, stream=stream))
            awithin = await aoutcome(lambda: client.aask(url, timeout_s, stream=stream))
        server.release()
    assert within == plain
    assert awithin == aplain
    if (scenario, stream) != ("time-out in mid-stream", False):
        # A stream that lacks its last event alone, and ended in order, has gone as well as any.
        assert [call.stored for call in cell.calls] == [(scenario, stream) == ("stream_clean_cut", True)] * 2
    assert cell.troubles == ()


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_interrupt_while_waiting_for_the_model(isolated, module):
    """An interrupt while the model is awaited is raised as itself, and the next call starts afresh."""
    with SimulatedModelServer() as server, llm_cache() as cell, module.Client() as client:
        server.hold()
        interrupting = threading.Thread(target=_interrupt_when, args=(lambda: server.wait_for(1),))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.post(f"{server.openai_url}/chat/completions", json=QUESTION)
        interrupting.join()
        server.release()
        assert client.post(f"{server.openai_url}/chat/completions", json=QUESTION).status_code == 200
    assert [call.reason for call in cell.calls] == ["KeyboardInterrupt", ""]


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_interrupt_in_mid_stream(isolated, module):
    """An interrupt between two events is raised as itself; what was received is not stored."""
    with SimulatedModelServer() as server, llm_cache() as cell, module.Client() as client:
        server.hold(after_events=2)
        url, is_reading = f"{server.openai_url}/chat/completions", threading.Event()
        interrupting = threading.Thread(target=_interrupt_when, args=(is_reading.wait,))
        interrupting.start()

        def read():
            with client.stream("POST", url, json={**QUESTION, "stream": True}) as response:
                for _ in response.iter_lines():
                    is_reading.set()

        with pytest.raises(KeyboardInterrupt):
            read()
        interrupting.join()
        server.release()
    assert [call.stored for call in cell.calls] == [False]


def _interrupt_when(condition):
    assert condition()
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_outer_time_limit(isolated, name, stream, monkeypatch):
    """`asyncio.timeout` around a call that waits for another ends it as ever, and harms neither."""
    is_waiting = asyncio.Event()
    monkeypatch.setattr(Seat, "__init__", _then(Seat.__init__, is_waiting.set))
    client = CLIENTS[name]
    with SimulatedModelServer() as server, llm_cache() as cell:
        server.hold(after_events=1 if stream else 0)
        leader = asyncio.ensure_future(client.aask(server.url, 30, stream=stream))
        assert await asyncio.to_thread(server.wait_for, 1)
        with pytest.raises(TimeoutError):
            await _limited(client.aask(server.url, 30, stream=stream), is_waiting)
        server.release()
        await leader
    assert [(call.reason, call.stored) for call in cell.calls] == [("CancelledError", False), ("", True)]
    assert server.count == 1


async def _limited(call, is_over):
    """Await `call`, with a time limit that ends once `is_over` is set."""
    async with asyncio.timeout(None) as limit:
        ending = asyncio.ensure_future(is_over.wait())
        ending.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
        await call


def _then(function, act):
    def run(*args):
        function(*args)
        act()

    return run
