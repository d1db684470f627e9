"""The two decisions of the core, exhaustively."""

from __future__ import annotations

import pytest

from genai_cache_magic.core.model import Header, Stamp
from genai_cache_magic.core.policy import STORE_KINDS, Fetch, Refuse, Serve, Store, Why, admissible, decide
from genai_cache_magic.providers.base import End

HEADER = Header(Stamp(bytes(16), 1), created_ms=1_000_000, ttl_s=100)


@pytest.mark.parametrize(
    ("age_s", "caller_ttl_s", "expected"),
    [
        (0, None, Serve()),
        (99.999, None, Serve()),
        (100, None, Fetch(Why.EXPIRED)),
        (50, 60, Serve()),
        (50, 50, Fetch(Why.EXPIRED)),
        (150, 1000, Fetch(Why.EXPIRED)),
        (-50, None, Serve()),
    ],
)
def test_served_iff_younger_than_both_times_to_live(age_s, caller_ttl_s, expected):
    """Age must be below the entry's own and the caller's explicit time to live."""
    now_ms = int(1_000_000 + age_s * 1000)
    assert decide(HEADER, is_valid=True, now_ms=now_ms, ttl_s=caller_ttl_s) == expected


def test_invalidated_is_never_served():
    """Validity comes before age."""
    assert decide(HEADER, is_valid=False, now_ms=1_000_000, ttl_s=None) == Fetch(Why.INVALIDATED)


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("wanted", [(), STORE_KINDS])
def test_admission_by_ending(end, wanted):
    """Only complete answers and tool calls are stored; four kinds on request; the rest never."""
    allowed = {End.COMPLETE, End.TOOL_CALLS} | ({End.TRUNCATED, End.FILTERED, End.REFUSAL} if wanted else set())
    expected = Store() if end in allowed else Refuse(end.value)
    assert admissible(end, (), wanted) == expected


@pytest.mark.parametrize("reason", ["stateful", "server-tools"])
def test_what_is_refused_before_the_call(reason):
    """Stateful calls are never stored, server-side tools only on request."""
    assert admissible(End.COMPLETE, (reason,), ()) == Refuse(reason)
    stored = admissible(End.COMPLETE, (reason,), (reason,))
    assert stored == (Store() if reason == "server-tools" else Refuse("stateful"))


def test_a_wanted_kind_does_not_admit_another():
    """Asking for truncated answers admits no refusals."""
    assert admissible(End.REFUSAL, (), ("truncated",)) == Refuse("refusal")
