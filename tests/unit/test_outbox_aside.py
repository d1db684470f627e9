"""A damaged queue that is put aside: what is in it is taken once, by one process, and of no other file."""

from __future__ import annotations

import contextlib
import sqlite3

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.team.outbox import Outbox, SetValue
from genai_cache_magic.testing.contracts.store import key_of

A = EntryId(key_of("a"))
TAG = bytes(range(16))


def spoil_entries(path):
    """Spoil the table of entries, and leave all others."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pending_entry'").fetchall()
        ((page,),) = db.execute("PRAGMA page_size").fetchall()
    blob = bytearray(path.read_bytes())
    blob[(root - 1) * page : root * page] = b"\xff" * page
    path.write_bytes(blob)


def queue_with(path, change):
    """Make a queue in which one invalidation and one entry wait."""
    outbox = Outbox(path)
    outbox.add_change(change)
    outbox.add_entries({A: b"envelope"})
    outbox.close()


def log_of(path):
    """Return a log as a kernel leaves it that is killed, with all that the file holds."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("VACUUM")
        return path.with_name(f"{path.name}-wal").read_bytes()


def meet_damage(path):
    """Open a damaged queue, and return the invalidations that wait in it then."""
    outbox = Outbox(path)
    outbox.entries(10)
    found = [change for _, change in outbox.changes()]
    outbox.close()
    return found


def test_what_was_salvaged_is_not_salvaged_again(tmp_path):
    """Who removes the queue much later invalidates nothing that was told long ago: a clear would cost all the team."""
    path = tmp_path / "outbox.db"
    clear = Change(1, new_root=TAG)
    queue_with(path, clear)
    spoil_entries(path)
    assert meet_damage(path) == [clear]
    outbox = Outbox(path)
    outbox.drop_changes([number for number, _ in outbox.changes()])  # they were told
    outbox.close()
    for one in tmp_path.glob("outbox.db*"):
        if ".damaged" not in one.name:
            one.unlink()
    assert (tmp_path / "outbox.db.damaged").exists()
    assert meet_damage(path) == []


def test_a_second_damage_is_salvaged_too(tmp_path):
    """Of the file that was damaged last, and without the log of the first, which could not be opened."""
    path = tmp_path / "outbox.db"
    first, second = Change(1, new_root=TAG), Change(2, tags=frozenset({TAG}))
    queue_with(path, first)
    log = log_of(path)
    path.write_bytes(b"no database".ljust(8192))
    assert meet_damage(path) == []
    path.with_name("outbox.db.damaged-wal").write_bytes(log)
    queue_with(path, second)
    spoil_entries(path)
    assert meet_damage(path) == [second]


def test_who_finds_the_damage_later_leaves_the_new_file_alone(tmp_path, monkeypatch):
    """Another process has put it aside, and is about to write what it could read."""
    path = tmp_path / "outbox.db"
    change = Change(1, tags=frozenset({TAG}))
    queue_with(path, change)
    early, late = Outbox(path), Outbox(path)
    assert late.count() == (1, 1)
    spoil_entries(path)
    blob = path.read_bytes()
    salvage = early._file._salvage

    def overtaken(*args):
        said = salvage(*args)
        late._file._put_aside()  # as when what it reads of the file that is gone turns out to be damaged
        return said

    monkeypatch.setattr(early._file, "_salvage", overtaken)
    early.entries(10)
    assert [one for _, one in early.changes()] == [one for _, one in late.changes()] == [change]
    assert path.with_name("outbox.db.damaged").read_bytes() == blob
    early.close()
    late.close()


def test_a_mark_with_a_damaged_name_is_left_out(tmp_path):
    """And does not keep the queue from being opened for ever."""
    path = tmp_path / "outbox.db"
    change = Change(1, tags=frozenset({TAG}))
    queue_with(path, change)
    outbox = Outbox(path)
    outbox.add_values([SetValue(A, b"value")])
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO mark VALUES (x'00', x'00')")
        db.commit()
    spoil_entries(path)
    assert meet_damage(path) == [change]
    outbox = Outbox(path)
    assert [value.envelope for value in outbox.values(10)] == [b"value"]
    outbox.close()
