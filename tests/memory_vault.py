"""A vault in this process: it answers as the documented REST of keys does, beside the SDK's pipeline."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING, WRAPPING, AzureKeyVault
from genai_cache_magic.crypto.wrappers.azure_rights import Asked, denied
from genai_cache_magic.crypto.wrappers.azure_vault_client import VaultKey, VaultTarget
from genai_cache_magic.crypto.wrappers.known_keys import KnownKeys
from genai_cache_magic.errors import KeyMissing

KEYS: dict[int, rsa.RSAPrivateKey] = {}
"""RSA keys that were made already: making one takes a while, and no test depends on which it gets."""

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def private_key(number: int) -> rsa.RSAPrivateKey:
    """Return the `number`-th key."""
    if number not in KEYS:
        KEYS[number] = rsa.generate_private_key(65537, 2048)
    return KEYS[number]


class MemoryVault:
    """Has the methods of a ``VaultClient``, and counts what it is asked.

    Attributes
    ----------
    asked
        Operation and name of the key, in order.
    forbidden
        Operations that are refused.
    trouble
        Raised by whatever is asked, if set.
    """

    def __init__(self, url: str = "https://team.vault.azure.net", *, first: int = 0) -> None:
        self.target = VaultTarget(url)
        self.name = self.target.base.removeprefix("https://")
        self.asked: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.trouble: Exception | None = None
        self.versions: dict[str, list[VaultKey]] = {}
        self._private: dict[str, rsa.RSAPrivateKey] = {}
        self._next = first
        self._lock = threading.Lock()

    def get(self, name: str, version: str = "") -> VaultKey:
        """Return a version of a key."""
        self._note("get", name)
        return self._found(name, version)

    def create(self, name: str, operations) -> VaultKey:
        """Make a key or a version."""
        self._note("create", name)
        key, version = private_key(self._next), uuid.uuid4().hex
        self._next += 1
        numbers = key.public_key().public_numbers()
        self._private[version] = key
        made = VaultKey(name, version, "RSA", numbers.n, numbers.e, tuple(operations))
        self.versions.setdefault(name, []).append(made)
        return made

    def operate(self, operation: str, name: str, version: str, algorithm: str, value: bytes) -> bytes:
        """Wrap, unwrap or sign."""
        self._note(operation, name)
        key = self._found(name, version)
        assert algorithm == {"sign": "PS256"}.get(operation, "RSA-OAEP-256")
        if not key.is_enabled:
            raise denied(self.name, Asked(operation, name), 403, "KeyDisabled")
        private = self._private[version]
        try:
            if operation == "wrapKey":
                return private.public_key().encrypt(value, OAEP)
            if operation == "unwrapKey":
                return private.decrypt(value, OAEP)
            return private.sign(value, PSS, utils.Prehashed(hashes.SHA256()))
        except ValueError as exc:
            raise denied(self.name, Asked(operation, name), 400, "BadParameter") from exc

    def change(self, name: str, **attributes) -> None:
        """Change attributes of a key's current version."""
        self.versions[name][-1] = replace(self.versions[name][-1], **attributes)

    def count(self, operation: str) -> int:
        """Return how often `operation` was asked for."""
        return sum(asked == operation for asked, _ in self.asked)

    def _note(self, operation: str, name: str) -> None:
        with self._lock:
            self.asked.append((operation, name))
        if self.trouble is not None:
            raise self.trouble
        if operation in self.forbidden:
            raise denied(self.name, Asked(operation, name), 403, "Forbidden")

    def _found(self, name: str, version: str) -> VaultKey:
        for key in reversed(self.versions.get(name, [])):
            if version in ("", key.version):
                return key
        raise KeyMissing(f"vault {self.name} has no key {name} {version}")


def ready_vault(**how) -> MemoryVault:
    """Return a vault that has both keys."""
    vault = MemoryVault(**how)
    vault.create("cache-key", WRAPPING)
    vault.create("cache-key-sign", SIGNING)
    vault.asked.clear()
    return vault


def machine(vault, directory, **how) -> AzureKeyVault:
    """Return the wrapper as a machine has it that keeps what it knows in `directory`."""
    return AzureKeyVault(vault, known=KnownKeys(directory / "known"), **how)
