"""A queue whose file is damaged, or was written by somebody else: what can be read is told, and the rest is said."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3

import pytest
from outboxes import TAG, A, B, empty_outbox, team_that_notes  # noqa: F401 - fixtures

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.team import outbox as outbox_module
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.outbox import Outbox, SetValue


def test_what_nobody_can_read_is_dropped(outbox, team):
    """An entry that was damaged in the queue holds nothing up."""
    team.undecodable = {b"a"}
    outbox.add_entries({A: b"a"})
    outbox.add_entries({B: b"b"})
    Drain(outbox, team).once()
    assert team.told == [b"b"]
    assert outbox.count() == (0, 0)


def test_an_unreadable_invalidation_invalidates_everything(tmp_path, outbox, team):
    """What it named can't be known any more, so everything may have been meant: a new root, the same at every look."""
    outbox.add_change(Change(1, tags=frozenset({TAG})))
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.execute("UPDATE pending_change SET change = x'00'")
    db.close()
    first, again = outbox.changes(), outbox.changes()
    assert first == again
    assert first[0][1].new_root


@pytest.mark.parametrize("value", ["text", 7, 1.5, b"", None])
@pytest.mark.parametrize("column", ["change", "id", "envelope"])
def test_rows_that_somebody_else_wrote_hold_nothing_up(tmp_path, outbox, team, column, value):
    """Whatever stands in the file: an entry that can't be one is dropped, an invalidation means everything."""
    table = "pending_change" if column == "change" else "pending_entry"
    outbox.add_change(Change(1, tags=frozenset({TAG})))
    outbox.add_entries({A: b"a"})
    with sqlite3.connect(tmp_path / "outbox.db") as db, contextlib.suppress(sqlite3.IntegrityError):
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
    db.close()
    outbox.add_entries({B: b"b"})
    Drain(outbox, team).once()
    assert team.told[-1] == b"b"
    assert outbox.count() == (0, 0)
    assert all(change.new_root or TAG in change.tags for change in team.told[0])


def test_a_number_beyond_all_others_leaves_room(tmp_path, outbox, team):
    """Who writes the highest number that there is does not stop the queue."""
    outbox.add_entries({A: b"a"})
    outbox.add_change(Change(1, tags=frozenset({TAG})))
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.execute("UPDATE pending_entry SET number = ?", (2**63 - 1,))
        db.execute("UPDATE pending_change SET number = ?", (2**63 - 1,))
    db.close()
    outbox.add_entries({B: b"b"})
    outbox.add_change(Change(2, tags=frozenset({TAG})))
    Drain(outbox, team).once()
    assert sorted(team.told[1:]) == [b"a", b"b"]
    assert outbox.count() == (0, 0)


