"""A disk tier that somebody has edited: rows, file names and settings are misses, never code that runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import threading
from pathlib import Path

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.stores.disk.diskcache import BytesDisk
from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore
from genai_cache_magic.testing.contracts.store import key_of

_KEY = key_of("a")
_RAW_KEY = bytes.fromhex(_KEY)


class _Bomb:
    """Unpickling it makes a file: the proof that code of the database's author ran."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def edit(home):
    """Run one statement on the database, as anybody who may write the directory can."""

    def run(statement, *parameters):
        with contextlib.closing(sqlite3.connect(home / "cache.db")) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    return run


class TestEditedRows:
    @pytest.mark.parametrize("mode", [3, 4, 0, 5, -1, None, "1", b"4", 1.5])
    @pytest.mark.parametrize("where", ["row", "file"])
    def test_no_other_mode_is_obeyed(self, store, edit, tmp_path, mode, where):
        """A value said to be pickled, text or anything else runs nothing: it is a miss, and removed."""
        home = store.directory
        bomb = pickle.dumps(_Bomb(tmp_path / "executed"))
        name, value = (None, bomb) if where == "row" else ("ab/cd/" + "0" * 28 + ".val", None)
        (home / "ab" / "cd").mkdir(parents=True)
        (home / "ab" / "cd" / ("0" * 28 + ".val")).write_bytes(bomb)
        edit("UPDATE Cache SET mode=?, filename=?, value=?, size=? WHERE key=?", mode, name, value, len(bomb), _RAW_KEY)
        assert store.get_many([_KEY, key_of("other")]) == {key_of("other"): b"other"}
        assert store.get(_KEY) is None
        assert edit("SELECT * FROM Cache WHERE key = ?", _RAW_KEY) == []
        assert not (tmp_path / "executed").exists()

    def test_no_pickled_key_is_read(self, store, edit, tmp_path):
        """A key said to be pickled (raw = 0) runs nothing, is no key, and `check` removes it."""
        bomb = pickle.dumps(_Bomb(tmp_path / "executed"))
        edit("INSERT INTO Cache (key, raw, expire_time, mode, value) VALUES (?, 0, 9e9, 4, ?)", bomb, bomb)
        edit("INSERT INTO Cache (key, raw, expire_time, mode, value) VALUES (?, 0, 9e9, 4, ?)", _RAW_KEY, bomb)
        edit("INSERT INTO Cache (key, raw, expire_time, mode, value) VALUES (?, 1, 9e9, 4, ?)", "text", bomb)
        assert sorted(store.scan()) == sorted([_KEY, key_of("other")])
        assert store.get(_KEY) == b"mine"
        assert store.check().removed_rows == 3
        assert store.count() == 2
        assert not (tmp_path / "executed").exists()

    def test_the_disk_class_itself_refuses(self, tmp_path):
        """Whoever calls the `diskcache` parts directly meets the same refusals."""
        disk = BytesDisk(str(tmp_path), min_file_size=10, pickle_protocol=0)
        for key in ("text", 1, ("a",), b"short", None):
            with pytest.raises(TypeError):
                disk.put(key)
        for value in ("text", 1, ["a"], None):
            with pytest.raises(TypeError):
                disk.store(value, read=False, key=_RAW_KEY)
        bomb = pickle.dumps(_Bomb(tmp_path / "executed"))
        assert [disk.fetch(mode, None, bomb, read=False) for mode in (2, 3, 4)] == [None] * 3
        assert disk.get(bomb, raw=False) is None
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("value", [None, 7, 1.5, "text", b"", b"short", b"x" * 500])
    def test_no_other_value_is_served(self, store, edit, value):
        """Whatever was written over a value is a miss."""
        edit("UPDATE Cache SET value = ? WHERE key = ?", value, _RAW_KEY)
        assert store.get(_KEY) is None
        assert store.delete(_KEY) is False

    def test_no_swapped_value_is_served(self, store, edit):
        """Two whole values under each other's keys are two misses."""
        (mine,), (other,) = (
            edit("SELECT value FROM Cache WHERE key = ?", key)[0] for key in (_RAW_KEY, bytes.fromhex(key_of("other")))
        )
        edit("UPDATE Cache SET value = ? WHERE key = ?", other, _RAW_KEY)
        edit("UPDATE Cache SET value = ? WHERE key = ?", mine, bytes.fromhex(key_of("other")))
        assert store.get_many([_KEY, key_of("other")]) == {}
        assert list(store.scan()) == []

    def test_no_prolonged_life(self, home, edit):
        """The time to live is part of what is checked: editing the column serves nothing longer."""
        now = [2e9]
        with contextlib.closing(DiskStore(home, clock=lambda: now[0])) as store:
            store.put(_KEY, b"brief", ttl_s=10)
            edit("UPDATE Cache SET expire_time = 9e9")
            now[0] += 11
            assert store.get(_KEY) is None
            assert store.get_many([_KEY]) == {}


