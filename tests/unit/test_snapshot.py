"""A snapshot's readers never wait, its writers go to the original, and its age is told."""

from __future__ import annotations

import math

import pytest

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.snapshot import SnapshotDocument
from genai_cache_magic.testing.contracts.document import DocumentContract
from genai_cache_magic.testing.contracts.store import FakeClock


class Remote:
    """A document in a shared tier that counts what it is asked, and can be away."""

    def __init__(self):
        self.inner = MemoryDocument()
        self.calls = 0
        self.is_away = False

    def _called(self):
        self.calls += 1
        if self.is_away:
            raise StoreUnavailable("the tier is away")

    def version(self):
        self._called()
        return self.inner.version()

    def load(self):
        self._called()
        return self.inner.load()

    def replace(self, new, *, expected):
        self._called()
        return self.inner.replace(new, expected=expected)


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def clocks():
    return FakeClock(50.0), FakeClock()


@pytest.fixture
def snapshot(remote, clocks):
    return SnapshotDocument(remote, MemoryDocument(), clock=clocks[0], wall_clock=clocks[1])


class TestContract(DocumentContract):
    """As its only writer's view, a snapshot is a document like any other."""

    @pytest.fixture
    def document(self):
        return SnapshotDocument(MemoryDocument(), MemoryDocument())


def test_reading_asks_nobody(remote, snapshot):
    """Value and version come from here, however old they are."""
    remote.inner.replace(b"a", expected=None)
    snapshot.look()
    remote.is_away, before = True, remote.calls
    remote.inner.replace(b"b", expected=b"a")
    assert (snapshot.load(), snapshot.version()) == (b"a", 1)
    assert remote.calls == before


def test_age(snapshot, remote, clocks):
    """The age goes by the clock that says more, so a machine that slept knows that it is behind."""
    assert snapshot.age_s == math.inf
    snapshot.look()
    for clock, seconds in zip(clocks, (3, 8), strict=True):
        clock.advance(seconds)
    assert snapshot.age_s == 8
    clocks[1].advance(-100)
    assert snapshot.age_s == 3


def test_an_unchanged_version_costs_no_read(snapshot, remote, clocks):
    """A token that was seen before confirms the value without reading it."""
    remote.inner.replace(b"a", expected=None)
    snapshot.look()
    clocks[0].advance(60)
    before = remote.calls
    snapshot.seen(remote.inner.version())
    assert remote.calls == before
    assert snapshot.age_s == 0


def test_a_failed_read_leaves_it_as_old_as_it_is(snapshot, remote, clocks):
    """What can't be read is not taken for confirmed."""
    remote.inner.replace(b"a", expected=None)
    snapshot.look()
    clocks[0].advance(60)
    remote.is_away = True
    with pytest.raises(StoreUnavailable):
        snapshot.seen("another")
    assert (snapshot.load(), snapshot.age_s) == (b"a", 60)


def test_a_lost_original_is_lost_here(snapshot, remote):
    """An original that is gone is seen to be gone, so that whoever rules by it makes a new one."""
    remote.inner.replace(b"a", expected=None)
    snapshot.look()
    remote.inner = MemoryDocument()
    snapshot.look()
    assert snapshot.load() is None
    assert snapshot.version() is None


def test_the_copy_serves_the_next_process(remote):
    """What was seen last is there without the tier, in the next process too, and its age is not known."""
    copy = MemoryDocument()
    remote.inner.replace(b"a", expected=None)
    SnapshotDocument(remote, copy).look()
    remote.is_away = True
    later = SnapshotDocument(remote, copy)
    assert later.load() == b"a"
    assert later.age_s == math.inf
    with pytest.raises(StoreUnavailable):
        later.replace(b"b", expected=b"a")


def test_a_first_value_without_the_tier_is_provisional(remote):
    """Where nothing was ever seen a value can be written; nobody else goes by it, so it is never the original's."""
    remote.is_away = True
    snapshot = SnapshotDocument(remote, MemoryDocument())
    assert snapshot.replace(b"mine", expected=None)
    assert snapshot.load() == b"mine"
    remote.is_away = False
    snapshot.look()
    assert remote.inner.load() is None
    assert snapshot.load() is None


