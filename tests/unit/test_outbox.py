"""What is still to be told survives, goes in order, and is told once."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time

import pytest
from outboxes import TAG, A, B, empty_outbox, team_that_notes  # noqa: F401 - fixtures

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Change, Generations, decode_change
from genai_cache_magic.entries.team.drain import Drain, Retries
from genai_cache_magic.entries.team.outbox import Outbox, SetValue
from genai_cache_magic.errors import PartUnavailable, StoreUnavailable
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.testing.contracts.store import key_of


@pytest.mark.parametrize(
    "change",
    [
        Change(5, tags=frozenset({TAG})),
        Change(5, entry_ids=frozenset({A, B})),
        Change(5, new_root=bytes([7] * 16)),
        Change(5, frozenset({TAG}), frozenset({A})),
    ],
)
def test_a_change_survives_being_written(change):
    """What was queued is what is published."""
    assert decode_change(change.encode()) == change
    before = Generations(bytes(16), 3)
    assert change.apply(before).ver > before.ver


def test_invalidations_go_first(outbox, team):
    """However early an entry was queued, an invalidation goes before it, and all of them at once."""
    outbox.add_entries({A: b"a"})
    changes = [Change(1, tags=frozenset({TAG})), Change(2, new_root=bytes([1] * 16))]
    for change in changes:
        outbox.add_change(change)
    outbox.add_entries({B: b"b"})
    Drain(outbox, team).once()
    assert team.told == [tuple(changes), b"a", b"b"]
    assert outbox.count() == (0, 0)


def test_what_was_not_told_waits(outbox, team):
    """Without the team nothing is lost, and what was told before it went is not told again."""
    outbox.add_change(Change(1, tags=frozenset({TAG})))
    outbox.add_entries({A: b"a"})
    team.is_away = True
    with pytest.raises(StoreUnavailable):
        Drain(outbox, team).once()
    assert outbox.count() == (1, 1)
    team.is_away = False
    Drain(outbox, team).once()
    Drain(outbox, team).once()
    assert len(team.told) == 2


def test_it_survives_its_process(tmp_path, team):
    """Another process tells what one that was killed has left."""
    killed, again = Outbox(tmp_path / "outbox.db"), Outbox(tmp_path / "outbox.db")
    killed.add_entries({A: b"a"})  # and not closed before the other begins, as a kill leaves it
    Drain(again, team).once()
    again.close()
    killed.close()
    assert team.told == [b"a"]


def test_the_newer_of_two_counts(outbox, team):
    """An entry that is queued anew takes the older one's place, also while that is being told."""
    outbox.add_entries({A: b"old"})
    (old,) = outbox.entries(10)
    outbox.add_entries({A: b"new"})
    outbox.drop_entries([old.number])
    Drain(outbox, team).once()
    assert team.told == [b"new"]


def test_the_newer_of_two_counts_whatever_the_clock_shows(outbox, team, monkeypatch):
    """A clock that was set back gives what is queued anew no number that the older one had."""
    outbox.add_entries({A: b"a", B: b"old"})
    told = outbox.entries(10)
    before_ns = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: before_ns)
    outbox.add_entries({B: b"new"})
    outbox.drop_entries([one.number for one in told])
    assert [one.envelope for one in outbox.entries(10)] == [b"new"]


def test_one_process_tells(tmp_path, outbox, team):
    """While another process of the machine tells, ours waits for it."""
    outbox.add_entries({A: b"a"})
    other = FileLock(tmp_path / "lock")
    assert other.try_acquire()
    drain = Drain(outbox, team, lock=FileLock(tmp_path / "lock"))
    drain.once()
    assert team.told == []
    other.release()
    drain.once()
    assert team.told == [b"a"]


def test_in_the_background(outbox, team):
    """A poke is enough: what waits is told by a thread, and what comes later by the same."""
    drain = Drain(outbox, team)
    for envelope in (b"a", b"b"):
        outbox.add_entries({A: envelope})
        drain.poke()
        assert team.heard.acquire(timeout=30)
    assert team.told == [b"a", b"b"]