class TestEditedFileNames:
    @pytest.fixture
    def victim(self, tmp_path):
        victim = tmp_path / "victim.val"
        victim.write_bytes(b"x" * 100_000)
        return victim

    def _point(self, edit, name, size=100_000):
        edit("UPDATE Cache SET mode=2, filename=?, value=NULL, size=? WHERE key=?", name, size, _RAW_KEY)

    @pytest.mark.parametrize(
        "name",
        [
            "../victim.val",
            "../l1/../victim.val",
            "{tmp}/victim.val",
            "ab/cd/../../../victim.val",
            "victim.val",
            "",
            "\0",
            7,
            b"../victim.val",
        ],
    )
    def test_no_foreign_file_is_read_or_removed(self, store, edit, victim, tmp_path, name):
        """A name that leads elsewhere is a miss; the row goes, the file stays."""
        self._point(edit, name.format(tmp=tmp_path) if isinstance(name, str) else name)
        assert store.get(_KEY) is None
        assert edit("SELECT * FROM Cache WHERE key = ?", _RAW_KEY) == []
        assert victim.read_bytes() == b"x" * 100_000

    @pytest.mark.parametrize("name", ["../victim.val", "../l1/../victim.val"])
    @pytest.mark.parametrize("remove", ["put", "delete", "check", "evict"])
    def test_no_way_of_removal_follows_a_name(self, home, edit, victim, remove, name):
        """Overwriting, deleting, checking and evicting remove rows, and never a file of another's."""
        now = [2e9]
        with contextlib.closing(DiskStore(home, clock=lambda: now[0])) as store:
            store.put(_KEY, b"a", ttl_s=10)
            self._point(edit, name)
            if remove == "put":
                store.put(_KEY, b"b", ttl_s=10)
            elif remove == "delete":
                store.delete(_KEY)
            elif remove == "check":
                store.check()
            else:
                now[0] += 11
                store.put(key_of("other"), b"b", ttl_s=10)
            assert edit("SELECT filename FROM Cache WHERE filename IS NOT NULL") == []
        assert victim.exists()

    @pytest.mark.parametrize("kind", ["link", "shard", "pipe", "directory", "huge"])
    def test_only_regular_files_of_the_size(self, store, edit, victim, home, kind):
        """A link, a linked directory, a pipe, a directory or a file of another size is a miss that blocks nobody."""
        name = "ab/cd/" + "0" * 28 + ".val"
        path = home / name
        if kind == "shard":
            (victim.parent / "elsewhere" / "cd").mkdir(parents=True)
            (victim.parent / "elsewhere" / "cd" / path.name).write_bytes(b"x" * 100_000)
            (home / "ab").symlink_to(victim.parent / "elsewhere")
        else:
            path.parent.mkdir(parents=True)
        if kind == "link":
            path.symlink_to(victim)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        self._point(edit, name)
        assert store.get(_KEY) is None
        assert edit("SELECT * FROM Cache WHERE key = ?", _RAW_KEY) == []
        assert victim.exists()
        if kind == "shard":
            assert (victim.parent / "elsewhere" / "cd" / path.name).exists()

    def test_no_link_to_a_good_value(self, store, edit, home, tmp_path):
        """Not even a link to the right bytes is followed, and removing it leaves the bytes."""
        store.put(_KEY, bytes(100_000), ttl_s=60)
        path = next(home.rglob("*.val"))
        moved = path.rename(tmp_path / "moved")
        path.symlink_to(moved)
        assert store.get(_KEY) is None
        assert edit("SELECT * FROM Cache WHERE key = ?", _RAW_KEY) == []
        assert moved.exists()
        assert not path.is_symlink()


