"""A Redis that stores nothing just now, for want of room or replicas: what it holds is served all the same."""

from __future__ import annotations

import time

import pytest
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.errors import StoreUnavailable, WritesUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.ops.doctor_team import of_team
from genai_cache_magic.stores.base import Put
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig, Circuit
from genai_cache_magic.stores.guarded import GuardedLeases, guarded, guarded_write
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget, translated
from genai_cache_magic.testing.servers import RedisServer

pytestmark = pytest.mark.service
ANSWERS = 40
TEAM = "team"
WAIT_S = 30.0
WAYS = [
    ({"maxmemory": "1"}, {"maxmemory": "0"}, "is full"),
    ({"min-replicas-to-write": "1"}, {"min-replicas-to-write": "0"}, "for want of replicas"),
]


@pytest.fixture
def server():
    """A server that nobody else depends on."""
    with started(RedisServer) as found:
        yield found


def awaited(is_so):
    """Wait until it is so."""
    ends_at = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def configure(server, settings):
    connection = RedisConnection(RedisTarget(server.url))
    try:
        with connection.use() as client:
            for name, value in settings.items():
                client.config_set(name, value)
    finally:
        connection.close()


@pytest.mark.parametrize(("ends", "begins", "words"), WAYS)
def test_what_it_holds_is_served(server, isolated, ends, begins, words):
    """However often a write is refused in between; that is said once, and once that it is over."""
    with create_cache("redis", l2=server.url, namespace=TEAM, dir=isolated / "a") as cache:
        cache.mset({str(number): number for number in range(ANSWERS)})
        awaited(lambda: cache.team.waiting() == (0, 0))
    configure(server, ends)
    told = []
    with create_cache("redis", l2=server.url, namespace=TEAM, dir=isolated / "b", on_event=told.append) as cache:
        for number in range(ANSWERS):
            assert cache.get(str(number)) == number
            cache.set(f"new {number}", number)
            with pytest.raises(WritesUnavailable):
                cache.team.store.put("0" * 64, b"x", ttl_s=60)
        assert cache.team.circuit is Circuit.CLOSED
        assert [words in one.message for one in told if isinstance(one, Trouble)] == [True]
        configure(server, begins)
        cache.team._drain.wake()
        awaited(lambda: cache.team.waiting() == (0, 0))
        awaited(lambda: "again" in told[-1].message)
        assert len(told) == 2


@pytest.mark.parametrize(("ends", "begins", "words"), WAYS[:1])
def test_a_write_that_puts_nothing_does_not_end_it(server, isolated, ends, begins, words):
    """A lease that is extended or not to be had, and a put whose condition is not met, say nothing of room."""
    told = []
    ours, others, free = "1" * 64, "2" * 64, "3" * 64
    with create_cache("redis", l2=server.url, namespace=TEAM, dir=isolated / "a", on_event=told.append) as cache:
        store, tier = cache.team.store, cache.team._tier
        leases = GuardedLeases(tier.leases, cache.team._breaker)
        token = leases.try_take(ours, life_s=60)
        tier.leases.try_take(others, life_s=60)
        store.put(ours, b"x", ttl_s=60)
        configure(server, ends)
        for _ in range(2):
            with pytest.raises(WritesUnavailable):
                store.put(free, b"x", ttl_s=60)
            assert leases.extend_many({ours: token}, life_s=60) == {ours}
            assert leases.try_take(others, life_s=60) is None
            assert not store.put_if(ours, b"y", ttl_s=60, held=None)
            assert store.put_many_if([Put(ours, b"y", 60, None)]) == [False]
            assert not cache.team.document("generations").replace(b"new", expected=b"other")
            assert store.delete(free) is False
        assert [words in one.message for one in told] == [True]
        configure(server, begins)
        assert store.put_if(free, b"x", ttl_s=60, held=None)
        assert [one.message for one in told if "again" in one.message] == [told[-1].message]
        assert len(told) == 2


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(("ends", "begins", "words"), WAYS)
def test_the_doctor_says_that_it_stores_nothing(server, monkeypatch, ends, begins, words):
    """And not that it does not answer; the directory that is looked at is the one of this team."""
    monkeypatch.setenv("GENAI_CACHE_L2", server.url)
    with create_cache("redis", namespace=TEAM) as cache:
        cache.set("a", 1)
        awaited(lambda: cache.team.waiting() == (0, 0))
    configure(server, ends)
    session = Session()
    try:
        line, found = of_team(session.settings, TEAM, None)
    finally:
        session.close()
        configure(server, begins)
    by_check = {one.check: one.says for one in found}
    assert words in by_check["tier-stores-nothing"]
    assert "tier-away" not in by_check
    assert line is not None


def test_a_server_that_can_not_save_is_one_of_them():
    """By the word that its refusal begins with; any other leaves the tier alone after some."""
    from redis.exceptions import ResponseError

    with pytest.raises(WritesUnavailable, match="its disk room"), translated("redis://host"):
        raise ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist")
    with pytest.raises(StoreUnavailable) as refused, translated("redis://host"):
        raise ResponseError("MISCONFIGURED")
    assert not isinstance(refused.value, WritesUnavailable)


def test_who_refuses_to_be_read_so_is_not_well():
    """For want of room a server refuses writes alone: one that refuses a read in these words is left alone."""
    breaker = Breaker("redis", BreakerConfig())
    with pytest.raises(WritesUnavailable), guarded_write(breaker):
        raise WritesUnavailable("full")
    assert breaker.state is Circuit.CLOSED
    with pytest.raises(WritesUnavailable), guarded(breaker):
        raise WritesUnavailable("full")
    assert breaker.state is Circuit.OPEN