def test_it_comes_back(outbox, team):
    """A team that was away and is back is told without another poke."""
    team.is_away = True
    drain = Drain(outbox, team)
    outbox.add_entries({A: b"a"})
    drain.poke()
    team.is_away = False
    assert team.heard.acquire(timeout=30)
    assert drain.finish(within_s=30)


def test_finishing_gives_up(outbox, team):
    """At a kernel's end what can't be told is left for the next one."""
    team.is_away = True
    outbox.add_entries({A: b"a"})
    assert not Drain(outbox, team).finish(within_s=5)
    assert outbox.count() == (0, 1)


def test_closing_ends_the_thread(outbox, team):
    """Once it is closed nothing goes on trying, be the team away for ever, and nothing begins again."""
    team.is_away = True
    outbox.add_entries({A: b"a"})
    drain = Drain(outbox, team)
    drain.poke()
    thread = drain._thread
    drain.close()
    thread.join(30)
    assert not thread.is_alive()
    drain.poke()
    drain.close()
    assert drain._thread is None


def test_an_entry_that_is_not_taken_holds_no_other_up(outbox, team):
    """It waits behind the others, and is tried again."""
    team.refused = {b"a"}
    outbox.add_entries({A: b"a"})
    outbox.add_entries({B: b"b"})
    drain = Drain(outbox, team)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            drain.once()
    assert team.told == [b"b"]
    assert outbox.count() == (0, 1)
    team.refused = set()
    drain.once()
    assert team.told == [b"b", b"a"]


def test_pauses_double_up_to_the_longest():
    """Each is shortened by up to a half, so that the machines of a team don't come back in one moment."""
    retries = Retries(first_pause_s=1.0, longest_pause_s=8.0)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (500, 8)):
        assert longest / 2 <= retries.pause_s(failures) <= longest
    constant = Retries(first_pause_s=1.0, longest_pause_s=8.0, is_exponential=False)
    assert constant.pause_s(500) <= 1.0
    assert len({retries.pause_s(4) for _ in range(20)}) > 1


def test_after_the_last_attempt_a_queue_rests_until_the_team_answers(outbox, team):
    """It is tried as often as was said; what waits is told when somebody says that the team is there again."""
    team.is_away = True
    tries = threading.Semaphore(0)
    reach = team._reach

    def counted():
        tries.release()
        reach()

    team._reach = counted
    drain = Drain(outbox, team, retries=Retries(max_attempts=2, first_pause_s=0.001, longest_pause_s=0.001))
    drain.wake()
    assert not tries.acquire(blocking=False)  # nothing had been given up
    outbox.add_entries({A: b"a"})
    drain.poke()
    for _ in range(2):
        assert tries.acquire(timeout=30)
    give_up_at = time.monotonic() + 30
    while not drain._is_resting:
        assert time.monotonic() < give_up_at
    assert not tries.acquire(blocking=False)
    team.is_away = False
    drain.wake()
    assert team.heard.acquire(timeout=30)
    assert team.told == [b"a"]


def test_a_team_that_answers_again_is_told_before_a_long_pause_is_over(outbox, team):
    """A queue that pauses longer and longer begins anew when others reach the team, and no sooner."""
    team.is_away = True
    now = [0.0]
    drain = Drain(outbox, team, retries=Retries(first_pause_s=600.0, longest_pause_s=600.0), clock=lambda: now[0])
    outbox.add_entries({A: b"a"})
    drain.poke()
    give_up_at = time.monotonic() + 30
    while drain._wakes_at == math.inf:  # that it pauses is no event that can be awaited
        assert time.monotonic() < give_up_at
    team.is_away = False
    now[0] = 299.0
    drain.wake()
    assert not drain._pause.is_set()
    now[0] = 601.0
    drain.wake()
    assert team.heard.acquire(timeout=30)
    assert team.told == [b"a"]
    drain.close()


