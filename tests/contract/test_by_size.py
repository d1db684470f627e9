"""A Redis with an Azure Blob container beside it for what is large is one tier, and each may be away alone."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from services import LEAVES_SOCKETS

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError, PartUnavailable, StoreUnavailable
from genai_cache_magic.stores.azure.blob import BlobStore
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.azure.rows import ServiceClock
from genai_cache_magic.stores.base import CheckReport, SupportsCheck, SupportsFill, SupportsGetMany, SupportsLeases
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig, Circuit
from genai_cache_magic.stores.guarded import guard_store, guarded
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.redis.by_size import LARGE_BYTES, SizedStore, SizedTier
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisStore, RedisTier
from genai_cache_magic.testing.chaos import Chaos, ChaosStore
from genai_cache_magic.testing.contracts.store import FakeClock, StoreContract, key_of
from genai_cache_magic.testing.contracts.tier import SharedTierContract
from genai_cache_magic.testing.servers import AZURITE_KEY, cut_off

LIMIT = 1000
SMALL, LARGE = b"small", bytes(LIMIT + 1)

pytestmark = [
    pytest.mark.service,
    *LEAVES_SOCKETS,
]


@contextlib.contextmanager
def both(redis_server, azurite):
    """Connections to the two servers."""
    redis = RedisConnection(RedisTarget(redis_server.url))
    blob = BlobConnection(BlobTarget(f"{azurite.account_url}/sized", account_key=AZURITE_KEY, create_container=True))
    with contextlib.closing(redis), contextlib.closing(blob):
        yield redis, blob


@pytest.fixture
def connections(redis_server, azurite):
    with both(redis_server, azurite) as connections:
        yield connections


class TestSizedStore(StoreContract):
    """Values of all the sizes that are tried lie on both sides of the limit."""

    @pytest.fixture
    def store(self, clock):
        return SizedStore(MemoryStore(clock=clock), MemoryStore(clock=clock), limit_bytes=LIMIT)

    def test_powers(self, store):
        """It answers many look-ups at once, fills on a condition, and can remove what expired."""
        assert isinstance(store, SupportsGetMany)
        assert isinstance(store, SupportsFill)
        assert isinstance(store, SupportsCheck)


class TestSizedTier(SharedTierContract):
    @pytest.fixture
    def tier(self, connections, team):
        yield from sized(connections, team)

    @pytest.fixture
    def other(self, connections, team):
        yield from sized(connections, team)

    def test_large_ones_are_looked_up_with_small_ones(self, tier, other):
        """A look-up brings both, and the version as the Redis tells it."""
        blobs = {key_of(str(n)): bytes([n]) * (n * LIMIT // 4) for n in range(1, 12)}
        for key, blob in blobs.items():
            other.store.put(key, blob, ttl_s=60)
        assert tier.look_up("generations", [*blobs, key_of("absent")]).blobs == blobs

    @pytest.mark.parametrize(("first", "then"), [(SMALL, LARGE), (LARGE, SMALL), (LARGE, LARGE + b"x")])
    def test_one_condition_rules_both(self, tier, other, first, then):
        """Of two who fill, one does, whatever the sizes; and what he removed is gone for all."""
        assert tier.store.put_if(key_of("a"), first, ttl_s=60, held=None)
        held = other.store.held(key_of("a"))
        assert held.blob == first
        assert tier.store.put_if(key_of("a"), then, ttl_s=60, held=tier.store.held(key_of("a")))
        assert not other.store.put_if(key_of("a"), first, ttl_s=60, held=held)
        assert not other.store.put_if(key_of("a"), first, ttl_s=60, held=None)
        assert other.store.get(key_of("a")) == then
        assert other.store.put_if(key_of("a"), b"", ttl_s=0, held=other.store.held(key_of("a")))
        assert tier.store.get(key_of("a")) is None
        assert list(tier.store.scan()) == []

    def test_it_tells_who_asks(self, tier):
        """The Redis's leases are the tier's."""
        assert isinstance(tier, SupportsLeases)


def sized(connections, team):
    redis, blob = connections
    tier = SizedTier(RedisTier(redis, team), BlobStore(blob, team, "l"), Breaker("blob"), limit_bytes=LIMIT)
    yield tier
    tier.close()


class InMemory:
    """Both stores in memory, to look behind: what is at rest where."""

    def __init__(self):
        self.clock = FakeClock()
        self.small, self.large = MemoryStore(clock=self.clock), MemoryStore(clock=self.clock)
        self.chaos = ChaosStore(self.large, Chaos())
        self.breaker = Breaker("blob", BreakerConfig(failures=3))
        self.store = SizedStore(self.small, guard_store(self.chaos, self.breaker), limit_bytes=LIMIT)

    def count(self):
        return self.small.count(), self.large.count()


@pytest.fixture
def memory():
    return InMemory()


def test_what_is_large_goes_beside(memory):
    """And what took its place, or is removed, leaves nothing behind."""
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    assert memory.count() == (1, 1)
    memory.store.put(key_of("a"), SMALL, ttl_s=60)
    assert memory.count() == (1, 0)
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    memory.store.put(key_of("a"), LARGE + b"x", ttl_s=60)
    assert memory.count() == (1, 1)
    assert memory.store.put_if(key_of("a"), LARGE, ttl_s=60, held=memory.store.held(key_of("a")))
    assert memory.count() == (1, 1)
    assert memory.store.put_if(key_of("a"), b"", ttl_s=0, held=memory.store.held(key_of("a")))
    assert memory.count() == (0, 0)
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    assert memory.store.delete(key_of("a"))
    assert memory.count() == (0, 0)


def test_who_loses_a_race_leaves_nothing(memory):
    """What was put aside for a put that did not come about is removed, and the winner's stays."""
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    held = memory.store.held(key_of("a"))
    assert memory.store.put_if(key_of("a"), LARGE + b"winner", ttl_s=60, held=held)
    assert not memory.store.put_if(key_of("a"), LARGE + b"loser", ttl_s=60, held=held)
    assert not memory.store.put_if(key_of("a"), LARGE + b"loser", ttl_s=60, held=None)
    assert memory.count() == (1, 1)
    assert memory.store.get(key_of("a")) == LARGE + b"winner"