def test_values_that_somebody_else_wrote_are_none(tmp_path):
    """What is not of their shape is left out and removed; of a later shape it is left alone."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path)
    outbox.add_values([SetValue(B, b"b")])
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = [(f"set value 1 {A}", b"short"), ("set value 1 0", b"x" * 99), (f"set value 2 {A}", b"x" * 99)]
        db.executemany("INSERT INTO mark VALUES (?, ?)", rows)
        db.commit()
    assert [value.entry_id for value in outbox.values(10)] == [B]
    assert outbox.value_ids() == {B}
    assert outbox.count() == (0, 1)
    outbox.close()


def damaged(path, where):
    """Spoil a page of a table in a file, found by what stands in it; no other is touched."""
    blob = bytearray(path.read_bytes())
    page = int.from_bytes(blob[16:18]) if int.from_bytes(blob[16:18]) > 1 else 65536
    at = blob.index(where) // page * page
    assert at > 0
    blob[at : at + page] = b"\xff" * page
    path.write_bytes(bytes(blob))


def queued(path, count=200):
    """Queue invalidations, entries and values, enough for several pages of each; return what they are."""
    ids = [EntryId(hashlib.sha256(str(number).encode()).hexdigest()) for number in range(count)]
    changes = [Change(number, tags=frozenset({number.to_bytes(16)})) for number in range(count)]
    outbox = Outbox(path)
    for change in changes:
        outbox.add_change(change)
    outbox.add_entries({one: f"entry {place:04}".encode() * 50 for place, one in enumerate(ids)})
    outbox.add_values([SetValue(one, f"value {place:04}".encode() * 50) for place, one in enumerate(ids)])
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return ids, changes


@pytest.mark.parametrize("spoilt", ["change", "entry", "value", "index"])
def test_what_can_be_read_of_a_damaged_queue_is_told(tmp_path, team, spoilt):
    """All but the page that is damaged: invalidations first, as ever; and what became of it is said, in words."""
    path, told = tmp_path / "outbox.db", []
    ids, changes = queued(path)
    where = {
        "change": changes[100].encode(),
        "entry": b"entry 0100",
        "value": b"value 0100",
        "index": b"\x00" + bytes.fromhex(sorted(ids)[100]),
    }[spoilt]
    if spoilt == "index":
        with contextlib.closing(sqlite3.connect(path)) as db:
            ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pending_entry_id'").fetchall()
            ((page,),) = db.execute("PRAGMA page_size").fetchall()
        blob = bytearray(path.read_bytes())
        blob[(root - 1) * page : root * page] = b"\xff" * page
        path.write_bytes(bytes(blob))
    else:
        damaged(path, where)
    outbox = Outbox(path, tell=told.append)
    drain_until_found(outbox, ids)
    found = [change for _, change in outbox.changes()]
    entries = [one.envelope[:10].decode() for one in outbox.entries(1000, 1 << 30)]
    values = [one.envelope[:10].decode() for one in outbox.values(1000, 1 << 30)]
    outbox.close()
    whole = {"change": changes, "entry": ids, "value": ids}
    for what, left in (("change", found), ("entry", entries), ("value", values)):
        if what == spoilt:
            assert 0 < len(left) < len(whole[what])
        else:
            assert len(left) == len(whole[what])
    assert found == [change for change in changes if change in found]
    assert any("damaged queue" in event.message for event in told)
    assert any("is lost" in event.message for event in told) is (spoilt != "index")
    assert (tmp_path / "outbox.db.damaged").exists()


def drain_until_found(outbox, ids):
    """Use the queue as a kernel does, until it has met what is damaged."""
    outbox.changes()
    outbox.entries(1000, 1 << 30)
    outbox.values(1000, 1 << 30)
    for one in ids:
        outbox.has_entry(one)


def test_who_is_killed_while_he_salvages_leaves_it_to_the_next(tmp_path, monkeypatch):
    """What could be read is in the new file as soon as that has any table, or not at all."""
    path, told = tmp_path / "outbox.db", []
    ids, changes = queued(path, 5)
    blob = path.read_bytes()
    path.write_bytes(b"no database".ljust(len(blob)))
    Outbox(path).close()
    path.with_name("outbox.db.damaged").write_bytes(blob)  # the page that was damaged is well enough for this
    for one in tmp_path.glob("outbox.db*"):
        if ".damaged" not in one.name:
            one.unlink()
    salvage = outbox_module._salvage

    def killed(*args):
        salvage(*args)
        raise KeyboardInterrupt

    again = Outbox(path, tell=told.append)
    monkeypatch.setattr(again._file, "_salvage", killed)
    with pytest.raises(KeyboardInterrupt):
        again.count()
    again.close()
    again = Outbox(path, tell=told.append)
    assert again.count() == (5, 10)
    assert [change for _, change in again.changes()] == changes
    assert {one.entry_id for one in again.entries(10)} == set(ids)
    again.close()
    assert ["which is all of it" in event.message for event in told] == [True]


def test_nothing_of_anothers_schema_is_run(tmp_path, team):
    """A queue whose tables are views, or have other columns, is put aside as it is."""
    path, told = tmp_path / "outbox.db", []
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE VIEW pending_change AS SELECT 1 AS number, x'00' AS change")
        db.execute("CREATE TABLE pending_entry (number INTEGER PRIMARY KEY, id BLOB, envelope BLOB)")
        db.execute("INSERT INTO pending_entry VALUES (1, zeroblob(32), x'01')")
        db.commit()
    outbox = Outbox(path, tell=told.append)
    assert outbox.count() == (0, 0)
    outbox.close()
    assert [event.error for event in told] == ["StateLost", "StateLost"]


def marks_of(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as db:
        return [name for (name,) in db.execute("SELECT name FROM mark WHERE name LIKE 'set entry%'")]


def test_an_older_version_beside_this_one(tmp_path, outbox, team):
    """It queues and takes off entries, and knows not which of them were set: none is lost, and no mark stays."""
    outbox.begin({A: b"set", B: b"set too"})
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as db, db:
        db.execute("DELETE FROM pending_entry WHERE id = ?", (bytes.fromhex(A),))
    assert [(one.entry_id, one.is_set) for one in outbox.entries(9)] == [(B, True)]
    assert len(marks_of(tmp_path)) == 2
    Drain(outbox, team).once()
    assert team.told == [b"set too"]
    assert marks_of(tmp_path) == []


@pytest.mark.parametrize("end", ["", "g" * 64, "A" * 64, "0" * 63, "0" * 65])
def test_marks_that_somebody_else_wrote_hold_nothing_up(tmp_path, outbox, team, end):
    """Of no entry, in another spelling, and with something in them."""
    outbox.add_entries({A: b"a"})
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as db, db:
        db.execute("INSERT INTO mark VALUES (?, ?)", ("set entry 1 " + end, b"\xff" * 99))
    assert [(one.entry_id, one.is_set) for one in outbox.entries(9)] == [(A, False)]
    Drain(outbox, team).once()
    assert team.told == [b"a"]
    assert outbox.count() == (0, 0)
    assert outbox.value_ids() == frozenset()
