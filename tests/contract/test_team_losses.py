"""A document that rules a team is lost or put back: what that costs is misses, and as few as can be."""

from __future__ import annotations

import pytest
from machines import Origin
from simulated import machine_in_time, passing_time, shared_memory  # noqa: F401 - fixtures
from team_in_memory import team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.core.validity import Generations
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.tier import MemoryServer

DAY_S = 86_400.0


@pytest.fixture
def document(shared):
    return shared.tier("outsider").document(GENERATIONS)


def later(time):
    time.now_s += 6


def put_back(document, saved):
    assert document.replace(saved, expected=document.load())


@pytest.mark.parametrize("how", ["tag", "entry", "clear"])
def test_a_document_that_was_put_back_and_has_grown_since(machine, document, time, how):
    """Who has seen an invalidation serves nothing that it names, however much the older document has grown since."""
    origin = Origin()
    a, b = machine("a"), machine("b")
    a.ask(origin, "question", tags=["t"])
    saved = document.load()
    if how == "tag":
        a.invalidate_tag("t")
    elif how == "clear":
        a.clear()
    else:
        _, record = a.ask(origin, "question")
        a.entries.publish([record.entry_id])
    put_back(document, saved)
    for _ in range(5):
        b.invalidate_tag("another")
    later(time)
    number, _ = a.ask(origin, "question", tags=["t"])
    assert number == origin.answers == 2


def test_another_process_of_the_machine_remembers(machine, document, time):
    """What one process has seen the next one knows, when the document was put back and has grown in between."""
    origin = Origin()
    a, b = machine("a"), machine("b")
    a.ask(origin, "question", tags=["t"])
    saved = document.load()
    a.invalidate_tag("t")
    put_back(document, saved)
    b.invalidate_tag("another")
    a.start()
    later(time)
    assert a.ask(origin, "question", tags=["t"])[0] == 2


def test_who_comes_from_another_tier_may_set_at_once(team):
    """A value is set in a tier whose keyset is another than the one here, without a look-up before it."""
    team.machine("a").cache.set("k", "elsewhere")
    team.machines.pop().cache.close()
    team.server = MemoryServer()
    b = team.machine("b")
    b.cache.set("theirs", 1)
    b.told()
    a = team.machine("a")
    a.cache.set("k", "here")
    a.told()
    b.sees()
    assert (b.cache.get("k"), b.cache.get("theirs"), a.cache.get("theirs")) == ("here", 1, 1)


def test_what_was_born_under_a_document_that_is_gone(machine, document, time):
    """An invalidation names it too, also one that only waits to be published."""
    origin = Origin()
    a, b = machine("a"), machine("b")
    b.look()
    saved = document.load()
    a.invalidate_tag("another")
    a.ask(origin, "question", tags=["t"])
    assert a.tell()
    time.now_s += 0.001
    put_back(document, saved)
    assert b.ask(origin, "question", tags=["t"])[0] == 1
    b.network.is_cut = True
    b.invalidate_tag("t")
    assert b.ask(origin, "question", tags=["t"])[0] == 2
    b.network.is_cut = False
    assert b.tell()
    later(time)
    assert b.ask(origin, "question", tags=["t"])[0] == 3


def test_one_new_root_for_a_lost_document(machine, shared, document, time):
    """Whoever notices first makes it, above all that others have seen, so that they need no further one."""
    origin = Origin()
    lagging, ahead, other = machine("lagging", DAY_S), machine("ahead", -DAY_S), machine("other")
    lagging.ask(origin, "question")
    for _ in range(20):
        ahead.invalidate_tag("t")
    later(time)
    shared.lose(GENERATIONS)
    lagging.ask(origin, "question")
    assert lagging.tell()
    made = document.load()
    for machine_ in (ahead, other):
        number, record = machine_.ask(origin, "question")
        assert (number, record.outcome) == (2, Outcome.HIT)
    assert document.load() == made


def test_a_machine_that_began_without_the_tier_disturbs_nobody(machine, document, time):
    """What it goes by meanwhile never becomes the team's, and does not count as seen."""
    origin = Origin()
    a = machine("a")
    a.ask(origin, "question")
    assert a.tell()
    made = document.load()
    b = machine("b", DAY_S)
    b.network.is_cut = True
    assert b.ask(origin, "another")[1].stored
    assert b.ask(origin, "another")[1].outcome is Outcome.HIT
    b.start()
    assert b.ask(origin, "another")[0] == origin.answers
    b.network.is_cut = False
    later(time)
    assert b.ask(origin, "question")[0] == 1
    assert b.tell()
    assert document.load() == made


ID, OTHER = "0" * 64, "1" * 64
BASE = Generations(b"r" * 16, 5, 0, {b"t" * 16: 3}, {})


@pytest.mark.parametrize(
    ("later_one", "is_kept"),
    [
        (BASE, True),
        (BASE.invalidating_tags([b"u" * 16]), True),
        (BASE.invalidating_tags([b"t" * 16]), True),
        (BASE.invalidating_entries([ID], now_ms=1), True),
        (BASE.cleared(b"s" * 16), True),
        (Generations(b"r" * 16, 9, 9), True),
        (Generations(b"r" * 16, 9, 0), False),
        (Generations(b"r" * 16, 9, 0, {b"t" * 16: 2}), False),
        (Generations(b"s" * 16, 9, 0), False),
        (Generations(b"s" * 16, 9, 5), True),
    ],
)
def test_what_a_document_that_grew_out_of_another_keeps(later_one, is_kept):
    """All that was invalid is so for ever: by its record, by a floor that rose, or by a new root with its floor."""
    assert later_one.keeps(BASE) is is_kept


def test_records_of_entries_are_kept_for_a_day():
    """Who drops one that has lived its time adds one of that moment."""
    before = BASE.invalidating_entries([ID], now_ms=0)
    assert not BASE.keeps(before)
    outlived = before.invalidating_entries([OTHER], now_ms=int(DAY_S * 1000), outlived=[ID])
    assert ID not in outlived.entries
    assert outlived.keeps(before)
