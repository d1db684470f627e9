"""Redis keeps the contracts of ``Store`` and ``Document``, single or as a cluster; its errors are sentences."""

from __future__ import annotations

import contextlib
import time

import pytest
from certificates import make_certificate
from redis_connections import OverRedis, connected
from services import answering, started

from genai_cache_magic.errors import ConfigurationError, StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.base import LARGEST_DOCUMENT, LARGEST_VALUE, SupportsFill, SupportsGetMany
from genai_cache_magic.stores.redis.connection import RedisTarget
from genai_cache_magic.stores.redis.store import RedisDocument, RedisLeases, RedisStore, RedisTier
from genai_cache_magic.testing.contracts.document import DocumentContract
from genai_cache_magic.testing.contracts.store import StoreContract, key_of
from genai_cache_magic.testing.contracts.tier import SharedTierContract
from genai_cache_magic.testing.servers import RedisServer, cut_off, free_port

pytestmark = pytest.mark.service


class RedisStoreContract(OverRedis, StoreContract):
    """What both kinds of Redis have in common; time passes for real, so times to live are short."""

    ttl_s = 0.3

    @pytest.fixture
    def store(self, connection, team):
        return RedisStore(connection, team)

    @pytest.fixture
    def pass_time(self):
        return time.sleep  # the server's clock is its own: no event says that it moved

    def test_powers(self, store):
        """It answers many look-ups at once, and fills on a condition."""
        assert isinstance(store, SupportsGetMany)
        assert isinstance(store, SupportsFill)


class TestRedisStore(RedisStoreContract):
    def test_namespaces_are_apart(self, connection, team):
        """A value of one name space is nowhere in another, nor in one whose name begins alike."""
        RedisStore(connection, team).put(key_of("a"), b"a", ttl_s=60)
        for name in (f"{team}x", team[:-1]):
            assert RedisStore(connection, name).get(key_of("a")) is None
            assert list(RedisStore(connection, name).scan()) == []

    def test_every_value_has_a_time_to_live(self, connection, team):
        """What is put with a time to live expires on the server's own account."""
        RedisStore(connection, team).put(key_of("a"), b"a", ttl_s=60)
        with connection.use() as client:
            assert 0 < client.pttl(f"genai-cache:1:{team}:e:{key_of('a')}") <= 60_000

    def test_a_foreign_key_is_no_entry(self, connection, store, team):
        """A key of another shape under our prefix is neither listed nor an error."""
        with connection.use() as client:
            client.set(f"genai-cache:1:{team}:e:someone-else", b"x", px=60_000)
        assert list(store.scan()) == []

    @pytest.mark.parametrize(
        "forge",
        [
            lambda client, key: client.rpush(key, b"x"),
            lambda client, key: client.hset(key, "value", b"x"),
            lambda client, key: client.setrange(key, LARGEST_VALUE, b"x"),
        ],
    )
    def test_what_can_be_no_value_is_absent(self, connection, store, team, forge):
        """A list under an entry's name, or more than any entry holds, is not read, and gives way to an entry."""
        with connection.use() as client:
            forge(client, f"genai-cache:1:{team}:e:{key_of('a')}")
        store.put(key_of("b"), b"b", ttl_s=60)
        assert store.get(key_of("a")) is None
        assert store.get_many([key_of("a"), key_of("b")]) == {key_of("b"): b"b"}
        assert RedisTier(connection, team).look_up("generations", [key_of("a")]).blobs == {}
        assert store.put_if(key_of("a"), b"a", ttl_s=60, held=None)
        assert store.get(key_of("a")) == b"a"

    def test_many_take_one_round_trip(self, connection, store, monkeypatch):
        """A thousand look-ups are one command."""
        sent = []
        with connection.use() as client:
            execute = client.execute_command
            monkeypatch.setattr(client, "execute_command", lambda *a, **k: sent.append(a[0]) or execute(*a, **k))
        store.get_many([key_of(str(number)) for number in range(1000)])
        assert sent == ["EVAL"]


