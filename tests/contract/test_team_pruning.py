"""What was invalidated is tidied up in the tier, and comes back on no machine, whatever it saw of it and when."""

from __future__ import annotations

import contextlib
import time

import pytest
from team_in_memory import numbering_origin, team_in_memory, time_that_passes  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.core.validity import PRUNED
from genai_cache_magic.entries import behind
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome, Tier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis.by_size import LARGE_BYTES
from genai_cache_magic.testing.servers import AZURITE_KEY

A_DAY_S = 86_400
DAY_AND_MORE_S = A_DAY_S + 60


def document(machine):
    machine.sees()
    return machine.cache._entries.generations.published()


def asked(machine, origin, *texts):
    """Ask, so that the machine hears what time it is."""
    machine.goes_stale()
    return [machine.ask(origin, text)[0] for text in texts]


def with_copies(team, origin, *copied):
    """Two machines, of which the second has copies of these; then the first invalidates `old`, of this id."""
    a, b = team.machine("a"), team.machine("b")
    _, record = a.ask(origin, "old")
    a.ask(origin, "kept")
    a.told()
    asked(b, origin, *copied)
    a.cache.invalidate_entry(record.entry_id[:16])
    return a, b, record.entry_id


def test_records_of_entries_go_after_a_day(team, origin, passes):
    """Not before; and then what they made invalid is gone from the tier."""
    a, b, old = with_copies(team, origin, "old", "kept")
    assert a.cache.collect().records == 0
    assert old not in list(team.server.store.scan())
    passes(DAY_AND_MORE_S)
    asked(a, origin, "kept")
    assert a.cache.collect().records == 1
    assert set(document(a).entries) <= {PRUNED}
    assert asked(b, origin, "kept") == ["answer 2"]


@pytest.mark.parametrize("has_seen", [True, False])
def test_no_copy_of_another_machine_comes_back(team, origin, passes, has_seen):
    """Whether it saw the record in time, or slept while it came and went."""
    a, b, old = with_copies(team, origin, "old", "kept")
    if has_seen:
        b.sees()
    passes(DAY_AND_MORE_S)
    asked(a, origin, "kept")
    assert a.cache.collect().records == 1
    assert old not in document(a).entries
    asleep = asked(b, origin, "old", "kept")
    assert asleep == ["answer 3", "answer 2"]
    assert b.ask(origin, "kept")[1].tier is Tier.L1


@pytest.mark.parametrize("moment", ["before it is stored", "while it is stored"])
def test_nor_one_that_was_still_to_be_stored(team, origin, passes, monkeypatch, moment):
    """A machine that fell asleep between its look-up and the storing of what that brought."""
    monkeypatch.setattr(behind, "_PAUSE_S", 3600)
    a, b, _ = with_copies(team, origin, "old")
    b.sees()
    passes(DAY_AND_MORE_S)
    asked(a, origin, "kept")
    assert a.cache.collect().records == 1
    if moment == "before it is stored":
        b.sees()
    else:
        places = b.cache._entries.places
        put = places._put

        def awake(*given):
            b.sees()
            return put(*given)

        monkeypatch.setattr(places, "_put", awake)
    b.cache._entries.settle()
    assert asked(b, origin, "old") == ["answer 3"]


@pytest.mark.parametrize("has_seen", [True, False])
def test_nor_on_a_machine_that_was_switched_off(team, origin, passes, has_seen):
    """Another process of it goes by what the one before it saw."""
    a, b, _ = with_copies(team, origin, "old")
    if has_seen:
        b.sees()
    b.cache.close()
    passes(DAY_AND_MORE_S)
    asked(a, origin, "kept")
    a.cache.collect()
    later = team.machine("b")
    assert asked(later, origin, "old") == ["answer 3"]


def test_records_of_tags_go_with_the_last_older_answer(team, origin):
    """As long as one that is older is valid, they stay: it might carry the tag."""
    a = team.machine("a")
    _, oldest = a.ask(origin, "oldest")
    a.ask(origin, "tagged", tags=["t"])
    a.told()
    a.cache.invalidate_tag("t")
    a.ask(origin, "newer")
    a.told()
    assert a.cache.collect().records == 0
    assert len(document(a).tags) == 1
    a.cache.invalidate_entry(oldest.entry_id[:16])
    collected = a.cache.collect()
    assert document(a).tags == {}
    assert collected.records >= 1
    assert asked(a, origin, "newer", "tagged") == ["answer 3", "answer 4"]
    assert a.cache.collect().records == 0


def test_what_waits_to_be_told_is_not_revived(team, origin, passes):
    """A copy in the queue of a machine that was cut off is judged by what the tier says when it is back."""
    a, b = team.machine("a"), team.machine("b")
    _, record = a.ask(origin, "old")
    a.told()
    asked(b, origin, "old")
    b.tier.is_away = True
    b.goes_stale()
    b.ask(origin, "own")
    a.cache.invalidate_entry(record.entry_id[:16])
    passes(DAY_AND_MORE_S)
    asked(a, origin, "new")
    a.cache.collect()
    b.tier.is_away = False
    b.told()
    assert asked(b, origin, "old") != ["answer 1"]


