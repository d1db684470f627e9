"""Counts are atomic for all who share them, whatever keeps them, and can be read by nobody else."""

from __future__ import annotations

import contextlib
import datetime as dt
import subprocess
import sys
import time

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.azure_blob import BlobTier
from genai_cache_magic.stores.azure_connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.counters import DocumentCounters
from genai_cache_magic.stores.documents import FileDocument, MemoryDocument
from genai_cache_magic.stores.redis import RedisTier
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.contracts.counters import CountersContract
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.servers import AZURITE_KEY, free_port


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
class TestRedisCounters(CountersContract):
    @pytest.fixture
    def url(self, redis_server):
        return redis_server.url

    @pytest.fixture
    def connection(self, url):
        with contextlib.closing(RedisConnection(RedisTarget(url))) as connection:
            yield connection

    @pytest.fixture
    def counters(self, connection, team):
        return RedisTier(connection, team).counters

    @pytest.fixture
    def other(self, url, team, counters):
        with contextlib.closing(RedisConnection(RedisTarget(url))) as connection:
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
    """Where the team can't be asked any more, counting and reading say so."""
    with create_cache(l2=f"redis://127.0.0.1:{free_port()}") as alone:
        assert alone.hincrby("a", "x") == 1  # it never was in a team


@pytest.mark.service
def test_a_team_that_is_away_is_said(isolated, team, redis_server, tmp_path):
    """Not a count of this machine alone."""
    from services import started

    from genai_cache_magic.testing.servers import RedisServer

    with started(RedisServer) as server, create_cache(namespace=team, l2=server.url) as cache:
        cache.hincrby("a", "x")
        server.stop()
        for count in (lambda: cache.hincrby("a", "x"), lambda: cache.hgetall("a")):
            with pytest.raises(StoreUnavailable, match="refuses connections"):
                count()
