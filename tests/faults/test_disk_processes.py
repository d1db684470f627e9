"""Many processes on one directory: nothing lost, nobody harmed by another's death or fork."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from contextlib import closing

import pytest
from torture.kills import run_kills

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk import locks
from genai_cache_magic.stores.disk.locks import FileLock, KeyLocks
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.testing.contracts.store import key_of

_PROCESSES = 16
_PUTS = 20


def _in_child(work):
    """Run `work` in a forked child, and return its process id; its exit code is 0 if `work` returned true."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    signal.alarm(15)  # a child that hangs dies of it, so that its parent's test fails rather than hangs
    try:
        code = 0 if work() else 2
    finally:
        os._exit(code)


def _exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _value(number, turn):
    return f"{number} {turn} ".encode() * (20 if turn % 4 else 6_000)


def test_new_directory_shared_by_processes(tmp_path):
    """16 processes that open one new directory at once and write lose nothing."""

    def work(number):
        store = DiskStore(tmp_path / "l1")
        for turn in range(_PUTS):
            store.put(key_of(f"{number} {turn}"), _value(number, turn), ttl_s=3600)
        return all(store.get(key_of(f"{number} {turn}")) == _value(number, turn) for turn in range(_PUTS))

    children = [_in_child(lambda number=number: work(number)) for number in range(_PROCESSES)]
    assert [_exit_code(child) for child in children] == [0] * _PROCESSES
    with closing(DiskStore(tmp_path / "l1")) as store:
        for number in range(_PROCESSES):
            for turn in range(_PUTS):
                assert store.get(key_of(f"{number} {turn}")) == _value(number, turn)
        assert store.count() == _PROCESSES * _PUTS
        assert not store.check().is_rebuilt


def test_killed_writers_lose_nothing(tmp_path):
    """Writers killed at random moments leave every finished put, whole, and a store that works."""
    report = run_kills(tmp_path / "l1", kills=12, seed="test")
    assert report.kills >= 12
    assert report.acknowledged > 12
    assert (report.wrong, report.lost, report.rebuilds) == ([], [], 0)


def test_fork(tmp_path):
    """A store that a fork takes along works in the child and goes on in the parent."""
    with closing(DiskStore(tmp_path / "l1")) as store:
        store.put(key_of("parent"), b"parent", ttl_s=3600)

        def work():
            store.put(key_of("child"), bytes(100_000), ttl_s=3600)
            return store.get(key_of("parent")) == b"parent" and store.get(key_of("child")) == bytes(100_000)

        assert _exit_code(_in_child(work)) == 0
        store.put(key_of("after"), b"after", ttl_s=3600)
        assert store.get(key_of("child")) == bytes(100_000)
        assert sorted(store.scan()) == sorted(key_of(label) for label in ("parent", "child", "after"))
        assert not store.check().is_rebuilt


def test_fork_while_a_thread_opens(tmp_path):
    """A child forked while another thread was opening the store does not wait for that thread for ever."""
    with closing(DiskStore(tmp_path / "l1")) as store:
        has_lock, may_go = threading.Event(), threading.Event()

        def hold():
            with store._opening:
                has_lock.set()
                may_go.wait()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        has_lock.wait()

        def work():
            store.put(key_of("child"), b"child", ttl_s=3600)
            return store.get(key_of("child")) == b"child"

        child = _in_child(work)
        code = _exit_code(child)
        may_go.set()
        thread.join()
        assert code == 0
        assert store.get(key_of("child")) == b"child"


def test_processes_rebuild_once(tmp_path):
    """Of several processes that meet a damaged database at once, one rebuilds it and all go on with that one."""
    home = tmp_path / "l1"
    home.mkdir(mode=0o700)
    (home / "cache.db").write_bytes(b"no database " * 1000)

    def work(number):
        aside = []
        store = DiskStore(home, on_loss=aside.append)
        store.put(key_of(str(number)), b"x", ttl_s=3600)
        (tmp_path / f"rebuilt {number} {len(aside)}").touch()
        return True

    children = [_in_child(lambda number=number: work(number)) for number in range(6)]
    assert [_exit_code(child) for child in children] == [0] * 6
    assert len(list(tmp_path.glob("rebuilt * 1"))) == 1
    with closing(DiskStore(home)) as store:
        assert store.count() == 6


