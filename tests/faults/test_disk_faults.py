"""A disk tier that is edited, full, locked, read-only or removed: misses, ``StoreUnavailable``, nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
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
from genai_cache_magic.stores.disk.directory import ensure_private_directory
from genai_cache_magic.stores.disk.files import ValueFiles
from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore
from genai_cache_magic.testing.contracts.store import key_of

_KEY = key_of("a")


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
        with contextlib.closing(DiskStore(home, on_loss=aside.append)) as other:
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
        first = DiskStore(home, on_loss=first_aside.append)
        second = DiskStore(home, on_loss=second_aside.append)
        first.put(_KEY, b"old", ttl_s=60)
        second.get(_KEY)
        connection = first._cache._con
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master")
        connection.execute("PRAGMA schema_version = 12345")  # tells the other connection to look again
        first._cache.drop_connection()
        first.put(_KEY, b"new", ttl_s=60)
        assert second.get(_KEY) == b"new"
        assert len(list(home.glob("quarantine-*"))) == 1
        assert ["put aside" in first_aside[0], "begun anew by another" in second_aside[0]] == [True, True]
        assert (len(first_aside), len(second_aside)) == (1, 1)
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
    @pytest.mark.parametrize("name", ["$HOME", "~", "%TEMP%", "{x}"])
    def test_a_name_is_taken_as_it_is(self, tmp_path, monkeypatch, name):
        """What was checked is what is used: nobody below the settings puts variables into a path once more."""
        monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
        monkeypatch.chdir(tmp_path)
        with contextlib.closing(DiskStore(Path(name) / "l1")) as store:
            store.put(_KEY, bytes(100_000), ttl_s=60)
            assert store.get(_KEY) == bytes(100_000)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name / "l1" / "cache.db").is_file()

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
        """A directory of another user is refused by its owner's number; one that can only be read is read."""
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
            assert self._refusal_as_nobody(path) == ""
            path.chmod(0o000)
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


@pytest.mark.parametrize("level", ["outer", "inner"])
def test_another_process_removes_the_directories_of_a_value_file(tmp_path, monkeypatch, level):
    """Directories that others empty go at any moment, also between the making of one and of the next in it."""
    files, key = ValueFiles(os.fspath(tmp_path)), bytes(range(32))
    name = files.new_name(key)
    inner = (tmp_path / name).parent
    make, removed = Path.mkdir, []

    def made_and_removed(path, *args, **kwargs):
        make(path, *args, **kwargs)
        if len(removed) < 20 and path == (inner if level == "inner" else inner.parent):
            path.rmdir()
            removed.append(path)

    monkeypatch.setattr(Path, "mkdir", made_and_removed)
    files.write(name, b"value")
    assert len(removed) == 20
    assert files.read(name, 5) == b"value"


def test_a_directory_that_goes_just_when_it_is_seen_to_be_there(tmp_path, monkeypatch):
    """Made by another process, and gone before this one has looked what it is: it is made again."""
    files = ValueFiles(os.fspath(tmp_path))
    name = files.new_name(bytes(32))
    make, raised = Path.mkdir, []

    def was_there(path, *args, **kwargs):
        if not raised:
            raised.append(path)
            raise FileExistsError(errno.EEXIST, "it was there", str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", was_there)
    files.write(name, b"value")
    assert (files.read(name, 5), len(raised)) == (b"value", 1)
