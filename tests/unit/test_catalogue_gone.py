"""Why an answer that was there is not given: expired, invalidated, evicted; and which of those that are is nearest."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from listed_entries import DAY_S, asking_cell, later, listed_cache  # noqa: F401 - fixtures

from genai_cache_magic.core.model import Entry, EntryId, Metadata, Response
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome


def test_an_expired_answer_is_called_so(ask, monkeypatch):
    """Its outcome is stale, with the day on which it expired, whether the entry is still at rest or not."""
    ask("a", ttl="1d")
    expires = datetime.fromtimestamp(ask.cache()._entries.now_ms() / 1000 + DAY_S, UTC)
    later(ask.cache(), monkeypatch, DAY_S + 1)
    told = f"expired on {expires:%Y-%m-%d}"
    with pytest.raises(ReplayMiss, match=told) as caught:
        ask("a", mode="replay")
    assert "differs" not in str(caught.value)
    ask.cache()._entries.store.delete(next(iter(ask.cache()._entries.store.scan())))
    cell = ask("a")
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.STALE, told)]
    (explained,) = ask.cache().explain(cell)
    assert (explained.reason, explained.differs) == (told, ())


def test_too_old_for_this_caller_is_expired_on_its_own_day(ask, monkeypatch):
    """A shorter life that the caller asks for has its own end."""
    ask("a")
    fetched = datetime.fromtimestamp(ask.cache()._entries.now_ms() / 1000, UTC)
    later(ask.cache(), monkeypatch, 3 * DAY_S)
    (call,) = ask("a", ttl="1h").calls
    assert call.reason == f"expired on {datetime.fromtimestamp(fetched.timestamp() + 3600, UTC):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("invalidate", "words"),
    [
        (lambda cache: cache.invalidate_tag("t"), "invalidated by tag t"),
        (lambda cache: cache.invalidate_tag("sweep", kind="run"), "invalidated by run sweep"),
        (lambda cache: cache.invalidate_tag("gpt-4.1-mini", kind="model"), "invalidated by model gpt-4.1-mini"),
        (lambda cache: cache.invalidate_tag("tester", kind="person"), "invalidated by person"),
        (lambda cache: cache.invalidate("gpt-*"), "invalidated by itself, or refreshed away"),
        (lambda cache: cache.clear(), "cleared"),
    ],
)
@pytest.mark.parametrize("is_swept", [True, False])
def test_an_invalidated_answer_is_called_so(ask, invalidate, words, is_swept):
    """Its outcome is stale and names what invalidated it, in the cell, in `ReplayMiss` and in `explain`."""
    ask("another", temperature=0.9)
    ask("a", tags=("t",), run="sweep")
    if not is_swept:
        ask.cache().catalogue.sweeper._stopping.set()
    invalidate(ask.cache())
    ask.cache().catalogue.sweeper.wait()
    with pytest.raises(ReplayMiss) as caught:
        ask("a", mode="replay", tags=("t",), run="sweep")
    assert f": {words}. Mode replay" in str(caught.value)
    cell = ask("a", tags=("t",), run="sweep")
    assert [(call.outcome, call.reason, call.stored) for call in cell.calls] == [(Outcome.STALE, words, True)]
    (explained,) = ask.cache().explain(cell)
    assert (explained.reason, explained.differs) == (words, ())


def test_a_tag_that_only_the_caller_names_is_named(ask):
    """An entry without the tag is out of date for a scope that names it."""
    ask("a")
    ask.cache().invalidate_tag("mine")
    assert ask("a").hits == 1
    (call,) = ask("a", tags=("mine",)).calls
    assert (call.outcome, call.reason) == (Outcome.STALE, "invalidated by tag mine")


def test_stale_is_said_where_nothing_may_be_stored(ask, monkeypatch):
    """What had expired is stale in mode `read` too."""
    ask("a", ttl="1d")
    later(ask.cache(), monkeypatch, DAY_S + 1)
    (call,) = ask("a", mode="read").calls
    assert call.outcome is Outcome.STALE
    assert call.reason.startswith("expired on ")


def test_what_was_stored_by_a_clock_ahead_is_called_so(ask, monkeypatch):
    """A clock that was set right makes what is from after it a miss, and room has nothing to do with that."""
    now_s = time.time()
    later(ask.cache(), monkeypatch, 2 * DAY_S)
    ask("a")
    later(ask.cache(), monkeypatch, -2 * DAY_S)
    store = ask.cache()._entries.store
    monkeypatch.setattr(store, "get", lambda _: None)  # as a disk's store does with what is from after its own clock
    (call,) = ask("a", mode="read").calls
    day = f"{datetime.fromtimestamp(now_s, UTC) + timedelta(days=2):%Y-%m-%d}"
    said = f"stored on {day}, when this machine's clock was ahead of what it says now; mode read stores nothing"
    assert (call.outcome, call.reason) == (Outcome.STALE, said)


def test_what_made_room_is_called_so(ask):
    """An evicted answer is a miss that says why."""
    ask("a")
    ask.cache()._entries.store.delete(next(iter(ask.cache()._entries.store.scan())))
    (call,) = ask("a").calls
    assert (call.outcome, call.reason) == (Outcome.MISS, "evicted to make room (size_limit says how much there is)")


def test_nearest_prefers_the_cell_and_finds_the_rare(cache):
    """Among hundreds that share only what all share, the one that shares a rare part is found, however old it is."""
    keys = cache._keys

    def metadata(question, temperature, cell=""):
        parts = {
            "surface": "s",
            "body.messages": question,
            "body.messages[0]": question,
            "body.temperature": temperature,
        }
        digests = {name: f"{hash((name, part)) & (2**64 - 1):016x}" for name, part in parts.items()}
        return Metadata(surface="s", model="m", cell=cell, components=digests)

    def store(number, own):
        tags = [keys.tag("cell", own.cell)] if own.cell else []
        header = cache._entries.header(cache._entries.stamp(), ttl_s=DAY_S, tags=tags)
        cache._entries.fill(EntryId(f"{number:064x}"), Entry(header, own, Response(200, (), b"")))

    store(1, metadata("rare", 1))
    for number in range(2, 600):
        store(number, metadata(f"q{number}", 0))
    own = metadata("rare", 0)
    assert cache.catalogue.nearest(own) == metadata("rare", 1)
    store(700, metadata("elsewhere", 5, cell="c"))
    assert cache.catalogue.nearest(metadata("rare", 0, cell="c")) == metadata("elsewhere", 5, cell="c")
    assert cache.catalogue.nearest(metadata("rare", 0, cell="c"), beside=EntryId(f"{700:064x}")) == metadata("rare", 1)
    cache._entries.delete([EntryId(f"{1:064x}")])
    assert cache.catalogue.nearest(own) != metadata("rare", 1)
    assert cache.catalogue.nearest(Metadata()) is None


def test_long_gone_rows_are_forgotten(cache, monkeypatch):
    """Of what is gone, only so much is remembered as explains anything."""
    monkeypatch.setattr("genai_cache_magic.entries.rows._KEPT_GONE", 3)
    for number in range(6):
        cache.set(f"k{number}", number)
    cache.clear()
    cache.catalogue.sweeper.wait()
    kept = [cache.catalogue.rows.find(cache._value_id(f"k{number}")) for number in range(6)]
    assert [row and row.gone for row in kept] == [None, None, None, *[Gone.INVALIDATED] * 3]
