"""Which rule would join two requests, from the requests or from what was kept of them."""

from __future__ import annotations

import hashlib

import pytest

from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.ignoring import ignoring
from genai_cache_magic.core.model import KeySpace, Request
from genai_cache_magic.core.noise import MOST_CHARS, joining, joining_keys, without_noise

SPACE = KeySpace("team", "salt", 2)
NOISE = {
    "memory-address": ("<A object at 0x7f3a5c0b1d90>", "<A object at 0x7f3a5c0b1e40>"),
    "temp-path": ("/tmp/tmpk3j9x_2q/a.csv", "/tmp/tmpzzzzzzzz/a.csv"),
    "iso-time": ("2026-05-31T09:30:00.5", "2026-06-01T10:00:00"),
    "uuid": ("6fa459ea-ee8a-4ca4-894e-db77e160355e", "00000000-1111-2222-3333-444444444444"),
    "ipykernel": ("In [3]", "In [12]"),
}


def identify(data):
    return hashlib.sha256(data).hexdigest()


def asked(text, **more):
    return {"messages": [{"role": "user", "content": f"Look at {text} now"}], **more}


def kept(body, **more):
    return without_noise(Request("s", "o", "m", body, **more), SPACE, identify)


@pytest.mark.parametrize("rule", NOISE)
def test_the_rule_is_found_that_joins_two_requests(rule):
    """From what both say, and from what was kept of each."""
    one, other = map(asked, NOISE[rule])
    assert joining(one, other) == (rule,)
    assert joining_keys(kept(one), kept(other)) == (rule,)


def test_as_few_rules_are_found_as_will_do():
    """Two where it takes two, and not one more."""
    one = asked(" ".join((NOISE["uuid"][0], NOISE["iso-time"][0], NOISE["temp-path"][0])))
    other = asked(" ".join((NOISE["uuid"][1], NOISE["iso-time"][1], NOISE["temp-path"][0])))
    assert joining(one, other) == ("iso-time", "uuid")
    assert joining_keys(kept(one), kept(other)) == ("iso-time", "uuid")


@pytest.mark.parametrize(
    "other",
    [
        asked("0x7f3a5c0b1e40 and more"),
        asked("<B object at 0x7f3a5c0b1e40>"),
        asked("<A object at 0x7f3a5c0b1e40>", temperature=0),
        {**asked("<A object at 0x7f3a5c0b1e40>"), "messages": []},
    ],
)
def test_no_rule_is_proposed_where_more_than_noise_differs(other):
    """A rule that would not help is not named."""
    one = asked(NOISE["memory-address"][0])
    assert joining(one, other) == ()
    assert joining_keys(kept(one), kept(other)) == ()


def test_equal_requests_need_no_rule():
    """Nothing differs."""
    assert joining(asked("x"), asked("x")) == ()


def test_a_note_about_the_call_is_proposed_as_a_path():
    """A field that is named like one; never one that decides the answer."""
    assert joining(asked("x", metadata={"run_id": 1}), asked("x", metadata={"run_id": "b"})) == ("$.metadata.run_id",)
    both = asked(NOISE["uuid"][0], metadata={"traceId": "a"}), asked(NOISE["uuid"][1], metadata={"traceId": "b"})
    assert joining(*both) == ("uuid", "$.metadata.traceId")
    assert joining(asked("x", temperature=0), asked("x", temperature=1)) == ()
    assert joining(asked("x", seed=0), asked("x", seed=1)) == ()
    assert joining(asked("x"), asked("y")) == ()


def test_what_is_kept_is_the_key_that_the_rule_would_give():
    """So a call with that rule is found by it."""
    request = Request("s", "o", "m", asked(NOISE["uuid"][0]))
    assert kept(request.body) == {"uuid": identify(canonical_bytes(ignoring(request, ("uuid",)), SPACE))[:16]}


def test_nothing_is_kept_of_a_request_without_noise():
    """Most have none, and none of a very long one is looked for."""
    assert kept(asked("the weather")) == {}
    assert kept(asked(NOISE["uuid"][0] + "x" * MOST_CHARS)) == {}


def test_rules_in_force_stay_in_force():
    """What is kept under some rules is compared with what is kept under the same."""
    one, other = (
        without_noise(ignoring(Request("s", "o", "m", asked(text)), ("iso-time",)), SPACE, identify)
        for text in NOISE["uuid"]
    )
    assert joining_keys(one, other) == ("uuid",)
    assert joining_keys(one, kept(asked(NOISE["uuid"][1]))) == ()
