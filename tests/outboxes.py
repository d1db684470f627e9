"""A queue of what a team is still to be told, and a team that takes note of it."""

from __future__ import annotations

import threading

import pytest

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.errors import PartUnavailable, StoreUnavailable
from genai_cache_magic.testing.contracts.store import key_of

A, B = EntryId(key_of("a")), EntryId(key_of("b"))
TAG = bytes(range(16))


class FakeTeam:
    """Takes note of what it is told, and can be away."""

    def __init__(self):
        self.told = []
        self.rounds = 0
        self.is_away = False
        self.undecodable = set()
        self.refused = set()
        self.late = set()
        self.late_values = set()
        self.outbox = None
        self.heard = threading.Semaphore(0)

    def publish(self, changes):
        self._reach()
        self.told.append(tuple(changes))
        self.heard.release()

    def settle(self, values, own_changes):
        self._reach()
        if self.late_values.intersection(value.entry_id for value in values):
            raise PartUnavailable("late")
        self.told += [value.entry_id for value in values]
        self.outbox.settle_values(values, {})

    def fill(self, waiting):
        self._reach()
        envelopes = [one.envelope for one in waiting if one.envelope not in self.undecodable]
        if self.refused.intersection(envelopes):
            raise StoreUnavailable("refused")
        if self.late.intersection(envelopes):
            raise PartUnavailable("late")
        self.rounds += 1
        self.told += envelopes
        self.heard.release(max(1, len(envelopes)))

    def _reach(self):
        if self.is_away:
            raise StoreUnavailable("away")


@pytest.fixture(name="outbox")
def empty_outbox(tmp_path):
    outbox = Outbox(tmp_path / "outbox.db")
    yield outbox
    outbox.close()


@pytest.fixture(name="team")
def team_that_notes():
    return FakeTeam()
