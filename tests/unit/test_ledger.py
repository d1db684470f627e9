"""The ledger: what calls came to, by day; counted once, whoever is killed, and sealed at rest."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal

import openai
import pytest
from unit import work_elsewhere

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import MODEL_CHARS, CallRecord, Outcome
from genai_cache_magic.ledger.accounts import COLUMNS, SCHEMA, Account, Accounts, Batch, Sums
from genai_cache_magic.ledger.books import Books
from genai_cache_magic.ledger.usage import Ledger, Period, checked_by, day_of

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

TODAY = date(2026, 5, 31)
NOON_MS = int(datetime(2026, 5, 31, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
ALL = Period(None, date(2100, 1, 1))
MISS = CallRecord(
    Outcome.MISS, provider="openai.chat", model="m", input_tokens=3, output_tokens=2, spent_usd=Decimal("0.001")
)
HIT = CallRecord(
    Outcome.HIT, provider="openai.chat", model="m", input_tokens=3, output_tokens=2,
    spent_usd=Decimal(0), saved_usd=Decimal("0.002"),
)  # fmt: skip


def ledger_at(path, clock=lambda: NOON_MS):
    file = StateFile(path, SCHEMA, columns=COLUMNS, part="ledger")
    accounts = Accounts(file, ColumnSeal(b"k" * 32), keyed=lambda digest: digest[:16])
    return Ledger("default", accounts, Books(accounts, now_ms=clock))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    made = ledger_at(path)
    yield made
    made.close()


def note(ledger, *calls, run="", person="ann"):
    for call in calls:
        ledger.books.note(call, run=run, person=person)


def counted(ledger):
    total = ledger.usage(ALL, ()).total
    return total.misses, total.hits


def total_at(path):
    again = ledger_at(path)
    try:
        return again.usage(ALL, ()).total
    finally:
        again.close()


def test_by_day_model_run_and_person(path):
    """Whatever is asked for tells rows apart, and the sums are those of the calls."""
    now = [NOON_MS - DAY_MS]
    ledger = ledger_at(path, lambda: now[0])
    note(ledger, MISS, run="one")
    now[0] = NOON_MS
    note(ledger, HIT, HIT, run="two", person="bob")
    by_day = ledger.usage(ALL, ("day",)).rows
    assert [(row.day, row.misses, row.hits) for row in by_day] == [(date(2026, 5, 30), 1, 0), (TODAY, 0, 2)]
    assert (by_day[0].spent_usd, by_day[1].saved_usd) == (Decimal("0.001"), Decimal("0.004"))
    assert (by_day[0].input_tokens, by_day[0].output_tokens, by_day[1].input_tokens) == (3, 2, 0)
    assert (by_day[1].saved_input_tokens, by_day[1].saved_output_tokens) == (6, 4)
    assert {(row.run, row.person) for row in ledger.usage(ALL, ("run", "person")).rows} == {
        ("one", "ann"),
        ("two", "bob"),
    }
    assert [row.model for row in ledger.usage(ALL, ("model",)).rows] == ["m"]
    assert ledger.usage(Period(TODAY, TODAY), ()).total.misses == 0
    ledger.close()


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OPEN])
def test_every_outcome_has_its_count(ledger, outcome):
    """No call of any kind is left out, and what it cost is unknown if it is."""
    note(ledger, CallRecord(outcome, model="m"))
    total = ledger.usage(ALL, ()).total
    assert total.hits + total.similar + total.misses + total.bypassed + total.errors + total.unrecognised == 1
    assert total.spent_unknown + total.saved_unknown == 1
    assert total.spent_usd == total.saved_usd == 0


def test_no_fraction_of_a_cent_is_lost(ledger):
    """A thousand answers at a few millionths each come to what they come to."""
    price = Decimal("0.000000075")
    note(ledger, *[CallRecord(Outcome.MISS, spent_usd=price)] * 300)
    assert ledger.usage(ALL, ()).total.spent_usd == 300 * price


@pytest.mark.parametrize("price", ["1e30", "NaN", "Infinity", "-1e12"])
def test_a_price_beyond_all_sense_is_unknown(ledger, price):
    """What an origin claims can neither break the books nor stand in them."""
    note(ledger, CallRecord(Outcome.MISS, spent_usd=Decimal(price), input_tokens=2**70, output_tokens=-5))
    total = ledger.usage(ALL, ()).total
    assert (total.spent_usd, total.spent_unknown, total.misses) == (0, 1, 1)
    assert (total.input_tokens, total.output_tokens) == (0, 0)


def test_sums_stay_within_what_the_database_holds(ledger):
    """Added up for ever, a sum stops at its end instead of turning into something else."""
    most = CallRecord(Outcome.MISS, spent_usd=Decimal(2_000_000), input_tokens=2**60)
    note(ledger, *[most] * 10)
    note(ledger, MISS)
    assert counted(ledger) == (11, 0)


def test_what_was_spent_is_kept_when_its_caller_goes_on(ledger, path):
    """Nobody has to wait or close anything: another process sees it at once."""
    note(ledger, MISS)
    assert total_at(path).spent_usd == Decimal("0.001")


def test_a_hit_is_not_written_by_its_caller(ledger, path, monkeypatch):
    """Hits are added behind, by another thread, in one transaction for many."""
    writers, added = [], threading.Event()
    add = Accounts.add

    def watched(self, *args, **more):
        add(self, *args, **more)
        writers.append(threading.current_thread())
        added.set()

    monkeypatch.setattr(Accounts, "add", watched)
    note(ledger, *[HIT] * 100)
    assert added.wait(30)
    ledger.close()
    assert threading.current_thread() not in writers[:1]
    assert total_at(path).hits == 100


def test_a_batch_counts_once_however_often_it_is_tried(ledger):
    """Where nobody can tell whether it went through, it is added again under its number."""
    accounts = ledger.accounts
    sums = Sums()
    sums.add_call(MISS)
    batch = Batch(1, {Account(20_000, "p", "m", "", "ann"): sums})
    for _ in range(3):
        accounts.add(b"w" * 16, batch, day=20_000)
    accounts.add(b"v" * 16, batch, day=20_000)
    assert counted(ledger) == (2, 0)


def test_an_outcome_that_is_not_known_counts_once(ledger, monkeypatch):
    """A write that fails after it was carried out is not added twice."""
    add = Accounts.add
    failures = [StoreUnavailable("lost"), StoreUnavailable("lost")]

    def lying(self, *args, **more):
        add(self, *args, **more)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(Accounts, "add", lying)
    note(ledger, MISS, MISS, MISS)
    assert counted(ledger) == (3, 0)


def test_what_can_not_be_written_is_shown_and_written_later(ledger, path, monkeypatch):
    """A locked or full disk costs no call and no cent: what waits is shown with the rest, and added when it can be."""
    note(ledger, HIT)
    with monkeypatch.context() as broken:
        broken.setattr(StateFile, "write", lambda *_: (_ for _ in ()).throw(StoreUnavailable("full")))
        note(ledger, MISS)
        assert counted(ledger) == (1, 1)
    assert counted(ledger) == (1, 1)
    assert (total_at(path).misses, total_at(path).hits) == (1, 1)


def test_an_interrupt_in_the_middle_loses_nothing(ledger, monkeypatch):
    """Ctrl-C while it is written: what was noted is added with what comes next, once."""
    with monkeypatch.context() as interrupted:
        interrupted.setattr(StateFile, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            note(ledger, MISS)
    note(ledger, MISS)
    assert counted(ledger) == (2, 0)


WRITER = """
import os, sys
sys.path[:0] = sys.argv[3:]
from unit.test_ledger import HIT, MISS, ledger_at, note
from pathlib import Path
ledger = ledger_at(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    note(ledger, MISS)
    print(number + 1, flush=True)
if int(sys.argv[2]) < 1000:
    note(ledger, HIT, HIT)
"""


def writer(path, count):
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(path), str(count), *sys.path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"})


def test_a_killed_process_has_counted_what_it_was_told(path):
    """Killed at any moment, each call that came back is in the books once, and one on its way at most beside them."""
    with writer(path, 100_000) as process:
        for _ in range(50):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = 50 + len([line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")])
    assert told <= total_at(path).misses <= told + 1


def test_two_processes_at_once(path):
    """Two that write at the same time lose nothing of each other, nor what waits when they end."""
    with writer(path, 200) as one, writer(path, 200) as two:
        assert [len(process.communicate(timeout=120)[0].split()) for process in (one, two)] == [200, 200]
    total = total_at(path)
    assert (total.misses, total.hits, total.spent_usd) == (400, 4, 400 * Decimal("0.001"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_count_what_its_parent_will(path):
    """What waits at the fork is the parent's alone; what the child does is the child's."""
    ledger = ledger_at(path)
    note(ledger, *[HIT] * 5)
    child = multiprocessing.get_context("fork").Process(target=note, args=(ledger, HIT, HIT))
    child.start()
    child.join()
    ledger.close()
    assert (child.exitcode, total_at(path).hits) == (0, 7)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_count_once(isolated, server, method):
    """Calls of a pool's workers are in the books once, although their cell is told of them too."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    url = server.openai_url
    with llm_cache(run="sweep") as cell, ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for _ in range(2):
            list(pool.map(work_elsewhere.ask, [url] * 3, ["a", "b", "c"]))
    assert (cell.misses, cell.hits) == (3, 3)
    (row,) = current_session().cache("default").usage(by="run").rows
    assert (row.run, row.misses, row.hits) == ("sweep", 3, 3)


def test_the_calls_of_a_cell(isolated, server, monkeypatch):
    """What stands under a cell stands in the ledger, at the same prices, and outlives what is cleared."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
    reset_session()
    with llm_cache(run="r") as first:
        work_elsewhere.ask_model(server.openai_url, "gpt-4.1-mini", "hello")
    with llm_cache(run="r") as second:
        work_elsewhere.ask_model(server.openai_url, "gpt-4.1-mini", "hello")
    cache = current_session().cache("default")
    cache.clear()
    (row,) = cache.usage("today", by="day, model, run").rows
    assert row.spent_usd == first.spent_usd > 0
    assert row.saved_usd == second.saved_usd == first.spent_usd
    assert (row.model, row.run, row.hits, row.misses) == (first.calls[0].model, "r", 1, 1)


def test_names_are_sealed_at_rest(ledger, path):
    """Nobody who has the file alone learns who asked which model in what run."""
    call = CallRecord(Outcome.MISS, provider="secret-provider", model="secret-model")
    ledger.books.note(call, run="secret-run", person="secret-person")
    held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"secret" not in held
    assert path.stat().st_mode & 0o077 == 0


def test_names_of_another_key_are_empty(ledger, path):
    """What was sealed by a key that is gone still counts, under no name."""
    note(ledger, MISS)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE owner SET sealed = zeroblob(60)")
    db.close()
    (row,) = ledger.usage(ALL, ("model", "person")).rows
    assert (row.model, row.person, row.misses) == ("", "", 1)


def test_a_damaged_file_breaks_no_call(isolated, server):
    """It is put aside, which is said; calls go on, and are counted anew."""
    with llm_cache():
        work_elsewhere.ask(server.openai_url, "a")
    cache = current_session().cache("default")
    file = next(isolated.rglob("ledger.db"))
    reset_session()
    file.write_bytes(b"no database" * 1000)
    with llm_cache() as cell:
        work_elsewhere.ask(server.openai_url, "b")
    cache = current_session().cache("default")
    assert cache.usage().total.misses == 1
    assert [trouble.where for trouble in cell.troubles] == ["ledger"]


def test_a_cache_in_memory_has_books_too(isolated):
    """They end with it."""
    with create_cache("memory") as cache:
        assert cache.usage().rows == ()


@pytest.mark.parametrize(
    ("given", "day"),
    [
        ("today", TODAY),
        ("yesterday", date(2026, 5, 30)),
        ("1d", TODAY),
        ("7d", date(2026, 5, 25)),
        ("1w", date(2026, 5, 25)),
        ("36h", date(2026, 5, 30)),
        ("2026-05-01", date(2026, 5, 1)),
        (date(2026, 5, 2), date(2026, 5, 2)),
        (datetime(2026, 5, 3, 23, tzinfo=UTC), date(2026, 5, 3)),
    ],
    ids=str,
)
def test_days(given, day):
    """Days are written as people think of them."""
    assert day_of(given, TODAY, name="since") == day


@pytest.mark.parametrize("given", ["", "7", "2026-13-01", "last week", 7, None.__class__], ids=repr)
def test_what_is_no_day(given):
    """The message names the option, what was given, and what is allowed."""
    with pytest.raises(ConfigurationError, match=r"since=.*is no day: write a date such as 2026-05-31"):
        day_of(given, TODAY, name="since")


def test_what_is_no_period_and_no_column():
    """A wrong order of days or a wrong column is said with the fix."""
    with pytest.raises(ConfigurationError, match="exchange them"):
        Period.of("today", "yesterday", today=TODAY)
    with pytest.raises(ConfigurationError, match="write one or more of day, model"):
        checked_by("day,modle")
    assert checked_by(["day", "day", "run"]) == ("day", "run")


def test_no_model_has_a_name_of_megabytes(isolated, server):
    """What a caller or an origin calls so is cut with a mark wherever calls are told of; entries stay apart."""
    names = ["x" * 2_000_000 + end for end in "ab"]
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client, llm_cache() as cell:
        for name in (*names, *names):
            client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT, Outcome.HIT]
    shown = "x" * (MODEL_CHARS - 1) + "…"
    assert {call.model for call in cell.calls} == {shown}
    cache = current_session().cache(current_session().options().namespace)
    assert [(row.model, row.misses, row.hits) for row in cache.usage("today", by="model").rows] == [(shown, 2, 2)]
    assert cache.catalogue.tags()["model"] == {shown: 2}
    assert cache.invalidate_tag(shown, kind="model").count == 2
