"""Laws of canonical JSON: two encoders agree, it reads back as the same value, and different values differ."""

from __future__ import annotations

import contextlib
import json

from drawn_calls import normal, objects, values
from hypothesis import example, given
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import check_json, dumps, dumps_exactly, parse_body
from genai_cache_magic.errors import UncacheableRequest


@given(values)
@example({"a": [2**64, -0.0, 1e16, 1e-5, "\u2028\x7f\x00"]})
def test_the_two_encoders_agree(value):
    """The fast encoder and the reference write the same bytes for any JSON."""
    check_json(value)
    assert dumps(value) == dumps_exactly(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e16)
@example(9.999999999999999e15)
@example(9.5e-5)
@example(2.0**-1074)
def test_the_two_encoders_agree_on_floats(number):
    """Any double has one spelling, which reads back as itself."""
    assert dumps(number) == dumps_exactly(number)
    back = json.loads(dumps(number))
    assert (type(back), back.hex()) == (float, number.hex())


@given(objects)
def test_canonical_json_reads_back_as_the_same_value(value):
    """Spelling loses nothing, types included, so it is injective."""
    assert repr(normal(parse_body(dumps(value)))) == repr(normal(value))


@given(values, values)
def test_different_values_have_different_spellings(one, other):
    """Two values share their bytes only if they are the same value, types included."""
    assert (dumps(one) == dumps(other)) == (repr(normal(one)) == repr(normal(other)))


@given(objects, st.booleans(), st.sampled_from([None, 2]))
def test_spelling_of_the_body_does_not_matter(value, ascii_only, indent):
    """Escapes, white space and separators of the sender change nothing."""
    assert parse_body(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == parse_body(dumps(value))


@given(st.binary(max_size=200))
@example(b'{"a":1e999}')
@example(b'{"a":"\\ud800"}')
def test_any_bytes_are_read_or_refused(raw):
    """A body is an object or it is refused; nothing else can come of any bytes."""
    with contextlib.suppress(UncacheableRequest):
        assert type(parse_body(raw)) is dict
