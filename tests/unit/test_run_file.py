"""A run as a file: it answers first, is kept up to date, matches anywhere, and is used as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit import work_elsewhere

from genai_cache_magic import host, llm_cache
from genai_cache_magic.api.session import current_session, reset_session
from genai_cache_magic.core.model import Form, Request, Response
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.runs import run_file
from genai_cache_magic.runs.lines import (
    HEAD,
    CallName,
    RecordedCall,
    decode_file,
    decode_line,
    encode_file,
    encode_line,
)
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.stores.locks import lock_elsewhere
from genai_cache_magic.testing.model_server import Fault

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

FILE = "runs/sweep.jsonl"


def ask(url, text="hello", model="gpt-4.1-mini", **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=model, messages=messages, **more)


@pytest.fixture
def url(isolated, unique_server):
    return unique_server.openai_url


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Go on as another person, on another machine, with an empty cache and another key."""

    def move(name="colleague", **more):
        reset_session()
        monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / name))
        monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / name / ".." / f"{name}.key"))
        monkeypatch.setenv("GENAI_CACHE_MACHINE", name)
        monkeypatch.setenv("GENAI_CACHE_PERSON", name)
        for variable, value in more.items():
            monkeypatch.setenv(variable, value)

    return move


def outcomes(cell):
    return [(call.outcome.value, call.tier.value if call.tier else "") for call in cell.calls]


def recorded(url, *texts, file=FILE):
    with llm_cache(mode="record", run_file=file) as cell:
        return [ask(url, text).id for text in texts], cell


def test_a_colleague_replays_without_server_key_or_cloud(url, unique_server, elsewhere):
    """What one machine recorded another replays: the same answers, from the file, and nothing is asked."""
    first, _ = recorded(url, "a", "b")
    asked = unique_server.count
    elsewhere()
    with llm_cache(mode="replay", run_file=FILE) as cell:
        assert [ask(url, text).id for text in ("a", "b")] == first
    assert unique_server.count == asked
    assert outcomes(cell) == [("hit", "file")] * 2
    assert {call.reason for call in cell.calls} == {f"from {FILE}"}
    assert cell.spent_usd == 0


def test_what_a_file_answers_enters_no_cache(url, unique_server, elsewhere):
    """It answers where it was named; without it the model is asked."""
    recorded(url, "a")
    elsewhere()
    with llm_cache(run_file=FILE) as cell:
        ask(url, "a")
    assert outcomes(cell) == [("hit", "file")]
    assert current_session().cache("default").stats().entries == 0
    with llm_cache() as cell:
        ask(url, "a")
    assert outcomes(cell) == [("miss", "")]


def test_recording_again_changes_no_byte(url, elsewhere):
    """Neither from the file, nor from the cache, nor in another order; the file is not even touched."""
    recorded(url, "a", "b", "c")
    path = Path(FILE)
    before, state = path.read_bytes(), path.stat()
    recorded(url, "c", "a", "b")
    assert path.stat().st_mtime_ns == state.st_mtime_ns
    path.unlink()
    reset_session()
    _, cell = recorded(url, "c", "b", "a")
    assert outcomes(cell) == [("hit", "L1")] * 3
    assert path.read_bytes() == before


