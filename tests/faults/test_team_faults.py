"""Whatever the team's tier does, cells get their answers, and what is wrong stands under them in words."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import threading
import time

import openai
import pytest
from services import started

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.events import Outcome, Tier
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer, cut_off, free_port

MODEL = "gpt-4.1-mini"


def ask(client, text="hello"):
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}]).id


@pytest.fixture
def client(isolated, unique_server, monkeypatch):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def shared(monkeypatch):
    """Let the sessions of this test share `url`."""

    def use(url, **more):
        monkeypatch.setenv("GENAI_CACHE_L2", url)
        for name, value in more.items():
            monkeypatch.setenv(f"GENAI_CACHE_{name.upper()}", value)
        reset_session()

    return use


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Go on as another machine of the team, with the same key."""

    def move(name):
        reset_session()
        monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / name))

    return move


class Listener:
    """Accepts connections and does with each what a test says; counts them."""

    def __init__(self, serve):
        self.count = 0
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self._socket.getsockname()[1]}"

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.count += 1
                self._open.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with contextlib.suppress(OSError):
            self._serve(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._open:
            connection.close()


def silent(connection):
    connection.recv(65536)


def dripping(connection):
    """A byte at a time, each within every time-out of a client: only a deadline over all ends it."""
    connection.recv(65536)
    pause = threading.Event()
    for byte in b"$1000000\r\n" + b"x" * 1000:
        connection.sendall(bytes([byte]))
        pause.wait(0.1)


def cutting(connection):
    connection.recv(65536)
    connection.sendall(b"*3\r\n$5\r\nhel")
    connection.close()


def resetting(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()


def rubbish(connection):
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answering(line):
    def serve(connection):
        while connection.recv(65536):
            connection.sendall(line * 8)

    return serve


FAULTS = {
    "silent": silent,
    "dripping": dripping,
    "cutting": cutting,
    "resetting": resetting,
    "rubbish": rubbish,
    "loading": answering(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "oom": answering(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
    "readonly": answering(b"-READONLY You can't write against a read only replica.\r\n"),
    "moved": answering(b"-MOVED 3999 127.0.0.1:1\r\n"),
    "noauth": answering(b"-NOAUTH Authentication required.\r\n"),
    "unknown": answering(b"-ERR something else\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_costs_no_cell_anything(client, shared, fault):
    """Sixty calls are answered and kept here, the reason is told once, and the server is soon left alone."""
    listener = Listener(FAULTS[fault])
    try:
        shared(listener.url, connect_timeout="200ms", command_timeout="300ms")
        with llm_cache() as cell:
            first = [ask(client, f"question {number}") for number in range(30)]
            assert [ask(client, f"question {number}") for number in range(30)] == first
        assert (cell.hits, cell.misses) == (30, 30)
        assert listener.count < 15
        assert [trouble for trouble in cell.troubles if trouble.where == "L2"]
    finally:
        listener.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{port}",
        "rediss://127.0.0.1:{port}",
        "redis+cluster://127.0.0.1:{port}",
        "http://127.0.0.1:{port}/devstoreaccount1/shared",
        "redis://no-such-host.invalid",
        "http://example.com/container",
        "ftp://somewhere/else",
        "redis://host:port",
        "redsi://host",
        "nonsense",
    ],
)
def test_a_wrong_address_is_told_and_costs_nothing(client, shared, url):
    """A cell goes on with what is here, and says what is wrong."""
    shared(url.format(port=free_port()), l2_account_key=AZURITE_KEY)
    with llm_cache() as cell:
        first = ask(client)
        assert ask(client) == first
    assert (cell.hits, cell.misses) == (1, 1)
    (trouble,) = [trouble for trouble in cell.troubles if trouble.where == "L2"]
    assert "stay on this machine" in trouble.message
    assert AZURITE_KEY not in trouble.message
    if url in {"ftp://somewhere/else", "nonsense", "redsi://host"}:
        assert "redis://, rediss://, https://" in trouble.message


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("redis://127.0.0.1:1", "redis", "redis"),
        ("https://account.blob.core.windows.net/container", "azure.storage.blob", "azure"),
        ("redis://127.0.0.1:1,https://account.blob.core.windows.net/container", "azure.identity", "azure"),
    ],
)
def test_a_package_that_is_missing_is_named(client, shared, monkeypatch, url, package, extra):  # noqa: PLR0917
    """The cell goes on with what is here, and says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    shared(url)
    with llm_cache() as cell:
        ask(client)
    (trouble,) = cell.troubles
    assert f"l2 needs {package}: pip install 'genai-cache-magic[{extra}]'" in trouble.message


@pytest.mark.service
def test_a_team_over_redis(client, shared, elsewhere, redis_server, team):
    """Two machines share what an SDK's calls brought, streamed too, and gathered in one loop."""
    shared(redis_server.url, namespace=team)
    with llm_cache():
        first = [ask(client, f"question {number}") for number in range(20)]
    elsewhere("other")
    with llm_cache() as cell:
        assert [ask(client, f"question {number}") for number in range(20)] == first
    assert {(call.outcome, call.tier) for call in cell.calls} == {(Outcome.HIT, Tier.L2)}
    elsewhere("third")
    assert asyncio.run(gathered(client.base_url, 20)) == first


async def gathered(url, count):
    """Ask as a cell with `asyncio.gather` does."""
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        with llm_cache() as cell:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": f"question {number}"}]
                    )
                    for number in range(count)
                )
            )
        assert {call.tier for call in cell.calls} == {Tier.L2}
    return [answer.id for answer in answers]