@pytest.mark.parametrize("fill", [SMALL, LARGE + b"new"])
def test_a_pointer_to_nothing_is_nothing(memory, fill):
    """What lay beside is gone: the value is absent, was not there to delete, and gives way."""
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    memory.large.close()
    assert memory.store.get(key_of("a")) is None
    assert memory.store.get_many([key_of("a")]) == {}
    assert memory.store.held(key_of("a")) is None
    assert memory.store.put_if(key_of("a"), fill, ttl_s=60, held=None)
    assert memory.store.get(key_of("a")) == fill
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    memory.large.close()
    assert memory.store.delete(key_of("a")) is False


def test_what_looks_like_a_pointer_is_a_value(memory):
    """Nobody makes us follow what he wrote."""
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    forged = memory.small.get(key_of("a"))
    memory.store.put(key_of("b"), forged, ttl_s=60)
    assert memory.store.get(key_of("b")) == forged


def test_large_ones_may_be_away_alone(memory):
    """That is said as what it is, leaves nothing half-written, and opens no breaker but its own."""
    memory.store.put(key_of("a"), LARGE, ttl_s=60)
    memory.chaos.chaos = Chaos(unavailable=1.0)
    outer = Breaker("redis", BreakerConfig(failures=1))
    guarded = guard_store(memory.store, outer)
    for fails in (
        lambda: guarded.get(key_of("a")),
        lambda: guarded.put(key_of("b"), LARGE, ttl_s=60),
        lambda: guarded.put_if(key_of("b"), LARGE, ttl_s=60, held=None),
    ):
        with pytest.raises(PartUnavailable, match="large answers are not shared"):
            fails()
    assert (memory.breaker.state, outer.state) == (Circuit.OPEN, Circuit.CLOSED)
    guarded.put(key_of("c"), SMALL, ttl_s=60)
    assert guarded.get(key_of("c")) == SMALL
    guarded.put(key_of("a"), SMALL, ttl_s=60)  # what lay beside is left to its time
    assert guarded.get(key_of("a")) == SMALL
    assert guarded.get(key_of("b")) is None