def test_a_file_holds_no_clock_no_place_and_no_secret(url, isolated, monkeypatch):
    """What git is given is what was asked and answered, one call a line, sorted."""
    monkeypatch.setenv("GENAI_CACHE_MACHINE", "secret-machine")
    with (
        openai.OpenAI(base_url=url, api_key="secret-key", default_headers={"x-trace": "secret-trace"}) as client,
        llm_cache(mode="record", run_file=FILE, salt="secret-salt", run="r"),
    ):
        for text in ("a", "b"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    text = Path(FILE).read_text()
    head, *lines = text.splitlines()
    assert json.loads(head) == {"format": "genai-cache run", "version": 1}
    assert len(lines) == 2
    assert lines == sorted(lines, key=lambda line: json.loads(line)["digest"])
    assert "secret" not in text
    assert str(isolated) not in text
    headers = json.loads(lines[0])["answer"]["headers"]
    assert {name for name, _ in headers} == {"content-type"}


def test_credentials_that_a_request_holds_are_digests(url, elsewhere):
    """In its body, for servers of tools, in addresses, in headers of gateways: calls of two stay two, none is read."""

    def ask_with(secret):
        with openai.OpenAI(
            base_url=url,
            api_key="k",
            max_retries=0,
            default_query={"auth": f"{secret}-auth"},
            default_headers={"x-portkey-config": f'{{"api_key": "{secret}-config"}}', "x-portkey-virtual-key": secret},
        ) as client:
            more = {
                "api_key": f"{secret}-body",
                "config": {"clientSecret": f"{secret}-camel", "items": [{"access_token": f"{secret}-nested"}]},
                "server": {"authorization": f"{secret}-mcp", "headers": {"X-Own": f"{secret}-header"}},
                "server_url": f"https://user:{secret}-user@mcp.example/p?t={secret}-query",
            }
            messages = [{"role": "user", "content": "what is an api_key?"}]
            return client.chat.completions.create(model="m", messages=messages, extra_body=more).id

    with llm_cache(mode="record", run_file=FILE):
        one, other = ask_with("secret"), ask_with("secreter")
    assert one != other
    text = Path(FILE).read_text()
    assert "secret" not in text.replace("clientSecret", "")
    assert "what is an api_key?" in text
    assert "https://sha256=" in text
    elsewhere()
    with llm_cache(mode="replay", run_file=FILE):
        assert [ask_with("secreter"), ask_with("secret")] == [other, one]
        with pytest.raises(ReplayMiss, match=r"differs in body\.api_key"):
            ask_with("wrong")


@pytest.mark.parametrize(
    "body",
    [
        {"data_sources": [{"parameters": {"authentication": {"type": "api_key", "key": "hidden"}}}]},
        {"data_sources": [{"parameters": {"authentication": {"connection_string": "hidden"}}}]},
        {"tools": [{"environment": {"network_policy": {"domain_secrets": [{"name": "n", "value": "hidden"}]}}}]},
        {"tools": [{"retrieval": {"externalApi": {"apiAuth": {"apiKeyConfig": {"apiKeyString": "hidden"}}}}}]},
        {"tools": [{"type": "mcp", "headers": {"X-Own": ["hidden", "hidden too"]}}]},
    ],
)
def test_credentials_under_the_names_of_vendors_are_digests(body):
    """As Azure, OpenAI and Google document them, where the word itself is an ordinary one."""
    shown = json.dumps(portable_form(Request("s", "https://h.example/v1", "m", body))["body"])
    assert "hidden" not in shown
    assert "sha256=" in shown
    plain = {"filters": {"type": "eq", "key": "region", "value": "us"}, "authentication": {"type": "api_key"}}
    assert portable_form(Request("s", "https://h.example/v1", "m", plain))["body"] is plain


def test_a_schema_that_names_a_credential_is_left_as_it_is():
    """What is no text under such a name is none; nor is any text elsewhere, however deep a request is."""
    deep = [{"properties": {"api_key": {"type": "string"}, "token": {}}, "required": ["password"]}]
    deep[0]["properties"]["headers"] = {"type": "object", "description": "of the request", "properties": {"X": {}}}
    deep[0]["$defs"] = {"Headers": {"title": "Headers"}}
    for _ in range(180):
        deep = [deep]
    body = {
        "messages": [{"role": "user", "content": "token: abc"}],
        "tools": deep,
        "max_tokens": 5,
        "url": "no address",
    }
    assert portable_form(Request("s", "https://h.example/v1", "m", body))["body"] is body


def test_only_what_changed_is_another_line(url):
    """A changed prompt adds a line and leaves the others as they are."""
    recorded(url, "a", "b")
    before = set(Path(FILE).read_bytes().splitlines())
    recorded(url, "a", "changed")
    after = set(Path(FILE).read_bytes().splitlines())
    assert before < after
    assert len(after - before) == 1


def test_a_miss_says_what_differs(url):
    """In mode replay a call that the file lacks is not made, and the message names the part that differs."""
    recorded(url, "a")
    said = r"Nor is it in runs/sweep.jsonl: the nearest call there differs in body.messages\[0\]; --mode record adds it"
    with pytest.raises(ReplayMiss, match=said), llm_cache(mode="replay", run_file=FILE):
        ask(url, "another")


def test_streams_and_json_share_a_line(url, unique_server):
    """What was recorded in one form answers who asks in the other."""
    recorded(url, "a")
    asked = unique_server.count
    with llm_cache(mode="replay", run_file=FILE) as cell:
        assert "".join(c.choices[0].delta.content or "" for c in ask(url, "a", stream=True) if c.choices)
    assert unique_server.count == asked
    assert outcomes(cell) == [("hit", "file")]


def test_samples_are_recorded_each(url, elsewhere):
    """Five samples of a question are five lines, the same five elsewhere, and a sixth is asked for."""
    with llm_cache(mode="record", run_file=FILE, samples="distinct"):
        first = [ask(url).id for _ in range(5)]
    assert len(set(first)) == 5
    elsewhere()
    with llm_cache(mode="record", run_file=FILE, samples="distinct") as cell:
        again = [ask(url).id for _ in range(6)]
    assert again[:5] == first
    assert len(set(again)) == 6
    assert outcomes(cell) == [("hit", "file")] * 5 + [("miss", "")]
    assert len(Path(FILE).read_text().splitlines()) == 7


def test_a_chain_is_replayed(url, elsewhere):
    """A call that goes on from an earlier answer by its id finds both in the file."""

    def chain():
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            one = client.responses.create(model="gpt-4.1-mini", input="one")
            return one.id, client.responses.create(model="gpt-4.1-mini", input="two", previous_response_id=one.id).id

    with llm_cache(mode="record", run_file=FILE):
        first = chain()
    elsewhere()
    with llm_cache(mode="replay", run_file=FILE):
        assert chain() == first


def test_what_must_not_be_stored_is_not_recorded(url, unique_server):
    """An answer that was cut off is served to its caller, and stands in no file; nor does an error."""
    with llm_cache(mode="record", run_file=FILE) as cell:
        unique_server.fail_next(Fault.TRUNCATED)
        assert ask(url, "a").choices[0].finish_reason == "length"
        with pytest.raises(openai.APIStatusError):
            ask(f"{url}/nowhere", "a")
    assert [call.outcome for call in cell.calls][:1] == [Outcome.REFUSED]
    assert not Path(FILE).exists()


def test_record_wants_a_file():
    """Without one the option is refused, with the fix."""
    with pytest.raises(ConfigurationError, match=r"--run-file runs/NAME.jsonl"), llm_cache(mode="record"):
        pass


def test_a_file_that_is_not_there_is_said(isolated):
    """In every mode but record: a wrong name would ask the model."""
    for mode in ("use", "read", "replay"):
        with pytest.raises(ConfigurationError, match="there is no run file"), llm_cache(mode=mode, run_file=FILE):
            pass


def test_from_the_settings(url, monkeypatch, elsewhere):
    """The environment names it for all that runs, such as CI."""
    first, _ = recorded(url, "a")
    elsewhere(GENAI_CACHE_RUN_FILE=FILE, GENAI_CACHE_MODE="replay")
    with llm_cache() as cell:
        assert [ask(url, "a").id] == first
    assert outcomes(cell) == [("hit", "file")]


def test_it_answers_where_the_cache_can_not_be_opened(url, elsewhere, tmp_path):
    """A file needs no cache beside it."""
    first, _ = recorded(url, "a")
    elsewhere()
    (tmp_path / "colleague").write_text("a file")
    with llm_cache(mode="replay", run_file=FILE):
        assert [ask(url, "a").id] == first


def test_threads_and_processes_record_into_one_file(url, isolated):
    """Whatever they ask at the same time is in the file when the cells are over, each call once."""

    def cell(number):
        with llm_cache(mode="record", run_file=FILE):
            for n in range(4):
                ask(url, f"{number % 2} {n}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cell, range(4)))
    with llm_cache(mode="record", run_file=FILE), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        list(pool.map(work_elsewhere.ask, [url] * 4, ["w0", "w1", "w2", "w0"]))
    assert len(decode_file(Path(FILE).read_bytes())) == 8 + 3


WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from unit.test_run_file import made
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.stores.locks import lock_elsewhere
file = RunFile(Path(sys.argv[1]), seal_key=bytes)
for number in range(20):
    file.keep(made(number))
    file.flush()
"""


def made(number, text="answer"):
    form = portable_form(Request("openai.chat", "https://api.openai.com", "m", {"n": number}))
    response = Response(200, (("content-type", "application/json"),), f'"{text} {number}"'.encode())
    return RecordedCall(CallName(portable_digest(form), 0), "openai.chat", "m", response, "json", form)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    """Each adds to what others have written; a reader meets a whole file at any time."""
    path = tmp_path / "f.jsonl"
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(path), *sys.path]
    writer = subprocess.Popen(command, env={**os.environ, "PYTHONSAFEPATH": "1"})
    mine = RunFile(path, seal_key=bytes)
    for number in range(10, 30):
        mine.keep(made(number))
        mine.flush()
        decode_file(path.read_bytes())
    assert writer.wait(120) == 0
    assert len(decode_file(path.read_bytes())) == 30
    assert [p.name for p in tmp_path.iterdir()] == ["f.jsonl"]


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


def test_a_file_that_is_removed_meanwhile_lacks_nothing_that_was_asked(url, unique_server):
    """What it answered before is in the new one, what nobody of this session asked is not."""
    recorded(url, "a", "b")
    reset_session()
    with llm_cache(mode="record", run_file=FILE):
        ask(url, "a")
        Path(FILE).unlink()
        ask(url, "c")
    current_session().cache("default").clear()
    with llm_cache(mode="replay", run_file=FILE):
        ask(url, "a")
        ask(url, "c")
        with pytest.raises(ReplayMiss):
            ask(url, "b")


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "a\0b.jsonl"])
def test_a_name_that_no_file_can_have(url, unique_server, name):
    """It is said in words, in every mode, before a call is made."""
    for mode in ("record", "replay"):
        with pytest.raises(ConfigurationError, match="no file can"), llm_cache(mode=mode, run_file=name):
            ask(url, "a")
    assert unique_server.count == 0


def test_spellings_that_a_file_system_takes_for_one_have_one_lock(tmp_path):
    """By case and by the composition of accents: whoever writes under another spelling waits."""
    spellings = ("Sweep-\u00e9.jsonl", "sweep-e\u0301.jsonl")
    assert len({lock_elsewhere(tmp_path / name) for name in spellings}) == 1
    assert lock_elsewhere(tmp_path / "other.jsonl") != lock_elsewhere(tmp_path / spellings[0])


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


def test_a_sealed_file_is_its_team_s(url, elsewhere, unique_server):
    """By its name a file is sealed: nothing in it can be read, the namespace's key opens it, and no other."""
    file = "runs/sweep.sealed"
    first, _ = recorded(url, "a very secret question", file=file)
    content = Path(file).read_bytes()
    assert b"secret" not in content
    assert b"simulated" not in content
    recorded(url, "a very secret question", file=file)
    assert Path(file).read_bytes() == content
    recorded(url, "another", file=file)
    assert Path(file).read_bytes().startswith(b"\x89GCR")
    with llm_cache(mode="replay", run_file=file):
        assert [ask(url, "a very secret question").id] == first
    elsewhere()
    with (
        pytest.raises(ConfigurationError, match=r"with another key, .* as plain text"),
        llm_cache(run_file=file),
    ):
        pass


def test_a_sealed_file_needs_a_key(url, monkeypatch):
    """Where encryption is off everybody would have the key."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    reset_session()
    with llm_cache(mode="record", run_file="runs/sweep.sealed") as cell:
        ask(url, "a")
    assert "encryption is off" in cell.troubles[0].message
    assert not Path("runs/sweep.sealed").exists()


def test_a_file_that_can_not_be_written_breaks_no_call(url, isolated):
    """The cell gets its answers, and says what could not be kept."""
    Path("runs").write_text("a file")
    with llm_cache(mode="record", run_file=FILE) as cell:
        assert ask(url, "a").id
    assert [trouble.where for trouble in cell.troubles] == ["run file"]


def test_a_file_is_on_the_medium_before_it_takes_the_place_of_the_last(url, monkeypatch):
    """So that no power failure leaves less than what was there."""
    order, flush, move = [], os.fsync, host.move
    monkeypatch.setattr(run_file.os, "fsync", lambda descriptor: (order.append("flushed"), flush(descriptor)))
    monkeypatch.setattr(run_file.host, "move", lambda *paths: (order.append("moved"), move(*paths)))
    RunFile(Path("sweep.jsonl").absolute(), seal_key=bytes).replace([])
    assert order == ["flushed", "moved"]


def test_the_line_under_the_cell_says_where_answers_come_from(url):
    """Not from L1 or L2: from the file by its name."""
    from genai_cache_magic.jupyter.summary import summarise
    from genai_cache_magic.jupyter.words import in_words

    recorded(url, "a")
    with llm_cache(run_file=FILE) as cell:
        ask(url, "a")
        ask(url, "b")
    assert f"1 hit (from {FILE}), 1 miss" in in_words(summarise(cell))
