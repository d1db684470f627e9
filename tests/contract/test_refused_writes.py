"""A tier that refuses to be written to: who is a reader by that, who is not, and what the breaker makes of it."""

from __future__ import annotations

import pytest

from genai_cache_magic.errors import StoreDenied, StoreUnavailable, WriteRefused
from genai_cache_magic.stores.base import Put
from genai_cache_magic.stores.breaker import Breaker, Circuit
from genai_cache_magic.stores.guarded import GuardedFillManyStore, GuardedStore, guarded_write
from genai_cache_magic.stores.rights import Rights

REMOVALS = {
    "delete": lambda store: store.delete(""),
    "put": lambda store: store.put("", b"", ttl_s=0),
    "put_if": lambda store: store.put_if("", b"", ttl_s=0, held=None),
    "put_many_if": lambda store: store.put_many_if([Put("", b"", 0)]),
}
WRITES = {
    "put": lambda store: store.put("", b"", ttl_s=1),
    "put_if": lambda store: store.put_if("", b"", ttl_s=1, held=None),
    "put_many_if": lambda store: store.put_many_if([Put("", b"", 0), Put("", b"", 1)]),
}


class Refusing:
    """A store that refuses to be written to, and perhaps to be read."""

    def __init__(self, *, reads=True):
        self.tried = 0
        self._reads = reads

    def get(self, key):
        if not self._reads:
            raise StoreDenied("wrong password")

    def put(self, key, blob, *, ttl_s):
        self.tried += 1
        raise StoreDenied("no right")

    def put_if(self, key, blob, *, ttl_s, held):
        self.put(key, blob, ttl_s=ttl_s)

    def put_many_if(self, puts):
        self.put("", b"", ttl_s=1)

    def delete(self, key):
        self.put(key, b"", ttl_s=0)


@pytest.mark.parametrize("how", REMOVALS.values(), ids=REMOVALS)
def test_a_removal_that_is_refused_makes_nobody_a_reader(how):
    """In whatever form it comes: who may write and not remove goes on writing."""
    store, told = Refusing(), []
    breaker = Breaker("x", rights=Rights("x", reads=lambda: store.get(""), tell=told.append))
    with pytest.raises(WriteRefused, match="lets us read and write"):
        how(GuardedFillManyStore(store, breaker))
    assert (breaker.rights.is_reader, breaker.state, told) == (False, Circuit.CLOSED, [])


@pytest.mark.parametrize("how", WRITES.values(), ids=WRITES)
def test_a_write_that_is_refused_makes_a_reader(how):
    """In whatever form it comes, and the next one is not tried."""
    store = Refusing()
    breaker = Breaker("x", rights=Rights("x", reads=lambda: store.get("")))
    guarded_store = GuardedFillManyStore(store, breaker)
    for _ in range(2):
        with pytest.raises(WriteRefused, match="is only read"):
            how(guarded_store)
    assert (store.tried, breaker.rights.is_reader) == (1, True)


def test_a_refused_write_leaves_the_breaker_closed_and_is_not_tried_again():
    """And is told once."""
    store, told = Refusing(), []
    breaker = Breaker("x", rights=Rights("x", reads=lambda: store.get(""), tell=told.append))
    guarded_store = GuardedStore(store, breaker)
    for _ in range(3):
        with pytest.raises(WriteRefused):
            guarded_store.put("", b"", ttl_s=1)
    assert (store.tried, breaker.state, len(told)) == (1, Circuit.CLOSED, 1)


def test_of_many_writes_at_once_one_tries_whether_it_may_again():
    """And none of a removal, nor of who says that it may only be read."""
    now = [0.0]
    rights = Rights("x", reads=lambda: None, clock=lambda: now[0])
    rights.refused(StoreDenied("no right"), is_decisive=True)
    now[0] = 61.0
    with pytest.raises(WriteRefused):
        rights.begin(is_decisive=False)
    rights.begin(is_decisive=True)
    with pytest.raises(WriteRefused):
        rights.begin(is_decisive=True)
    now[0] = 1e9
    with pytest.raises(WriteRefused):
        Rights("x", is_reader=True, clock=lambda: now[0]).begin(is_decisive=True)


def test_a_credential_that_reads_neither_opens_the_breaker():
    """It is the credential, and not a right that is missing."""
    store, told = Refusing(reads=False), []
    breaker = Breaker("x", rights=Rights("x", reads=lambda: store.get(""), tell=told.append))
    with pytest.raises(StoreDenied) as caught:
        GuardedStore(store, breaker).put("", b"", ttl_s=1)
    assert not isinstance(caught.value, WriteRefused)
    assert (breaker.state, told) == (Circuit.OPEN, [])


def test_a_probe_that_ends_in_a_refusal_of_our_own_leaves_the_next_one_to_others():
    """A reader's refusal, which asks nobody, is no sign that a tier answers again."""
    breaker = Breaker("x", rights=Rights("x", is_reader=True))
    breaker.trip(StoreUnavailable("away"))
    with pytest.raises(WriteRefused), guarded_write(breaker):
        raise AssertionError("it is asked")
    assert breaker.state is Circuit.OPEN