class TestLocks:
    def test_one_holder(self, tmp_path):
        """Of two lock objects on one file, of one process or of two, one holds the lock."""
        first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
        assert first.try_acquire() is True
        assert first.try_acquire() is False
        assert second.try_acquire() is False
        assert _exit_code(_in_child(lambda: not FileLock(tmp_path / "lock").try_acquire())) == 0
        first.release()
        first.release()
        assert (first.is_held, second.try_acquire(), second.is_held) == (False, True, True)
        second.release()

    def test_freed_by_death(self, tmp_path):
        """A holder that is killed holds nothing any more."""
        reader, writer = os.pipe()

        def work():
            FileLock(tmp_path / "lock").acquire(timeout_s=1)
            kept = FileLock(tmp_path / "other")
            kept.acquire(timeout_s=1)
            os.write(writer, b"x")
            signal.pause()

        child = _in_child(work)
        os.read(reader, 1)
        lock = FileLock(tmp_path / "other")
        assert lock.try_acquire() is False
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert lock.acquire(timeout_s=5) is True
        lock.release()
        os.close(reader)
        os.close(writer)

    def test_waits_and_gives_up(self, tmp_path):
        """Waiting ends with the time-out, in growing pauses; a holder that lets go ends it sooner."""
        now, pauses = [0.0], []

        def sleep(seconds):
            pauses.append(seconds)
            now[0] += seconds
            if len(pauses) == 30:
                holder.release()

        holder = FileLock(tmp_path / "lock")
        waiter = FileLock(tmp_path / "lock", clock=lambda: now[0], sleep=sleep)
        holder.acquire(timeout_s=0)
        assert waiter.acquire(timeout_s=0.05) is False
        assert 0.05 <= now[0] < 0.06
        assert len(pauses) < 30
        assert waiter.acquire(timeout_s=5) is True
        assert max(pauses) <= 0.02
        waiter.release()

    def test_hold(self, tmp_path):
        """A block runs under the lock, or not at all; an exception in it frees the lock."""
        lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")

        def fail():
            with lock.hold(timeout_s=1):
                with pytest.raises(StoreUnavailable), other.hold(timeout_s=0):
                    pytest.fail("two holders")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert other.try_acquire() is True
        other.release()

    def test_a_child_of_the_holder_keeps_nothing(self, tmp_path):
        """What a holder releases is free, also if a child that it forked meanwhile still runs."""
        reader, writer = os.pipe()
        lock = FileLock(tmp_path / "lock")
        assert lock.try_acquire()
        child = _in_child(lambda: os.read(reader, 1) == b"x")
        lock.release()
        is_free = FileLock(tmp_path / "lock").try_acquire()
        os.write(writer, b"x")
        assert _exit_code(child) == 0
        assert is_free
        os.close(reader)
        os.close(writer)

    def test_a_child_waits_for_its_parent_as_any_other(self, tmp_path):
        """A child forked while a thread holds the lock gets it, by the same object, once that thread lets go."""
        lock = FileLock(tmp_path / "lock")
        assert lock.try_acquire()
        (asked, ask), (released, release) = os.pipe(), os.pipe()

        def work():
            lock.release()  # of what is the parent's it frees nothing
            is_free = lock.is_held or lock.try_acquire() or FileLock(tmp_path / "lock").try_acquire()
            os.write(ask, b"x")
            return not is_free and os.read(released, 1) == b"x" and lock.acquire(timeout_s=10) and lock.is_held

        child = _in_child(work)
        assert os.read(asked, 1) == b"x"
        assert lock.is_held
        lock.release()
        os.write(release, b"x")
        assert _exit_code(child) == 0
        for descriptor in (asked, ask, released, release):
            os.close(descriptor)

    def test_removed_file(self, tmp_path):
        """A lock whose file was removed and made anew is not held by two."""
        first = FileLock(tmp_path / "locks" / "lock")
        assert first.try_acquire()
        (tmp_path / "locks" / "lock").unlink()
        second = FileLock(tmp_path / "locks" / "lock")
        assert second.try_acquire()
        assert FileLock(tmp_path / "locks" / "lock").try_acquire() is False
        second.release()
        first.release()

    def test_removed_while_taken(self, tmp_path):
        """A lock on a file that lost its name between opening and locking is not taken for the lock."""

        class Unlucky(FileLock):
            def _open(self):
                descriptor = super()._open()
                self.path.unlink()
                return descriptor

        assert Unlucky(tmp_path / "lock").try_acquire() is False
        assert FileLock(tmp_path / "lock").try_acquire() is True

    def test_follows_no_link(self, tmp_path):
        """A link in place of the lock's file is trouble, and what it points to is not made."""
        (tmp_path / "lock").symlink_to(tmp_path / "victim")
        with pytest.raises(StoreUnavailable):
            FileLock(tmp_path / "lock").try_acquire()
        assert not (tmp_path / "victim").exists()

    def test_per_key(self, tmp_path):
        """One key has one lock; other keys don't wait for it; files are few."""
        locks = KeyLocks(tmp_path / "locks", shards=16)
        held = locks.of("0" * 64)
        assert held.try_acquire()
        assert locks.of("0" * 64).try_acquire() is False
        other = locks.of("0" * 14 + "1" + "0" * 49)
        assert other.try_acquire() is True
        other.release()
        held.release()
        for number in range(100):
            lock = locks.of(key_of(str(number)))
            assert lock.try_acquire()
            lock.release()
        assert len(list((tmp_path / "locks").iterdir())) <= 16
        with pytest.raises(ValueError, match="hex"):
            locks.of("../etc")


