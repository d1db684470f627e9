"""Keys of a namespace, as they were opened: made of root keys that a test gives, or compared with those of a vector."""

from __future__ import annotations

from genai_cache_magic.crypto.keyring import Keyring


def keyring_of(root_keys, *, epoch=1, suite=1):
    """Return the keys of a namespace with `root_keys`, each of which is another."""
    return Keyring(
        epoch=epoch,
        suite=suite,
        manifest_version=1,
        fingerprint="0123456789abcdef",
        id_key=b"\x01" * 32,
        mac_key=b"\x02" * 32,
        derivation_key=b"\x03" * 32,
        root_keys=root_keys,
    )


def assert_stated(keyring, stated):
    """Assert that every key, and what is said of them, is as a vector states it."""
    assert (keyring.epoch, keyring.suite, keyring.manifest_version) == (
        stated["epoch"],
        stated["suite"],
        stated["manifest_version"],
    )
    for name in ("id_key", "mac_key", "derivation_key"):
        assert getattr(keyring, name).hex() == stated[name]
    assert {str(epoch): root_key.hex() for epoch, root_key in keyring.root_keys.items()} == stated["root_keys"]
