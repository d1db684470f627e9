"""Of a machine's processes, and of a team's machines, one asks the model; a killed one costs one more call."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from genai_cache_magic import create_cache
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries import permits as permits_module
from genai_cache_magic.entries.permits import LIFE_S, Permit, Permits
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.locks import KeyLocks
from genai_cache_magic.stores.redis import RedisTier, key_prefix
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.contracts.store import key_of

A = EntryId(key_of("a"))
THREADS = 8


class Waiter:
    """Who takes a permit and waits for it."""

    def __init__(self, *, is_wanted=True):
        self.permit = None
        self._is_wanted = is_wanted
        self._is_there = threading.Event()

    def __call__(self, permit):
        self.permit = permit
        self._is_there.set()
        return self._is_wanted

    def wait(self):
        assert self._is_there.wait(30)
        return self.permit

    @property
    def is_there(self):
        return self._is_there.is_set()


@pytest.fixture
def mine(tmp_path):
    return Permits(KeyLocks(tmp_path))


@pytest.fixture
def theirs(tmp_path):
    """The permits of another process: each object has locks of its own."""
    return Permits(KeyLocks(tmp_path))


def test_one_at_a_time(mine, theirs):
    """While one process asks another waits, and gets its turn."""
    permit = mine.try_take(A)
    assert permit is not None
    assert theirs.try_take(A) is None
    waiter = Waiter()
    theirs.take(A, waiter)
    mine.release(permit)
    waiter.wait()
    assert mine.try_take(A) is None
    theirs.release(waiter.permit)
    assert mine.try_take(A) is not None


def test_a_process_does_not_wait_for_itself(mine):
    """Within a process flights see to it: a second permit for the same file holds nothing, and is there at once."""
    first, second = mine.try_take(A), mine.try_take(A)
    assert second is not None
    mine.release(second)
    mine.release(first)
    assert mine.try_take(A) is not None


def test_a_call_that_is_dropped_lets_go(mine, theirs):
    """A call that nobody ended, and whose objects are gone, holds nobody up."""
    permit = mine.try_take(A)
    assert theirs.try_take(A) is None
    del permit
    assert theirs.try_take(A) is not None


def test_who_gave_up_gets_none(mine, theirs):
    """A permit that comes too late is given back."""
    permit = mine.try_take(A)
    late = Waiter(is_wanted=False)
    theirs.take(A, late)
    mine.release(permit)
    late.wait()
    waiter = Waiter()
    mine.take(A, waiter)
    assert waiter.wait().lock is not None


def test_without_a_directory_everyone_may_ask(tmp_path):
    """Where no lock can be made, the call is made all the same."""
    (tmp_path / "file").write_text("")
    assert Permits(KeyLocks(tmp_path / "file" / "locks")).try_take(A) is not None


class BadLeases:
    """A tier that can't be asked."""

    def try_take(self, key, *, life_s):
        raise StoreUnavailable("away")

    def extend_many(self, held, *, life_s):
        raise StoreUnavailable("away")

    release = try_take


def test_without_the_tier_the_machine_decides(tmp_path):
    """A team that can't be asked holds nobody up."""
    waiter = Waiter()
    Permits(KeyLocks(tmp_path), BadLeases()).take(A, waiter)
    assert waiter.wait().token is None


class Leases:
    """Leases that everybody gets, and who gave them back."""

    def __init__(self):
        self.given_back = []

    def try_take(self, _key, *, life_s):
        del life_s
        return b"token"

    def extend_many(self, held, *, life_s):
        del life_s
        return set(held)

    def release(self, key, _token):
        self.given_back.append(key)
        return True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gives_nothing_of_its_parent_back(tmp_path):
    """A call that was on its way when a process forked keeps its lease, whatever the child ends or closes."""
    leases, waiter = Leases(), Waiter()
    permits = Permits(KeyLocks(tmp_path), leases)
    permits.take(A, waiter)
    permit = waiter.wait()
    child = os.fork()
    if child == 0:
        permits.release(permit)
        permits.close()
        os._exit(len(leases.given_back) + len(permits._leaving))
    assert os.waitpid(child, 0)[1] == 0
    permits.close()
    assert leases.given_back == [A]


def test_a_team_that_can_not_be_told_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """It is asked for less and less often whether the team was told, and no longer than a lease lives."""
    leases, now = Leases(), [0.0]
    permits = Permits(KeyLocks(tmp_path), leases, is_told=lambda _: False, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    permits.release(Permit(A, token=b"token"))
    pauses = [permits._let_go() for _ in range(30)]
    assert sorted(pauses) == pauses
    assert pauses[-1] > 10 * pauses[0]
    assert leases.given_back == []
    now[0] = LIFE_S + 1
    permits._let_go()
    assert leases.given_back == [A]


class Renewals(Leases):
    """Leases of which it is known when they were extended, and how many at once."""

    def __init__(self, now):
        super().__init__()
        self.now = now
        self.extended = []
        self.lost = set()

    def extend_many(self, held, *, life_s):
        assert life_s == LIFE_S
        self.extended.append((self.now[0], set(held)))
        return set(held) - self.lost


def test_a_lease_lives_as_long_as_its_holder(tmp_path, monkeypatch):
    """All that a process holds is extended by one round, twice at least while it lives; what was lost no more."""
    now = [0.0]
    leases = Renewals(now)
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    held = {EntryId(key_of(name)): Permit(EntryId(key_of(name))) for name in "abc"}
    assert all(permits._is_granted(permit) for permit in held.values())
    while now[0] < 2 * LIFE_S:
        permits._extend()
        now[0] += permits_module._GLANCE_S
    moments = [0.0, *(at for at, _ in leases.extended), now[0]]
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < LIFE_S / 2
    assert all(extended == set(held) for _, extended in leases.extended)
    leases.lost.add(A)
    for _ in range(2):
        now[0] += LIFE_S
        permits._extend()
    assert [extended for _, extended in leases.extended[-2:]] == [set(held), set(held) - {A}]


def test_what_is_held_is_extended_while_others_are_served_slowly(tmp_path, monkeypatch):
    """A tier that takes its time to give leases to many lets none of those end that are held."""
    now = [0.0]

    class Slow(Renewals):
        def try_take(self, key, *, life_s):
            now[0] += LIFE_S / 8
            return super().try_take(key, life_s=life_s)

    leases, served = Slow(now), []
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: True)  # the thread is this test's own
    permits._thread = threading.current_thread()

    def deliver(permit):
        served.append(permit)
        if len(served) == 16:
            permits._thread = None
        return True

    for number in range(16):
        permits.take(EntryId(key_of(str(number))), deliver)
    permits._run()
    moments = [0.0, *(at for at, _ in leases.extended)]
    assert now[0] == 2 * LIFE_S
    assert max(later - earlier for earlier, later in itertools.pairwise([*moments, now[0]])) < LIFE_S


