"""A disk tier that is edited, full, locked, read-only or removed: misses, ``StoreUnavailable``, nothing else."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.directory import ensure_private_directory, file_system_of
from genai_cache_magic.stores.disk import DiskConfig, DiskStore
from genai_cache_magic.stores.diskcache import BytesDisk
from genai_cache_magic.testing.contracts.store import key_of

_KEY = key_of("a")
_RAW_KEY = bytes.fromhex(_KEY)


class _Bomb:
    """Unpickling it makes a file: the proof that code of the database's author ran."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def _interrupt_put(store, line):
    """Put, with an interrupt at the `line`-th line that ours or `diskcache` runs; return whether it came so far."""
    remaining = [line]

    def trace(frame, event, _argument):
        if "diskcache" not in frame.f_code.co_filename and "stores" not in frame.f_code.co_filename:
            return None
        if event == "line":
            remaining[0] -= 1
            if remaining[0] == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        store.put(key_of("b"), b"interrupted", ttl_s=60)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def _fill(store):
    for number in range(200):
        store.put(key_of(str(number)), bytes(20_000), ttl_s=60)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "l1"


@pytest.fixture
def store(home):
    store = DiskStore(home, DiskConfig(busy_timeout_s=0.05, open_timeout_s=0.2))
    store.put(_KEY, b"mine", ttl_s=3600)
    store.put(key_of("other"), b"other", ttl_s=3600)
    yield store
    store.close()


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
        ],
    )
    def test_another_schema_is_rebuilt(self, store, edit, home, statement):
        """A database that holds what we did not make is put aside before anything of it runs."""
        store.close()
        edit(statement)
        aside = []
        with contextlib.closing(DiskStore(home, on_rebuild=aside.append)) as again:
            assert again.get(_KEY) is None
            again.put(_KEY, b"new", ttl_s=60)
            assert again.get(_KEY) == b"new"
        assert len(aside) == 1


