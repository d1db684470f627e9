"""Somebody removes what is just being made or looked at: nothing that is gone is taken for being in place."""

from __future__ import annotations

import shutil

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk import home as homes
from genai_cache_magic.stores.disk.home import Home, Losses
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.stores.documents import FileDocument

WRITTEN = 3
"""The first two times a document is loaded to be written, the third time to see what was."""


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "cache", ("v1", "n"), losses=Losses())


@pytest.fixture
def keyset(home):
    document = FileDocument(home.path / "keyset")
    assert document.replace(b"keys", expected=None)
    home.keep(document, b"keys")
    return document


def once(monkeypatch, owner, name, *, before=lambda: None, after=lambda: None, call=1):
    """Let something happen around one call of a function, the `call`-th."""
    original = getattr(owner, name)
    calls = iter(range(1, 1_000))

    def called(*args, **options):
        is_it = next(calls) == call
        if is_it:
            before()
        result = original(*args, **options)
        if is_it:
            after()
        return result

    monkeypatch.setattr(owner, name, called)


def test_a_keyset_that_is_removed_again_before_it_is_read(home, keyset, monkeypatch):
    """That is said, and not taken for another process's keyset: the next use writes it again."""
    (home.path / "keyset").unlink()
    once(monkeypatch, keyset, "replace", after=(home.path / "keyset").unlink)
    with pytest.raises(StoreUnavailable):
        home.ensure()
    assert not home.is_superseded
    home.ensure()
    assert keyset.load() == b"keys"
    assert home.is_in_place()


def test_a_keyset_that_is_removed_again_before_its_version_is_taken(home, keyset, monkeypatch):
    """The next use writes it again, so that later processes open what is stored."""
    (home.path / "keyset").unlink()
    once(monkeypatch, keyset, "load", after=(home.path / "keyset").unlink, call=WRITTEN)
    home.ensure()
    assert not home.is_in_place()
    home.ensure()
    assert keyset.load() == b"keys"


def test_a_keyset_that_is_removed_before_it_is_known_by_its_version(home):
    """What had no version when it was looked at is not in place because it has none now."""
    document = FileDocument(home.path / "keyset")
    home.keep(document, b"keys")
    assert not home.is_in_place()
    home.ensure()
    assert document.load() == b"keys"


def test_a_directory_that_is_removed_before_it_is_known(home, monkeypatch):
    """A directory that was gone when it was looked at is made again, by who finds it gone."""
    shutil.rmtree(home.path)
    once(monkeypatch, homes, "identity_of", before=lambda: shutil.rmtree(home.path), call=2)
    home.ensure()
    assert not home.path.exists()
    assert not home.is_in_place()
    home.ensure()
    assert home.path.is_dir()
    assert home.is_in_place()


def test_a_database_that_is_removed_before_its_first_use(tmp_path):
    """A database that was gone when it was looked at is never in place."""
    store = DiskStore(tmp_path / "l1")
    store.put("0" * 64, b"a", ttl_s=60)
    cache = store._cache
    cache.identity = None
    (tmp_path / "l1" / "cache.db").unlink()
    assert not cache.is_in_place()
    store.close()


def test_a_later_process_opens_what_is_stored_after_all_that(isolated, monkeypatch):
    """As it showed: removals while threads work, the last of them right after the keyset was written again."""
    cache = create_cache()
    cache.set("before", 1)
    keyset = isolated / "cache" / "v1" / "default" / "keyset"
    document = cache._entries.store._home._kept[0]
    keyset.unlink()
    once(monkeypatch, document, "load", after=keyset.unlink, call=WRITTEN)
    cache.try_set("meanwhile", 1)
    cache.set("after", "kept")
    cache.close()
    with create_cache() as again:
        assert again.get("after") == "kept"
