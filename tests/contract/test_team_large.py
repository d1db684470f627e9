"""Large answers hold nobody up: listings read how they begin, and what is too much for one look-up is not awaited."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import Future

import pytest
from team_in_memory import team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.entries import heads, link
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.listing import shared_rows
from genai_cache_magic.entries.trust import Trust
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.azure import blob as azure_blob
from genai_cache_magic.stores.azure.blob import BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis import store as redis
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.servers import AZURITE_KEY

WAIT_S = 30
MIB = 1 << 20
_numbers = itertools.count(1)


@pytest.fixture
def team_name():
    return f"large-{os.getpid()}-{next(_numbers)}"


# Listings


@pytest.mark.parametrize("encryption", ["local", "off"])
def test_a_listing_reads_how_entries_begin(team, monkeypatch, encryption):
    """Names and counts, also of what lists more than most: no answer is read whole, however large."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", encryption)
    ada, ben = team.machine("ada"), team.machine("ben")
    long = "k" * 100_000
    ada.cache.mset({f"key {number}": os.urandom(MIB) for number in range(8)} | {long: b"x", f"{long}2": b"y"})
    ada.told()
    kind, read = type(ben.tier.store), []
    get_heads = kind.get_heads

    def noted(self, keys, *, size_bytes):
        found = get_heads(self, keys, size_bytes=size_bytes)
        read.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr(kind, "get_heads", noted)
    monkeypatch.setattr(kind, "get_many", lambda *_: pytest.fail("entries were read whole"))
    monkeypatch.setattr(kind, "get", lambda *_: pytest.fail("an entry was read whole"))
    assert sorted(ben.cache.keys()) == sorted(ada.cache.keys())
    assert ben.cache.stats().entries == 10
    assert sum(read) < 10 * heads._HEAD_BYTES + 2 * 150_000
    assert max(read) <= heads._MOST_BYTES


@pytest.mark.service
def test_a_listing_pulls_little_from_redis(redis_server, tmp_path, isolated, team_name):
    """Measured at the server: of 40 answers of 1 MiB, a hundredth."""
    import redis as redis_py

    def opened(name):
        return create_cache(
            "redis", l2=redis_server.url, namespace=team_name, dir=str(tmp_path / name), key_file=str(tmp_path / "key")
        )

    with redis_py.Redis.from_url(redis_server.url) as client, opened("ada") as ada, opened("ben") as ben:
        ada.mset({f"key {number}": os.urandom(MIB) for number in range(40)})
        assert ada.team.tell(within_s=WAIT_S)
        before = client.info("stats")["total_net_output_bytes"]
        assert len(ben.keys()) == 40
        assert client.info("stats")["total_net_output_bytes"] - before < MIB


def test_a_listing_ends_with_the_cache(team, monkeypatch):
    """What goes on behind stops at the batch that it is at."""
    monkeypatch.setattr(shared_rows, "_BATCH", 1)
    monkeypatch.setattr(shared_rows, "_WAITED_S", 0.0)
    ada, ben = team.machine("ada"), team.machine("ben")
    ada.cache.mset({f"key {number}": b"x" for number in range(5)})
    ada.told()
    shared, begun, go_on, read = ben.cache.catalogue._shared, threading.Event(), threading.Event(), []
    original, sync, ended = shared._heads._read, shared._sync, threading.Event()

    def slow(keys, size_bytes):
        read.append(keys)
        begun.set()
        assert go_on.wait(WAIT_S)
        return original(keys, size_bytes)

    def whole():
        try:
            sync()
        finally:
            ended.set()

    monkeypatch.setattr(shared._heads, "_read", slow)
    monkeypatch.setattr(shared, "_sync", whole)
    shared.sync()
    assert begun.wait(WAIT_S)
    ben.cache.close()
    go_on.set()
    assert ended.wait(WAIT_S)
    assert len(read) == 1


# Look-ups


def test_what_was_not_read_in_time_is_said(team):
    """Its caller asks the model as if the team could not be asked; those beside it have their answers."""
    looked: dict[str, Future] = {name: Future() for name in "abc"}
    lookups = Link(lambda _: ({"a": b"envelope", "b": link.UNREAD}, ""), overdue=lambda: "overdue")
    lookups.look_up_many((name, future.set_result) for name, future in looked.items())
    a, b, c = (looked[name].result(WAIT_S) for name in "abc")
    assert (a.envelope, a.trouble) == (b"envelope", "")
    assert (b.envelope, "ask for less at once" in b.trouble) == (None, True)
    assert (c.envelope, c.trouble) == (None, "")


