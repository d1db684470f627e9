"""Who waits for the permit to ask the model, the permits of two processes of a machine, and leases of a team."""

from __future__ import annotations

import threading

import pytest

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.permits import Permits
from genai_cache_magic.stores.disk.locks import KeyLocks
from genai_cache_magic.testing.contracts.store import key_of

A = EntryId(key_of("a"))


class Waiter:
    """Who takes a permit and waits for it."""

    def __init__(self, *, is_wanted=True):
        self.permit = None
        self._is_wanted = is_wanted
        self._is_there = threading.Event()

    def __call__(self, permit):
        self.permit = permit
        self._is_there.set()
        return self._is_wanted

    def wait(self):
        assert self._is_there.wait(30)
        return self.permit

    @property
    def is_there(self):
        return self._is_there.is_set()


class Leases:
    """Leases that everybody gets, and who gave them back."""

    def __init__(self):
        self.given_back = []

    def try_take(self, _key, *, life_s):
        del life_s
        return b"token"

    def extend_many(self, held, *, life_s):
        del life_s
        return set(held)

    def release(self, key, _token):
        self.given_back.append(key)
        return True


@pytest.fixture(name="mine")
def permits_of_mine(tmp_path):
    return Permits(KeyLocks(tmp_path))


@pytest.fixture(name="theirs")
def permits_of_theirs(tmp_path):
    """The permits of another process: each object has locks of its own."""
    return Permits(KeyLocks(tmp_path))
