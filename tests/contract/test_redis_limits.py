"""What a Redis may hold and what it gives up: set where it was asked for and is allowed, else said in words."""

from __future__ import annotations

import pytest
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.settings.units import spell_size
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.limits import RedisLimits
from genai_cache_magic.testing.servers import RedisServer

pytestmark = pytest.mark.service

MIB = 1024**2
RULES = ("~*", "+@read", "+@write", "+@scripting", "+time", "+hello")


@pytest.fixture
def own_server():
    """A server whose limits nobody else depends on."""
    with started(RedisServer) as server:
        yield server


def settled(url, **wanted):
    """Settle the limits of a server; return what is said, and its limits then."""
    connection = RedisConnection(RedisTarget(url))
    try:
        said = RedisLimits(**wanted, spell=spell_size).settle(connection)
    finally:
        connection.close()
    return said


def limits_of(server, *, user=""):
    connection = RedisConnection(RedisTarget(server.url))
    try:
        with connection.use() as client:
            found = client.info("memory")
            return found["maxmemory"], found["maxmemory_policy"]
    finally:
        connection.close()


def test_what_is_asked_for_is_set(own_server, isolated, monkeypatch):
    """A cache with both settings leaves the server with them, says so once, and has nothing more to say then."""
    monkeypatch.setenv("GENAI_CACHE_MAXMEMORY", "200mb")
    monkeypatch.setenv("GENAI_CACHE_EVICTION_POLICY", "volatile-lru")
    told = []
    for _ in range(2):
        create_cache(l2=own_server.url, on_event=lambda event: told.append(event.message)).close()
    assert limits_of(own_server) == (200 * MIB, "volatile-lru")
    assert ["no limit, not 200 MiB" in text or "noeviction, not volatile-lru" in text for text in told] == [True, True]


def test_what_nobody_asked_for_stays(own_server, isolated):
    """Without the settings a server's limits are its own."""
    told = []
    create_cache(l2=own_server.url, on_event=told.append).close()
    assert limits_of(own_server) == (0, "noeviction")
    assert told == []


def test_a_limit_below_what_is_used_is_not_set(own_server):
    """Others' data would be lost: it is said instead."""
    (said,) = settled(own_server.url, maxmemory_bytes=4096)
    assert "maxmemory=4 KiB is less than" in said
    assert "was not set" in said
    assert limits_of(own_server)[0] == 0


@pytest.mark.parametrize(
    ("more", "words"), [(("+info",), "may not change it"), ((), "give this user the command info")]
)
def test_a_user_who_may_not_is_told(more, words):
    """Where the server doesn't let us, the two are compared, and where not even that, it says what is missing."""
    with started(lambda: RedisServer("--user", "team", "on", ">s3cret", *RULES, *more)) as server:
        url = server.url.replace("redis://", "redis://team:s3cret@")
        said = settled(url, maxmemory_bytes=100 * MIB, eviction_policy="volatile-ttl")
        assert settled(url) == ()
        assert limits_of(server) == (0, "noeviction")
    assert [words in text for text in said] == [True] * len(said)
    assert said
    assert "s3cret" not in str(said)


def test_a_server_that_gives_up_anything_is_said():
    """The record of what is invalid must not be evicted before the answers."""
    with started(lambda: RedisServer("--maxmemory-policy", "allkeys-lru")) as server:
        (said,) = settled(server.url)
        assert "set eviction_policy to volatile-lru" in said
        assert settled(server.url, eviction_policy="volatile-lru") != (said,)
        assert settled(server.url) == ()


def test_all_servers_of_a_cluster_are_set(redis_nodes):
    """Each primary has limits of its own."""
    assert len(settled(redis_nodes.url, maxmemory_bytes=300 * MIB)) == 1
    primaries = [server for server in redis_nodes.servers if redis_nodes.run(server, "role").startswith("master")]
    assert len(primaries) > 1
    assert {limits_of_node(redis_nodes, server) for server in primaries} == {str(300 * MIB)}
    assert settled(redis_nodes.url, maxmemory_bytes=300 * MIB) == ()
    assert len(settled(redis_nodes.url, maxmemory_bytes=0)) == 1


def limits_of_node(nodes, server):
    return nodes.run(server, "config", "get", "maxmemory").split()[-1]


def test_an_unreachable_server_is_told_once(isolated):
    """The limits have nothing to add to what the first look-up says."""
    told = []
    create_cache(l2="redis://127.0.0.1:1", maxmemory="1gb", on_event=lambda event: told.append(event.error)).close()
    assert told == ["StoreUnavailable"]
