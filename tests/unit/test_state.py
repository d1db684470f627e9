"""``state.db``: kept, shared, damaged, removed; and what it remembers of documents that were put back."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from contextlib import closing
from functools import partial

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.highest import HighestDocument, Mark, highest_keyset, keep_keyset
from genai_cache_magic.entries.rows import SCHEMA as ROWS
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import DecryptionError, StoreUnavailable
from genai_cache_magic.stores.documents import MemoryDocument

SCHEMA = ("CREATE TABLE t (a INTEGER)",)
MAC = b"k" * 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def told():
    return []


@pytest.fixture
def state(path, told):
    with_file = StateFile(path, SCHEMA, tell=told.append)
    yield with_file
    with_file.close()


def insert(state, *numbers):
    state.write(lambda db: db.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers]))


def numbers(state):
    return [number for (number,) in state.read(lambda db: db.execute("SELECT a FROM t ORDER BY a").fetchall())]


def test_kept_and_private(state, path):
    """What is noted is there for the next process, and for its owner alone."""
    insert(state, 1, 2)
    state.set_mark("m", b"value")
    again = StateFile(path, SCHEMA)
    assert numbers(again) == [1, 2]
    assert (again.mark("m"), again.mark("other")) == (b"value", None)
    assert path.stat().st_mode & 0o077 == 0
    again.close()
    again.close()
    with pytest.raises(StoreUnavailable):
        again.mark("m")


def test_all_or_nothing(state):
    """A failure in the middle leaves nothing of what was begun, and locks nobody out."""

    def fail(db):
        db.execute("INSERT INTO t VALUES (1)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        state.write(fail)
    assert numbers(state) == []
    insert(state, 2)
    assert numbers(state) == [2]


@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_an_interrupted_read_holds_nothing(state, path, begin):
    """Whose traceback is kept, as IPython does: what others write is seen, and this process can write."""
    insert(state, 1, 2)

    def read(db):
        rows = db.execute("SELECT a FROM t")
        next(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        state._run(read, begin)
    other = StateFile(path, SCHEMA)
    insert(other, 3)
    other.close()
    assert [a for (a,) in state.rows("SELECT a FROM t ORDER BY a", ())] == numbers(state) == [1, 2, 3]
    insert(state, 4)
    assert numbers(state) == [1, 2, 3, 4]
    assert kept.tb is not None


def test_an_interrupt_keeps_what_is_in_memory():
    """A database that has no file is not given up by an interrupt."""
    state = StateFile(None, SCHEMA)
    insert(state, 1)

    def fail(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        state.read(fail)
    assert numbers(state) == [1]
    state.close()


class InterruptedAtBegin(sqlite3.Connection):
    """Raises an interrupt once, where Python does of one that came while SQLite waited for a lock: when it has it."""

    is_due = False

    def execute(self, statement, *values):
        done = super().execute(statement, *values)
        if self.is_due and statement.startswith("BEGIN"):
            self.is_due = False
            raise KeyboardInterrupt
        return done


def test_an_interrupt_while_it_waits_for_a_lock(state, path, monkeypatch):
    """A transaction that was begun at that very moment is not left open: nobody else could write, and all was lost."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=InterruptedAtBegin))
    insert(state, 1)
    state._connection.is_due = True
    held = state._connection  # as a traceback may
    with pytest.raises(KeyboardInterrupt):
        insert(state, 2)
    insert(state, 3)
    other = StateFile(path, SCHEMA, busy_timeout_s=0)
    insert(other, 4)
    assert numbers(other) == [1, 3, 4]
    other.close()
    assert held is not None


