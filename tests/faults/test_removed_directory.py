"""The cache directory is removed, or a part of it lost, under a running process: said, and begun anew."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading

import openai
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.events import Outcome
from genai_cache_magic.stores.disk.store import DiskStore

LEVELS = ("..", ".", "v1", "v1/default", "v1/default/l1")

# Another process that holds the cache: it stores and reads whenever it is told to.
HOLDER = """
import sys
from genai_cache_magic import create_cache
told = []
cache = create_cache(on_event=lambda event: told.append(event.message))
for line in sys.stdin:
    verb, key = line.split()
    if verb == "set":
        cache.set(key, key)
    print(cache.get(key), flush=True)
"""


@pytest.fixture
def cache_directory(isolated, monkeypatch):
    """A cache two levels below what exists, so that its parents are ours to make."""
    directory = isolated / "made" / "above" / "cache"
    monkeypatch.setenv("GENAI_CACHE_DIR", str(directory))
    return directory


@pytest.fixture
def ask(cache_directory, server):
    with openai.OpenAI(base_url=server.openai_url, api_key="simulated", max_retries=0) as client:

        def ask(question="hello", **options):
            with llm_cache(**options) as cell:
                messages = [{"role": "user", "content": question}]
                client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
            return cell

        yield ask


@pytest.fixture
def holder(cache_directory):
    command = [sys.executable, "-c", HOLDER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(*words):
        process.stdin.write(" ".join(words) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield tell
    process.communicate(timeout=60)


def remove(directory, level):
    shutil.rmtree((directory / level).resolve())


def open_to_others(directory):
    """Return what of the cache others may enter or read."""
    paths = [directory.parent, directory.parent.parent, directory, *directory.rglob("*")]
    return [str(path) for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def outcomes(cell):
    return [(call.outcome, call.stored) for call in cell.calls]


def words(cell):
    return " ".join(trouble.message for trouble in cell.troubles)


def fresh(question):
    """Return what a new process finds: a session of its own, of the same settings."""
    with create_cache() as cache:
        return [item.metadata.preview for item in cache.catalogue.items() if question in item.metadata.preview]


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_made_again_as_on_first_use(ask, cache_directory, level):
    """Private all the way up, with marker and the same keyset, and every later process opens what is stored now."""
    before = os.umask(0o022)
    try:
        ask()
        keyset = (cache_directory / "v1/default/keyset").read_bytes()
        remove(cache_directory, level)
        cell = ask("something else")
        assert outcomes(cell) == [(Outcome.MISS, True)]
        assert outcomes(ask("something else")) == [(Outcome.HIT, True)]
    finally:
        os.umask(before)
    said = [trouble.message for trouble in cell.troubles if trouble.where == "L1"]
    assert len(said) == 1
    assert "removed" in said[0]
    assert (cache_directory / "v1/default/keyset").read_bytes() == keyset
    assert open_to_others(cache_directory) == []
    assert (cache_directory / ".genai-cache").exists()
    assert fresh("something else") != []


@pytest.mark.parametrize("level", LEVELS)
def test_what_was_removed_is_no_hit(ask, cache_directory, level):
    """Who removes the directory gets rid of the answers, those in memory and in open files included."""
    ask()
    assert outcomes(ask()) == [(Outcome.HIT, True)]
    remove(cache_directory, level)
    cell = ask("another")  # whatever is looked at first
    assert "removed" in words(cell)
    if level != "v1/default/l1":
        assert [outcome for outcome, _ in outcomes(ask())] in ([Outcome.MISS], [Outcome.STALE])
    assert fresh("another") != []


@pytest.mark.parametrize("level", LEVELS)
def test_threads_go_on(cache_directory, level):
    """Threads that use a cache meanwhile fail for no other reason than that it can't be used now, and then go on."""
    cache = create_cache()
    go = threading.Barrier(5)
    failures = []

    def use(number):
        go.wait()
        for step in range(40):
            cache.try_set(f"{number}-{step}", bytes(60_000) if step % 5 == 0 else "small")
            cache.get(f"{number}-{step}")

    def guarded(number):
        try:
            use(number)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    go.wait()
    for _ in range(3):
        shutil.rmtree((cache_directory / level).resolve(), ignore_errors=True)
    for thread in threads:
        thread.join()
    assert failures == []
    cache.set("after", "kept")
    cache.close()
    with create_cache() as again:
        assert again.get("after") == "kept"
    assert open_to_others(cache_directory) == []