@pytest.mark.service
def test_a_team_over_blob(client, shared, elsewhere, azurite, team):
    """The same in a container that is made because it was asked for."""
    shared(f"{azurite.account_url}/team", namespace=team, l2_account_key=AZURITE_KEY, l2_create_container="true")
    with llm_cache():
        first = ask(client)
    elsewhere("other")
    with llm_cache(mode="replay") as cell:
        assert ask(client) == first
    assert cell.calls[0].tier is Tier.L2


@pytest.mark.service
def test_a_tier_that_starts_later_is_joined(client, shared, team):
    """The cell that could not ask it says so, and the first one after it was joined says that."""
    port = free_port()
    shared(f"redis://127.0.0.1:{port}", namespace=team)
    with llm_cache() as cell:
        ask(client)
    assert ["stay on this machine" in trouble.message for trouble in cell.troubles] == [True]
    with started(lambda: RedisServer(port=port)):
        give_up_at = time.monotonic() + 60
        while not current_session()._events.get(team):
            assert time.monotonic() < give_up_at
            time.sleep(0.02)  # a thread of ours joins: no event says so from outside
        with llm_cache() as cell:
            ask(client)
        assert ["shared from now on" in trouble.message for trouble in cell.troubles] == [True]
        with llm_cache() as cell:
            ask(client)
        assert (cell.hits, cell.troubles) == (1, ())
        reset_session()  # tells what waits


@pytest.mark.service
def test_an_outage_in_the_middle(client, shared, team):
    """A server that dies is said and left alone; what was fetched meanwhile is told when it is back."""
    with started(RedisServer) as server:
        shared(server.url, namespace=team, max_stale="1s")
        with llm_cache() as cell:
            before = ask(client, "before")
        server.stop()
        with llm_cache() as cell:
            assert ask(client, "before") == before
            meanwhile = ask(client, "meanwhile")
            assert ask(client, "meanwhile") == meanwhile
        assert cell.hits == 2
        server.start()


@pytest.mark.service
def test_a_black_hole_in_the_middle(client, shared, team):
    """A server that stops answering holds a loop up for a moment, once, and never its other tasks."""
    with started(RedisServer) as server:
        shared(server.url, namespace=team, max_stale="1s", command_timeout="300ms")
        with llm_cache():
            ask(client)

        async def ticking():
            """How often another task of the loop runs while calls wait for the tier."""
            ticks = 0
            is_over = asyncio.Event()

            async def tick():
                nonlocal ticks
                while not is_over.is_set():
                    ticks += 1
                    await asyncio.sleep(0.005)

            other = asyncio.create_task(tick())
            await asyncio.sleep(0)
            with cut_off(server):
                ids = await gathered_anywhere(client.base_url, 10)
            is_over.set()
            await other
            return ids, ticks

        ids, ticks = asyncio.run(ticking())
        assert len(set(ids)) == 10
        assert ticks > 5  # a blocked loop would have stood still for the time-out, and ticked twice


async def gathered_anywhere(url, count):
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        with llm_cache():
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"new {n}"}])
                    for n in range(count)
                )
            )
    return [answer.id for answer in answers]
