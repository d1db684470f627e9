"""Generation documents: validity, caps, and their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from genai_cache_magic.core import validity
from genai_cache_magic.core.model import EntryId, Header, Stamp
from genai_cache_magic.core.validity import (
    PRUNED,
    UNPUBLISHED_VER,
    Change,
    EntryRecord,
    Generations,
    decode_generations,
)
from genai_cache_magic.errors import EntryUndecodable

IDS = [EntryId(f"{n:064x}") for n in range(3)]
TAGS = [bytes([n]) * 16 for n in range(3)]


class Invalidation(RuleBasedStateMachine):
    """The document against a plain model: an entry is valid iff nothing hit it since its call began."""

    @initialize()
    def begin(self):
        self.document = Generations(b"0" * 16)
        self.roots = 0
        self.entries: list[tuple[EntryId, Header, list[bool]]] = []
        self.calls: list[tuple[EntryId, Stamp, tuple[bytes, ...], list[bool]]] = []

    @rule(entry_id=st.sampled_from(IDS), tags=st.sets(st.sampled_from(TAGS)))
    def ask(self, entry_id, tags):
        self.calls.append((entry_id, self.document.stamp, tuple(sorted(tags)), [True]))

    @rule()
    def answer(self):
        if self.calls:
            entry_id, stamp, tags, alive = self.calls.pop(0)
            self.entries.append((entry_id, Header(stamp, 0, 1, tags), alive))

    @rule(tag=st.sampled_from(TAGS))
    def invalidate_tag(self, tag):
        self.document = self.document.invalidating_tags([tag])
        self._hit(lambda _, tags: tag in tags)

    @rule(entry_id=st.sampled_from(IDS))
    def invalidate_entry(self, entry_id):
        self.document = self.document.invalidating_entries([entry_id], now_ms=0)
        self._hit(lambda other, _: other == entry_id)

    @rule()
    def clear(self):
        self.roots += 1
        self.document = self.document.cleared(self.roots.to_bytes(16))
        self._hit(lambda *_: True)

    @rule()
    def reread(self):
        self.document = decode_generations(self.document.encode())

    def _hit(self, is_meant):
        for entry_id, header, alive in self.entries:
            alive[0] &= not is_meant(entry_id, header.tags)
        for entry_id, _, tags, alive in self.calls:
            alive[0] &= not is_meant(entry_id, tags)

    @invariant()
    def agrees(self):
        for entry_id, header, alive in getattr(self, "entries", ()):
            assert self.document.is_valid(entry_id, header) == alive[0]


Invalidation.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestInvalidation = Invalidation.TestCase


def test_a_tag_of_the_callers_scope_counts_too():
    """An entry stored without a tag is not served in a scope whose tag was invalidated since."""
    document = Generations(b"r" * 16)
    header = Header(document.stamp, 0, 1)
    document = document.invalidating_tags([TAGS[0]])
    assert document.is_valid(IDS[0], header)
    assert not document.is_valid(IDS[0], header, [TAGS[0]])


def test_ver_rises_across_roots():
    """Clearing does not turn the counter back."""
    document = Generations(b"r" * 16, ver=41)
    assert document.cleared(b"s" * 16).ver == 42


def test_a_clearing_that_is_published_again_revives_nothing():
    """Neither at once, by who was killed before it noted that it had been told, nor after another clearing."""
    change = Change(1, new_root=b"r" * 16)
    first = change.apply(Generations(b"a" * 16))
    born = Header(first.stamp, 0, 60, (b"t" * 16,))
    assert first.is_valid(IDS[0], born)
    assert not change.apply(first.invalidating_tags([b"t" * 16])).is_valid(IDS[0], born)
    assert not change.apply(first.invalidating_entries([IDS[0]], now_ms=0)).is_valid(IDS[0], born)
    assert change.apply(first) is first
    again = change.apply(first.cleared(b"s" * 16))
    assert not again.is_valid(IDS[0], born)
    assert again.is_valid(IDS[0], Header(again.stamp, 0, 60, ()))


@pytest.mark.parametrize("kind", ["tags", "entries"])
def test_at_the_cap_a_floor_rises_and_nothing_stale_is_served(kind, monkeypatch):
    """Too many records make more misses, never a stale hit."""
    monkeypatch.setattr(validity, "MAX_TAG_RECORDS", 2)
    monkeypatch.setattr(validity, "MAX_ENTRY_RECORDS", 2)
    document = Generations(b"r" * 16)
    header = Header(document.stamp, 0, 1, (TAGS[0],))
    for n in range(3):
        document = (
            document.invalidating_tags([TAGS[n]])
            if kind == "tags"
            else document.invalidating_entries([IDS[n]], now_ms=0)
        )
    assert document.floor == document.ver
    assert len(document.tags) + len(document.entries) == 0
    assert not document.is_valid(IDS[0], header)
    assert document.is_valid(IDS[0], Header(document.stamp, 0, 1, (TAGS[0],)))


def test_entry_records_go_after_a_day():
    """Records of single entries live 24 h, and longer while something depends on them."""
    day_ms = validity.ENTRY_RECORD_LIFE_MS
    document = Generations(b"r" * 16).invalidating_entries([IDS[0]], now_ms=0)
    assert set(document.due(now_ms=day_ms - 1)) == set()
    assert set(document.due(now_ms=day_ms)) == {IDS[0]}
    assert set(document.invalidating_entries([IDS[1]], now_ms=day_ms).entries) == {IDS[0], IDS[1]}
    later = document.invalidating_entries([IDS[1]], now_ms=day_ms, outlived=IDS)
    assert set(later.entries) == {IDS[1], PRUNED}
    assert later.has_forgotten(Generations(b"r" * 16))
    assert not later.has_forgotten(document)
    assert set(document.invalidating_entries([IDS[1]], now_ms=day_ms - 1, outlived=IDS).entries) == {IDS[0], IDS[1]}


generations = st.builds(
    Generations,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.sampled_from(TAGS), st.integers(0, 2**64 - 1)),
    st.dictionaries(st.sampled_from(IDS), st.builds(EntryRecord, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))),
)


@given(generations)
def test_document_round_trip(document):
    """A document comes back from its bytes as it was."""
    assert decode_generations(document.encode()) == document


def test_cut_or_foreign_documents_are_refused():
    """What is not whole is not a document."""
    blob = Generations(b"r" * 16).invalidating_tags([TAGS[0]]).invalidating_entries([IDS[0]], now_ms=1).encode()
    for length in range(len(blob)):
        with pytest.raises(EntryUndecodable):
            decode_generations(blob[:length])
    for bad in (blob + b"\0", b"XXXX" + blob[4:], blob[:4] + b"\x02" + blob[5:]):
        with pytest.raises(EntryUndecodable):
            decode_generations(bad)


def test_what_is_not_published_is_no_state_of_the_document():
    """However many changes wait: nobody may take their counters for one that a sweep has dealt with."""
    document = Generations(bytes(16), 7, 0)
    assert document.published == document.stamp
    waiting = Generations(bytes(16), UNPUBLISHED_VER, 0)
    for number in range(3):
        assert waiting.published is None
        waiting = Change(number, tags=frozenset({bytes([number])})).apply(waiting)
    assert waiting.published is None
