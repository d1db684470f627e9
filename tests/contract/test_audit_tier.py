"""What an audit sees of a real tier: keys without an end, a container that is open, answers that nobody can open."""

from __future__ import annotations

import pytest
from sessions import session_of

from genai_cache_magic import create_cache
from genai_cache_magic.ops.audit import audit
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.servers import AZURITE_KEY

pytestmark = pytest.mark.service

SECONDS = {"connect_timeout": "30s", "command_timeout": "30s"}


@pytest.fixture
def found(isolated, monkeypatch):
    """What the audit finds, by the names of its rules, of a cache that has two answers in a tier."""

    def look(team, **settings):
        with session_of(monkeypatch, **{"namespace": team, **SECONDS, **settings}) as session:
            return {one.rule.name: one for one in audit(session, longest_key_age_s=1e9)}

    return look


def filled(team, change=lambda _: None, **settings):
    with create_cache(namespace=team, **SECONDS, **settings) as cache:
        cache.set("a", 1)
        cache.set("b", 2)
        assert cache.team.tell(within_s=30)
        change(cache)


def test_keys_without_an_end(found, redis_server, team):
    """A key from which somebody took its time to live is counted, of this namespace alone."""
    filled(team, l2=redis_server.url)
    assert found(team, l2=redis_server.url) == {}
    connection = RedisConnection(RedisTarget(redis_server.url))
    with connection.use() as client:
        for key in list(client.scan_iter(match=f"genai-cache:1:{team}:e:*"))[:1]:
            client.persist(key)
    connection.close()
    assert found(team, l2=redis_server.url)["KeyWithoutTtl"].says.startswith("1 answer of")
    assert "KeyWithoutTtl" not in found(f"{team}-other", l2=redis_server.url)


def test_what_a_tier_holds_that_nobody_can_open(found, redis_server, team):
    """Answers in the tier are looked at as those on this machine are."""

    def change(cache):
        store = cache.team.store
        for key in list(store.scan())[:1]:
            store.put(key, store.get(key)[:50] + bytes(200), ttl_s=1000)

    filled(team, change, l2=redis_server.url)
    told = found(team, l2=redis_server.url)
    assert told["UnopenableEntry"].says.startswith("1 answer of")


def test_a_public_container(found, azurite, team):
    """A container that anyone may read is an error; a private one is none."""
    how = {"l2_account_key": AZURITE_KEY, "l2_create_container": True}
    address = f"{azurite.account_url}/audited-{team}".lower()
    filled(team, l2=address, **how)
    environment = {"l2_account_key": AZURITE_KEY, "l2_create_container": "true"}
    assert found(team, l2=address, **environment) == {}
    from azure.storage.blob import ContainerClient, PublicAccess

    name = address.rpartition("/")[2]
    with ContainerClient.from_connection_string(azurite.connection_string, name) as client:
        client.set_container_access_policy({}, public_access=PublicAccess.CONTAINER)
    assert "can be read by anyone (container)" in found(team, l2=address, **environment)["PublicContainer"].says