@pytest.mark.parametrize("name", ["redis_server", "redis_nodes"])
@pytest.mark.service
def test_redis_sends_much_in_parts(request, monkeypatch, team_name, name):
    """No answer brings more than fits, but all is read; what there is no time for is named."""
    connection = RedisConnection(RedisTarget(request.getfixturevalue(name).url))
    try:
        tier = RedisTier(connection, team_name)
        values = {key_of(str(number)): os.urandom(300_000) for number in range(12)} | {key_of("small"): b"small"}
        for key, value in values.items():
            tier.store.put(key, value, ttl_s=60)
        monkeypatch.setattr(redis, "_ANSWER_BYTES", MIB)
        rounds, once = [], tier.store.read_once
        monkeypatch.setattr(tier.store, "read_once", lambda *given: rounds.append(given) or once(*given))
        found = tier.look_up("generations", [*values, key_of("absent")])
        assert (found.blobs, list(found.unread)) == (values, [])
        assert len([given for given in rounds if len(given) > 2]) >= 3
        assert tier.store.get_many([*values, key_of("absent")]) == values
        monkeypatch.setattr(redis, "_PATIENCE_S", -1.0)
        found = tier.look_up("generations", [*values, key_of("absent")])
        assert found.blobs[key_of("small")] == b"small"
        assert found.blobs.keys() | set(found.unread) == values.keys()
        assert len(found.unread) >= 9
    finally:
        connection.close()


@pytest.mark.service
def test_blob_gives_what_it_has_in_time(azurite, monkeypatch, team_name):
    """What comes late is named, and what is there is used."""
    target = BlobTarget(f"{azurite.account_url}/{team_name}", account_key=AZURITE_KEY, create_container=True)
    tier = BlobTier(BlobConnection(target), team_name)
    try:
        for name in "ab":
            tier.store.put(key_of(name), name.encode(), ttl_s=60)
        get, go_on = tier.store.get, threading.Event()

        def slow(key):
            assert key != key_of("b") or go_on.wait(WAIT_S)
            return get(key)

        monkeypatch.setattr(tier.store, "get", slow)
        monkeypatch.setattr(azure_blob, "_PATIENCE_S", 0.5)
        found = tier.look_up("generations", [key_of("a"), key_of("b"), key_of("absent")])
        go_on.set()
        assert (found.blobs, list(found.unread)) == ({key_of("a"): b"a"}, [key_of("b")])
    finally:
        tier.close()


# A kept-alive connection, and a note that could not be kept


@pytest.mark.parametrize(("answers", "is_answered"), [(1, True), (2, False)])
def test_a_connection_that_was_ended_while_idle(monkeypatch, answers, is_answered):
    """Azure ends those that are idle, perhaps in the moment of use: a reading is asked once more, and once only."""
    from azure.core.exceptions import ServiceResponseError
    from azure.core.pipeline.transport import RequestsTransport

    sent, asked = RequestsTransport.send, []

    def send(self, request, **how):
        is_ours = request.url.startswith("http://127.0.0.1:1/")  # other tests' clients may live
        if is_ours:
            asked.append(request.method)
        if is_ours and len(asked) <= answers:
            raise ServiceResponseError("('Connection aborted.', 'Remote end closed connection without response')")
        return sent(self, request, **how)

    monkeypatch.setattr(RequestsTransport, "send", send)
    connection = BlobConnection(BlobTarget("http://127.0.0.1:1/devstoreaccount1/shared", account_key=AZURITE_KEY))
    tier = BlobTier(connection, "team")
    with pytest.raises(StoreUnavailable, match="refuses connections" if is_answered else "does not answer as"):
        tier.document("keyset").version()
    assert asked == ["HEAD", "HEAD"]
    asked.clear()
    with pytest.raises(StoreUnavailable):
        tier.store.put(key_of("a"), b"a", ttl_s=60)
    assert asked == ["PUT"]
    tier.close()


class Marks:
    """A state file that is full at first."""

    def __init__(self):
        self.is_full, self.kept = True, []

    def mark(self, _):
        return None

    def set_mark(self, name, value):
        if self.is_full:
            raise StoreUnavailable("full")
        self.kept.append((name, value))


def test_a_note_that_was_not_kept_is_noted_again():
    """When the team last confirmed what is here is noted before long, not after the usual time."""
    now, marks = [1000.0], Marks()
    trust = Trust(marks, None, longest_s=1.0, clock=lambda: now[0], monotonic=lambda: now[0])
    trust.sees(b"x", b"x")
    marks.is_full = False
    trust.sees(b"x", b"x")
    assert marks.kept == []  # not at every look
    now[0] += 15
    trust.sees(b"x", b"x")
    assert len(marks.kept) == 1
    now[0] += 15
    trust.sees(b"x", b"x")
    assert len(marks.kept) == 1


def test_heads_of_plain_and_sealed_entries_are_bounded():
    """What claims to begin with more than any of ours is no entry."""
    codec = Codec(Unsealed(), Compression())
    from genai_cache_magic.core.frame import _MAGIC, _PLAIN
    from genai_cache_magic.errors import EntryUndecodable

    with pytest.raises(EntryUndecodable):
        codec.open_head("0" * 64, _PLAIN.pack(_MAGIC, 1, bytes(3), 10, 1 << 30, 10))