class TestRedisClusterStore(RedisStoreContract):
    @pytest.fixture
    def url(self, redis_nodes):
        return redis_nodes.url


class TestRedisDocument(DocumentContract):
    @pytest.fixture
    def url(self, redis_server):
        return redis_server.url

    @pytest.fixture
    def document(self, url, team):
        with connected(url) as connection:
            yield RedisDocument(connection, team, "generations")

    @pytest.fixture
    def other(self, url, team, document):
        with connected(url) as connection:
            yield RedisDocument(connection, team, "generations")

    def test_a_lost_document_has_a_new_token(self, url, team, document):
        """A document that was lost and written anew never shows a token again, whatever its value."""
        assert document.replace(b"a", expected=None)
        token = document.version()
        with connected(url) as connection, connection.use() as client:
            client.delete(f"genai-cache:1:{team}:d:generations")
        assert document.replace(b"a", expected=None)
        assert document.version() != token

    @pytest.mark.parametrize(
        "forge",
        [
            lambda client, key: client.set(key, b"x"),
            lambda client, key: client.hset(key, "value", bytes(LARGEST_DOCUMENT + 1)),
        ],
    )
    def test_what_can_be_no_document_is_absent(self, url, team, document, forge):
        """A text under its name, or more than any document holds, is not read, and gives way to a document."""
        with connected(url) as connection:
            with connection.use() as client:
                forge(client, f"genai-cache:1:{team}:d:generations")
            assert document.load() is None
            assert document.version() is None
            assert RedisTier(connection, team).look_up("generations", []).token is None
        assert document.replace(b"a", expected=None)
        assert document.load() == b"a"


class TestRedisClusterDocument(TestRedisDocument):
    @pytest.fixture
    def url(self, redis_nodes):
        return redis_nodes.url


class TestRedisTier(SharedTierContract):
    @pytest.fixture
    def url(self, redis_server):
        return redis_server.url

    @pytest.fixture
    def tier(self, url, team):
        with connected(url) as connection:
            yield RedisTier(connection, team)

    @pytest.fixture
    def other(self, url, team):
        with connected(url) as connection:
            yield RedisTier(connection, team)


class TestRedisClusterTier(TestRedisTier):
    @pytest.fixture
    def url(self, redis_nodes):
        return redis_nodes.url


class TestLeases:
    @pytest.fixture
    def leases(self, redis_server, team):
        with connected(redis_server.url) as connection:
            yield RedisLeases(connection, team)

    def test_one_holder(self, leases):
        """Of many who want a lease one gets it, and who gives it back lets the next one in."""
        token = leases.try_take(key_of("a"), life_s=30)
        assert token is not None
        assert leases.try_take(key_of("a"), life_s=30) is None
        assert leases.is_held(key_of("a"))
        assert leases.release(key_of("a"), token) is True
        assert not leases.is_held(key_of("a"))
        assert leases.try_take(key_of("a"), life_s=30) is not None

    def test_only_the_holder_gives_back(self, leases):
        """A token that is not the holder's neither releases nor extends."""
        assert leases.try_take(key_of("a"), life_s=30)
        assert leases.release(key_of("a"), b"another") is False
        assert leases.extend_many({key_of("a"): b"another"}, life_s=30) == set()
        assert leases.is_held(key_of("a"))

    @pytest.mark.parametrize("life_ms", [None, 10**9])
    def test_a_lease_without_an_end_is_none(self, leases, redis_server, team, life_ms):
        """What no holder of ours has given keeps nobody waiting."""
        with connected(redis_server.url) as connection, connection.use() as client:
            client.set(f"genai-cache:1:{team}:l:{key_of('a')}", b"x", px=life_ms)
        assert not leases.is_held(key_of("a"))
        assert leases.try_take(key_of("a"), life_s=30)
        assert leases.is_held(key_of("a"))

    def test_a_dead_holder_lets_go(self, leases):
        """A lease whose holder is gone ends by itself, and its late token does nothing to the next one's."""
        late = leases.try_take(key_of("a"), life_s=0.05)
        give_up_at = time.monotonic() + 10
        while (token := leases.try_take(key_of("a"), life_s=30)) is None:
            assert time.monotonic() < give_up_at
        assert leases.release(key_of("a"), late) is False
        assert leases.extend_many({key_of("a"): token, key_of("b"): token}, life_s=30) == {key_of("a")}


