"""A minute without the tier, in simulated time: invalidations are told first, and what is still valid soon after."""

from __future__ import annotations

import pytest
from machines import Origin
from simulated import SharedMemory, machine_in_time, passing_time  # noqa: F401 - fixtures

from genai_cache_magic.events import Outcome

OUTAGE_S = 60.0
WRITES = 500
INVALIDATIONS = 20


class Watched(SharedMemory):
    """A tier that notes in which order it is written to."""

    def __init__(self, time):
        super().__init__(time)
        self.log = []

    def tier(self, name):
        tier = super().tier(name)
        document, store = tier.document, tier.store

        def logged(put):
            def logged_put(*args, **more):
                self.log.append("entry")
                return put(*args, **more)

            return logged_put

        def logged_document(name):
            found = document(name)
            replace = found.replace

            def logged_replace(new, *, expected):
                self.log.append("document")
                return replace(new, expected=expected)

            found.replace = logged_replace
            return found

        tier.document = logged_document
        for put in ("put_if", "put_many_if"):
            if hasattr(store, put):
                setattr(store, put, logged(getattr(store, put)))
        return tier


@pytest.fixture
def shared(time):
    return Watched(time)


def test_an_outage_of_a_minute(machine, shared, time):
    """500 writes, 20 invalidations and killed kernels: all invalidations first, every valid write, none resurrected."""
    origin = Origin()
    a, b = machine("a"), machine("b")
    tags = [f"tag {number}" for number in range(INVALIDATIONS)]
    for number, tag in enumerate(tags):
        a.ask(origin, f"before {number}", tags=[tag])
    assert a.tell()
    for number in range(INVALIDATIONS):
        assert b.ask(origin, f"before {number}")[1].outcome is Outcome.HIT
    a.network.is_cut = True
    # Before the first of its invalidations waits: what is asked for while one waits is answered, and not kept.
    kept, dropped = [], []
    for number in range(WRITES):
        time.now_s += OUTAGE_S / WRITES
        tag = tags[number % INVALIDATIONS] if number % 10 == 0 else "none"
        _, record = a.ask(origin, f"meanwhile {number}", tags=[tag])
        assert record.stored
        (dropped if number % 10 == 0 else kept).append(number)
        if number % 100 == 50:
            a.start()
    for number, tag in enumerate(tags):
        a.invalidate_tag(tag)
        if number == INVALIDATIONS // 2:
            a.start()
    for number in range(INVALIDATIONS):
        text = f"before {number}"
        assert a.ask(origin, text, tags=[tags[number]])[0] == origin.answers
    a.start()
    shared.log.clear()
    a.network.is_cut = False
    assert a.tell()
    told = shared.log.index("entry")
    assert set(shared.log[:told]) == {"document"}
    assert "document" not in shared.log[told:]
    time.now_s += 6
    asked = origin.answers
    assert all(b.ask(origin, f"meanwhile {number}")[1].outcome is Outcome.HIT for number in kept)
    assert origin.answers == asked
    assert all(b.ask(origin, f"meanwhile {number}")[0] > asked for number in dropped)
    assert all(b.ask(origin, f"before {number}")[0] > asked for number in range(INVALIDATIONS))