def test_a_tier_that_is_away_is_tidied_up_later(team, origin):
    """Collecting says so, and does what can be done here."""
    a = team.machine("a")
    a.ask(origin)
    a.told()
    a.tier.is_away = True
    collected = a.cache.collect()
    assert (collected.records, collected.shared_entries) == (0, 0)
    assert a.events[-1].where == "L2"


def test_what_is_valid_is_not_read_whole(team, origin, monkeypatch):
    """Tidying up reads how entries begin; whole it reads those alone that are to go, be it one of many."""
    a = team.machine("a")
    for number in range(5):
        a.ask(origin, f"kept {number}")
    _, record = a.ask(origin, "old")
    a.told()
    a.cache.invalidate_entry(record.entry_id[:16])
    read = []
    for name in ("get", "get_many", "held", "held_many"):
        original = getattr(a.tier.store, name)

        def noted(keys, original=original):
            read.extend([keys] if isinstance(keys, str) else keys)
            return original(keys)

        monkeypatch.setattr(a.tier.store, name, noted)
    assert a.cache.collect().shared_entries == 1
    assert set(read) == {record.entry_id}
    assert len(list(team.server.store.scan())) == 5


def test_what_is_not_ours_stays(team, origin, passes):
    """What can't be opened is left to whoever wrote it, and so is the record that concerns it."""
    a = team.machine("a")
    _, record = a.ask(origin, "old")
    a.told()
    a.cache.invalidate_entry(record.entry_id[:16])
    team.server.store.put(record.entry_id, b"of a newer version", ttl_s=10 * A_DAY_S)
    passes(DAY_AND_MORE_S)
    a.ask(origin, "kept")
    a.told()
    asked(a, origin, "kept")
    a.cache.collect()
    assert team.server.store.get(record.entry_id) == b"of a newer version"


@pytest.mark.parametrize("hours", [23, 25])
def test_offline_copies_count_for_a_day(team, origin, hours, monkeypatch):
    """Since the team was last asked; what was fetched since then counts from that on."""
    a = team.machine("a")
    a.ask(origin, "old")
    a.told()
    asked(a, origin, "old")
    a.tier.is_away = True
    a.goes_stale()
    assert a.ask(origin, "old")[1].outcome is Outcome.HIT
    clock = a.cache._entries.judge.clock
    monkeypatch.setattr(clock, "_clock", lambda: time.time() + hours * 3600)
    record = a.ask(origin, "old")[1]
    assert record.outcome is (Outcome.HIT if hours < 24 else Outcome.MISS)
    if hours > 24:
        assert "offline_trust" in record.reason
        assert a.ask(origin, "old")[1].outcome is Outcome.HIT  # fetched a moment ago
        a.cache.close()
        offline = team.machine("a", is_away=True)
        monkeypatch.setattr(offline.cache._entries.judge.clock, "_clock", lambda: time.time() + 3 * hours * 3600)
        with pytest.raises(ReplayMiss, match="offline_trust"):
            offline.ask(origin, "old", mode="replay")


def test_offline_trust_is_a_setting(team, origin, monkeypatch):
    """Who works far away for a week can say so."""
    monkeypatch.setenv("GENAI_CACHE_OFFLINE_TRUST", "8d")
    a = team.machine("a")
    a.ask(origin)
    a.told()
    a.tier.is_away = True
    a.goes_stale()
    monkeypatch.setattr(a.cache._entries.judge.clock, "_clock", lambda: time.time() + 7 * A_DAY_S)
    assert a.ask(origin)[1].outcome is Outcome.HIT


@pytest.mark.service
@pytest.mark.parametrize("is_beside", [False, True])
def test_what_expired_in_a_container_is_removed(isolated, azurite, redis_server, monkeypatch, is_beside):
    """Blob Storage removes nothing by itself: collecting does, also where a Redis holds the rest."""
    namespace = f"expired-{is_beside}"
    account = f"{azurite.account_url}/pruned"
    l2 = f"{redis_server.url},{account}" if is_beside else account
    settings = {
        "l2": l2,
        "l2_account_key": AZURITE_KEY,
        "l2_create_container": True,
        "compression": {"algorithm": "none"},
    }
    with create_cache(namespace=namespace, **settings) as cache:
        cache.mset({"brief": bytes(LARGE_BYTES + 1), "long": bytes(LARGE_BYTES + 2)})
        cache.team._drain.finish(within_s=30)
        target = BlobTarget(account, account_key=AZURITE_KEY)
        with contextlib.closing(BlobConnection(target)) as connection, connection.use() as container:
            values = [row for row in container.list_blobs(f"genai-cache/1/{namespace}/") if row.size > LARGE_BYTES]
            assert len(values) == 2
            container.get_blob_client(min(values, key=lambda row: row.size).name).set_blob_metadata({"ttl_ms": "0"})
            assert cache.collect().shared_entries == 1
            left = [row for row in container.list_blobs(f"genai-cache/1/{namespace}/") if row.size > LARGE_BYTES]
            assert len(left) == 1