class TestErrors:
    """Whatever a server does, a store raises ``StoreUnavailable``, whose text says what to do and holds no secret."""

    def said(self, url, expected=StoreUnavailable, **how):
        with connected(url, connect_timeout_s=0.3, command_timeout_s=0.3, **how) as connection:
            store = RedisStore(connection, "team")
            with pytest.raises(expected) as caught:
                store.put(key_of("a"), b"a", ttl_s=60)
            for call in (
                lambda: store.get(key_of("a")),
                lambda: store.get_many([key_of("a")]),
                lambda: [*store.scan()],
            ):
                with contextlib.suppress(StoreUnavailable):
                    call()
        text = str(caught.value)
        assert "s3cret" not in text
        assert "s3cret" not in repr(connection) + repr(connection.target)
        return text

    def test_refused(self):
        """A port where nobody listens is named."""
        port = free_port()
        assert f"127.0.0.1:{port} refuses connections" in self.said(f"redis://:s3cret@127.0.0.1:{port}")

    def test_black_hole(self):
        """A server that accepts and says nothing costs the time-out and no more than one try."""
        with started(RedisServer) as server, cut_off(server):
            assert "does not answer in time" in self.said(server.url)

    def test_not_redis(self, server):
        """A web server is not taken for a Redis."""
        text = self.said(server.url.replace("http://", "redis://").split("/v1")[0])
        assert "does not answer as a Redis" in text or "can't be reached" in text

    @pytest.mark.parametrize("answer", [b"\x00" * 64, b"$99999999999\r\n", b"*-5\r\n", b"+OK", b"%\xff\r\n", b":\r\n"])
    def test_garbage(self, answer):
        """Bytes that are no protocol are trouble, not a crash."""
        with answering(answer) as port:
            assert f"127.0.0.1:{port}" in self.said(f"redis://127.0.0.1:{port}")

    def test_wrong_password(self):
        """A wrong password is a denial, and so is none where one is wanted."""
        with started(lambda: RedisServer("--requirepass", "right")) as server:
            wrong = server.url.replace("redis://", "redis://:s3cret@")
            assert "check the credentials" in self.said(wrong, StoreDenied)
            self.said(server.url, StoreDenied)

    def test_a_user_without_rights(self):
        """A user who may read but not write is told so."""
        with started(lambda: RedisServer("--user", "reader", "on", ">s3cret", "~*", "+@read", "+hello")) as server:
            url = server.url.replace("redis://", "redis://reader:s3cret@")
            assert "may not do that" in self.said(url, StoreDenied)

    def test_full(self):
        """A server that may evict nothing asks us to come later."""
        with started(lambda: RedisServer("--maxmemory", "1", "--maxmemory-policy", "noeviction")) as server:
            assert "maxmemory" in self.said(server.url, StoreThrottled)

    def test_a_replica(self):
        """A read-only replica is named as what it is."""
        with started(RedisServer) as primary, RedisServer("--replicaof", "127.0.0.1", str(primary.port)) as replica:
            assert "read-only replica" in self.said(replica.url)

    def test_a_node_of_a_cluster(self, redis_nodes):
        """A cluster that is spoken to as a single server says how to write it."""
        url = f"redis://127.0.0.1:{redis_nodes.servers[0].port}"
        said = set()
        with connected(url) as connection:
            store = RedisStore(connection, "team")
            for number in range(40):
                try:
                    store.put(key_of(str(number)), b"x", ttl_s=60)
                except StoreUnavailable as error:
                    said.add(str(error))
        assert any("redis+cluster://" in text for text in said)

    def test_back_again(self):
        """A server that went and came back is used again, without a new connection object."""
        with started(RedisServer) as server, connected(server.url) as connection:
            store = RedisStore(connection, "team")
            store.put(key_of("a"), b"a", ttl_s=60)
            server.stop()
            with pytest.raises(StoreUnavailable):
                store.get(key_of("a"))
            server.start()
            assert store.get(key_of("a")) is None
            store.put(key_of("a"), b"a", ttl_s=60)
            assert store.get(key_of("a")) == b"a"


