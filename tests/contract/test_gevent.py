"""Under gevent, patched before us or after, greenlets carry the scope as threads do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent", reason="pip install gevent")

PATCHED = "from gevent import monkey; monkey.patch_all()"
FIRST = "with llm_cache(): pass"
ORDERS = {"first": f"{PATCHED}\n", "after us": f"{FIRST}\n{PATCHED}\n", "never": ""}

BEGIN = """
import os, tempfile
home = tempfile.mkdtemp()
os.environ["GENAI_CACHE_DIR"], os.environ["GENAI_CACHE_KEY_FILE"] = home + "/cache", home + "/key/k"
"""
SETTING = """
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
import gevent
import gevent.event
import gevent.pool
import gevent.threadpool
import httpx2
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept.active import active

def scope():
    here = active.get()
    return None if here is None else here.scope

def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(scope()))
    thread.start()
    thread.join()
    return found[0]

def raw():
    found = gevent.event.AsyncResult()
    gevent.spawn_raw(lambda: found.set(scope()))
    return found.get()

def pooled():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(scope).result()

def native():
    pool = gevent.threadpool.ThreadPool(1)
    found = pool.spawn(scope).get()
    pool.kill()
    return found

WAYS = {
    "spawn": lambda: gevent.spawn(scope).get(),
    "spawn_later": lambda: gevent.spawn_later(0, scope).get(),
    "raw": raw,
    "nested": lambda: gevent.spawn(lambda: gevent.spawn(scope).get()).get(),
    "group": lambda: gevent.pool.Group().apply(scope),
    "pool": lambda: gevent.pool.Pool(2).map(lambda _: scope(), range(2))[1],
    "thread": in_thread,
    "executor": pooled,
    "native pool": native,
}
"""


def run(order, body):
    source = BEGIN + "from genai_cache_magic import llm_cache\n" + ORDERS[order] + SETTING + textwrap.dedent(body)
    ran = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("order", ORDERS)
def test_greenlets_carry_the_scope(order):
    """Whatever gevent starts in a cell belongs to it, and what it starts outside belongs to none; no trace stays."""
    body = """
        uninstall()
        places = (threading.Thread, gevent, gevent.threadpool.ThreadPool)
        before = [dict(vars(place)) for place in places]
        with llm_cache() as cell:
            inside = {way: find() is cell for way, find in WAYS.items()}
            own = gevent.Greenlet(scope)
            own.gr_context = contextvars.Context()
            own.start()
            assert own.get() is None
        assert all(inside.values()), inside
        outside = {way: find() for way, find in WAYS.items()}
        assert set(outside.values()) == {None}, outside
        assert cell.troubles == (), cell.troubles
        with llm_cache() as cell:
            assert gevent.spawn(scope).get() is cell
            uninstall()
            assert [dict(vars(place)) for place in places] == before
            assert gevent.spawn(scope).get() is None
    """
    run(order, body)


@pytest.mark.parametrize("order", ["first", "after us"])
def test_equal_calls_of_greenlets_are_one(order):
    """Greenlets that ask one thing at one time ask the model once, and wait without holding each other up."""
    body = """
        from genai_cache_magic.testing.model_server import SimulatedModelServer

        server = SimulatedModelServer()
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
        with server:
            url = f"{server.openai_url}/chat/completions"
            with llm_cache() as cell, httpx2.Client() as client:
                asked = [gevent.spawn(client.post, url, json=body) for _ in range(5)]
                answers = {job.get(timeout=60).content for job in asked}
        assert len(answers) == 1
        assert (cell.misses, cell.hits) == (1, 4), cell
    """
    run(order, body)
