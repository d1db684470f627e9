"""Patches come when a library is imported, once, and go without a trace; nobody else's is harmed."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import httpx
import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept.clients.httpx import patches
from genai_cache_magic.intercept.patching import Patcher, patcher

PLACES = [
    (owner, name)
    for module in (httpx, httpx2)
    for owner in (module.Client, module.AsyncClient)
    for name in ("send", "_send_single_request")
]
PLACES += [(threading.Thread, "start"), (ThreadPoolExecutor, "submit")]
BODY = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
CHOICE = {"message": {"content": "x"}, "finish_reason": "stop"}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}


def attributes():
    return [owner.__dict__[name] for owner, name in PLACES]


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own, and begins and ends unpatched."""
    uninstall()
    before = attributes()
    yield
    uninstall()
    assert attributes() == before


def recorded_calls():
    """How many calls a scope sees of one that is made in it."""
    with (
        llm_cache() as cell,
        httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=ANSWER))) as client,
    ):
        client.post("https://api.openai.com/v1/chat/completions", json=BODY)
    return len(cell.calls)


def test_once():
    """Installing again, or by another thread at the same time, changes nothing more."""
    threads = [threading.Thread(target=patcher.install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    installed = attributes()
    patcher.install()
    assert attributes() == installed
    assert all(before is not after for before, after in zip(_plain(), installed, strict=True))


def _plain():
    installed = attributes()
    uninstall()
    plain = attributes()
    assert all(now is not then for now, then in zip(plain, installed, strict=True))
    return plain


def test_importing_the_package_patches_nothing():
    """Only a scope installs."""
    before = attributes()
    import genai_cache_magic.intercept.patching  # noqa: F401

    assert attributes() == before


def test_library_imported_within_a_scope():
    """A library that is imported only after the scope was opened is seen too, and importing us imports none."""
    code = """
        import os, sys, tempfile
        os.environ["GENAI_CACHE_DIR"] = os.environ["GENAI_CACHE_KEY_FILE"] = ""
        from genai_cache_magic import llm_cache
        from genai_cache_magic.api.scopes.cells import uninstall
        from genai_cache_magic.api.scopes.session import current_session
        with tempfile.TemporaryDirectory() as home:
            os.environ["GENAI_CACHE_DIR"], os.environ["GENAI_CACHE_KEY_FILE"] = home + "/cache", home + "/key/k"
            with llm_cache() as cell:
                assert not {"httpx", "httpx2"} & set(sys.modules)
                for name in ("httpx", "httpx2"):
                    module = __import__(name)
                    answer = module.MockTransport(lambda _: module.Response(200, json={"choices": []}))
                    with module.Client(transport=answer) as client:
                        client.post("https://api.openai.com/v1/chat/completions", json=BODY)
            assert len(cell.calls) == 2, cell.calls
            uninstall()
            with llm_cache() as cell, module.Client(transport=answer) as client:
                client.post("https://api.openai.com/v1/chat/completions", json=BODY)
            assert len(cell.calls) == 1, cell.calls
    """
    source = f"BODY = {BODY!r}\n{textwrap.dedent(code)}"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_install_again():
    """Uninstalled and installed again, calls are seen as before."""
    for _ in range(3):
        assert recorded_calls() == 1
        uninstall()


def test_patch_on_top_of_ours_survives(monkeypatch):
    """Someone else's later patch stays when we uninstall, still works, and does not make us count twice."""
    original = httpx2.Client.__dict__["send"]
    patcher.install()
    ours, seen = httpx2.Client.__dict__["send"], []

    def theirs(self, request, **options):
        seen.append(request.method)
        return ours(self, request, **options)

    for on_top in (theirs, functools.wraps(ours)(theirs)):
        seen.clear()
        httpx2.Client.send = on_top
        assert recorded_calls() == 1
        uninstall()
        uninstall()
        assert httpx2.Client.__dict__["send"] is on_top
        assert recorded_calls() == 1
        assert seen == ["POST", "POST"]
    httpx2.Client.send = ours
    uninstall()
    assert httpx2.Client.__dict__["send"] is original


def test_patch_that_took_ours_away():
    """If someone put the library's own method back over ours, installing again patches it anew."""
    original = httpx2.Client.__dict__["send"]
    patcher.install()
    ours = httpx2.Client.__dict__["send"]
    httpx2.Client.send = functools.partialmethod(ours)
    uninstall()
    httpx2.Client.send = original
    assert recorded_calls() == 1


def test_another_wrapper_of_a_client_below_ours():
    """A client's subclass that sends its request through `super` is owned once."""

    class Client(httpx2.Client):
        def send(self, request, **options):
            return super().send(request, **options)

    with (
        llm_cache() as cell,
        Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=ANSWER))) as client,
    ):
        for _ in range(2):
            client.post("https://api.openai.com/v1/chat/completions", json=BODY)
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit"]


def test_two_layers_of_ours_count_once():
    """Where a wrapped method of ours is wrapped by ours again, the outer one owns the call and both let it through."""
    patcher.install()
    (outer,) = [point for group in patches(httpx2) for point in group if point[:2] == (httpx2.Client, "send")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outer.owner, outer.name, outer.wrap(httpx2.Client.send))
        assert recorded_calls() == 1
        with llm_cache() as cell, httpx2.Client(transport=httpx2.MockTransport(lambda _: None)) as client:
            assert client.post("https://api.openai.com/v1/chat/completions", json=BODY).json() == ANSWER
    assert cell.hits == 1


def test_release_that_is_built_differently(monkeypatch):
    """A release of a library that we don't know is left alone, with a warning, and its import succeeds."""
    other = Patcher()
    other._is_on = True
    module = ModuleType("httpx3")
    with pytest.warns(RuntimeWarning):
        other._imported(module)
    assert other._replaced == []
