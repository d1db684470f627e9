"""The rights that docs/team.md asks for are those that a Redis user needs, and one who lacks some is told so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis
from services import started

from genai_cache_magic.errors import StoreDenied
from genai_cache_magic.ops.roles import REDIS_RULES, REDIS_RULES_CLUSTER, REDIS_RULES_NEWER, redis_keys
from genai_cache_magic.settings.roles import ROLES
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
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
    "pages": lambda tier: (
        tier.pages.put(KEY, {KEY: b"x"}, ttl_s=60),
        tier.pages.revisions([KEY]),
        tier.pages.read(KEY, [KEY]),
        tier.pages.remove(KEY, [KEY]),
    ),
}
READS = {
    "look-up": ASKS["look-up"],
    "document": lambda tier: tier.document("keyset").load(),
    "heads": lambda tier: tier.store.get_heads([KEY], size_bytes=64),
    "get": ASKS["get"],
    "scan": ASKS["scan"],
    "count": lambda tier: tier.counters.read(KEY),
    "pages": lambda tier: (tier.pages.revisions([KEY]), tier.pages.read(KEY, [KEY])),
}
WRITES = ("document", "put", "fill", "delete", "lease", "count", "pages")
IN_A_SCRIPT = ("look-up", "document", "fill", "get", "lease", "count")


@pytest.fixture(scope="module")
def own_server():
    """A server whose users nobody else depends on."""
    with started(RedisServer) as server:
        yield server


def documented(role="Cache.Writer"):
    """Return what the page says that a user of this role has: with any Redis, from 7.2 on, and in a cluster."""
    page = PAGE.read_text(encoding="utf-8").replace("\\|", "|")
    (row,) = re.findall(rf"^\| `{role}` \|.*?\| `([^`]+)` \|", page, re.MULTILINE)
    (sentence,) = re.findall(r"Every Redis user needs .*? in a cluster", page, re.DOTALL)
    keys = re.findall(r"beside the keys `([^`]+)`", page)
    newer, cluster = re.findall(r"`([^`]+)`", sentence)
    return [*keys, *row.split()], newer.split(), cluster.split()


def asked(url, what, password="secret"):
    connection = RedisConnection(RedisTarget(url, username="member", password=password))
    try:
        how = what if callable(what) else ASKS[what]
        return how(RedisTier(connection, "rights"))
    finally:
        connection.close()


def grant(clients, *rules, role="Cache.Writer"):
    every, newer, _ = documented(role)
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


def test_a_reader_reads_all_and_writes_nothing(own_server):
    """By the rights that the page gives a reader: for all that is read, and for each kind of write."""
    with redis.Redis.from_url(own_server.url) as client:
        grant([client], role="Cache.Reader")
        client.flushall()
        for how in READS.values():
            asked(own_server.url, how)
        for what in WRITES:
            with pytest.raises(StoreDenied, match="may not do that"):
                asked(own_server.url, what)


@pytest.mark.parametrize("role", ROLES)
def test_the_page_says_what_the_command_prints(role):
    """Rights stand in one place, and the page says the same."""
    rules, newer, cluster = documented(role)
    assert rules == [redis_keys(), *REDIS_RULES[role]]
    assert (newer, cluster) == (list(REDIS_RULES_NEWER), list(REDIS_RULES_CLUSTER))


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "KEYS *", "SWAPDB 0 1", "CONFIG GET *", "ACL LIST"])
def test_nobody_but_an_administrator_of_the_server_harms_others(own_server, command):
    """No role, not even an admin's, may empty a database, list all keys of it, or look at its passwords."""
    with redis.Redis.from_url(own_server.url) as client:
        grant([client], role="Cache.Admin")
    with redis.Redis(port=own_server.port, username="member", password="secret") as member:
        with pytest.raises(redis.exceptions.NoPermissionError):
            member.execute_command(*command.split())
        with pytest.raises(redis.exceptions.NoPermissionError):
            member.get("another-project")


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
