"""The link gathers look-ups into rounds, and tells everyone who asked, once, whatever the tier does."""

from __future__ import annotations

import os
import threading

import pytest

from genai_cache_magic.entries.link import Link, within
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.testing.contracts.store import key_of


class Tier:
    """Answers rounds when it is let, and notes them."""

    def __init__(self):
        self.rounds = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()

    def ask(self, entry_ids):
        self.rounds.append(entry_ids)
        self.is_asked.set()
        assert self.may_answer.wait(30)
        return {entry_id: entry_id.encode() for entry_id in entry_ids if entry_id != key_of("absent")}, ""


class Asked:
    """What was delivered for each id."""

    def __init__(self, count):
        self.found = []
        self._all = threading.Semaphore(0)
        self._count = count

    def __call__(self, looked):
        self.found.append(looked)
        self._all.release()

    def wait(self):
        for _ in range(self._count):
            assert self._all.acquire(timeout=30)
        return self.found


@pytest.fixture
def tier():
    return Tier()


@pytest.fixture
def link(tier):
    return Link(tier.ask, overdue=lambda: "it does not answer in time")


def test_one(link, tier):
    """One look-up brings what is there, or nothing, and no trouble."""
    for label in ("there", "absent"):
        asked = Asked(1)
        link.look_up(key_of(label), asked)
        (looked,) = asked.wait()
        assert looked.envelope == (None if label == "absent" else key_of(label).encode())
        assert looked.trouble == ""
    assert len(tier.rounds) == 2


def test_what_comes_together_goes_together(link, tier):
    """Look-ups that come while a round is on its way are the next round, each id once."""
    tier.may_answer.clear()
    asked = Asked(61)
    link.look_up(key_of("first"), asked)
    assert tier.is_asked.wait(30)
    for number in range(60):
        link.look_up(key_of(str(number % 20)), asked)
    tier.may_answer.set()
    asked.wait()
    assert [len(entry_ids) for entry_ids in tier.rounds] == [1, 20]


def test_what_one_caller_asks_together_is_one_round(link, tier):
    """However soon the worker is at it, and however many they are: it never starts with the first few."""
    for wanted in (["only"], [f"few {n}" for n in range(50)], [str(n) for n in range(1000)]):
        tier.rounds.clear()
        asked = Asked(len(wanted))
        link.look_up_many((key_of(label), asked) for label in wanted)
        asked.wait()
        assert tier.rounds == [tuple(map(key_of, wanted))]


def test_a_burst_of_threads_loses_nobody(link, tier):
    """Threads that ask in turns wait for each other for a moment, and each hears once of its own."""
    start, told = threading.Barrier(16), []

    def work(number):
        start.wait(30)
        for turn in range(5):
            asked = Asked(1)
            link.look_up(key_of(f"{number} {turn}"), asked)
            told.extend(looked.envelope for looked in asked.wait())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == sorted(key_of(f"{number} {turn}").encode() for number in range(16) for turn in range(5))
    assert sum(map(len, tier.rounds)) == 80


def test_nothing_asked_is_no_round(link, tier):
    """An empty batch wakes nobody."""
    link.look_up_many([])
    asked = Asked(1)
    link.look_up(key_of("a"), asked)
    asked.wait()
    assert tier.rounds == [(key_of("a"),)]


def test_more_than_a_round_holds_is_several(tier):
    """Each is as large as the tier can take, none larger; and all that is asked comes."""
    link = Link(tier.ask, overdue=lambda: "late", round_size=64)
    asked = Asked(200)
    link.look_up_many((key_of(str(number)), asked) for number in range(200))
    asked.wait()
    assert [len(entry_ids) for entry_ids in tier.rounds] == [64, 64, 64, 8]


def test_a_batch_shares_what_is_on_its_way(link, tier):
    """Of a batch only what nobody has asked for is asked."""
    tier.may_answer.clear()
    asked = Asked(4)
    link.look_up(key_of("a"), asked)
    assert tier.is_asked.wait(30)
    link.look_up_many((key_of(label), asked) for label in "abc")
    tier.may_answer.set()
    assert len(asked.wait()) == 4
    assert tier.rounds == [(key_of("a"),), (key_of("b"), key_of("c"))]


def test_who_asks_for_one_on_its_way_shares_it(link, tier):
    """Thirty-two who ask one thing at one time are one look-up."""
    tier.may_answer.clear()
    asked = Asked(32)
    link.look_up(key_of("a"), asked)
    assert tier.is_asked.wait(30)
    for _ in range(31):
        link.look_up(key_of("a"), asked)
    tier.may_answer.set()
    assert {looked.envelope for looked in asked.wait()} == {key_of("a").encode()}
    assert len(tier.rounds) == 1


def test_an_overdue_round_is_given_up(tier):
    """A tier that takes for ever holds up nobody: they are told, and later look-ups go on without that round."""
    link = Link(tier.ask, overdue=lambda: "it does not answer in time", deadline_s=0.05)
    tier.may_answer.clear()
    asked = Asked(1)
    link.look_up(key_of("a"), asked)
    (looked,) = asked.wait()
    assert (looked.envelope, looked.trouble) == (None, "it does not answer in time")
    tier.may_answer.set()
    again = Asked(1)
    link.look_up(key_of("a"), again)
    assert again.wait()[0].envelope == key_of("a").encode()
    assert len(asked.found) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own(link, tier):
    """A child forked while a round is on its way asks for itself."""
    tier.may_answer.clear()
    asked = Asked(1)
    link.look_up(key_of("a"), asked)
    assert tier.is_asked.wait(30)
    child = os.fork()
    if child == 0:
        tier.may_answer = threading.Event()
        tier.may_answer.set()
        mine = Asked(1)
        link.look_up(key_of("a"), mine)
        os._exit(0 if mine.wait()[0].envelope else 1)
    assert os.waitpid(child, 0)[1] == 0
    tier.may_answer.set()
    asked.wait()


def test_within_a_deadline():
    """What comes in time comes as it is, an error too; what does not is given up in words."""
    assert within(30, lambda: 7, overdue=lambda: "late") == 7
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: 1 / 0, overdue=lambda: "late")
    never = threading.Event()
    with pytest.raises(StoreUnavailable, match="late"):
        within(0.01, never.wait, overdue=lambda: "late")
    never.set()