class LeasesForAWhile(Leases):
    """Leases that can't be given back at first."""

    failures = 3

    def release(self, key, token):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        return super().release(key, token)


def test_what_could_not_be_given_back_is_given_back_later(tmp_path, monkeypatch):
    """A tier that was away in that moment does not let a whole team wait for as long as a lease lives."""
    leases, now = LeasesForAWhile(), [0.0]
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    permits.release(Permit(A, token=b"token"))
    for _ in range(3):
        permits._let_go()
        assert leases.given_back == []
    permits._let_go()
    permits._let_go()
    assert leases.given_back == [A]
    leases.failures = 10
    permits.release(Permit(A, token=b"token"))
    permits._let_go()
    now[0] = LIFE_S + 1
    permits._let_go()
    assert permits._leaving == []  # it has ended by itself


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


def test_a_lease_is_given_back_while_its_holder_leaves_the_tier_alone(tmp_path):
    """Who waits for it may be on better terms with the tier, and nobody is held up by the attempt."""
    leases, is_back = LeasesForAWhile(), threading.Event()
    leases.failures = math.inf
    refusals = iter([StoreUnavailable("a node is lost")])

    def returns(key, token):
        assert (key, token) == (A, b"token")
        for refusal in refusals:
            raise refusal
        is_back.set()

    permits, waiter = Permits(KeyLocks(tmp_path), leases, returns=returns), Waiter()
    permits.take(A, waiter)
    permits.release(waiter.wait())
    del waiter
    assert is_back.wait(30)


LEADER = """
import sys, time
from pathlib import Path
from genai_cache_magic.entries import permits
from genai_cache_magic.stores.locks import KeyLocks
from genai_cache_magic.stores.redis import RedisTier, key_prefix
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget

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


class Asking:
    """Processes that ask at once."""

    def __init__(self, url, question, environments, latency_s):
        script = Path(__file__).with_name("asks.py")
        command = [sys.executable, str(script), url, question, str(THREADS), str(latency_s)]
        self.processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
            )
            for environment in environments
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"

    def go(self):
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()

    def answers(self, processes=None):
        found = set()
        for process in self.processes if processes is None else processes:
            output, _ = process.communicate(timeout=60)
            found.update(output.split())
        return found

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def asking(isolated, unique_server):
    with contextlib.ExitStack() as ended:

        def start(question, environments, latency_s=0.05):
            asking = Asking(unique_server.openai_url, question, environments, latency_s)
            ended.callback(asking.close)
            return asking

        yield start


def asked(server, question):
    return sum(question in str(request.body) for request in server.requests)


def test_four_processes_of_a_machine_are_one_call(asking, unique_server):
    """Thirty-two askers in four processes that share a directory."""
    processes = asking("the question", [{}] * 4)
    processes.go()
    assert len(processes.answers()) == 1
    assert asked(unique_server, "the question") == 1


@pytest.mark.service
def test_four_machines_of_a_team_are_one_call(asking, unique_server, redis_server, team, tmp_path):
    """Thirty-two askers on four machines that share a Redis."""
    # However loaded this machine is: who does not reach the team asks alone, as it should.
    patience = {"GENAI_CACHE_CONNECT_TIMEOUT": "30s", "GENAI_CACHE_COMMAND_TIMEOUT": "30s"}
    shared = {"GENAI_CACHE_L2": redis_server.url, "GENAI_CACHE_NAMESPACE": team, **patience}
    machines = asking("the question", [{**shared, "GENAI_CACHE_DIR": str(tmp_path / f"{n}")} for n in range(4)])
    machines.go()
    assert len(machines.answers()) == 1
    assert asked(unique_server, "the question") == 1


def test_a_killed_leader_costs_one_more_call(asking, unique_server):
    """Whoever waits goes on at once, and one of them asks."""
    processes = asking("the question", [{}] * 2, latency_s=1)
    first, second = processes.processes
    first.stdin.write("\n")
    first.stdin.flush()
    give_up_at = time.monotonic() + 30
    while not asked(unique_server, "the question"):
        assert time.monotonic() < give_up_at
    second.stdin.write("\n")
    second.stdin.flush()
    first.kill()
    assert len(processes.answers([second])) == 1
    assert asked(unique_server, "the question") == 2
