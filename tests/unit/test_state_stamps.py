"""What tells whether anything was written into ``state.db``, and whether it is another file."""

from __future__ import annotations

from contextlib import closing

import pytest

from genai_cache_magic.entries.state import StateFile

SCHEMA = ("CREATE TABLE t (a INTEGER)",)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def state(path):
    with closing(StateFile(path, SCHEMA)) as state:
        yield state


def insert(state, number):
    state.write(lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)))


def test_it_is_another_one_once_anything_was_written(state, path):
    """Here, or by another process; not before, and where the file was replaced its first number is another one."""
    seen = [state.stamp()]
    assert state.stamp() == seen[0]
    insert(state, 1)
    seen.append(state.stamp())
    with closing(StateFile(path, SCHEMA)) as other:
        insert(other, 2)
    seen.append(state.stamp())
    assert len(set(seen)) == 3
    assert len({stamp[0] for stamp in seen}) == 1
    path.unlink()
    assert state.stamp()[0] != seen[0][0]


def test_it_is_of_one_connection(state, monkeypatch):
    """Another thread that finds the file replaced meanwhile takes another: what is said of the two is never mixed."""
    run, before = state._run, state.stamp()

    def replaced_meanwhile(work, begin):
        found = run(work, begin)
        state._drop()
        run(lambda _: None, "")
        return found

    monkeypatch.setattr(state, "_run", replaced_meanwhile)
    assert state.stamp() == before
