"""Counts are atomic for all who share them, whatever keeps them, and can be read by nobody else."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import itertools
import subprocess
import sys
import threading
import time

import pytest
from redis_connections import OverRedis, connected
from services import started

from genai_cache_magic import create_cache, host
from genai_cache_magic.api.team import joining
from genai_cache_magic.entries.team.counting import Counts
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.azure.blob import BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.counters import DocumentCounters
from genai_cache_magic.stores.documents import FileDocument, MemoryDocument
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.contracts.counters import CountersContract
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer, free_port


class TestMemoryCounters(CountersContract):
    @pytest.fixture
    def counters(self):
        documents = {}
        return DocumentCounters(lambda name: documents.setdefault(name, MemoryDocument()))


class TestFileCounters(CountersContract):
    @pytest.fixture
    def counters(self, tmp_path):
        return DocumentCounters(lambda name: FileDocument(tmp_path / name))

    @pytest.fixture
    def other(self, tmp_path, counters):
        return DocumentCounters(lambda name: FileDocument(tmp_path / name))


@pytest.mark.service
class TestRedisCounters(OverRedis, CountersContract):
    @pytest.fixture
    def counters(self, connection, team):
        return RedisTier(connection, team).counters

    @pytest.fixture
    def other(self, url, team, counters):
        with connected(url) as connection:
            yield RedisTier(connection, team).counters

    def test_counts_have_a_time_to_live(self, counters, connection, team):
        """Nothing of ours stays in a Redis for ever."""
        counters.add(key_of("a"), key_of("x"), 1, b"x")
        with connection.use() as client:
            assert client.pttl(f"genai-cache:1:{team}:h:{key_of('a')}") > 0

    def test_what_was_cut_off_is_not_sent_again(self, counters, monkeypatch):
        """A connection that is lost after counting and before the answer is said, and the count is not made twice."""
        redis = pytest.importorskip("redis", reason="pip install redis")
        name, field, lost = key_of("name"), key_of("field"), []
        counters.add(name, field, 1, b"label")
        parse = redis.Redis.parse_response

        def parse_and_lose(self, connection, command_name, **options):
            answer = parse(self, connection, command_name, **options)
            if command_name == "EVAL" and not lost:
                lost.append(answer)
                connection.disconnect()
                raise redis.ConnectionError("reset by peer")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(redis.Redis, "parse_response", parse_and_lose)
            with pytest.raises(StoreUnavailable):
                counters.add(name, field, 10, b"label")
        assert lost
        assert counters.read(name)[field].count == 11

    @pytest.mark.parametrize(
        "forge",
        [
            lambda client, key: client.set(key, b"x"),
            lambda client, key: client.rpush(key, b"x"),
            lambda client, key: client.hset(key, f"c:{key_of('x')}", b"much"),
        ],
    )
    def test_what_can_be_no_count_gives_way(self, counters, connection, team, forge):
        """Another type under its name, or a text in its place, is none, and is counted over."""
        with connection.use() as client:
            forge(client, f"genai-cache:1:{team}:h:{key_of('a')}")
        assert counters.read(key_of("a")) == {}
        assert counters.add(key_of("a"), key_of("x"), 2, b"x") == 2


class TestRedisClusterCounters(TestRedisCounters):
    @pytest.fixture
    def url(self, redis_nodes):
        return redis_nodes.url


@pytest.mark.service
class TestBlobCounters(CountersContract):
    @pytest.fixture
    def counters(self, azurite, team):
        yield from blob_counters(azurite, team)

    @pytest.fixture
    def other(self, azurite, team, counters):
        yield from blob_counters(azurite, team)


def blob_counters(azurite, team):
    target = BlobTarget(f"{azurite.account_url}/counts", account_key=AZURITE_KEY, create_container=True)
    with contextlib.closing(BlobTier(BlobConnection(target), team)) as tier:
        yield DocumentCounters(tier.document)


@pytest.mark.parametrize("blob", [b"", b"[]", b"{", b"\xff", b'{"x":1}', b'{"x":["1","eA=="]}', b"[" * 100_000])
def test_a_document_that_is_none_of_ours_counts_nothing(blob):
    """And is counted over."""
    document = MemoryDocument()
    document.replace(blob, expected=None)
    counters = DocumentCounters(lambda _: document)
    assert counters.read(key_of("a")) == {}
    assert counters.add(key_of("a"), key_of("x"), 1, b"x") == 1


@pytest.fixture(params=["disk", "memory", "redis", "azure_storage"])
def cache(request, isolated, team, monkeypatch):
    """A cache of each kind."""
    where = {}
    if request.param == "redis":
        where = {"l2": request.getfixturevalue("redis_server").url}
    elif request.param == "azure_storage":
        monkeypatch.setenv("AZURE_STORAGE_KEY", AZURITE_KEY)
        account = request.getfixturevalue("azurite").account_url
        where = {"account": account, "container": "counts", "l2_create_container": True}
    with create_cache(request.param, namespace=team, **where) as cache:
        yield cache


@pytest.mark.service
def test_tokens_by_day(cache):
    """The table of a token cache: counted by date, and read between two dates or moments."""
    for day in (27, 28, 29):
        cache.hincrby("token_usage", dt.date(2026, 11, day), 100 * day)
    assert cache.hincrby("token_usage", "2026-11-28", 5) == 2805
    assert cache.hgetall("token_usage") == {"2026-11-27": 2700, "2026-11-28": 2805, "2026-11-29": 2900}
    assert list(cache.hgetall("token_usage", start="2026-11-28")) == ["2026-11-28", "2026-11-29"]
    now = dt.datetime(2026, 11, 28, 9, 30)  # noqa: DTZ001 - as a user writes it
    assert list(cache.hgetall("token_usage", start=now - dt.timedelta(days=1), end=now)) == ["2026-11-27", "2026-11-28"]
    assert list(cache.hgetall("token_usage", end="2026-10")) == []
    assert list(cache.hgetall("token_usage", start="2026-11", end="2026-11")) == list(cache.hgetall("token_usage"))
    assert cache.hgetall("another") == {}
    cache.clear()
    assert len(cache.hgetall("token_usage")) == 3  # counts are no answers


def test_days_are_those_of_usage(isolated):
    """An age, a word and a date bound what is counted by days; a bound that is none of these is said."""
    with create_cache("memory") as cache:
        today = dt.datetime.now(dt.UTC).date()
        for age in range(10):
            cache.hincrby("token_usage", today - dt.timedelta(days=age), age + 1)
        found = cache.hgetall("token_usage", since="7d")
        assert sum(found.values()) in {28, 27}  # the day may have ended meanwhile
        assert list(cache.hgetall("token_usage", today - dt.timedelta(3), today - dt.timedelta(2)).values()) == [4, 3]
        assert cache.hgetall("token_usage", until="2020-01-01") == {}
        with pytest.raises(ConfigurationError, match="is no day"):
            cache.hgetall("token_usage", since="7 moons")
        with pytest.raises(ConfigurationError, match="one kind of bounds"):
            cache.hgetall("token_usage", since="7d", end="2026")


@pytest.mark.service
@pytest.mark.parametrize("amount", [1.5, True, "3", None, 2**60])
def test_only_whole_numbers_are_counted(isolated, amount):
    """Anything else is a mistake in words, and changes nothing."""
    with create_cache("memory") as cache:
        with pytest.raises(ConfigurationError, match="whole numbers"):
            cache.hincrby("a", "x", amount)
        with pytest.raises(ConfigurationError, match="a text or a date"):
            cache.hincrby("a", 3)
        assert cache.hgetall("a") == {}


COUNTS = """
import sys, time
from genai_cache_magic import create_cache
with create_cache("disk", namespace=sys.argv[1]) as cache:
    while sys.argv[2] == "redis" and cache.team is None:
        time.sleep(0.05)
    for _ in range(20):
        cache.hincrby("calls", "all", 1)