def test_a_provisional_value_gives_way(remote):
    """Where the original has a value by then, that one counts."""
    remote.is_away = True
    snapshot = SnapshotDocument(remote, MemoryDocument())
    snapshot.replace(b"mine", expected=None)
    remote.is_away = False
    remote.inner.replace(b"theirs", expected=None)
    snapshot.look()
    assert remote.inner.load() == snapshot.load() == b"theirs"


def test_a_conflicting_write_shows_what_is_there(snapshot, remote):
    """A writer that was too late sees the other's value, so that its next try can succeed."""
    remote.inner.replace(b"a", expected=None)
    snapshot.look()
    remote.inner.replace(b"b", expected=b"a")
    assert snapshot.replace(b"c", expected=b"a") is False
    assert snapshot.load() == b"b"
    assert snapshot.replace(b"c", expected=b"b") is True
    assert remote.inner.load() == b"c"


class Raced(Remote):
    """One at which something else happens just after it was read, or written."""

    def __init__(self):
        super().__init__()
        self.after = None

    def _then(self):
        after, self.after = self.after, None
        if after is not None:
            after()

    def load(self):
        found = super().load()
        self._then()
        return found

    def replace(self, new, *, expected):
        is_written = super().replace(new, expected=expected)
        self._then()
        return is_written


def test_a_slow_read_takes_nothing_back_that_was_written_meanwhile():
    """What this process has published holds here from then on, whoever else began to read before."""
    remote = Raced()
    snapshot = SnapshotDocument(remote, MemoryDocument())
    assert snapshot.replace(b"a", expected=None)
    remote.inner.replace(b"b", expected=b"a")
    remote.after = lambda: snapshot.replace(b"c", expected=b"b")
    snapshot.look()
    assert snapshot.load() == b"c"


@pytest.mark.parametrize("is_away", [False, True])
def test_a_slow_write_takes_nothing_back_that_was_seen_meanwhile(is_away):
    """What another machine has published on top of it stays, or it is said that nobody knows."""
    remote = Raced()
    snapshot = SnapshotDocument(remote, MemoryDocument())
    assert snapshot.replace(b"a", expected=None)

    def after():
        remote.inner.replace(b"c", expected=b"b")
        snapshot.look()
        remote.is_away = is_away

    remote.after = after
    assert snapshot.replace(b"b", expected=b"a")
    assert snapshot.load() == b"c"
    assert math.isinf(snapshot.age_s) is is_away


def test_what_another_process_of_the_machine_saw_makes_this_one_ask(remote, clocks):
    """A value that is no longer what this machine knows is as old as can be, until the original is looked at."""
    copy = MemoryDocument()
    one, other = (SnapshotDocument(remote, copy, clock=clocks[0], wall_clock=clocks[1]) for _ in range(2))
    assert one.replace(b"1", expected=None)
    other.look()
    assert (one.age_s, other.age_s) == (0, 0)
    assert other.replace(b"2", expected=b"1")
    assert one.age_s == math.inf
    one.look()
    assert (one.load(), one.age_s, other.age_s) == (b"2", 0, 0)


def test_a_slower_process_does_not_keep_the_others_asking(remote, clocks):
    """An older value in the copy is put right by whoever sees that the original is later."""
    copy = MemoryDocument()
    snapshot = SnapshotDocument(remote, copy, clock=clocks[0], wall_clock=clocks[1])
    assert snapshot.replace(b"2", expected=None)
    snapshot.look()
    assert copy.replace(b"1", expected=b"2")
    assert snapshot.age_s == math.inf
    snapshot.look()
    assert (snapshot.age_s, copy.load()) == (0, b"2")
    calls = remote.calls
    assert snapshot.age_s == 0
    assert remote.calls == calls
