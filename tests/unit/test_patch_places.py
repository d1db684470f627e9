"""A class that someone has put in the place of another's: its calls are seen, or what can't be seen is said."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from contextlib import nullcontext
from types import ModuleType

import aiohttp
import httpx
import httpx2
import pytest
import requests
import requests.adapters
import wrapt

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept import patching
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.patching import Patcher, patcher

BODY = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
CHOICE = {"message": {"content": "x"}, "finish_reason": "stop"}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}
PLACES = [
    (threading, "Thread", "start"),
    (concurrent.futures, "ThreadPoolExecutor", "submit"),
    (httpx, "Client", "send"),
    (httpx, "AsyncClient", "send"),
    (httpx2, "Client", "send"),
    (httpx2, "AsyncClient", "send"),
    (requests, "Session", "request"),
    (requests.adapters, "HTTPAdapter", "send"),
    (aiohttp, "ClientSession", "_request"),
]
OWN = {"inherited": False, "overridden": True}


@pytest.fixture(autouse=True)
def _unpatched(isolated):
    """Every test has a cache of its own, and begins and ends unpatched."""
    uninstall()
    yield
    uninstall()


def scope_of(run):
    """What is in force where `run` runs its argument."""
    found = []
    run(lambda: found.append(active.get()))
    return None if found[0] is None else found[0].scope


def in_thread(kind, function):
    thread = kind(target=function)
    thread.start()
    thread.join()


def in_pool(kind, function):
    with kind(1) as pool:
        pool.submit(function).result()


async def ask_aiohttp(kind, url):
    async with kind() as session, session.post(url, json=BODY) as answer:
        return await answer.read()


async def ask_async(kind, url):
    async with kind() as client:
        return (await client.post(url, json=BODY)).content


def ask(module, name, kind, url):
    """Let an object of `kind` make a model call."""
    if module is requests.adapters:
        with requests.Session() as session:
            session.mount("http://", kind())
            return session.post(url, json=BODY).content
    with kind() as client:
        return client.post(url, json=BODY).content


async def asked(module, name, kind, url):
    if module is aiohttp:
        return await ask_aiohttp(kind, url)
    return await ask_async(kind, url) if name == "AsyncClient" else ask(module, name, kind, url)


def in_place(monkeypatch, module, name, method, *, is_overridden):
    """Put a subclass in the place of a library's class, as tracing agents do; return both."""
    plain = getattr(module, name)

    def traced(self, *args, **options):
        return getattr(super(kind, self), method)(*args, **options)

    with pytest.warns(DeprecationWarning, match="ClientSession") if module is aiohttp else nullcontext():
        kind = type(name, (plain,), {method: traced} if is_overridden else {})
    monkeypatch.setattr(module, name, kind)
    return plain, kind


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0].__name__}.{place[1]}")
async def test_a_subclass_in_place_is_seen(monkeypatch, unique_server, place, own):
    """Whoever uses it, and whoever holds the library's class since before, is seen; and no trace of us stays."""
    module, name, method = place
    kinds = in_place(monkeypatch, module, name, method, is_overridden=OWN[own])
    before = [dict(vars(kind)) for kind in kinds]
    url = f"{unique_server.openai_url}/chat/completions"
    for kind in kinds:
        with llm_cache() as cell:
            if module in (threading, concurrent.futures):
                run = in_thread if module is threading else in_pool
                assert scope_of(functools.partial(run, kind)) is cell
            else:
                assert await asked(module, name, kind, url)
                assert [call.outcome.value for call in cell.calls] == ["hit" if kind is kinds[1] else "miss"]
        assert cell.troubles == ()
    uninstall()
    assert [dict(vars(kind)) for kind in kinds] == before


def test_a_thread_class_that_starts_by_itself():
    """A class in place whose method does not call the library's carries the scope too."""

    class Own(threading.Thread):
        def start(self):
            in_thread(ORIGINAL, self.run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Thread", Own)
        plain = Own.__dict__["start"]
        with llm_cache() as cell:
            found = []
            thread = Own(target=lambda: found.append(active.get()))
            thread.start()
            del thread
        uninstall()
    assert found[0].scope is cell
    assert Own.__dict__["start"] is plain


ORIGINAL = threading.Thread


def test_what_is_in_place_is_called_as_ever(unique_server):
    """Someone's wrapper around a method is told whose it is, as without us."""
    seen = []

    def watch(wrapped, instance, args, kwargs):
        seen.append(instance)
        return wrapped(*args, **kwargs)

    original = httpx2.Client.__dict__["send"]
    wrapt.wrap_function_wrapper(httpx2.Client, "send", watch)
    try:
        with llm_cache() as cell, httpx2.Client() as client:
            client.post(f"{unique_server.openai_url}/chat/completions", json=BODY)
        uninstall()
        assert isinstance(httpx2.Client.__dict__["send"], wrapt.FunctionWrapper)
    finally:
        httpx2.Client.send = original
    assert len(cell.calls) == 1
    assert seen == [client]


STRANGE = {
    "a function": lambda *args, **options: None,
    "a class without the method": type("Client", (), {}),
    "a class that can't be changed": int,
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("place", [(threading, "Thread"), (httpx2, "Client")], ids=lambda place: place[1])
async def test_what_can_not_be_patched_is_said_every_time(monkeypatch, place, strange):
    """One bad place costs no other, raises nothing, and is told to each cell, until it is good again."""
    module, name = place
    answers = httpx2.MockTransport(lambda _: httpx2.Response(200, json=ANSWER))
    url = "https://api.openai.com/v1/chat/completions"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, STRANGE[strange])
        for _ in range(2):
            with llm_cache(mode="refresh") as cell:
                async with httpx2.AsyncClient(transport=answers) as client:
                    await client.post(url, json=BODY)
            assert len(cell.calls) == 1
            (trouble,) = cell.troubles
            assert module.__name__ in trouble.message
            assert "can't be seen" in trouble.message
    with llm_cache() as cell, httpx2.Client(transport=answers) as client:
        assert scope_of(functools.partial(in_thread, threading.Thread)) is cell
        client.post(url, json=BODY)
    assert (cell.troubles, len(cell.calls)) == ((), 1)


def test_a_class_that_refuses_half_way():
    """Where the second method of a pair can't be replaced, the first is put back: half of it would lose answers."""

    class Picky(type):
        def __setattr__(cls, name, value):
            if name != "send":
                raise TypeError("this one stays")
            super().__setattr__(name, value)

    own = {name: httpx2.Client.__dict__[name] for name in ("send", "_send_single_request")}
    kind = Picky("Client", (), {"__module__": "httpx2", **own})
    module = ModuleType("httpx2")
    module.__dict__.update({**vars(httpx2), "Client": kind})
    other = Patcher()
    other._is_on = True
    with pytest.warns(RuntimeWarning, match="this one stays"):
        other._imported(module)
    assert {name: vars(kind)[name] for name in own} == own
    other.uninstall()


def test_an_interrupted_installation_is_taken_up_again(monkeypatch):
    """An interrupt in the midst of installing leaves nothing undone for ever: the next scope does the rest."""
    known = patching._PATCHES["httpx2"]

    def interrupted(module):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(patching, "_PATCHES", {**patching._PATCHES, "httpx2": interrupted})
        with pytest.raises(KeyboardInterrupt):
            patcher.install()
    assert patching._PATCHES["httpx2"] is known
    plain = httpx2.Client.send
    patcher.install()
    assert httpx2.Client.send is not plain