"""


@pytest.mark.service
@pytest.mark.parametrize("l2", ["none", "redis"])
def test_processes_lose_nothing(isolated, team, monkeypatch, redis_server, l2):
    """Four at once, on one machine, alone and in a team."""
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url if l2 == "redis" else l2)
    # However loaded this machine is: who does not reach its team as it begins counts by itself until it does.
    monkeypatch.setenv("GENAI_CACHE_CONNECT_TIMEOUT", "30s")
    monkeypatch.setenv("GENAI_CACHE_COMMAND_TIMEOUT", "30s")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTS, team, l2]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    with create_cache(namespace=team) as cache:
        while l2 == "redis" and cache.team is None:
            time.sleep(0.05)
        assert cache.hgetall("calls") == {"all": 80}


@pytest.mark.service
def test_names_can_be_read_by_nobody_else(isolated, team, redis_server):
    """Neither what is counted nor by what stands readable in a tier."""
    with create_cache("redis", namespace=team, l2=redis_server.url) as cache:
        cache.hincrby("secret-name", "secret-field", 3)
    with contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as connection, connection.use() as client:
        (key,) = client.scan_iter(match=f"genai-cache:1:{team}:h:*")
        assert b"secret" not in key + b"".join(name + value for name, value in client.hgetall(key).items())


def test_no_count_is_taken_for_none(isolated):
    """What is counted by a machine that never reached its team is counted there; that the team's lack it is said."""
    told = []
    with create_cache(l2=f"redis://127.0.0.1:{free_port()}", on_event=told.append) as alone:
        assert alone.hincrby("a", "x") == 1
        assert alone.hincrby("a", "x") == 2
        assert alone.hgetall("a") == {"x": 2}
    (said,) = [event.message for event in told if event.error == "CountedHere"]
    assert ": 1; they stay on this machine" in said
    alone.close()
    assert sum(event.error == "CountedHere" for event in told) == 1


