"""Threads that ask a service side by side are few, and neither hold up a process's end nor are missing after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, wait

import pytest

from genai_cache_magic.stores.workers import Workers

_WAITS_FOR_EVER = """
import threading
from genai_cache_magic.stores.workers import Workers
begun = threading.Event()
Workers(1, "w").submit(lambda _: (begun.set(), threading.Event().wait()), None)
begun.wait()
"""


@pytest.fixture
def workers():
    workers = Workers(3, "w")
    yield workers
    workers.close()


def test_what_is_asked_comes_back(workers):
    """What work returns, and what it raises, is its asker's."""
    assert [asked.result(30) for asked in [workers.submit(str, number) for number in range(20)]] == [
        str(number) for number in range(20)
    ]
    assert isinstance(workers.submit(int, "none").exception(30), ValueError)


def test_no_more_than_so_many_at_once(workers):
    """What comes beyond that waits for its turn, and each that is free takes the next."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def work(_):
        begun.release()
        return may_end.wait(30)

    asked = [workers.submit(work, None) for _ in range(5)]
    for _ in range(3):
        assert begun.acquire(timeout=30)
    assert sum(one.running() for one in asked) == 3
    may_end.set()
    assert all(one.result(30) for one in asked)


def test_closing_waits_for_nobody(workers):
    """What has not begun is given up; it can be used again."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def work(_):
        begun.release()
        return may_end.wait(30)

    asked = [workers.submit(work, None) for _ in range(4)]
    for _ in range(3):
        assert begun.acquire(timeout=30)
    workers.close()
    with pytest.raises(CancelledError):
        asked[3].result(30)
    assert workers.submit(str, 1).result(30) == "1"
    may_end.set()
    assert not wait(asked, 30).not_done


def test_a_process_ends_though_an_answer_never_does():
    """A service that trickles for ever does not keep an interpreter from its end."""
    subprocess.run([sys.executable, "-c", _WAITS_FOR_EVER], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own(workers):
    """A child's work is not left to threads that its parent alone has."""
    assert workers.submit(str, 1).result(30) == "1"
    child = os.fork()
    if child == 0:
        os._exit(0 if workers.submit(str, 2).result(30) == "2" else 1)
    assert os.waitpid(child, 0)[1] == 0
