"""Somebody who may write a tier, and has no key: whatever is put there is a miss, and no look-up raises or tells of it.

The bits of an envelope and of a manifest are flipped one by one in ``tests/property/test_envelope_property.py``; here
the same goes through the whole of a cache, with one flip a byte and every seventh length.
"""

from __future__ import annotations

import concurrent.futures
import os
import secrets

import pytest
from machines import Team

from genai_cache_magic import create_cache
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.crypto.envelope import MAGIC
from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.team import tier as teams
from genai_cache_magic.errors import DecryptionError, EntryUndecodable
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.azure.blob import BlobTier
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY

VALUE = "a secret answer " + secrets.token_urlsafe(2000)
DISCARDED = {DecryptionError.__name__, EntryUndecodable.__name__}
COUNT = 50
_WAIT_S = 60


def damaged(envelope):
    """The envelope with one bit of each byte flipped, cut to each of many lengths, and with more behind it."""
    for at in range(len(envelope)):
        changed = bytearray(envelope)
        changed[at] ^= 1 << at % 8
        yield bytes(changed)
    yield from (envelope[:length] for length in range(0, len(envelope), 7))
    yield from (envelope + b"\0", envelope + envelope, b"\0" + envelope, b"", MAGIC, b"\0" * len(envelope))


