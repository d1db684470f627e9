"""The lines of a run file: read as they were written, and refused as a whole where one is not right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import (
    FILE,
    ask,
    made,
    origin_url,  # noqa: F401 - fixtures
    recorded,
)

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Request, Response
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.lines import (
    HEAD,
    CallName,
    RecordedCall,
    decode_file,
    decode_line,
    encode_file,
    encode_line,
)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


LINE = encode_line(made(1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no run file"),
        (b"hello\n", "no run file"),
        (HEAD.replace(b"1", b"2") + b"\n", "version 2"),
        (HEAD + b"\n" + LINE[:-20] + b"\n", "line 2"),
        (
            HEAD + b"\n" + LINE.replace(b"answer 1", b"answer 2") + b"\n",
            "line 2 can't be used, so none is: it was changed, or is cut short: take the file again",
        ),
        (HEAD + b"\n" + LINE + b"\n" + encode_line(made(1, "other")) + b"\n", "another line records the same call"),
        (
            HEAD + b"\n<<<<<<< HEAD\n" + LINE + b"\n",
            "line 2 can't be used, so none is: a merge has left it there",
        ),
        (b"\xef\xbb\xbf" + HEAD + b"\n", "save it as UTF-8 without one"),
        ((HEAD + b"\n").decode().encode("utf-16"), "save it as UTF-8 without one"),
    ],
    ids=["empty", "other", "newer", "cut", "edited", "twice", "conflict", "mark", "utf-16"],
)
def test_a_file_that_is_not_right_answers_nothing(url, unique_server, content, said):
    """All of it is checked before any of it is used: what is wrong is named, and no call is made."""
    Path("runs").mkdir()
    Path(FILE).write_bytes(content)
    for mode in ("use", "record", "replay"):
        with (
            pytest.raises(ConfigurationError, match=r"run file runs/sweep.jsonl") as caught,
            llm_cache(mode=mode, run_file=FILE),
        ):
            ask(url, "a")
        assert said in str(caught.value)
    assert unique_server.count == 0
    assert Path(FILE).read_bytes() == content


def test_ends_of_lines_may_be_those_of_windows(url, unique_server):
    """As git writes them there; what is recorded beside is a file as ever, and what was there answers."""
    first, _ = recorded(url, "a", "b")
    path, asked = Path(FILE), unique_server.count
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with llm_cache(mode="replay", run_file=FILE):
        assert [ask(url, text).id for text in ("a", "b")] == first
    before = path.read_bytes()
    recorded(url, "a")
    assert (path.read_bytes(), unique_server.count) == (before, asked)
    recorded(url, "c")
    assert b"\r" not in path.read_bytes()
    assert len(path.read_bytes().splitlines()) == 4


def rewritten(change):
    """Return a line that was changed by who can compute its check."""
    line = json.loads(LINE)
    del line["check"]
    change(line)
    from genai_cache_magic.core.canonical import dumps

    return dumps({**line, "check": hashlib.sha256(dumps(line)).hexdigest()})


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line["request"]["body"].update(n=2),
        lambda line: line.update(digest="0" * 64),
        lambda line: line.update(digest="no digest"),
        lambda line: line.update(sample=-1),
        lambda line: line.update(sample="0"),
        lambda line: line.update(answer=[]),
        lambda line: line["answer"].update(status=99),
        lambda line: line["answer"].update(form="html"),
        lambda line: line["answer"].update(headers=[["content-type", "a\r\nset-cookie: x"]]),
        lambda line: line["answer"].update(headers=[["a"]]),
        lambda line: line["answer"].update(headers="x"),
        lambda line: line["answer"].update(body=1),
        lambda line: line["answer"].update(body64="no base64 !"),
        lambda line: line.pop("model"),
    ],
)
def test_a_forged_line_is_refused(change):
    """Who writes a file can't make it answer another request than it shows, nor serve what is no answer."""
    with pytest.raises(ValueError, match=r"."):
        decode_line(rewritten(change))


def test_headers_of_a_file_are_few(tmp_path):
    """A file from elsewhere sets no cookie: only what tells content and price is served."""
    line = rewritten(lambda line: line["answer"].update(headers=[["set-cookie", "x"], ["Content-Type", "text/plain"]]))
    assert decode_line(line).response.headers == (("content-type", "text/plain"),)


@given(st.binary(max_size=200), st.sampled_from(Form), st.integers(0, 99), st.text(max_size=20))
def test_a_line_comes_back_as_it_went_in(body, form, sample, text):
    """Whatever bytes were answered, they are the same after; and the line itself is."""
    asked = portable_form(Request("s", "o", "m", {"t": text.encode("utf-8", "replace").decode()}))
    response = Response(200, (("content-type", "x"),), body, form)
    call = RecordedCall(CallName(portable_digest(asked), sample), "s", "m", response, "json", asked)
    line = encode_line(call)
    assert b"\n" not in line
    assert decode_line(line) == call
    assert encode_line(decode_line(line)) == line
    assert decode_file(encode_file([(call.name, line)])) == {call.name: line}


def test_a_loopback_origin_matches_whatever_the_machine_is_called():
    """Who names a file has chosen whose answers it holds; a socket's path is in none."""
    here = Request("s", "http://localhost:8000", "m", {}, machine="a", via=(("socket", "/home/ann/s"),))
    there = Request("s", "http://localhost:8000", "m", {}, machine="b", via=(("socket", "/home/ann/s"),))
    assert portable_form(here) == portable_form(there)
    assert "ann" not in repr(portable_form(here))
    other = Request("s", "http://localhost:8001", "m", {}, machine="a")
    assert portable_digest(portable_form(here)) != portable_digest(portable_form(other))