def test_writers_at_once(state, path):
    """Threads and connections that write at once all succeed."""
    others = [state, StateFile(path, SCHEMA), StateFile(path, SCHEMA)]

    def work(number):
        for turn in range(25):
            insert(others[number % 3], number * 25 + turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(state) == list(range(150))
    for other in others[1:]:
        other.close()


@pytest.mark.parametrize("removed", [True, False])
def test_a_removed_or_replaced_file_is_noticed(state, path, told, tmp_path, removed):
    """The next use works on the file that bears the name, and that is said."""
    insert(state, 1)
    if removed:
        path.unlink()
    else:
        other = StateFile(tmp_path / "other.db", SCHEMA)
        insert(other, 7)
        other.close()
        (tmp_path / "other.db").replace(path)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
    assert numbers(state) == ([] if removed else [7])
    insert(state, 8)
    assert numbers(state)[-1] == 8
    assert [event.error for event in told] == ["StateLost"]


@pytest.mark.parametrize("damage", [b"", b"no database at all, but long enough for a header" * 99])
def test_a_damaged_file_is_put_aside(path, told, damage):
    """What can't be read, or was cut to nothing, starts anew; it is said, and trouble with it is no exception."""
    first = StateFile(path, SCHEMA)
    insert(first, 1)
    first.close()
    path.write_bytes(damage)
    again = StateFile(path, SCHEMA, tell=told.append)
    assert numbers(again) == []
    insert(again, 2)
    assert numbers(again) == [2]
    assert len(told) == (1 if damage else 0)
    again.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_file_is_put_aside(path, told, kind):
    """It keeps nobody waiting, and what is noted from now on is kept."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with closing(StateFile(path, SCHEMA, tell=told.append)) as state:
        insert(state, 1)
        assert numbers(state) == [1]
    assert [event.error for event in told] == ["StateLost"]
    with closing(StateFile(path, SCHEMA)) as again:
        assert numbers(again) == [1]


@pytest.mark.parametrize(
    "edit",
    [
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN b",
    ],
)
def test_an_edited_schema_is_not_obeyed(path, told, edit):
    """A schema that is not ours, by one word of SQL, is put aside before anything of it runs."""
    first = StateFile(path, SCHEMA)
    insert(first, 1)
    first.close()
    with sqlite3.connect(path) as database:
        database.execute(edit)
    database.close()
    again = StateFile(path, SCHEMA, tell=told.append)
    insert(again, 2)
    assert numbers(again) == [2]
    assert len(told) == 1
    again.close()


def test_where_it_can_not_be_made_one_in_memory_stands_in(tmp_path):
    """Without a directory it works, and as soon as there is one it is on disk."""
    state = StateFile(tmp_path / "later" / "state.db", SCHEMA)
    insert(state, 1)
    assert numbers(state) == [1]
    (tmp_path / "later").mkdir()
    state._retry_at = 0.0
    assert numbers(state) == []
    insert(state, 2)
    state.close()
    again = StateFile(tmp_path / "later" / "state.db", SCHEMA)
    assert numbers(again) == [2]
    again.close()


def test_what_can_not_be_written_is_read(path, monkeypatch):
    """Where nothing can be written what is there is read, and writing is trouble of ours and no foreign error."""
    first = StateFile(path, SCHEMA)
    insert(first, 1)
    first.close()

    def refuse(*_):
        raise OSError(errno.EROFS, "read-only")

    with monkeypatch.context() as patch:
        patch.setattr("genai_cache_magic.entries.state.connect_file", refuse)
        again = StateFile(path, SCHEMA)
        assert numbers(again) == [1]
        with pytest.raises(StoreUnavailable):
            insert(again, 2)
        assert numbers(again) == [1]
    again._retry_at = 0.0
    insert(again, 3)
    assert numbers(again) == [1, 3]
    again.close()


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    """Without a path it works, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    state = StateFile(None, SCHEMA)
    insert(state, 1)
    assert numbers(state) == [1]
    assert list(tmp_path.iterdir()) == []
    state.close()


def test_a_forked_child_has_its_own_connection(state):
    """A child reads and writes without its parent's connection, and its parent goes on."""
    insert(state, 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            insert(state, 2)
            code = 0 if numbers(state) == [1, 2] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    insert(state, 3)
    assert numbers(state) == [1, 2, 3]


def live(document, state=None):
    remembers = HighestDocument(state, namespace="n", mac_key=MAC) if state else None
    return LiveGenerations(document, namespace="n", mac_key=MAC, random_bytes=os.urandom, remembers=remembers)


def put_back(document, old):
    assert document.replace(old, expected=document.load())


def test_an_older_document_put_back_is_a_new_root(state):
    """An older document undoes no `clear` in a process that saw the newer one, nor for anybody else."""
    document = MemoryDocument()
    one = live(document)
    before = one.change(lambda g: g.invalidating_tags([b"t" * 16]))
    old = document.load()
    cleared = one.change(lambda g: g.cleared(b"r" * 16))
    one.current()
    put_back(document, old)
    after = one.current()
    assert after.root not in {before.root, cleared.root}
    assert after.ver > cleared.ver
    assert live(document).current() == after


def test_a_later_process_remembers_what_an_earlier_one_saw(state):
    """The highest document is remembered on disk, whoever of the machine's processes published it."""
    document = MemoryDocument()
    one, two = live(document, state), live(document, state)
    two.current()
    old = document.load()
    seen_by_two = two.current()
    cleared = one.change(lambda g: g.cleared(b"r" * 16))
    put_back(document, old)
    for reader in (two, live(document, state)):
        assert reader.current().root not in {seen_by_two.root, cleared.root}
        assert reader.current().ver == cleared.ver + 1
    assert two.current() == live(document, state).current()


def test_a_document_that_was_put_back_and_changed_is_not_taken_for_the_newer_one(state):
    """The counter alone does not tell: another document with the same one is another history."""
    document = MemoryDocument()
    one = live(document, state)
    one.current()
    old = document.load()
    newer = one.change(lambda g: g.invalidating_tags([b"t" * 16]))
    put_back(document, old)
    forgetful = live(document).change(lambda g: g.invalidating_tags([b"u" * 16]))
    assert (forgetful.ver, forgetful.root) == (newer.ver, newer.root)
    assert one.current().root != newer.root


def test_readers_and_writers_at_once_make_no_new_root(state):
    """A document that changes while it is read is never mistaken for an old one."""
    document = MemoryDocument()
    root = live(document, state).current().root
    roots = set()

    def work(tag):
        mine = live(document, state)
        for _ in range(20):
            mine.change(lambda g: g.invalidating_tags([tag]))
            roots.add(mine.current().root)

    threads = [threading.Thread(target=work, args=(bytes([number]) * 16,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert roots == {root}


@pytest.mark.parametrize("value", [b"", b"forged" * 20, bytes(72)])
def test_a_forged_mark_counts_as_none(state, value):
    """A mark that we did not write raises nothing: no counter near its end, no refusal."""
    state.set_mark("highest generations", value)
    highest = HighestDocument(state, namespace="n", mac_key=MAC)
    assert highest.read() == Mark()
    highest.keep(Mark(3, b"d" * 32))
    highest.keep(Mark(2, b"e" * 32))
    assert highest.read() == Mark(3, b"d" * 32)
    state.set_mark("highest keyset", value)
    assert highest_keyset(state, "n") == 0
    keep_keyset(state, "n", 4)
    keep_keyset(state, "n", 3)
    assert (highest_keyset(state, "n"), highest_keyset(state, "other")) == (4, 0)


def test_of_two_who_keep_a_mark_at_once_the_higher_stays(path, monkeypatch):
    """Who looked before another kept a higher one takes nothing back: what is below that one stays refused."""
    mine, theirs = StateFile(path), StateFile(path)
    write = mine.write

    def late(work):
        keep_keyset(theirs, "n", 3)
        HighestDocument(theirs, namespace="n", mac_key=MAC).keep(Mark(9, b"d" * 32))
        return write(work)

    monkeypatch.setattr(mine, "write", late)
    keep_keyset(mine, "n", 2)
    HighestDocument(mine, namespace="n", mac_key=MAC).keep(Mark(5, b"e" * 32))
    assert highest_keyset(theirs, "n") == 3
    assert HighestDocument(theirs, namespace="n", mac_key=MAC).read() == Mark(9, b"d" * 32)
    mine.close()
    theirs.close()


def test_an_older_keyset_put_back_is_refused(isolated):
    """A keyset below the highest that was seen here would bring revoked keys back: nothing is opened with it."""
    with create_cache() as cache:
        cache.set("a", 1)
    home = isolated / "cache" / "v1" / "default"
    old = (home / "keyset").read_bytes()
    state = StateFile(home / "state.db", ROWS)
    keep_keyset(state, "default", 2)
    state.close()
    with pytest.raises(DecryptionError, match="rolled back: version 1, seen: 2"):
        create_cache()
    assert (home / "keyset").read_bytes() == old


def test_files_of_a_cache_put_back_do_not_undo_clear(isolated):
    """An older `generations` among the files, put back while nobody looked: what was cleared stays cleared."""
    generations = isolated / "cache" / "v1" / "default" / "generations"
    with create_cache() as cache:
        cache.set("a", 1)
        old = generations.read_bytes()
        cache.clear()
        cache.set("b", 2)
    generations.write_bytes(old)
    with create_cache() as cache:
        assert cache.mget(["a", "b"]) == [None, None]
        cache.set("c", 3)
    with create_cache() as cache:
        assert cache.get("c") == 3
