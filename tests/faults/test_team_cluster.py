"""A cluster that is resharded, and loses a node, while cells run: no exception, and no answer is lost to its cell."""

from __future__ import annotations

import threading
import time

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session

SLOTS = 100
AT_LEAST = 5

pytestmark = pytest.mark.service


@pytest.fixture
def ask(isolated, unique_server, redis_nodes, team, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE_L2", redis_nodes.url)
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    reset_session()
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def ask(text):
            return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}]).id

        with llm_cache():
            ask("first")
        assert current_session().cache(team)._team is not None
        yield ask
    reset_session()


class Asking:
    """Asks on and on in a thread, each question twice, until it is told to end."""

    def __init__(self, ask):
        self.asked = 0
        self.failures = []
        self._ask = ask
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self._is_over.is_set():
                with llm_cache():
                    assert self._ask(f"question {self.asked}") == self._ask(f"question {self.asked}")
                self.asked += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            self.failures.append(error)

    def goes_on(self):
        """Wait until some more was asked."""
        enough, give_up_at = self.asked + AT_LEAST, time.monotonic() + 60
        while self.asked < enough and not self.failures:
            assert time.monotonic() < give_up_at
            self._is_over.wait(0.01)

    def __enter__(self):
        self._thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join(60)


def masters(nodes):
    """Return the ids and servers of the nodes that have slots."""
    by_port = {server.port: server for server in nodes.servers}
    found = []
    for line in nodes.run(nodes.servers[0], "cluster", "nodes").splitlines():
        words = line.split()
        if "master" in words[2] and "fail" not in words[2] and len(words) > 8:
            found.append((words[0], by_port[int(words[1].split(":")[1].split("@")[0])]))
    return found


def test_slots_that_move(ask, redis_nodes):
    """While slots go from one node to another and back, every call is answered and found again."""
    (one, _), (other, _), *_ = masters(redis_nodes)
    with Asking(ask) as asking:
        for source, target in ((one, other), (other, one)):
            redis_nodes.reshard(source, target, slots=SLOTS)
            asking.goes_on()
    assert asking.failures == []


def test_a_node_that_dies(ask, redis_nodes):
    """While a node is gone, its replica takes over and it comes back, every call is answered and found again."""
    _, dying = masters(redis_nodes)[-1]
    redis_nodes.give_up_after(2_000)
    with Asking(ask) as asking:
        try:
            dying.stop()
            asking.goes_on()
        finally:
            dying.start()
            redis_nodes.await_complete()
            redis_nodes.give_up_after()
        asking.goes_on()
    assert asking.failures == []
