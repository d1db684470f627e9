"""Random damage to the files of a store costs entries, and never a wrong answer or an exception."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from torture.corruption import run_corruptions

from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.testing.contracts.store import key_of


def test_random_corruption(tmp_path):
    """60 damaged stores, closed and open: no wrong answer, no exception, not even an unavailable tier."""
    report = run_corruptions(tmp_path, corruptions=60, seed="test")
    assert report.corruptions == 60
    assert report.answers > report.misses > 0
    assert report.rebuilds > 0
    assert (report.wrong, report.unavailable) == ([], [])


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_no_database_at_all(tmp_path, content):
    """Whatever stands in the database's place, the store works; an empty file is simply a new database."""
    home = tmp_path / "l1"
    home.mkdir(mode=0o700)
    (home / "cache.db").write_bytes(content)
    (home / "cache.db-wal").write_bytes(b"a log of nothing")
    aside = []
    with closing(DiskStore(home, on_loss=aside.append)) as store:
        assert store.get(key_of("a")) is None
        store.put(key_of("a"), b"a", ttl_s=60)
        assert store.get(key_of("a")) == b"a"
    assert len(aside) == (1 if content else 0)


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_no_file_at_all(tmp_path, kind):
    """What is no file is put aside like a damaged one, and keeps nobody waiting."""
    home = tmp_path / "l1"
    with closing(DiskStore(home)) as store:
        store.put(key_of("a"), b"a", ttl_s=60)
    path = home / "cache.db"
    path.unlink()
    put_in_place(path, kind)
    aside = []
    with closing(DiskStore(home, on_loss=aside.append)) as store:
        assert store.get(key_of("a")) is None
        store.put(key_of("a"), b"b", ttl_s=60)
        assert store.get(key_of("a")) == b"b"
    assert len(aside) == 1


def put_in_place(path, kind):
    """Make what is no file where a database should be."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
        (path / "x").write_bytes(b"x")


def test_damage_met_by_every_operation(tmp_path):
    """Each operation, the first to meet a damaged database, repairs it and answers."""
    operations = [
        lambda store: store.get(key_of("a")) is None,
        lambda store: store.get_many([key_of("a")]) == {},
        lambda store: store.put(key_of("a"), b"new", ttl_s=60) is None and store.get(key_of("a")) == b"new",
        lambda store: store.delete(key_of("a")) is False,
        lambda store: list(store.scan()) == [],
        lambda store: store.count() == 0,
        lambda store: store.size_bytes() > 0,
        lambda store: store.check().is_rebuilt,
    ]
    for number, operation in enumerate(operations):
        home = tmp_path / str(number)
        with closing(DiskStore(home)) as store:
            store.put(key_of("a"), b"a", ttl_s=60)
            # Through SQLite itself, as a wrong write of another program would: the open connection meets it.
            connection = store._cache._con
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("DELETE FROM sqlite_master WHERE name LIKE 'Cache%' OR name LIKE 'Settings%'")
            store._cache.drop_connection()
            assert operation(store), number
            assert len(list(home.glob("quarantine-*"))) == 1
