"""Pages are the same whatever keeps them: memory, Redis, a cluster, Azure Blob, and a container beside a Redis."""

from __future__ import annotations

import contextlib
import time

import pytest
from redis_connections import OverRedis, connected

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.azure.blob import BlobStore, BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.azure.pages import BlobPages
from genai_cache_magic.stores.base import SupportsPages
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.guarded import GuardedPages
from genai_cache_magic.stores.redis.by_size import SizedTier
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.contracts.pages import GROUP, A, B, PagesContract
from genai_cache_magic.testing.contracts.store import FakeClock
from genai_cache_magic.testing.pages import MemoryPages
from genai_cache_magic.testing.servers import AZURITE_KEY, free_port


class TestMemoryPages(PagesContract):
    @pytest.fixture
    def pages(self):
        return MemoryPages()

    def test_pages_expire(self):
        """After their time, and are pruned then."""
        clock = FakeClock()
        pages = MemoryPages(clock=clock)
        pages.put(GROUP, {A: b"x"}, ttl_s=60)
        clock.advance(61)
        assert pages.revisions([GROUP]) == {GROUP: {}}
        assert (pages.prune(), pages.prune()) == (1, 0)


class TestGuardedPages(PagesContract):
    @pytest.fixture
    def pages(self):
        return GuardedPages(MemoryPages(), Breaker("memory"))


@pytest.mark.service
class TestRedisPages(OverRedis, PagesContract):
    @pytest.fixture
    def pages(self, connection, team):
        return RedisTier(connection, team).pages

    @pytest.fixture
    def other(self, url, team, pages):
        with connected(url) as connection:
            yield RedisTier(connection, team).pages

    @pytest.fixture(params=["text", "list"])
    def forge(self, connection, team, request):
        def put(group):
            with connection.use() as client:
                key = f"genai-cache:1:{team}:p:{group}"
                client.set(key, b"x") if request.param == "text" else client.rpush(key, b"x")

        return put

    def test_groups_have_a_time_to_live(self, pages, connection, team):
        """But for one that was set for ever; each change begins it anew."""
        key = f"genai-cache:1:{team}:p:{GROUP}"
        with connection.use() as client:
            pages.put(GROUP, {A: b"x"}, ttl_s=60)
            assert 0 < client.pttl(key) <= 60_000
            pages.put(GROUP, {A: b"x"}, ttl_s=float("inf"))
            assert client.pttl(key) == -1

    def test_strange_fields_are_left_out(self, pages, connection, team):
        """Of another name, or larger than any page."""
        with connection.use() as client:
            client.hset(f"genai-cache:1:{team}:p:{GROUP}", mapping={"x": b"x", "X" * 64: b"x", A: bytes(1024**2 + 1)})
        assert pages.revisions([GROUP]) == {GROUP: {}}
        assert pages.read(GROUP, [A]) == {}


class TestRedisClusterPages(TestRedisPages):
    @pytest.fixture
    def url(self, redis_nodes):
        return redis_nodes.url


@contextlib.contextmanager
def blob_connection(azurite):
    target = BlobTarget(f"{azurite.account_url}/pages", account_key=AZURITE_KEY, create_container=True)
    with contextlib.closing(BlobConnection(target)) as connection:
        yield connection


@pytest.mark.service
class TestBlobPages(PagesContract):
    @pytest.fixture
    def pages(self, azurite, team):
        with blob_connection(azurite) as connection, contextlib.closing(BlobTier(connection, team)) as tier:
            yield tier.pages

    @pytest.fixture
    def other(self, azurite, team, pages):
        with blob_connection(azurite) as connection, contextlib.closing(BlobTier(connection, team)) as tier:
            yield tier.pages

    @pytest.fixture
    def forge(self, azurite, team):
        def put(group):
            with blob_connection(azurite) as connection, connection.use() as container:
                prefix = f"genai-cache/1/{team}/p/{group}/"
                container.upload_blob(prefix + A, bytes(1024**2 + 1), overwrite=True, metadata={"ttl_ms": "endless"})
                container.upload_blob(prefix + "x", b"x", overwrite=True)

        return put

    def test_pages_expire(self, pages):
        """By the service's clock, to the second; pruning removes them, and no others."""
        pages.put(GROUP, {A: b"x"}, ttl_s=0.001)
        pages.put(GROUP, {B: b"y"}, ttl_s=60)
        give_up_at = time.monotonic() + 30
        while A in pages.revisions([GROUP])[GROUP]:
            assert time.monotonic() < give_up_at
        assert pages.read(GROUP, [A, B]).keys() == {B}
        assert (pages.prune(), pages.prune()) == (1, 0)


@pytest.mark.service
class TestSizedBundles(PagesContract):
    """Of a Redis with a container beside it, the bundles lie in the container."""

    @pytest.fixture
    def tier(self, redis_server, azurite, team):
        with (
            blob_connection(azurite) as blob,
            contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as redis,
        ):
            beside = BlobPages(blob, team)
            yield SizedTier(RedisTier(redis, team), BlobStore(blob, team, "l"), Breaker("blob"), bundles=beside)
            beside.close()

    @pytest.fixture
    def pages(self, tier):
        return tier.bundles

    def test_small_pages_are_in_the_redis(self, tier, redis_server, team):
        """And both are a tier's."""
        assert isinstance(tier, SupportsPages)
        tier.pages.put(GROUP, {A: b"x"}, ttl_s=60)
        assert tier.bundles.read(GROUP, [A]) == {}
        with contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as connection:
            assert RedisTier(connection, team).pages.read(GROUP, [A])[A].blob == b"x"


def test_pages_of_a_server_that_is_away():
    """Every method says so."""
    with contextlib.closing(RedisConnection(RedisTarget(f"redis://127.0.0.1:{free_port()}"))) as connection:
        pages = RedisTier(connection, "team").pages
        for ask in (
            lambda: pages.put(GROUP, {A: b"x"}, ttl_s=60),
            lambda: pages.revisions([GROUP]),
            lambda: pages.read(GROUP, [A]),
            lambda: pages.remove(GROUP, [A]),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
