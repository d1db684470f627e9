"""A forked child has one thread: it waits for no other, neither for a lock that one held nor for its call in flight."""

from __future__ import annotations

import multiprocessing
import os
import threading

import openai
import pytest

from genai_cache_magic import host, llm_cache
from genai_cache_magic.api.team.joining import Joining
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.timeout(60),
]


def forked(function):
    """Run `function` in a forked child, and return the child when it is done."""
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    return child


def test_call_in_flight(isolated, unique_server):
    """A child that asks what a thread of its parent is asking asks for itself at once."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0, timeout=30) as client:

        def ask():
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "the same"}])

        def ask_anew():
            client.with_options(http_client=openai.DefaultHttpxClient()).chat.completions.create(
                model="m", messages=[{"role": "user", "content": "the same"}]
            )

        with llm_cache():
            unique_server.hold()
            thread = threading.Thread(target=ask)
            thread.start()
            assert unique_server.wait_for(1)
            child = forked(ask_anew)
            assert unique_server.wait_for(2)
            unique_server.release()
            thread.join()
            child.join()
    assert child.exitcode == 0


def test_lock_that_a_thread_held():
    """A lock that another thread held is free in the child, and as it was in the parent."""
    lock, held, done = host.process_lock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def take():
        raise SystemExit(0 if lock.acquire(timeout=10) else 1)

    child = forked(take)
    child.join()
    assert child.exitcode == 0
    assert not lock.acquire(blocking=False)
    done.set()
    thread.join()


def test_a_child_goes_on_joining_its_team():
    """The thread that tries to was the parent's: the child's next call starts one of its own, unless it is over."""
    context, parent = multiprocessing.get_context("fork"), os.getpid()
    joined = context.Event()

    def join():
        if os.getpid() == parent:
            raise StoreUnavailable("not yet")
        joined.set()
        return True

    joining = Joining(Breaker("tier", BreakerConfig(first_pause_s=0.0, longest_pause_s=0.0)), join, lambda _: None)
    joining.start()

    def ask():
        joining.go_on()
        raise SystemExit(0 if joined.wait(30) else 1)

    child = forked(ask)
    child.join()
    joining.stop()
    assert child.exitcode == 0
    joined.clear()

    def ask_when_it_is_over():
        joining.go_on()
        raise SystemExit(any(thread.name == "genai-cache-joining" for thread in threading.enumerate()))

    child = forked(ask_when_it_is_over)
    child.join()
    assert child.exitcode == 0