class TestInterruptedLocks:
    """An interrupt that comes while a lock is taken leaves it free: by `hold` at once, else once it is released."""

    @pytest.mark.parametrize("way", ["hold", "try"])
    def test_wherever_it_comes(self, tmp_path, way):
        path = tmp_path / "lock"
        for line in itertools.count():
            lock, is_in = FileLock(path), []
            left = [line]

            def trace(frame, event, _, left=left, is_in=is_in):
                if frame.f_code.co_filename != locks.__file__ or is_in:
                    return None
                if event == "line":
                    left[0] -= 1
                    if left[0] < 0 and frame.f_code.co_name not in {"release", "_drop_inherited"}:
                        sys.settrace(None)
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)
            try:
                if way == "hold":
                    with lock.hold(timeout_s=0):
                        is_in.append(True)
                else:
                    lock.try_acquire()
                    is_in.append(True)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            if is_in:
                assert line > 10
                break
            other = FileLock(path)
            assert other.try_acquire() or way == "try", f"held after an interrupt at line {line}"
            other.release()
            lock.release()
            assert other.try_acquire()
            other.release()

    def test_while_it_is_given_back(self, tmp_path):
        """It is free as well: nobody else would ever give it back."""
        path = tmp_path / "lock"
        for line in itertools.count():
            left = [line]

            def trace(frame, event, _, left=left):
                if frame.f_code.co_filename != locks.__file__:
                    return None
                if event == "line" and frame.f_code.co_name in {"release", "_drop_inherited"}:
                    left[0] -= 1
                    if left[0] < 0:
                        sys.settrace(None)
                        raise KeyboardInterrupt
                return trace

            lock, other, is_over = FileLock(path), FileLock(path), False
            try:
                with lock.hold(timeout_s=0):
                    sys.settrace(trace)
                is_over = True
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            assert other.try_acquire(), f"held after an interrupt at line {line}"
            other.release()
            if is_over:
                assert line > 3
                break
