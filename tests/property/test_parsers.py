"""No bytes make a parser raise anything but what it promises."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated, random_edits
from parsers import parsers

PARSERS = parsers()
edits = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1 << 16), st.integers(0, 2**32 - 1)), min_size=1, max_size=5
)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_examples_are_read(parser):
    """What is changed below is read as it is, but for what is refused on purpose."""
    taken = 0
    for seed in parser.seeds:
        try:
            parser.parse(seed)
            taken += 1
        except parser.refusals:
            pass
    assert taken


def is_refused_or_read(parser, blob):
    """Any exception but those promised is a failure of the test."""
    try:
        parser.parse(blob)
    except parser.refusals as refusal:
        return bool(str(refusal))
    return True


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_changed_examples_are_read_or_refused(parser):
    """Examples with bits, lengths and values changed, the same ones each time."""
    chance = random.Random(parser.name)
    for _ in range(150):
        blob = mutated(chance.choice(parser.seeds), random_edits(chance))
        assert is_refused_or_read(parser, blob), blob


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(parser=st.sampled_from(PARSERS), data=st.data())
def test_noise_and_changed_examples_are_read_or_refused(parser, data):
    """The same with other ones each time, and with bytes that were never anything."""
    changed = st.builds(mutated, st.sampled_from(parser.seeds), edits)
    assert is_refused_or_read(parser, data.draw(changed | st.binary(max_size=200), label="bytes"))
