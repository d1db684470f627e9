"""A run as a file: it answers first, is kept up to date, and matches anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import openai
import pytest
from run_files import FILE, ask, go_elsewhere, made, origin_url, outcomes, recorded  # noqa: F401 - fixtures
from unit import work_elsewhere

from genai_cache_magic import host, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.runs import run_file
from genai_cache_magic.runs.lines import (
    decode_file,
)
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.stores.disk.locks import lock_elsewhere
from genai_cache_magic.testing.model_server import Fault

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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
from run_files import made
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.stores.disk.locks import lock_elsewhere
file = RunFile(Path(sys.argv[1]), seal_key=bytes)
for number in range(20):
    file.keep(made(number))
    file.flush()
"""


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
    from genai_cache_magic.jupyter.shown.summary import summarise
    from genai_cache_magic.jupyter.shown.words import in_words

    recorded(url, "a")
    with llm_cache(run_file=FILE) as cell:
        ask(url, "a")
        ask(url, "b")
    assert f"1 hit (from {FILE}), 1 miss" in in_words(summarise(cell))