def test_one_that_hangs_holds_no_look_up_up(redis_server, azurite, team, monkeypatch):
    """A look-up brings what the Redis has in the time that it may take, and the other is left alone then."""
    monkeypatch.setattr("genai_cache_magic.stores.redis.by_size._PATIENCE_S", 0.2)
    told = []
    with both(redis_server, azurite) as (redis, blob):
        breaker, large = Breaker("blob"), BlobStore(blob, team, "l")
        tier = SizedTier(RedisTier(redis, team), large, breaker, tell=told.append, limit_bytes=LIMIT)
        tier.store.put(key_of("a"), LARGE, ttl_s=60)
        tier.store.put(key_of("b"), SMALL, ttl_s=60)
        with cut_off(azurite):
            keys = [key_of("a"), key_of("b")]
            for _ in range(2):
                found = tier.look_up("generations", [*keys, key_of("absent")])
                assert (found.blobs, found.away) == ({key_of("b"): SMALL}, [key_of("a")])
                assert breaker.state is Circuit.OPEN
        assert told
        tier.close()


@pytest.fixture
def two(redis_server, azurite, isolated, monkeypatch):
    """The address of both, as settings."""
    monkeypatch.setenv("GENAI_CACHE_L2", f"{redis_server.url}, {azurite.account_url}/sized")
    monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("GENAI_CACHE_L2_CREATE_CONTAINER", "true")


def test_a_team_over_both(two, team, tmp_path, connections):
    """What one machine sets the other gets, whatever its size, and what is large lies in the container alone."""
    large = "x" * (LARGE_BYTES + 1)
    told = []
    with create_cache(namespace=team, dir=str(tmp_path / "a"), compression={"algorithm": "none"}) as a:
        a.mset({"small": "s", "large": large})
    with create_cache(namespace=team, dir=str(tmp_path / "b"), on_event=told.append) as b:
        assert b.mget(["small", "large"]) == ["s", large]
    redis, blob = connections
    with redis.use() as client:
        sizes = [client.memory_usage(name) for name in client.scan_iter(match=f"genai-cache:1:{team}:e:*")]
    assert len(sizes) == 2
    assert max(sizes) < LARGE_BYTES
    with blob.use() as container:
        (found,) = container.list_blobs(name_starts_with=f"genai-cache/1/{team}/")
    assert found.size > LARGE_BYTES
    with create_cache(namespace=team, dir=str(tmp_path / "b"), on_event=told.append) as b:
        b.delete("large")
    with create_cache(namespace=team, dir=str(tmp_path / "c"), on_event=told.append) as c:
        assert c.mget(["small", "large"]) == ["s", None]
    assert told == []


def test_a_wrong_container_takes_nothing_from_the_redis(two, team, tmp_path, monkeypatch):
    """Small values are shared, and a large one is kept on its machine."""
    monkeypatch.setenv("GENAI_CACHE_L2", os.environ["GENAI_CACHE_L2"].replace("/sized", "/not-there"))
    monkeypatch.delenv("GENAI_CACHE_L2_CREATE_CONTAINER")
    large = bytes(LARGE_BYTES + 1)
    with create_cache(namespace=team, dir=str(tmp_path / "a"), compression={"algorithm": "none"}) as a:
        a.mset({"large": large, "small": b"s"})
        assert a.get("large") == large
    with create_cache(namespace=team, dir=str(tmp_path / "b")) as b:
        assert b.mget(["small", "large"]) == [b"s", None]


