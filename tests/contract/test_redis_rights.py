"""The rights that docs/team.md asks for are those that a Redis user needs, and one who lacks some is told so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from services import started

from genai_cache_magic.errors import StoreDenied
from genai_cache_magic.stores.redis import RedisTier
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.servers import RedisServer

pytestmark = pytest.mark.service

PAGE = Path(__file__).parents[2] / "docs" / "team.md"
KEY = "0" * 64
ASKS = {
    "look-up": lambda tier: tier.look_up("generations", [KEY]),
    "document": lambda tier: tier.document("keyset").replace(b"x", expected=None),
    "put": lambda tier: tier.store.put(KEY, b"x", ttl_s=60),
    "fill": lambda tier: tier.store.put_if(KEY, b"x", ttl_s=60, held=tier.store.held(KEY)),
    "get": lambda tier: tier.store.get_many([KEY]),
    "scan": lambda tier: list(tier.store.scan()),
    "delete": lambda tier: tier.store.delete(KEY),
    "lease": lambda tier: tier.leases.release(KEY, tier.leases.try_take(KEY, life_s=5)),
    "count": lambda tier: (tier.counters.add(KEY, KEY, 1, b"x"), tier.counters.read(KEY)),
}
IN_A_SCRIPT = ("look-up", "document", "fill", "get", "lease", "count")


@pytest.fixture(scope="module")
def own_server():
    """A server whose users nobody else depends on."""
    with started(RedisServer) as server:
        yield server


def documented():
    """Return what the page says: for any Redis, for one from 7.2 on, and for a cluster beside that."""
    (sentence,) = re.findall(r"A Redis user needs .*?An Azure", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    every, newer, cluster = re.findall(r"`([^`]+)`", sentence)
    return every.split(), newer.split(), cluster.split()


def asked(url, what, password="secret"):
    connection = RedisConnection(RedisTarget(url, username="member", password=password))
    try:
        return ASKS[what](RedisTier(connection, "rights"))
    finally:
        connection.close()


def grant(clients, *rules):
    every, newer, _ = documented()
    for client in clients:
        release = tuple(map(int, client.info("server")["redis_version"].split(".")[:2]))
        said = every if release < (7, 2) else [*every, *newer]
        client.execute_command("ACL", "SETUSER", "member", "reset", "on", ">secret", *(rules or said))


def test_what_the_page_says_is_enough(own_server):
    """For all that a tier is asked."""
    with redis.Redis.from_url(own_server.url) as client:
        grant([client])
        for what in ASKS:
            asked(own_server.url, what)


def test_what_the_page_says_is_enough_in_a_cluster(redis_nodes):
    """With what it says of clusters beside that; without that, and with a wrong password, it is told as a refusal."""
    clients = [redis.Redis(port=server.port) for server in redis_nodes.servers]
    try:
        grant(clients)
        with pytest.raises(StoreDenied, match=r"docs/team\.md"):
            asked(redis_nodes.url, "look-up")
        for client in clients:
            client.execute_command("ACL", "SETUSER", "member", *documented()[2])
        for what in ASKS:
            asked(redis_nodes.url, what)
        with pytest.raises(StoreDenied, match="l2_password"):
            asked(redis_nodes.url, "look-up", password="wrong")
    finally:
        for client in clients:
            client.execute_command("ACL", "DELUSER", "member")
            client.close()


@pytest.mark.parametrize("what", IN_A_SCRIPT)
@pytest.mark.parametrize("rules", [["+@scripting", "~*"], ["+@all", "~another:*"]], ids=["no command", "no key"])
def test_what_a_script_may_not_do_is_told_as_any_other(own_server, what, rules):
    """A server says it in other words there."""
    with redis.Redis.from_url(own_server.url) as client:
        grant([client], "+@connection", *rules)
        with pytest.raises(StoreDenied, match=r"this user \(l2_username\) may not do that"):
            asked(own_server.url, what)
