"""Leases in a real Redis: a team's machines wait for each other, and for nobody who was killed."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import subprocess
import sys
import threading
import time

import pytest
from redis.cluster import RedisCluster
from waiters import A, Waiter, permits_of_mine, permits_of_theirs  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.permits import Permits
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk.locks import KeyLocks
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier, key_prefix
from genai_cache_magic.testing.contracts.store import key_of


def lease_apart(nodes, namespace):
    """Return a node, and an entry that lies there while its lease and the record of what is valid lie elsewhere."""
    with RedisCluster(host="127.0.0.1", port=nodes.servers[0].port) as client:

        def port(kind, name):
            return client.get_node_from_key(f"{key_prefix(namespace)}{kind}:{name}").port

        keys = (EntryId(key_of(str(number))) for number in itertools.count())
        ruling = port("d", "generations")
        found = next(key for key in keys if port("e", key) not in {port("l", key), ruling})
        dying = next(server for server in nodes.servers if server.port == port("e", found))
    return dying, found


LEADER = """
import sys, time
from pathlib import Path
from genai_cache_magic.entries import permits
from genai_cache_magic.stores.disk.locks import KeyLocks
from genai_cache_magic.stores.redis.store import RedisTier, key_prefix
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget

url, team, place, key = sys.argv[1:]
permits.LIFE_S = 5.0
leases = RedisTier(RedisConnection(RedisTarget(url)), team).leases
permits.Permits(KeyLocks(Path(place)), leases).take(key, lambda permit: print("asks", flush=True) or True)
time.sleep(600)
"""


@pytest.mark.service
class TestLeases:
    def test_what_is_sent_again_is_taken_once(self, redis_server, team, monkeypatch):
        """A cluster's client repeats a command after a node was lost: nobody waits for a lease of its own."""
        connection = RedisConnection(RedisTarget(redis_server.url))
        leases = RedisTier(connection, team).leases
        monkeypatch.setattr(secrets, "token_bytes", lambda size: b"t" * size)
        token = leases.try_take(A, life_s=30)
        assert token is not None
        assert leases.try_take(A, life_s=30) == token
        monkeypatch.undo()
        assert leases.try_take(A, life_s=30) is None
        assert leases.release(A, token)
        connection.close()

    @pytest.fixture
    def machine(self, redis_server, team, tmp_path):
        with contextlib.ExitStack() as ended:

            def make(name, **how):
                connection = RedisConnection(RedisTarget(redis_server.url))
                ended.callback(connection.close)
                return Permits(KeyLocks(tmp_path / name), RedisTier(connection, team).leases, **how)

            yield make

    def test_one_machine_at_a_time(self, machine):
        """While one machine asks another waits, until the team was told what came of it."""
        is_told = threading.Event()
        mine, theirs = machine("mine", is_told=lambda _: is_told.is_set()), machine("theirs")
        first, second = Waiter(), Waiter()
        mine.take(A, first)
        first.wait()
        theirs.take(A, second)
        applicant = next(iter(theirs._applicants))
        give_up_at = time.monotonic() + 30
        while not applicant.permit.has_waited:  # that a thread of ours has tried once is no event from outside
            assert time.monotonic() < give_up_at
            time.sleep(0.005)
        mine.release(first.permit)
        third = Waiter()
        mine.take(EntryId(key_of("b")), third)
        third.wait()
        assert not second.is_there
        is_told.set()
        assert second.wait().has_waited

    def test_a_killed_machine_holds_nobody_up_for_long(self, machine, redis_server, team, tmp_path):
        """Who waits for a machine that is gone goes on when its lease has ended."""
        command = [sys.executable, "-c", LEADER, redis_server.url, team, str(tmp_path / "theirs"), A]
        waiter = Waiter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:
            assert leader.stdout.readline() == "asks\n"
            machine("mine").take(A, waiter)
            leader.kill()
        permit = waiter.wait()
        assert permit.has_waited
        assert permit.token is not None

    def test_a_node_that_is_lost_is_noticed_by_who_waits(self, isolated, redis_nodes, team, tmp_path):
        """A lease may lie on a node that is well while what its holder is to store lies on one that is gone.

        Who waits for the holder then would find nothing, and goes on long before the lease has ended.
        """
        redis_nodes.give_up_after()
        with contextlib.ExitStack() as ended:
            cache = ended.enter_context(
                create_cache("redis", l2=redis_nodes.url, namespace=team, dir=str(isolated / "mine"))
            )
            assert cache.team is not None
            connection = RedisConnection(RedisTarget(redis_nodes.url))
            ended.callback(connection.close)
            leases = RedisTier(connection, team).leases
            dying, entry_id = lease_apart(redis_nodes, team)
            held = Permits(KeyLocks(tmp_path / "theirs"), leases)
            ended.callback(held.close)
            first, second = Waiter(), Waiter()
            held.take(entry_id, first)
            assert first.wait().token is not None
            dying.stop()
            try:
                cache.calls._permits.take(entry_id, second)
                assert second.wait().has_waited
                assert second.permit.token is None
                assert leases.is_held(entry_id)
            finally:
                dying.start()
                redis_nodes.await_complete()
                leases.release(entry_id, first.permit.token)

    def test_what_waits_is_told_before_a_lease_is_given_back_past_the_breaker(
        self, isolated, machine, redis_server, team
    ):
        """A hiccup between its holder and a tier that is well costs no second call: who gets the lease finds it."""
        with (
            create_cache("redis", l2=redis_server.url, namespace=team, dir=str(isolated / "mine")) as cache,
            contextlib.closing(RedisTier(RedisConnection(RedisTarget(redis_server.url)), team)) as tier,
        ):
            entry_id, first, second = cache._value_id("key"), Waiter(), Waiter()
            cache.calls._permits.take(entry_id, first)
            assert first.wait().token is not None
            machine("theirs").take(entry_id, second)
            cache.team._breaker.trip(StoreUnavailable("a hiccup"))
            assert cache.fill("key", "value", birth=cache._entries.stamp())
            cache.calls._permits.release(first.permit)
            assert second.wait().token is not None
            assert tier.store.get(entry_id) is not None
            cache.team._breaker.reset()

    def test_closing_gives_back(self, machine):
        """A kernel that ends in the middle of a call holds nobody up."""
        mine, theirs = machine("mine"), machine("theirs")
        first, second = Waiter(), Waiter()
        mine.take(A, first)
        first.wait()
        theirs.take(A, second)
        mine.close()
        assert second.wait().token is not None