@pytest.mark.parametrize("second", ["redis://127.0.0.1:2", "rediss+cluster://h"])
def test_two_of_one_kind_are_refused(isolated, second):
    """One of each kind is what a team can have."""
    with pytest.raises(ConfigurationError, match="two addresses of Redis"):
        create_cache("redis", l2=f"redis://127.0.0.1:1,{second}")


def test_what_could_not_be_put_aside_is_told_later(two, team, tmp_path, azurite):
    """What is large waits in the queue for the container alone; what is small does not wait for it."""
    settings = {"namespace": team, "compression": {"algorithm": "none"}, "command_timeout": "300ms"}
    large = bytes(LARGE_BYTES + 1)
    with create_cache(dir=str(tmp_path / "a"), **settings) as a:
        a.set("first", 1)
        with cut_off(azurite):
            a.set("large", large)
            a.set("small", 2)
            a.close()
            with create_cache(dir=str(tmp_path / "b"), **settings) as b:
                assert b.mget(["first", "small", "large"]) == [1, 2, None]
    with create_cache(dir=str(tmp_path / "a"), **settings) as a:
        a.set("more", 3)  # wakes the queue
    with create_cache(dir=str(tmp_path / "c"), **settings) as c:
        assert c.mget(["more", "large"]) == [3, large]


class TestOrphans:
    """What is large and lost its pointer, as when a Redis was emptied, is removed; nothing else is."""

    @pytest.fixture
    def tier(self, connections, team):
        yield from sized(connections, team)

    @pytest.fixture
    def large(self, connections, team):
        return BlobStore(connections[1], team, "l")

    @pytest.fixture
    def old(self, monkeypatch):
        """Let whatever the container has count as put long ago."""
        monkeypatch.setattr("genai_cache_magic.stores.azure.blob.UNUSED_S", -60)

    def test_they_are_removed(self, tier, large, connections, team, old):
        """Those alone to which nothing points: neither what is, nor another namespace's."""
        tier.store.put(key_of("kept"), LARGE, ttl_s=60)
        tier.store.put(key_of("small"), SMALL, ttl_s=60)
        (kept,) = large.scan()
        tier.store.put(key_of("lost"), LARGE, ttl_s=60)
        other = BlobStore(connections[1], f"{team}-2", "l")
        other.put(key_of("elsewhere"), LARGE, ttl_s=60)
        RedisStore(connections[0], team).delete(key_of("lost"))
        assert tier.store.check() == CheckReport(0, 1, is_rebuilt=False)
        assert list(large.scan()) == [kept]
        assert list(other.scan()) == [key_of("elsewhere")]
        assert tier.store.get(key_of("kept")) == LARGE
        assert tier.store.check() == CheckReport(0, 0, is_rebuilt=False)

    def test_what_is_being_written_stays(self, tier, large):
        """A large value is put before its pointer: within the hour it may still get one."""
        large.put(key_of("just put"), LARGE, ttl_s=60)
        assert tier.store.check() == CheckReport(0, 0, is_rebuilt=False)
        assert list(large.scan()) == [key_of("just put")]

    def test_what_is_put_while_it_is_looked_stays(self, tier, large, old, monkeypatch):
        """The pointers are read after the names: whatever comes in between is not among what goes."""
        large.put(key_of("lost"), LARGE, ttl_s=60)
        scan = RedisStore.scan

        def meanwhile(store, prefix=""):
            yield from scan(store, prefix)
            large.put(key_of("just put"), LARGE, ttl_s=60)

        monkeypatch.setattr(RedisStore, "scan", meanwhile)
        assert tier.store.check().removed_files == 1
        assert list(large.scan()) == [key_of("just put")]

    def test_a_redis_that_can_not_be_asked_costs_nothing(self, tier, large, old, monkeypatch):
        """Whatever of its pointers was read until then: nothing is removed."""
        large.put(key_of("lost"), LARGE, ttl_s=60)
        tier.store.put(key_of("kept"), LARGE, ttl_s=60)

        def away(*_, **__):
            raise StoreUnavailable("away")

        monkeypatch.setattr(RedisStore, "get_heads", away)
        with pytest.raises(StoreUnavailable):
            tier.store.check()
        assert len(list(large.scan())) == 2

    def test_gc_tells_of_them(self, team, redis_server, azurite, isolated, old, capsys, monkeypatch):  # noqa: PLR0917
        """In words, and as JSON."""
        monkeypatch.setenv("GENAI_CACHE_L2", f"{redis_server.url},{azurite.account_url}/sized")
        monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
        monkeypatch.setenv("GENAI_CACHE_L2_CREATE_CONTAINER", "true")
        monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
        target = BlobTarget(f"{azurite.account_url}/sized", account_key=AZURITE_KEY, create_container=True)
        for arguments in ([], ["--json"]):
            with contextlib.closing(BlobStore(BlobConnection(target), team, "l")) as large:
                large.put(key_of("lost"), LARGE, ttl_s=60)
            with pytest.raises(SystemExit) as ended:
                main(["gc", *arguments])
            assert ended.value.code == 0
            shown = capsys.readouterr().out
            told = (
                json.loads(shown)["shared_orphans"] == 1
                if arguments
                else "and 1 large answer there that nothing" in shown
            )
            assert told