@pytest.fixture
def machines(tmp_path, isolated, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE_MEMORY", "0")
    team = Team(tmp_path, monkeypatch)
    yield team
    team.close()


def test_damage_in_the_shared_tier_is_a_miss(machines):
    """A damaged envelope in L2 is not served, raises nothing, and what is said of it holds no byte of the answer."""
    a, b = machines.machine("a"), machines.machine("b")
    a.cache.set("name", VALUE)
    a.told()
    (key,) = a.tier.server.store.scan()
    envelope = a.tier.server.store.get(key)
    assert 2_000 <= len(envelope) <= 4_000
    for wrong in damaged(envelope):
        a.tier.server.store.put(key, wrong, ttl_s=3600)
        assert b.cache.get("name") is None
    told = {(event.where, event.error) for event in b.events if isinstance(event, Trouble)}
    assert told == {("L2", name) for name in DISCARDED}
    assert not any(VALUE[16:40] in event.message or key in event.message for event in b.events)
    a.tier.server.store.put(key, envelope, ttl_s=3600)
    assert b.cache.get("name") == VALUE


def test_what_only_a_newer_version_can_list_is_a_miss_and_holds_up_no_queue(machines):
    """An entry that is authentic, and whose metadata is of a later format, raises nothing and is left to who can."""
    a, b = machines.machine("a"), machines.machine("b")
    a.cache.mset({"newer": VALUE, "name": VALUE})
    a.told()
    newer, name = a.cache._value_id("newer"), a.cache._value_id("name")
    seal, store = a.cache._entries._codec._seal, a.tier.server.store
    opened = seal.open(newer, store.get(newer))
    changed = seal.seal(newer, opened.header, b"\0of a later format", opened.body)
    store.put(newer, changed, ttl_s=3600)
    assert b.cache.get("newer") is None
    assert [event.error for event in b.events if isinstance(event, Trouble)] == [EntryUndecodable.__name__]
    envelope = store.get(name)
    for key in (newer, name):
        store.delete(key)
    b.cache._team.keep({newer: changed})
    b.cache._team.keep({name: envelope})
    b.told()
    assert list(store.scan()) == [name]


def test_damage_here_is_a_miss(tmp_path, isolated):
    """The same on this machine's disk, where what is damaged is removed and the next fill takes its place."""
    events = []
    with create_cache(memory=0, on_event=events.append) as cache:
        cache.set("name", VALUE)
        store = cache._entries.store
        (key,) = store.scan()
        envelope = store.get(key)
        for wrong in damaged(envelope):
            store.put(key, wrong, ttl_s=3600)
            assert cache.get("name") is None
        assert {event.error for event in events} == DISCARDED
        cache.set("name", VALUE)
        assert cache.get("name") == VALUE


def test_a_forged_entry_gives_way_to_the_next_fill(machines):
    """What nobody can open does not keep a place in L2: the next answer heals it for all."""
    a, b = machines.machine("a"), machines.machine("b")
    a.cache.set("name", VALUE)
    a.told()
    (key,) = a.tier.server.store.scan()
    a.tier.server.store.put(key, secrets.token_bytes(500), ttl_s=3600)
    assert b.cache.get("name") is None
    b.cache.set("name", VALUE)
    b.told()
    assert machines.machine("c").cache.get("name") == VALUE


@pytest.mark.service
def test_no_two_entries_of_redis_can_be_swapped(redis_server, team, tmp_path, isolated):
    """Each of 50 entries under the name of each other one is a miss; each under its own is a hit."""
    redis = pytest.importorskip("redis", reason="pip install redis")
    with redis.Redis.from_url(redis_server.url) as client:
        names = sorted(client.scan_iter(f"genai-cache:1:{team}:e:*"))

        def write(moved):
            with client.pipeline(transaction=False) as batch:
                for name, value in moved.items():
                    batch.set(name, value, px=3_600_000)
                batch.execute()

        def read():
            names = sorted(client.scan_iter(f"genai-cache:1:{team}:e:*", count=1000))
            return dict(zip(names, client.mget(names), strict=True))

        assert names == []
        settings = {"l2": redis_server.url, "namespace": team, "key_file": str(tmp_path / "team.key")}
        assert_no_swap(settings, tmp_path, read, write)


@pytest.fixture
def patient(monkeypatch):
    """Wait for a container however loaded this machine is: what comes too late is a miss, too."""
    monkeypatch.setitem(BlobTier.__init__.__kwdefaults__, "patience_s", 30)
    monkeypatch.setitem(Link.__init__.__kwdefaults__, "deadline_s", 90)
    monkeypatch.setattr(teams, "DEADLINE_S", 90)


@pytest.mark.service
def test_no_two_entries_of_blob_can_be_swapped(azurite, team, tmp_path, isolated, patient):
    """Each of 50 blobs under the name of each other one is a miss; each under its own is a hit."""
    blob = pytest.importorskip("azure.storage.blob", reason="pip install azure-storage-blob")
    service = blob.BlobServiceClient(
        azurite.account_url, credential={"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY}
    )
    with service, concurrent.futures.ThreadPoolExecutor(8) as pool:
        container = service.get_container_client("swaps")
        metadata = {}

        def write(moved):
            def upload(item):
                container.upload_blob(*item, overwrite=True, metadata=metadata)

            list(pool.map(upload, moved.items()))

        def read():
            names = [found.name for found in container.list_blobs(f"genai-cache/1/{team}/e")]
            names = [name for name in names if len(name.rpartition("/")[2]) == 64]
            metadata.update(container.get_blob_client(names[0]).get_blob_properties().metadata)
            return dict(zip(names, pool.map(lambda name: container.download_blob(name).readall(), names), strict=True))

        settings = {
            "l2": f"{azurite.account_url}/swaps",
            "l2_account_key": AZURITE_KEY,
            "l2_create_container": True,
            "connect_timeout": "30s",
            "command_timeout": "30s",
            "namespace": team,
            "key_file": str(tmp_path / "team.key"),
        }
        assert_no_swap(settings, tmp_path, read, write)


def assert_no_swap(settings, tmp_path, read, write):
    """Put each entry's bytes under the name of each other one, all at once by rotating them, and look all up."""
    values = {f"name {number}": f"value {number}" for number in range(COUNT)}
    with create_cache(dir=os.fspath(tmp_path / "a"), **settings) as writer:
        writer.mset(values)
        assert writer._team._drain.finish(within_s=_WAIT_S)
    stored = read()
    assert len(stored) == COUNT
    names, envelopes = list(stored), list(stored.values())
    events = []
    with create_cache(dir=os.fspath(tmp_path / "b"), on_event=events.append, **settings) as reader:
        for by in range(1, COUNT):
            write(dict(zip(names, envelopes[by:] + envelopes[:by], strict=True)))
            assert reader.mget(values) == [None] * COUNT
        assert {event.error for event in events} == {DecryptionError.__name__}
        assert len(events) == COUNT * (COUNT - 1)
        write(stored)
        assert reader.mget(values) == list(values.values())


def test_an_entry_of_another_namespace_of_the_same_key_is_a_miss(machines, tmp_path, isolated):
    """Two teams with one key and one store can't read each other's entries, nor tell whether they are the same."""
    settings = {"key_file": str(tmp_path / "k" / "team.key")}
    with (
        create_cache(dir=os.fspath(tmp_path / "1"), namespace="team-a", **settings) as first,
        create_cache(dir=os.fspath(tmp_path / "2"), namespace="team-b", **settings) as second,
    ):
        for cache in (first, second):
            cache.set("name", VALUE)
        ((mine,), (other,)) = (list(cache._entries.store.scan()) for cache in (first, second))
        assert mine != other
        assert first.key_for({"prompt": "x"}) != second.key_for({"prompt": "x"})
        envelope = second._entries.store.get(other)
        first._entries.store.put(mine, envelope, ttl_s=3600)
        first._entries._recent.forget(EntryId(mine))
        assert first.get("name") is None