@pytest.mark.service
@pytest.mark.parametrize("is_away_again", [False, True])
def test_what_was_counted_before_it_joined_is_the_teams(isolated, team, monkeypatch, tmp_path, is_away_again):
    """Once, with what was there already, and nothing is said to be missing: at the latest when the cache is closed."""
    hand_over, tries = Counts.hand_over, itertools.count(0 if is_away_again else 1)

    def try_to(mine, theirs):
        if not next(tries):
            raise StoreUnavailable("is away again")
        hand_over(mine, theirs)

    monkeypatch.setattr(Counts, "hand_over", try_to)
    monkeypatch.setattr(joining, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setenv("GENAI_CACHE_CONNECT_TIMEOUT", "30s")
    monkeypatch.setenv("GENAI_CACHE_COMMAND_TIMEOUT", "30s")
    told, has_joined = [], threading.Event()

    def tell(event):
        told.append(event.error)
        if event.error == "Joined":
            has_joined.set()

    with started(lambda: RedisServer("--save", "", "--appendonly", "no")) as server:
        with create_cache(namespace=team, l2=server.url, dir=str(tmp_path / "b")) as b:
            b.hincrby("calls", "all", 5)
            keyset = redis_copy(server)
        server.stop()
        with create_cache(namespace=team, l2=server.url, dir=str(tmp_path / "a"), on_event=tell) as a:
            assert a.team is None
            assert a.hincrby("calls", "all", 2) == 2
            a.hincrby("calls", "mine")
            server.start()
            redis_restore(server, keyset)
            assert has_joined.wait(60)
            before = 0 if is_away_again else 2
            assert a.hgetall("calls") == {"all": 5 + before} | ({} if is_away_again else {"mine": 1})
            assert a.hincrby("calls", "all") == 6 + before
        with create_cache(namespace=team, l2=server.url, dir=str(tmp_path / "b")) as b:
            assert b.hgetall("calls") == {"all": 8, "mine": 1}
    assert "CountedHere" not in told


def redis_copy(server):
    """Return all that a server holds."""
    with contextlib.closing(RedisConnection(RedisTarget(server.url))) as connection, connection.use() as client:
        return {name: client.dump(name) for name in client.scan_iter()}


def redis_restore(server, held):
    with contextlib.closing(RedisConnection(RedisTarget(server.url))) as connection, connection.use() as client:
        for name, value in held.items():
            client.restore(name, 0, value, replace=True)


class Failing(DocumentCounters):
    """Counters that take some, and then don't answer."""

    def __init__(self, most):
        super().__init__(functools.cache(lambda _: MemoryDocument()))
        self.most = most

    def add(self, name, field, amount, label):
        if not self.most:
            raise StoreUnavailable("does not answer")
        self.most -= 1
        return super().add(name, field, amount, label)


def test_what_may_have_been_counted_is_not_counted_twice(cache):
    """Where handing over fails half-way it goes on later with the rest; what was on its way is given up."""
    here, there = Failing(9), Failing(1)
    mine, theirs = Counts(here, cache._keys, is_provisional=True), Counts(there, cache._keys)
    for field in ("a", "b", "c"):
        mine.add("n", field, 2)
    assert mine.add_within("n", "c", 2, at_most=3) == (False, 2)
    assert mine.made == 3
    with pytest.raises(StoreUnavailable):
        mine.hand_over(theirs)
    assert mine.made == 2
    there.most = 9
    mine.hand_over(theirs)
    assert mine.made == 1  # nobody knows
    assert sum(theirs.read("n").values()) == 4
    mine.add("n", "d", 1)  # somebody who has begun before
    assert theirs.read("n")["d"] == 1


def test_a_count_that_the_team_has_no_room_for_keeps_no_other(cache):
    """It is said to be here alone when the cache is closed; the others are the team's."""
    mine, theirs = Counts(Failing(9), cache._keys, is_provisional=True), Counts(Failing(2000), cache._keys)
    for _ in range(1024):
        theirs._counters.add(*mine._ids("n", "full"), 2**53 - 1, b"")
    for field in ("a", "full", "c"):
        mine.add("n", field, 2**53 if field == "full" else 2)
    mine.hand_over(theirs)
    assert mine.made == 1
    assert theirs.read("n") == {"a": 2, "c": 2}


def test_a_forked_child_hands_nothing_over_that_its_parent_made(cache, monkeypatch):
    """It would be counted twice."""
    mine, theirs = Counts(Failing(9), cache._keys, is_provisional=True), Counts(Failing(9), cache._keys)
    mine.add("n", "a", 2)
    monkeypatch.setattr(host, "_process_id", 0)
    assert mine.made == 0
    mine.add("n", "a", 1)
    mine.hand_over(theirs)
    assert theirs.read("n") == {"a": 1}


@pytest.mark.service
def test_a_team_that_is_away_is_said(isolated, team, redis_server, tmp_path):
    """Not a count of this machine alone."""
    with started(RedisServer) as server, create_cache(namespace=team, l2=server.url) as cache:
        cache.hincrby("a", "x")
        server.stop()
        for count in (lambda: cache.hincrby("a", "x"), lambda: cache.hgetall("a")):
            with pytest.raises(StoreUnavailable, match="refuses connections"):
                count()
