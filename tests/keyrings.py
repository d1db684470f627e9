"""A keyring of the operating system, played by a backend of the package ``keyring`` that lives in this process."""

from __future__ import annotations

import pytest


@pytest.fixture
def os_keyring(monkeypatch):
    """The keyring in force: a backend whose entries are its dictionary `passwords`."""
    keyring = pytest.importorskip("keyring", reason="needs keyring: pip install 'genai-cache-magic[keyring]'")
    from keyring.backend import KeyringBackend

    class MemoryKeyring(KeyringBackend):
        priority = 0  # never chosen by itself

        def __init__(self) -> None:
            super().__init__()
            self.passwords: dict[tuple[str, str], str] = {}
            self.error: Exception | None = None

        def _check(self) -> None:
            if self.error is not None:
                raise self.error

        def get_password(self, service, username):
            self._check()
            return self.passwords.get((service, username))

        def set_password(self, service, username, password):
            self._check()
            self.passwords[service, username] = password

        def delete_password(self, service, username):
            self._check()
            del self.passwords[service, username]

    backend = MemoryKeyring()
    monkeypatch.setattr("keyring.core._keyring_backend", backend)
    assert keyring.get_keyring() is backend
    return backend