class TestTrouble:
    def test_a_locked_database_is_unavailable(self, store, home):
        """While another process writes, reads go on and writes give up after a short time; then all is well."""
        with contextlib.closing(sqlite3.connect(home / "cache.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                store.put(_KEY, b"new", ttl_s=60)
            with pytest.raises(StoreUnavailable):
                store.put(_KEY, bytes(100_000), ttl_s=60)
            with pytest.raises(StoreUnavailable):
                store.delete(_KEY)
            assert store.get(_KEY) == b"mine"
            other.execute("COMMIT")
        store.put(_KEY, b"new", ttl_s=60)
        assert store.get(_KEY) == b"new"
        assert list(home.rglob("*.val")) == []

    def test_a_locked_database_does_not_open(self, home):
        """Opening gives up after a short time as well, and works the next time."""
        DiskStore(home).put(_KEY, b"mine", ttl_s=60)
        late = DiskStore(home, DiskConfig(busy_timeout_s=0.05, open_timeout_s=0.2))
        with contextlib.closing(sqlite3.connect(home / "cache.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable):
                late.put(_KEY, b"new", ttl_s=60)
            other.execute("COMMIT")
        assert late.get(_KEY) == b"mine"
        late.close()

    def test_a_full_disk_is_unavailable(self, store, home):
        """What can't be written raises, leaves no part of a file behind, and harms nothing that was there."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        try:
            with pytest.raises(StoreUnavailable):
                store.put(key_of("large"), bytes(700_000), ttl_s=60)
            with pytest.raises(StoreUnavailable):
                _fill(store)
            assert store.get(_KEY) == b"mine"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(home.rglob("*.val")) == []
        store.put(key_of("large"), bytes(700_000), ttl_s=60)
        assert store.get(key_of("large")) == bytes(700_000)
        assert store.get(_KEY) == b"mine"
        assert list(home.glob("quarantine-*")) == []

    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_an_interrupt_leaves_nothing(self, home, nth):
        """Interrupting a put, also within its transaction, locks nobody out and leaves no file."""
        calls = []
        is_armed = []

        def clock():
            calls.append(1)
            if is_armed and len(calls) == nth:
                raise KeyboardInterrupt
            return time.time()

        store = DiskStore(home, DiskConfig(busy_timeout_s=0.05), clock=clock)
        store.put(_KEY, b"old", ttl_s=60)
        calls.clear()
        is_armed.append(True)
        with contextlib.suppress(KeyboardInterrupt):
            store.put(_KEY, bytes(100_000), ttl_s=60)
        is_armed.clear()
        with contextlib.closing(DiskStore(home, DiskConfig(busy_timeout_s=0.05), clock=clock)) as other:
            other.put(_KEY, b"by another", ttl_s=60)
        store.put(key_of("b"), b"by the same", ttl_s=60)
        assert store.get_many([_KEY, key_of("b")]) == {_KEY: b"by another", key_of("b"): b"by the same"}
        assert list(home.rglob("*.val")) == []
        store.close()

    def test_an_interrupt_at_any_line_leaves_no_lock(self, home):
        """Wherever an interrupt hits a put, this process and others can write at once."""
        quick = DiskConfig(busy_timeout_s=0.01)
        store, other = DiskStore(home, quick), DiskStore(home, quick)
        other.put(_KEY, b"old", ttl_s=60)
        store.get(_KEY)
        was_interrupted = True
        line = 0
        while was_interrupted:
            line += 1
            was_interrupted = _interrupt_put(store, line)
            other.put(_KEY, b"by another", ttl_s=60)
            store.put(key_of("b"), b"by the same", ttl_s=60)
        assert line > 50
        assert store.get_many([_KEY, key_of("b")]) == {_KEY: b"by another", key_of("b"): b"by the same"}
        store.close()
        other.close()

    def test_a_reader_never_misses_what_is_replaced(self, store):
        """A value in a file that is replaced while it is read is the old one or the new one, never a miss."""
        store.put(_KEY, bytes(40_000), ttl_s=60)
        is_over = threading.Event()

        def replace():
            for number in range(150):
                store.put(_KEY, bytes([number]) * 40_000, ttl_s=60)
            is_over.set()

        thread = threading.Thread(target=replace)
        thread.start()
        misses = 0
        while not is_over.is_set():
            misses += store.get(_KEY) is None
        thread.join()
        assert misses == 0

    def test_a_removed_directory_comes_back(self, store, home):
        """Removing the cache under a running kernel costs the entries and nothing else."""
        shutil.rmtree(home)
        store._look_at = 0.0  # a second has passed
        assert store.get(_KEY) is None
        store.put(_KEY, bytes(100_000), ttl_s=60)
        assert store.get(_KEY) == bytes(100_000)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700

    def test_a_rebuild_by_another_is_noticed(self, store, home):
        """A process whose database another one put aside goes on, and then moves to the new one."""
        aside = []
        with contextlib.closing(DiskStore(home, on_rebuild=aside.append)) as other:
            other.get(_KEY)
            other._put_aside()
            other._look_at = 0.0
            other.put(key_of("new"), b"new", ttl_s=60)
            assert store.get(_KEY) == b"mine"
            store._look_at = 0.0
            assert store.get(key_of("new")) == b"new"
            assert store.get(_KEY) is None
        assert len(list(home.glob("quarantine-*"))) == 1

    def test_a_database_is_put_aside_once(self, home):
        """Who meets the damage after another has rebuilt moves to the new database and leaves it in place."""
        first_aside, second_aside = [], []
        first = DiskStore(home, on_rebuild=first_aside.append)
        second = DiskStore(home, on_rebuild=second_aside.append)
        first.put(_KEY, b"old", ttl_s=60)
        second.get(_KEY)
        connection = first._cache._con
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master")
        connection.execute("PRAGMA schema_version = 12345")  # tells the other connection to look again
        first._cache.drop_connection()
        first.put(_KEY, b"new", ttl_s=60)
        assert second.get(_KEY) == b"new"
        assert (len(first_aside), second_aside) == (1, [])
        first.close()
        second.close()

    def test_one_quarantine_is_kept(self, home):
        """Rebuilding again and again fills no disk, and leaves other files of the directory alone."""
        home.mkdir(mode=0o700)
        (home / "state.db").write_bytes(b"a neighbour")
        for number in range(3):
            (home / "cache.db").write_bytes(b"no database " * 1000)
            with contextlib.closing(DiskStore(home, clock=lambda now=number: 2e9 + now)) as store:
                store.put(_KEY, bytes(100_000), ttl_s=60)
                assert store.get(_KEY) == bytes(100_000)
        assert len(list(home.glob("quarantine-*"))) == 1
        assert (home / "state.db").read_bytes() == b"a neighbour"

    def test_orphans_are_swept(self, store, home):
        """Old value files that no row names go at the next open; young and used ones stay."""
        store.put(key_of("used"), bytes(100_000), ttl_s=9e9)
        store.close()
        used = next(home.rglob("*.val"))
        orphans = [used.with_name(f"{'0' * 27}{number}.val") for number in range(3)]
        for orphan in orphans:
            orphan.write_bytes(b"x")
        for path in (used, *orphans[:2]):
            os.utime(path, (1e9, 1e9))
        with contextlib.closing(DiskStore(home)) as again:
            assert again.get(key_of("used")) == bytes(100_000)
        assert sorted(home.rglob("*.val")) == sorted([used, orphans[2]])

    def test_threads_leave_no_descriptors(self, store):
        """Threads that end give their connections back."""
        if not Path("/proc/self/fd").exists():
            pytest.skip("descriptors can be counted on Linux only")

        def count():
            return len(list(Path("/proc/self/fd").iterdir()))

        before = count()
        for _ in range(40):
            thread = threading.Thread(target=store.get, args=(_KEY,))
            thread.start()
            thread.join()
        assert count() <= before + 6

    def test_files_are_private(self, store, home):
        """Database, log and value files are made for their owner alone, whatever the umask."""
        store.close()
        shutil.rmtree(home)
        before = os.umask(0)
        try:
            with contextlib.closing(DiskStore(home)) as open_store:
                open_store.put(_KEY, bytes(100_000), ttl_s=60)
                modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.rglob("*"))}
        finally:
            os.umask(before)
        assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
        assert len(modes) >= 7


class TestDirectory:
    def test_is_made_private(self, tmp_path):
        """A missing directory and its missing parents are made for their owner alone."""
        path = ensure_private_directory(tmp_path / "a" / "b")
        assert [stat.S_IMODE(entry.stat().st_mode) for entry in (path, path.parent)] == [0o700, 0o700]

    def test_ours_is_tightened(self, tmp_path):
        """An empty directory, and one that bears our marker, is closed to others."""
        (tmp_path / "l1").mkdir()
        (tmp_path / "l1").chmod(0o755)
        path = ensure_private_directory(tmp_path / "l1")
        (path / "something").touch()
        path.chmod(0o777)
        assert stat.S_IMODE(ensure_private_directory(path).stat().st_mode) == 0o700

    def test_somebodys_is_left_alone(self, tmp_path):
        """A directory with other files that others may enter is refused with the command, not changed."""
        path = tmp_path / "it's mine"
        path.mkdir()
        (path / "thesis.tex").touch()
        path.chmod(0o755)
        with pytest.raises(ConfigurationError, match=r"chmod 700 .*GENAI_CACHE_DIR"):
            ensure_private_directory(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o755

    def test_a_file_is_refused(self, tmp_path):
        """A file in the directory's place, or above it, is the user's to move."""
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(ConfigurationError, match="GENAI_CACHE_DIR"):
                DiskStore(path)

    def test_another_users_is_refused(self):
        """A directory of another user is refused by its owner's number; one that can't be written, with the fix."""
        with tempfile.TemporaryDirectory(prefix="genai-cache-owner-") as name:
            path = Path(name, "l1")
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, 12345, 12345)
                with pytest.raises(ConfigurationError, match="12345"):
                    ensure_private_directory(path)
                os.chown(path, 0, 0)
            Path(name).chmod(0o755)
            path.chmod(0o500)
            assert self._refusal_as_nobody(path) == "ConfigurationError"

    def _refusal_as_nobody(self, path):
        """Return the class that a user without rights meets: root is refused nothing, so a child gives it up."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if os.geteuid() == 0:
                    os.chown(path, 65534, 65534)
                    os.setuid(65534)
                ensure_private_directory(path)
            except Exception as error:  # noqa: BLE001 - told to the parent, which judges
                os.write(writer, type(error).__name__.encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as pipe:
            return pipe.read()

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/home/ada/cache", "nfs4"),
            ("/home/ada/local disk/cache", "ext4"),
            ("/home/adam", "ext4"),
            ("/mnt/c/cache", "9p"),
            ("/over", "fuse.sshfs"),
        ],
    )
    def test_file_system_is_the_innermost_mount(self, path, expected):
        """The longest mount point that holds the path decides, the later of two equal ones, escapes resolved."""
        mounts = (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            "30 22 0:40 / /home/ada rw - nfs4 server:/export rw\n"
            "31 30 8:2 / /home/ada/local\\040disk rw shared:2 master:1 - ext4 /dev/sdb rw\n"
            "32 22 0:50 / /mnt/c rw - 9p C:\\134 rw,aname=drvfs;path=C:\\\n"
            "33 22 8:3 / /over rw - ext4 /dev/sdc rw\n"
            "34 22 8:3 / /over rw - fuse.sshfs host: rw\n"
            "broken line\n"
        )
        assert file_system_of(Path(path), mounts)[0] == expected
        assert file_system_of(Path(path), "") == ("", "")

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_network_file_systems_are_refused(self, tmp_path, monkeypatch):
        """A directory on NFS, SMB or a Windows drive is refused with the fix; unknown file systems are not."""
        table = tmp_path / "mountinfo"
        monkeypatch.setattr("genai_cache_magic.stores.directory.mount_table", table.read_text)
        for kind, options in (("nfs", "rw"), ("cifs", "rw"), ("9p", "rw,aname=drvfs"), ("fuse.sshfs", "rw")):
            table.write_text(f"22 1 8:1 / {tmp_path} rw - {kind} x {options}\n")
            with pytest.raises(ConfigurationError, match=rf"{kind}.*GENAI_CACHE_DIR"):
                ensure_private_directory(tmp_path / "l1")
            assert not (tmp_path / "l1").exists()
        table.write_text(f"22 1 8:1 / {tmp_path} rw - someday x rw\n")
        assert ensure_private_directory(tmp_path / "l1").is_dir()
