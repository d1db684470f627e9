"""The contract of ``KeyWrapper``, over the key file, the keyring of the system, and the vault."""

from __future__ import annotations

import pytest
from memory_vault import machine, ready_vault

from genai_cache_magic.crypto.wrappers.keyring import OsKeyring
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.testing.contracts.key_wrapper import KeyWrapperContract


class TestKeyFile(KeyWrapperContract):
    @pytest.fixture
    def wrapper(self, tmp_path):
        return LocalKeyFile.load_or_create(tmp_path / "own.key", cache_directory=tmp_path / "cache")

    @pytest.fixture
    def again(self, wrapper, tmp_path):
        return LocalKeyFile.load(tmp_path / "own.key", cache_directory=tmp_path / "cache")

    @pytest.fixture
    def other(self, tmp_path):
        return LocalKeyFile.load_or_create(tmp_path / "other.key", cache_directory=tmp_path / "cache")


@pytest.mark.usefixtures("os_keyring")
class TestOsKeyring(KeyWrapperContract):
    @pytest.fixture
    def wrapper(self, os_keyring, tmp_path):
        return OsKeyring.load_or_create("cache-key", directory=tmp_path)

    @pytest.fixture
    def again(self, wrapper):
        return OsKeyring.load("cache-key")

    @pytest.fixture
    def other(self, os_keyring, tmp_path):
        return OsKeyring.load_or_create("other", directory=tmp_path)


class TestAzureKeyVault(KeyWrapperContract):
    @pytest.fixture
    def vault(self):
        return ready_vault()

    @pytest.fixture
    def wrapper(self, vault, tmp_path):
        return machine(vault, tmp_path / "one")

    @pytest.fixture
    def again(self, vault, tmp_path):
        return machine(vault, tmp_path / "two")

    @pytest.fixture
    def other(self, tmp_path):
        return machine(ready_vault(url="https://other.vault.azure.net", first=2), tmp_path / "one")
