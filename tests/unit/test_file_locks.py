"""A lock of files is given up once, by whichever of several threads is first."""

from __future__ import annotations

import sys
import threading

import pytest

from genai_cache_magic.stores.disk import locks
from genai_cache_magic.stores.disk.locks import FileLock


@pytest.fixture
def meanwhile(monkeypatch):
    """What is done in the middle of the first release of a lock."""
    done = []
    original = locks.unlock

    def unlock(descriptor):
        if done:
            done.pop()()
        original(descriptor)

    monkeypatch.setattr(locks, "unlock", unlock)
    return done


@pytest.fixture
def taken(tmp_path):
    lock = FileLock(tmp_path / "one.lock")
    assert lock.try_acquire()
    return lock


def test_two_threads_release_it_at_once(taken, tmp_path, meanwhile, monkeypatch):
    """The slower one frees nothing: by then the descriptor's number may be that of another's lock."""
    second_waits = threading.Event()
    real = threading.RLock()
    entered = []

    class Watched:
        def __enter__(self):
            entered.append(threading.get_ident())
            if len(entered) == 2:
                second_waits.set()
            return real.__enter__()

        def __exit__(self, *how):
            return real.__exit__(*how)

    taken._giving_up = Watched()
    second = threading.Thread(target=taken.release)

    def begin():
        second.start()
        assert second_waits.wait(30)

    meanwhile.append(begin)
    freed = []
    real_close = locks.os.close
    monkeypatch.setattr(locks.os, "close", lambda descriptor: (freed.append(descriptor), real_close(descriptor)))
    taken.release()
    second.join(30)
    monkeypatch.undo()
    assert not taken.is_held
    assert len(set(entered)) == 2
    assert len(freed) == 1
    assert FileLock(tmp_path / "one.lock").try_acquire()


def test_the_collector_releases_it_in_the_middle_of_a_release(taken, tmp_path, meanwhile):
    """As another end of the same call: it is free, and neither raises."""
    meanwhile.append(taken.release)
    taken.release()
    assert not taken.is_held
    assert FileLock(tmp_path / "one.lock").try_acquire()


def test_an_interrupt_at_its_end_holds_up_no_other_lock(taken, tmp_path):
    """Wherever a release ends early, others are released, and this one is by calling it again."""
    lines = []

    def interrupted_at(number):
        def trace(frame, event, _):
            if frame.f_code is FileLock.release.__code__ and event == "line":
                lines.append(frame.f_lineno)
                if len(lines) == number:
                    raise KeyboardInterrupt
            return trace

        return trace

    for number in range(1, 20):
        lines.clear()
        taken.try_acquire()
        before = sys.gettrace()
        sys.settrace(interrupted_at(number))
        try:
            taken.release()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        released = threading.Thread(target=other_is_released, args=(tmp_path,), daemon=True)
        released.start()
        released.join(30)
        assert not released.is_alive()
        taken.release()
        assert not taken.is_held
    assert len(lines) < 19  # each line had its turn


def other_is_released(directory):
    with FileLock(directory / "other.lock").hold(timeout_s=10):
        pass