class TestEditedSettings:
    def test_none_is_obeyed(self, store, edit, home):
        """Settings come from the configuration: rows that somebody added are removed, edited ones corrected."""
        store.close()
        evil = {
            "sqlite_writable_schema": 1, "sqlite_temp_store_directory": "'/tmp'", "disk_evil": 1, "get": "x",
            "_sql": "x", "eviction_policy": "none", "size_limit": 5, "cull_limit": "x", "statistics": 1,
            "disk_min_file_size": 0,
        }  # fmt: skip
        for name, value in evil.items():
            edit("INSERT OR REPLACE INTO Settings VALUES (?, ?)", name, value)
        edit("INSERT INTO Settings VALUES (?, 1)", b"\xff")
        with contextlib.closing(DiskStore(home)) as again:
            assert again.get(_KEY) == b"mine"
            again.put(_KEY, b"new", ttl_s=60)
            assert again.get(_KEY) == b"new"
        settings = dict(edit("SELECT key, value FROM Settings"))
        assert settings.keys() == {*DiskConfig().settings(), "count", "size", "hits", "misses"}
        assert {name: settings[name] for name in DiskConfig().settings()} == DiskConfig().settings()

    def test_a_new_connection_obeys_none(self, store, edit):
        """Rows that somebody adds while the store is open change no connection that a thread opens later."""
        edit("INSERT OR REPLACE INTO Settings VALUES ('sqlite_query_only', 1)")
        edit("INSERT OR REPLACE INTO Settings VALUES ('get', 1)")
        answers = []

        def work():
            store.put(_KEY, b"from a thread", ttl_s=60)
            answers.append(store.get(_KEY))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert answers == [b"from a thread"]

    @pytest.mark.parametrize("value", ["text", None, -5, 2.5, b"x", 1 << 60])
    def test_a_damaged_counter_is_no_exception(self, store, edit, value):
        """A counter that is no plausible number may cost entries, not the call, and `check` corrects it."""
        edit("UPDATE Settings SET value = ? WHERE key IN ('size', 'count')", value)
        store.put(_KEY, b"new", ttl_s=60)
        assert store.get(_KEY) == b"new"
        assert store.count() >= 0
        store.check()
        assert store.count() == len(list(store.scan()))

    @pytest.mark.parametrize("size", [None, "text", b"x", -7, 1.5])
    def test_a_damaged_size_stops_no_eviction(self, home, edit, size):
        """Making room passes over rows whose size is no number."""
        with contextlib.closing(DiskStore(home, DiskConfig(size_limit_bytes=1 << 20))) as store:
            store.put(_KEY, b"a", ttl_s=60)
            edit("UPDATE Cache SET size = ?", size)
            for number in range(60):
                store.put(key_of(str(number)), bytes(30_000), ttl_s=60)
            assert store.get(key_of("59")) == bytes(30_000)
            assert store.get(_KEY) is None

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE VIEW Evil AS SELECT 1",
            "CREATE TRIGGER Evil AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
            "CREATE TABLE Evil (a)",
            "DROP TABLE Cache",
            "DROP TABLE Settings",
            "ALTER TABLE Cache RENAME COLUMN filename TO other",
            "ALTER TABLE Cache ADD COLUMN other",
            """DROP TRIGGER Settings_count_insert;
            CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END""",
            """DROP TRIGGER Settings_size_delete;
            CREATE TRIGGER Settings_size_delete AFTER DELETE ON Settings BEGIN SELECT RAISE(ABORT, 'no'); END""",
            "DROP INDEX Cache_store_time; CREATE INDEX Cache_store_time ON Cache (lower(store_time))",
            "DROP INDEX Cache_key_raw; CREATE INDEX Cache_key_raw ON Cache (key, raw) WHERE raw = 0",
            "DROP INDEX Cache_store_time; CREATE INDEX Cache_store_time ON Settings (value)",
            "DROP TABLE Settings; CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value CHECK (value < 3))",
        ],
    )
    def test_another_schema_is_rebuilt(self, store, home, statement):
        """A database that holds what we did not make is put aside before anything of it runs."""
        store.close()
        with contextlib.closing(sqlite3.connect(home / "cache.db")) as connection:
            connection.executescript(statement)
        aside = []
        with contextlib.closing(DiskStore(home, on_loss=aside.append)) as again:
            assert again.get(_KEY) is None
            again.put(_KEY, b"new", ttl_s=60)
            assert again.get(_KEY) == b"new"
        assert len(aside) == 1


_EDITED = [
    (table, column)
    for table, columns in {
        "entry": ("id", "ver", "created_ms", "expires_ms", "label", "tags", "key", "gone"),
        "detail": ("parts", "sealed"),
        "tally": ("present", "last"),
        "mark": ("value",),
        "name": ("sealed",),
        "tag": ("ver", "expires_ms"),
    }.items()
    for column in columns
]


@pytest.mark.parametrize("value", ["text", 2**63 - 1])
@pytest.mark.parametrize(("table", "column"), _EDITED)
def test_rows_that_somebody_else_wrote_stop_nothing(isolated, table, column, value):
    """Whatever stands in the columns of the catalogue, everything that asks it answers, and answers are served."""
    with create_cache("disk") as cache:
        cache.mset({"a": 1, "b": 2}, tags=("t",))
        state = Path(cache.stats().directory) / "state.db"
    with contextlib.closing(sqlite3.connect(state)) as db, contextlib.suppress(sqlite3.IntegrityError):
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
        db.commit()
    with create_cache("disk") as cache:
        assert cache.get("a") == 1
        cache.stats()
        cache.keys("*")
        cache.invalidate_tag("t", dry_run=True)
        cache.set("b", 3, tags=("t",))
        assert cache.get("b") == 3
        cache.invalidate_older_than("1h", dry_run=True)
        cache.clear()
        assert cache.get("a") is None
