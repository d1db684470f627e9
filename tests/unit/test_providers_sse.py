"""Event streams: any line ends, comments, and where a recording is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.providers.formats.sse import Event, blocks, events


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_line_ends(eol):
    """LF, CR LF and CR end lines alike."""
    recording = b"event: a|data: 1||data:2|data: 3|||: note||data||".replace(b"|", eol)
    assert list(events(recording)) == [Event(b"a", b"1"), Event(b"", b"2\n3"), Event(b"", b"")]


def test_crlf_is_one_line_end():
    """A CR LF in the middle of an event is no blank line."""
    assert list(events(b"event: a\r\ndata: 1\r\n\r\n")) == [Event(b"a", b"1")]


def test_byte_order_mark_and_leading_lines():
    """A byte order mark and blank lines before the first event are skipped."""
    assert list(events(b"\xef\xbb\xbfdata: 1\n\n")) == [Event(b"", b"1")]
    assert list(events(b"\n\ndata: 1\n\n")) == [Event(b"", b"1")]


def test_comments_and_other_fields_are_ignored():
    """Keep-alives, ids and retry times are no events."""
    assert list(events(b": ping\n\nid: 1\nretry: 5\n\n:\n: x\ndata: 1\nid: 2\n\n")) == [Event(b"", b"1")]


def test_only_one_space_is_taken_off():
    """A value keeps its own white space."""
    assert list(events(b"data:  x \n\n")) == [Event(b"", b" x ")]


def test_unfinished_event_is_none():
    """What a recording cuts off is not an event, except the closing word that nothing can follow."""
    assert list(events(b"data: 1\n\ndata: 2\n")) == [Event(b"", b"1")]
    assert list(events(b"data: 1\n\ndata: 2")) == [Event(b"", b"1")]
    assert list(events(b"data: 1\n\ndata: [DONE]")) == [Event(b"", b"1"), Event(b"", b"[DONE]")]


lines = st.sampled_from([b"data: x", b"event: y", b": c", b"", b"data", b"\xef\xbb\xbf"])
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(lines, ends), max_size=12))
def test_blocks_add_up_to_the_recording(parts):
    """Splitting loses no byte, whatever the line ends."""
    recording = b"".join(line + end for line, end in parts)
    assert b"".join(blocks(recording)) == recording


@given(st.lists(st.lists(st.sampled_from([b"data: x", b"event: y", b": c"]), min_size=1, max_size=3), max_size=5), ends)
def test_line_ends_do_not_change_the_events(made, end):
    """The same events come out of every kind of line end."""
    plain = b"".join(b"".join(line + b"\n" for line in block) + b"\n" for block in made)
    assert list(events(plain.replace(b"\n", end))) == list(events(plain))


@given(st.lists(st.sampled_from([b"", b"data: x", b": c"]), max_size=9), ends, st.booleans())
def test_a_run_of_blank_lines_ends_one_block(made, end, is_cut):
    """However many blank lines there are, and of whatever kind alone, each run of them belongs to the block before."""
    recording = end.join(made) + (b"" if is_cut else end)
    whole = re.findall(rb"(?s).*?(?>\r\n|\n|\r)(?>\r\n|\n|\r)+|.+", recording)
    assert list(blocks(recording)) == whole