@pytest.mark.parametrize("level", LEVELS)
def test_another_process_holds_it(cache_directory, holder, level):
    """Two processes that have it open agree on what is there afterwards, whoever comes first."""
    with create_cache() as cache:
        cache.set("a", "a")
        assert holder("set", "b") == "b"
        remove(cache_directory, level)
        assert holder("set", "c") == "c"
        cache.set("d", "d")
        assert [cache.get(key) for key in "cd"] == ["c", "d"]
        assert [holder("get", key) for key in "cd"] == ["c", "d"]
    with create_cache() as again:
        assert [again.get(key) for key in "acd"] == [None, "c", "d"]


def test_another_process_began_it_anew(ask, cache_directory):
    """A kernel whose keyset was replaced meanwhile stores nothing that nobody can open, and uses the new one next."""
    ask()
    shutil.rmtree(cache_directory)
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_store_elsewhere)
    other.start()
    other.join()
    assert other.exitcode == 0
    cell = ask()
    assert outcomes(cell) == [(Outcome.REFUSED, False)]
    assert "begun anew by another process" in words(cell)
    assert outcomes(ask()) == [(Outcome.MISS, True)]
    assert outcomes(ask()) == [(Outcome.HIT, True)]
    with create_cache() as cache:
        assert cache.get("elsewhere") == "kept"


def _store_elsewhere():
    with create_cache() as cache:
        cache.set("elsewhere", "kept")


def test_a_removed_keyset_is_written_again(ask, cache_directory):
    """The keyset alone: the kernel that has it in memory writes it again, and says so."""
    ask()
    keyset = cache_directory / "v1/default/keyset"
    content = keyset.read_bytes()
    keyset.unlink()
    cell = ask("something else")
    assert "written again" in words(cell)
    assert keyset.read_bytes() == content
    assert len(fresh("")) == 2


def test_a_keyset_that_vanished_between_two_processes_is_said(ask, cache_directory):
    """Without the keyset nothing can be opened: a new one is made, and the cell says what that costs."""
    ask()
    current_session().close()
    (cache_directory / "v1/default/keyset").unlink()
    cell = ask()
    assert outcomes(cell) == [(Outcome.MISS, True)]
    assert "the keyset in" in words(cell)
    assert "sealed are misses" in words(cell)


@pytest.mark.parametrize("when", ["while it is open", "between two processes"])
def test_a_flipped_bit_in_the_record_of_invalidations_is_said(ask, cache_directory, when):
    """Nothing can be known to be valid any more, and the cell says so."""
    ask()
    if when == "between two processes":
        current_session().close()
    document = cache_directory / "v1/default/generations"
    content = bytearray(document.read_bytes())
    content[len(content) // 2] ^= 1
    document.write_bytes(content)
    cell = ask()
    assert cell.hits == 0
    assert "what was invalidated is not known any more" in words(cell)
    assert outcomes(ask()) == [(Outcome.HIT, True)]


@pytest.mark.parametrize("when", ["while it is open", "between two processes"])
def test_a_removed_record_of_invalidations_is_said(ask, cache_directory, when):
    """As damaged, so removed."""
    ask()
    if when == "between two processes":
        current_session().close()
    (cache_directory / "v1/default/generations").unlink()
    cell = ask()
    assert cell.hits == 0
    assert "what was invalidated" in words(cell)


@pytest.mark.parametrize("when", ["while it is open", "between two processes"])
def test_a_quarantined_database_is_said(ask, cache_directory, when):
    """A damaged database is put aside, and the cell says so."""
    ask()
    database = cache_directory / "v1/default/l1/cache.db"
    if when == "between two processes":
        current_session().close()
        database.write_bytes(b"rubbish" * 1000)
    else:
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("DELETE FROM sqlite_master")
            connection.execute("PRAGMA schema_version = 12345")  # tells the other connection to look again
    cell = ask("something else")
    assert "put aside" in words(cell)
    assert len(list(database.parent.glob("quarantine-*"))) == 1


def test_the_command_line_says_it_too(ask, cache_directory, capsys):
    """A command that meets the damage tells it beside what it was asked for."""
    from typer.testing import CliRunner

    from genai_cache_magic.cli.main import app

    ask()
    current_session().close()
    (cache_directory / "v1/default/l1/cache.db").write_bytes(b"rubbish" * 1000)
    done = CliRunner().invoke(app, ["stats"])
    assert done.exit_code == 0
    assert "put aside" in done.output


def test_a_cache_that_is_just_being_made_has_lost_nothing(cache_directory):
    """Of two processes that begin at once, one finds an empty database without a record of what is invalid: no loss."""
    create_cache().close()
    home = cache_directory / "v1" / "default"
    DiskStore(home / "l1").count()
    (home / "generations").unlink(missing_ok=True)
    told = []
    with create_cache(on_event=told.append) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
    assert told == []