def test_many_entries_are_told_together(outbox, team):
    """What waits is told in one go, not one by one."""
    outbox.add_entries({EntryId(key_of(str(number))): b"%d" % number for number in range(50)})
    Drain(outbox, team).once()
    assert team.told == [b"%d" % number for number in range(50)]
    assert team.rounds == 1
    assert outbox.count() == (0, 0)


def test_one_that_is_not_taken_holds_up_no_other_of_its_batch(outbox, team):
    """The rest is told one by one, and the one waits behind them."""
    team.refused = {b"1"}
    outbox.add_entries({EntryId(key_of(str(number))): b"%d" % number for number in range(3)})
    drain = Drain(outbox, team)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            drain.once()
    assert team.told == [b"0", b"2"]
    assert [waiting.envelope for waiting in outbox.entries(10)] == [b"1"]


def test_what_is_told_together_is_no_larger_than_memory_takes(outbox):
    """However many wait, only some megabytes of them are read at once."""
    outbox.add_entries({EntryId(key_of(str(number))): bytes(1000) for number in range(10)})
    assert len(outbox.entries(10, limit_bytes=2500)) == 3
    assert len(outbox.entries(2, limit_bytes=2500)) == 2


def test_what_a_part_of_the_team_does_not_take_holds_nothing_up(outbox, team):
    """All else is told in the same go, however much of it there is; that waits on."""
    team.late = {b"large", b"larger"}
    envelopes = {0: b"large", 120: b"larger"}
    outbox.add_entries({EntryId(key_of(str(n))): envelopes.get(n, b"%d" % n) for n in range(250)})
    drain = Drain(outbox, team)
    for _ in range(2):
        with pytest.raises(PartUnavailable):
            drain.once()
        assert len(team.told) == 248
        assert outbox.count() == (0, 2)
    team.late = set()
    drain.once()
    assert set(team.told[248:]) == {b"large", b"larger"}


def test_values_that_were_set_wait_apart(tmp_path):
    """Each in place of one of its key; they are told before entries, and become entries in the same step."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path)
    outbox.add_values([SetValue(A, b"1", bytes([7] * 32), 5), SetValue(B, b"b")])
    other, first = outbox.values(10)
    assert (first.entry_id, first.envelope, first.replaced, first.set_ms) == (A, b"1", bytes([7] * 32), 5)
    outbox.add_values([SetValue(A, b"2", first.digest)])
    _, second = outbox.values(10)
    assert second.envelope == b"2"
    assert second.replaced == bytes([7] * 32)  # what both of them replace
    assert second.number > first.number
    assert outbox.count() == (0, 2)
    outbox.settle_values([first, other], {A: b"reborn 1", B: b"reborn b"})  # the first was set anew meanwhile
    assert [waiting.envelope for waiting in outbox.entries(10)] == [b"reborn b"]
    assert outbox.value_ids() == {A}
    outbox.close()
    again = Outbox(path)
    assert [value.envelope for value in again.values(10)] == [b"2"]
    again.begin({A: b"later"})
    assert not again.values(10)
    again.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        # SECURITY: a version that does not know of values takes any other schema for damage.
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"mark", "pending_change", "pending_entry"}


@pytest.mark.parametrize(("late", "other"), [(A, B), (B, A)])
def test_a_value_that_waits_for_a_part_of_the_tier_holds_up_nothing(outbox, team, late, other):
    """The others are settled, however large it is, entries are told, and it is tried again."""
    outbox.add_values([SetValue(late, bytes(5 * 1024**2)), SetValue(other, b"b")])
    outbox.add_entries({EntryId(key_of("c")): b"c"})
    team.outbox, team.late_values = outbox, {late}
    with pytest.raises(PartUnavailable):
        Drain(outbox, team).once()
    assert outbox.value_ids() == {late}
    assert team.told == [other, b"c"]
    team.late_values = set()
    Drain(outbox, team).once()
    assert team.told == [other, b"c", late]
    assert outbox.count() == (0, 0)