class TestTls:
    @pytest.fixture
    def certified(self, tmp_path):
        make_certificate(tmp_path, "localhost", days=1)
        make_certificate(tmp_path, "expired", days=-1)
        return tmp_path

    def serving(self, directory, name):
        port = free_port()
        files = ("--tls-cert-file", f"{directory}/{name}.pem", "--tls-key-file", f"{directory}/{name}.key")
        return started(
            lambda: RedisServer("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *files, port=port)
        )

    def test_trusted(self, certified, team):
        """With the authority that vouches for it, a server is spoken to under TLS."""
        with (
            self.serving(certified, "localhost") as server,
            connected(f"rediss://localhost:{server.port}", ca_file=certified / "localhost.pem") as connection,
        ):
            store = RedisStore(connection, team)
            store.put(key_of("a"), b"a", ttl_s=60)
            assert store.get(key_of("a")) == b"a"

    @pytest.mark.parametrize(("name", "authority"), [("localhost", None), ("expired", "expired")])
    def test_refused(self, certified, name, authority):
        """A certificate nobody vouches for, or one that has expired, is refused with the reason."""
        ca_file = certified / f"{authority}.pem" if authority else None
        with self.serving(certified, name) as server:
            url = f"rediss://localhost:{server.port}"
            assert "certificate is not accepted" in TestErrors().said(url, ca_file=ca_file)

    def test_plain_server(self, redis_server):
        """TLS spoken to a port without it is named."""
        assert "TLS" in TestErrors().said(f"rediss://localhost:{redis_server.port}")


class TestTarget:
    @pytest.mark.parametrize(
        "url",
        ["http://host", "redis://", "redis://host:port", "redis://host:0", "host:6379", "redis://host/x", ""],
    )
    def test_a_wrong_url(self, url):
        """A URL that is none of Redis is a mistake in words, without what stands in it."""
        with pytest.raises(ConfigurationError):
            RedisTarget(url).check()

    @pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
    @pytest.mark.parametrize(
        "password", ["12/hush", "12/hush/1", "12?hush", "12/hush#12", "hu@sh/hush", "[hush", "hush/"]
    )
    def test_a_sign_too_many_in_a_password(self, scheme, password):
        """It is taken apart at another place than was meant: no part of it is shown, nor asked as if it were a host."""
        with pytest.raises(ConfigurationError) as caught:
            RedisTarget(f"{scheme}://user:{password}@host").check()
        assert "hush" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("redis://host", "redis://host:6379"),
            ("rediss://u:s3cret@host/3", "rediss://host:6380"),
            ("rediss+cluster://x.region.redis.azure.net", "rediss+cluster://x.region.redis.azure.net:10000"),
            ("redis://[::1]:7000", "redis://[::1]:7000"),
        ],
    )
    def test_its_address(self, url, address):
        """The address that is shown has the usual port, and no credentials."""
        assert RedisTarget(url).address == address

    def test_credentials_of_the_url(self):
        """User and password of a URL may be percent-encoded, and given ones win."""
        parsed = RedisTarget("redis://us%40er:p%2Fw@host").arguments()
        assert (parsed["username"], parsed["password"]) == ("us@er", "p/w")
        given = RedisTarget("redis://a:b@host", username="c", password="d").arguments()
        assert (given["username"], given["password"]) == ("c", "d")