def test_the_age_of_what_is_there_is_told_by_the_service_alone():
    """Whatever the clock of this machine says, or does meanwhile."""
    clock = ServiceClock()
    now = datetime(2026, 5, 31, 12, tzinfo=UTC)
    row = SimpleNamespace(etag="e", size=1, metadata={"ttl_ms": "endless"}, last_modified=now - timedelta(hours=2))
    assert clock.row(row).age_s == 0
    clock(SimpleNamespace(http_response=SimpleNamespace(headers={"Date": "Sun, 31 May 2026 12:00:00 GMT"})))
    assert clock.row(row).age_s == 7_200


def test_the_other_is_not_asked_for_small_ones(team, redis_server):
    """A tier whose container can't be reached costs nothing while nothing is large."""

    class Untouchable:
        def __getattr__(self, name):
            raise StoreUnavailable(name)

    redis = RedisConnection(RedisTarget(redis_server.url))
    with contextlib.closing(redis):
        store = SizedStore(RedisStore(redis, team), Untouchable(), limit_bytes=LIMIT)
        store.put(key_of("a"), SMALL, ttl_s=60)
        assert store.get_many([key_of("a")]) == {key_of("a"): SMALL}
        assert store.put_if(key_of("a"), b"other", ttl_s=60, held=store.held(key_of("a")))
        assert store.delete(key_of("a"))


def test_trouble_with_the_redis_is_none_of_the_container(monkeypatch):
    """Where the pointers can't be read, nothing is removed, and it is the Redis that is said to be in trouble."""

    class Listed(MemoryStore):
        removed = 0

        def get_heads(self, keys, *, size_bytes):
            return {key: blob[:size_bytes] for key, blob in self.get_many(keys).items()}

        def check(self):
            return CheckReport(0, 0, is_rebuilt=False)

        def remove_unused(self, used):
            self.removed = len(used())
            return self.removed

    small, large = Listed(), Listed()
    breaker = Breaker("blob", BreakerConfig(failures=1))
    store = SizedStore(small, guard_store(large, breaker), limit_bytes=LIMIT)
    store.put(key_of("a"), LARGE, ttl_s=60)
    rules = Breaker("redis", BreakerConfig(failures=1))

    def away(keys, *, size_bytes):
        raise StoreUnavailable("the Redis is away")

    monkeypatch.setattr(small, "get_heads", away)
    with pytest.raises(StoreUnavailable, match=r"^the Redis is away") as caught, guarded(rules):
        store.check()
    assert not isinstance(caught.value, PartUnavailable)
    assert (breaker.state, rules.state, large.removed) == (Circuit.CLOSED, Circuit.OPEN, 0)
    monkeypatch.undo()
    assert store.check().removed_files == 1
