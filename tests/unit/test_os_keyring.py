"""The local key in the keyring of the system: one for all processes, and words where there is none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.crypto.wrappers.keyring import SERVICE, OsKeyring
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable


def test_a_cache_is_sealed_with_a_key_of_the_keyring(os_keyring, isolated):
    """The next process opens what this one stored, and no key file is made."""
    for expected in (None, "kept"):
        with create_cache("disk", encryption="keyring") as cache:
            assert cache.get("name") == expected
            cache.set("name", "kept")
    assert list(os_keyring.passwords) == [(SERVICE, "cache-key")]
    assert not (isolated / "keys").exists()


def test_those_who_make_it_at_once_get_one_key(os_keyring, tmp_path):
    """Keyrings know no order of writers, so a lock does."""
    start = threading.Barrier(8)

    def make(_):
        start.wait(30)
        return OsKeyring.load_or_create("cache-key", directory=tmp_path).fingerprint

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1


def test_a_key_travels_between_keyring_and_file(os_keyring, tmp_path):
    """What one exports the other imports, and a different one is never overwritten."""
    line = LocalKeyFile.load_or_create(tmp_path / "own.key", cache_directory=tmp_path / "cache").export_text()
    there = OsKeyring.import_text("cache-key", line, directory=tmp_path)
    assert there.export_text() == line
    assert OsKeyring.import_text("cache-key", line, directory=tmp_path).fingerprint == there.fingerprint
    other = LocalKeyFile.load_or_create(tmp_path / "other.key", cache_directory=tmp_path / "cache").export_text()
    with pytest.raises(ConfigurationError, match="never overwritten"):
        OsKeyring.import_text("cache-key", other, directory=tmp_path)
    with pytest.raises(ConfigurationError, match="not a key"):
        OsKeyring.import_text("cache-key", "x", directory=tmp_path)
    put = OsKeyring.import_text("cache-key", other, directory=tmp_path, replaces=True)
    assert (put.export_text(), OsKeyring.load("cache-key").export_text()) == (other, other)
    assert OsKeyring.load(f"cache-key.{there.fingerprint}").export_text() == line


def test_a_keyring_that_can_not_be_used_is_said_in_words(os_keyring, tmp_path):
    """Each with what to do, and none with what the backend said."""
    from keyring import errors

    for error, words in (
        (errors.NoKeyringError("hush"), "no keyring"),
        (errors.KeyringLocked("hush"), "is locked"),
        (errors.PasswordSetError("hush"), "can't be used"),
        (RuntimeError("hush"), "can't be used"),
    ):
        os_keyring.error = error
        with pytest.raises(KeyUnavailable, match=f"{words}.*GENAI_CACHE_ENCRYPTION=local") as caught:
            OsKeyring.load_or_create("cache-key", directory=tmp_path)
        assert "hush" not in str(caught.value)
    os_keyring.error = None
    os_keyring.passwords[SERVICE, "cache-key"] = "not a key"
    with pytest.raises(KeyUnavailable, match="no key of ours"):
        OsKeyring.load_or_create("cache-key", directory=tmp_path)
    assert os_keyring.passwords[SERVICE, "cache-key"] == "not a key"
