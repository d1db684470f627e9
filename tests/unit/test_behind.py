"""What look-ups brought is stored behind those who asked, all of it, and at the latest when the cache is closed."""

from __future__ import annotations

import os
import threading

import pytest

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.behind import Behind
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.testing.contracts.store import key_of

IDS = [EntryId(key_of(str(number))) for number in range(600)]


class Place:
    def __init__(self):
        self.batches = []
        self.is_broken = False
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_placing = threading.Event()

    def __call__(self, placed):
        self.is_placing.set()
        assert self.may_go_on.wait(30)
        if self.is_broken:
            raise StoreUnavailable("no room")
        self.batches.append(placed)


@pytest.fixture
def place():
    return Place()


def test_many_are_few_transactions(place):
    """However singly they came."""
    behind = Behind(place, lambda _: None)
    for entry_id in IDS:
        behind.add({entry_id: None}, print)
    behind.finish()
    assert [entry_id for batch in place.batches for entry_id in batch] == IDS
    assert len(place.batches) < 60


def test_who_finishes_waits_for_what_is_under_way(place):
    """When it returns, all is stored, whoever stores it."""
    behind = Behind(place, lambda _: None)
    place.may_go_on.clear()
    behind.add({IDS[0]: None}, print)
    assert place.is_placing.wait(30)
    ended = threading.Event()
    threading.Thread(target=lambda: (behind.finish(), ended.set())).start()
    assert not ended.is_set()
    place.may_go_on.set()
    assert ended.wait(30)
    assert place.batches == [{IDS[0]: None}]


def test_trouble_is_told_to_who_asked_and_ends_nothing(place):
    """The answers were served; later ones are stored again."""
    behind, told = Behind(place, lambda _: None), []
    place.is_broken = True
    for entry_id in IDS[:3]:
        behind.add({entry_id: None}, told.append)
    behind.finish()
    assert {(event.where, event.message) for event in told} == {("L1", "no room")}
    place.is_broken = False
    behind.add({IDS[4]: None}, told.append)
    behind.finish()
    assert place.batches == [{IDS[4]: None}]


def test_no_more_wait_than_memory_takes(place):
    """What comes beyond that is served all the same, and not stored here."""
    behind = Behind(place, lambda _: None)
    place.may_go_on.clear()
    behind.add({EntryId(key_of(f"many {number}")): None for number in range(10_050)}, print)
    place.may_go_on.set()
    behind.finish()
    assert sum(map(len, place.batches)) == 10_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own(place):
    """A child forked while something is stored stores for itself."""
    behind = Behind(place, lambda _: None)
    place.may_go_on.clear()
    behind.add({IDS[0]: None}, print)
    assert place.is_placing.wait(30)
    child = os.fork()
    if child == 0:
        place.may_go_on = threading.Event()
        place.may_go_on.set()
        place.batches = []
        behind.add({IDS[1]: None}, print)
        behind.finish()
        os._exit(0 if place.batches == [{IDS[1]: None}] else 1)
    assert os.waitpid(child, 0)[1] == 0
    place.may_go_on.set()
    behind.finish()
