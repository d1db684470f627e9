"""Named runs: what was asked and answered, what tells two apart, and how a colleague replays one."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from named_runs import ask, execute, runs
from run_files import origin_url  # noqa: F401 - a fixture
from unit import work_elsewhere

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.jupyter.shown.runs import described

SECRET = "a prompt that stays at home"


def notebook_cell(url, cell, *texts, run="sweep"):
    """Execute a cell as a notebook does, which knows cells by their ids."""
    session = current_session()
    opened = open_cell(session, session.options(run=run), cell=cell)
    try:
        return [ask(url, text) for text in texts]
    finally:
        opened.close()


def test_a_run_lists_its_calls(url):
    """Which calls, of which models, what they cost, with which packages."""
    execute(url, "a", "b")
    execute(url, "b", "c")
    (listed,) = runs().list()
    assert (listed.name, listed.calls, listed.persons, listed.is_pinned) == ("sweep", 3, ("tester",), False)
    found = runs().show("sweep")
    assert [call.outcome for call in found.calls] == ["miss", "hit", "miss"]
    assert len({call.digest for call in found.calls}) == len({call.content for call in found.calls}) == 3
    assert {"genai-cache-magic", "openai"} <= set(found.summary.surroundings)
    assert all(call.input_tokens for call in found.calls)


def test_without_a_name_nothing_is_noted(url):
    """Calls of no run are in the ledger alone."""
    with llm_cache():
        ask(url, "a")
    assert runs().list() == ()


def test_a_cell_that_is_executed_again_is_the_same_run(url):
    """What it does not ask any more is no part of the run; what other cells asked stays."""
    notebook_cell(url, "one", "a", "b")
    notebook_cell(url, "two", "c")
    notebook_cell(url, "one", "a", "changed")
    found = runs().show("sweep")
    assert sorted((call.cell, call.outcome) for call in found.calls) == [
        ("one", "hit"),
        ("one", "miss"),
        ("two", "miss"),
    ]


def test_workers_are_part_of_the_run(url):
    """What other processes ask for a cell is noted with it, and none of it drops the rest."""
    with llm_cache(run="sweep"), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        ask(url, "mine")
        list(pool.map(work_elsewhere.ask, [url] * 2, ["a", "b"]))
    assert runs().show("sweep").summary.calls == 3


def test_a_run_that_is_not_there(url):
    """The message names those that are."""
    execute(url, "a")
    with pytest.raises(ConfigurationError, match="there is no run 'swep'; known are sweep"):
        runs().show("swep")


def test_diff_names_what_differs(url):
    """The part of a request, the answer of one, and calls without their like."""
    execute(url, "a", "b", run="one")
    execute(url, "a", "changed", run="two")
    with llm_cache(run="two"):
        ask(url, "a", temperature=0.5)
    diff = runs().diff("one", "two")
    assert diff.same == 1
    (differing,) = diff.differing
    assert differing.parts == ("body.messages[0]",)
    assert not diff.changed
    assert [len(diff.only_one), len(diff.only_other)] == [0, 1]
    assert runs().diff("one", "one").is_empty


def test_diff_shows_which_answers_changed(url):
    """The same question, fetched anew between the runs."""
    execute(url, "a", "b", run="one")
    with llm_cache(mode="refresh"):
        ask(url, "b")
    execute(url, "a", "b", run="two")
    diff = runs().diff("one", "two")
    assert (diff.same, len(diff.changed), diff.differing) == (1, 1, ())


@pytest.mark.parametrize("how", ["cleared", "refreshed", "expired", "collected"])
def test_a_pin_outlives_everything(url, unique_server, how):
    """Replay of a pinned run gives its answers as they were, whatever became of the entries."""
    first = execute(url, "a", "b")
    assert runs().pin("sweep").count == 2
    cache = current_session().cache("default")
    if how == "refreshed":
        execute(url, "a", "b", run="other", mode="refresh")
    elif how == "expired":
        execute(url, "a", run="other", ttl="1s")
        cache.clear()
    else:
        cache.clear()
    if how == "collected":
        cache.collect()
    asked = unique_server.count
    with llm_cache(run="sweep", mode="replay") as cell:
        assert [ask(url, text) for text in ("a", "b")] == first
    assert unique_server.count == asked
    assert {call.reason for call in cell.calls} == {"from pinned run sweep"}
    assert runs().list()[-1].is_pinned
    assert runs().unpin("sweep")
    if how != "refreshed":
        with pytest.raises(ReplayMiss), llm_cache(run="sweep", mode="replay"):
            ask(url, "a")


def test_a_pin_is_of_its_run_alone(url):
    """Another run, and another mode, are answered as ever."""
    execute(url, "a")
    runs().pin("sweep")
    current_session().cache("default").clear()
    with pytest.raises(ReplayMiss), llm_cache(run="other", mode="replay"):
        ask(url, "a")
    with llm_cache(run="sweep") as cell:
        ask(url, "a")
    assert cell.misses == 1


def test_pins_are_sealed_and_private(url, isolated):
    """Nothing that was asked or answered can be read at rest, in the record of a run or in its bundle."""
    execute(url, SECRET)
    runs().pin("sweep")
    reset_session()
    for path in (isolated / "cache").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert b"sweep" not in content, path
            assert path.stat().st_mode & 0o077 == 0, path


def test_answers_that_are_gone_can_not_be_pinned(url):
    """All of a run or nothing: the message says how many are gone and what to do."""
    execute(url, "a", "b")
    current_session().cache("default").clear()
    with pytest.raises(ConfigurationError, match="2 of 2 answers of run 'sweep' are not in the cache any more"):
        runs().pin("sweep")
    assert runs().pinned("sweep") is None


def test_answers_that_changed_since_are_counted(url):
    """What is pinned is what is there now, and it says where that is not what the run got."""
    execute(url, "a", "b")
    execute(url, "a", run="other", mode="refresh")
    assert runs().pin("sweep") == type(runs().pin("sweep"))(2, 1)


def test_a_call_of_several_cells_counts_once_everywhere(url):
    """A list, a pin, a file and who takes it over say the same number of calls."""
    notebook_cell(url, "one", "a", "b", "a")
    notebook_cell(url, "two", "a")
    assert [run.calls for run in runs().list()] == [2]
    assert described(runs().show("sweep")).title.startswith("run sweep: 2 calls (1 asked again in another cell), ")
    assert runs().diff("sweep", "sweep").same == runs().pin("sweep").count == 2
    assert runs().export("sweep", "sweep.jsonl", plaintext=True).count == 2
    assert runs().import_("sweep.jsonl", "theirs").count == 2
    assert [run.calls for run in runs().list()] == [2, 2]
    execute(url, "a", run="other", mode="refresh")
    assert runs().pin("sweep").changed == 1
    runs().unpin("sweep")
    current_session().cache("default").clear()
    with pytest.raises(ConfigurationError, match="2 of 2 answers"):
        runs().pin("sweep")


@pytest.mark.parametrize("plaintext", [True, False])
def test_export_and_import(url, unique_server, isolated, monkeypatch, plaintext):
    """A file carries a run to who shares the namespace, and as text to anybody, who replays it and asks nobody."""
    first = execute(url, "a", "b")
    file = Path("sweep.jsonl" if plaintext else "sweep.run")
    assert runs().export("sweep", str(file), plaintext=plaintext).count == 2
    again = file.read_bytes()
    assert (b"simulated" in again) is plaintext
    reset_session()
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "elsewhere"))
    if plaintext:
        monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(isolated / "other.key"))
        assert runs().import_(str(file), "theirs").count == 2
        asked = unique_server.count
        with llm_cache(run="theirs", mode="replay"):
            assert [ask(url, text) for text in ("a", "b")] == first
        assert unique_server.count == asked
        (listed,) = runs().list()
        assert (listed.name, listed.calls, listed.is_pinned) == ("theirs", 2, True)
        assert current_session().cache("default").stats().entries == 0
        runs().export("theirs", Path("again.jsonl"), plaintext=True)
        assert Path("again.jsonl").read_bytes() == again
    else:
        with pytest.raises(ConfigurationError, match="sealed for another namespace"):
            runs().import_(file, "theirs")


def test_an_import_is_all_or_nothing(url):
    """A file with one wrong line leaves nothing behind; a run of one's own is not overwritten."""
    execute(url, "a", "b")
    file = Path("sweep.jsonl")
    with pytest.raises(ConfigurationError, match=r"there is no run file sweep.jsonl: write its name as it is$"):
        runs().import_(file, "theirs")
    runs().export("sweep", file, plaintext=True)
    with pytest.raises(ConfigurationError, match="a run 'sweep' of your own"):
        runs().import_(file, "sweep")
    file.write_bytes(file.read_bytes().replace(b"simulated", b"forged"))
    with pytest.raises(ConfigurationError, match="can't be used, so none is"):
        runs().import_(file, "theirs")
    assert [run.name for run in runs().list()] == ["sweep"]
    assert runs().pinned("theirs") is None


def test_without_encryption_nothing_is_sealed(url, monkeypatch):
    """An export says so, and plain text is written where it is asked for."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    reset_session()
    execute(url, "a")
    with pytest.raises(ConfigurationError, match="--plaintext"):
        runs().export("sweep", Path("f.run"))
    assert runs().pin("sweep").count == 1
    with llm_cache(run="sweep", mode="replay") as cell:
        ask(url, "a")
    assert cell.calls[0].reason == "from pinned run sweep"


def test_a_cache_in_memory_has_no_pins(isolated):
    """It says so."""
    with create_cache("memory") as cache:
        assert cache.runs.list() == ()
        with pytest.raises(ConfigurationError, match="use one on disk"):
            cache.runs.pin("x")
