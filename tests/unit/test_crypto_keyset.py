"""What the keyset manifest promises: one unwrap gives all keys of a namespace, and nobody can slip others in."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from genai_cache_magic.crypto.keyset import KeyTable, create_manifest, open_manifest, write_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyUnavailable


@pytest.fixture
def wrapper():
    return LocalKeyFile(b"k" * 32)


def table_of(root_keys):
    return KeyTable(id_key=b"i" * 32, mac_key=b"m" * 32, derivation_key=b"d" * 32, root_keys=root_keys)


class RecordingWrapper(LocalKeyFile):
    """The local wrapper in the guise of a vault: versions of one key, and a count of remote calls."""

    __slots__ = ("calls", "version")
    kind = "key-vault"

    def __init__(self, kek, *, version):
        super().__init__(kek)
        self.version = version
        self.calls = []

    @property
    def key_id(self):
        return f"https://vault.example/keys/cache-key/{self.version}"

    @property
    def signing_key_id(self):
        return f"https://vault.example/keys/cache-key-sign/{self.version}"

    def _require_id(self, key_id):
        self.calls.append(key_id)
        if not key_id.startswith("https://vault.example/keys/cache-key"):
            raise KeyUnavailable("another vault")


def test_a_manifest_gives_its_keys_back(wrapper):
    """The first manifest holds one epoch and five different keys of 32 bytes."""
    manifest = create_manifest("team", wrapper)
    first, second = (open_manifest(manifest, "team", wrapper) for _ in range(2))
    assert (first.epoch, first.manifest_version, first.fingerprint) == (1, 1, wrapper.fingerprint)
    keys = [first.id_key, first.mac_key, first.derivation_key, first.root_key(1)]
    assert keys == [second.id_key, second.mac_key, second.derivation_key, second.root_key(1)]
    assert len(set(keys)) == 4
    assert {len(key) for key in keys} == {32}


def test_no_key_is_readable_in_a_manifest(wrapper):
    """A manifest may lie in a shared store: none of its keys can be seen in it."""
    drawn = []

    def random(count):
        drawn.append(hashlib.sha256(b"%d" % len(drawn)).digest()[:count])
        return drawn[-1]

    manifest = create_manifest("team", wrapper, random=random)
    keys, salt = drawn[:-1], drawn[-1]
    assert salt in manifest
    assert not any(key in manifest or key.hex().encode() in manifest for key in keys)


def test_another_key_is_refused_with_the_fix(wrapper):
    """On a machine with another key the message names both fingerprints and how to bring the key over."""
    manifest = create_manifest("team", wrapper)
    other = LocalKeyFile(b"o" * 32)
    with pytest.raises(KeyUnavailable) as caught:
        open_manifest(manifest, "team", other)
    message = str(caught.value)
    assert all(part in message for part in (wrapper.fingerprint, other.fingerprint, "keys export", "keys import"))


def test_another_kind_of_key_is_refused_with_the_fix(wrapper):
    """A namespace guarded by a vault can't be opened with a local key, and the setting to change is named."""
    manifest = create_manifest("team", RecordingWrapper(b"k" * 32, version="v1"))
    with pytest.raises(KeyUnavailable, match="GENAI_CACHE_ENCRYPTION=key-vault"):
        open_manifest(manifest, "team", wrapper)


def test_a_vault_whose_key_was_rotated_still_opens_old_manifests():
    """The version that wrapped and the version that signed are the ones asked to unwrap and verify, once each."""
    manifest = create_manifest("team", RecordingWrapper(b"k" * 32, version="v1"))
    today = RecordingWrapper(b"k" * 32, version="v2")
    assert open_manifest(manifest, "team", today).epoch == 1
    assert today.calls == [
        "https://vault.example/keys/cache-key-sign/v1",
        "https://vault.example/keys/cache-key/v1",
    ]


def test_manifests_can_not_be_swapped_between_namespaces(wrapper):
    """The manifest of one namespace doesn't open as that of another."""
    with pytest.raises(DecryptionError):
        open_manifest(create_manifest("team", wrapper), "other", wrapper)


def test_a_manifest_can_not_be_rolled_back(wrapper):
    """A manifest older than the highest version ever seen is refused though it is authentic."""
    old, new = (write_manifest(table_of({1: b"r" * 32}), "team", wrapper, version=version) for version in (4, 5))
    assert open_manifest(new, "team", wrapper, lowest_version=5).manifest_version == 5
    with pytest.raises(DecryptionError, match="rolled back"):
        open_manifest(old, "team", wrapper, lowest_version=5)


def test_rotation_and_revocation_keep_the_format(wrapper):
    """A later manifest with more epochs, one revoked, opens by the same code and leaves ids and MACs unchanged."""
    first = table_of({1: b"1" * 32})
    later = table_of({1: None, 2: b"2" * 32, 3: b"3" * 32})
    before = open_manifest(write_manifest(first, "team", wrapper, version=1), "team", wrapper)
    after = open_manifest(write_manifest(later, "team", wrapper, version=2), "team", wrapper)
    assert (after.epoch, dict(after.root_keys)) == (3, {2: b"2" * 32, 3: b"3" * 32})
    assert (after.id_key, after.mac_key, after.subkey("x")) == (before.id_key, before.mac_key, before.subkey("x"))
    with pytest.raises(DecryptionError, match="epoch 1"):
        after.root_key(1)


def test_rotation_makes_a_new_namespace_key(wrapper):
    """Two manifests of one table wrap different namespace keys."""
    table = table_of({1: b"r" * 32})
    drawn = []

    def random(count):
        drawn.append(bytes([len(drawn)]) * count)
        return drawn[-1]

    for version in (1, 2):
        write_manifest(table, "team", wrapper, version=version, random=random)
    assert len(drawn) == len(set(drawn)) == 4


def test_most_epochs_fit(wrapper):
    """A manifest holds 1024 epochs."""
    roots = {epoch: hashlib.sha256(b"%d" % epoch).digest() for epoch in range(1, 1025)}
    keyring = open_manifest(write_manifest(table_of(roots), "team", wrapper, version=1), "team", wrapper)
    assert keyring.root_keys == roots


@pytest.mark.parametrize("manifest", [b"", b"\x89GCK", b"{}", b"\x89GCE" + bytes(200)])
def test_what_is_not_a_manifest(wrapper, manifest):
    """Other bytes fail closed, with words; they are never taken for an entry that may be deleted."""
    with pytest.raises(KeyUnavailable, match="can't be read"):
        open_manifest(manifest, "team", wrapper)


def test_a_manifest_signed_by_nobody(wrapper):
    """A manifest whose signature was made without the key is a forgery."""
    manifest = create_manifest("team", wrapper)
    forged = manifest[:-32] + hmac.digest(b"guess" * 8, manifest[:-34], "sha256")
    with pytest.raises(DecryptionError):
        open_manifest(forged, "team", wrapper)


def test_a_namespace_without_a_name_has_no_manifest(wrapper):
    """An unusable namespace is a configuration error before any key is made."""
    with pytest.raises(ConfigurationError):
        create_manifest("", wrapper)
