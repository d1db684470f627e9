"""A second writer of keysets under a vault's keys, made from `spec/envelope.md` §5 alone.

It shares no line with the package. The vectors in `spec/vectors/keyset_vault.json` came from it, with keys that were
made for them.
"""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from memory_vault import machine, ready_vault

from genai_cache_magic.crypto.keyset import open_manifest
from genai_cache_magic.errors import DecryptionError
from tests.unit.test_crypto_reference import KEYSET_DOMAIN, ROOT_A, box_of, prefixed

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
VAULT = "https://team.vault.azure.net"
LABEL = b"genai-cache-magic/keyset/v1/"


def manifest_of(vault, namespace: str, **other) -> bytes:
    """A manifest of one epoch; `other` says what an attacker or another version does otherwise."""
    (key,), (signer,) = vault.versions["cache-key"], vault.versions["cache-key-sign"]
    namespace_key = bytes([0xA1]) * 32
    context = LABEL + b"namespace-key\x00" + other.get("wrapped_for", namespace).encode()
    url = f"{VAULT}/keys/cache-key"
    texts = ["key-vault", f"{url}/{key.version}", hashlib.sha256(url.encode()).hexdigest()[:16]]
    texts += ["PS256", f"{url}-sign/{signer.version}"]
    bound = b"\x89GCK" + bytes([1, 0]) + struct.pack(">HQI", 1, 1, 1)
    bound += b"".join(map(prefixed, [namespace.encode(), *(text.encode() for text in texts)]))
    secret = other.get("bound", hashlib.sha256(context).digest() + namespace_key)
    bound += prefixed(vault._private[key.version].public_key().encrypt(secret, OAEP)) + prefixed(b"")
    table = bytes([0xB1]) * 32 + bytes([0xB2]) * 32 + bytes([0xB3]) * 32 + struct.pack(">HIB", 1, 1, 1) + ROOT_A
    signed = bound + prefixed(box_of(namespace_key, KEYSET_DOMAIN, table, LABEL + b"table\x00" + bound, bytes(32)))
    signature = vault._private[signer.version].sign(
        LABEL + b"signature\x00" + signed, other.get("pss", PSS), hashes.SHA256()
    )
    return signed + prefixed(signature)


@pytest.fixture
def vault():
    return ready_vault(url=VAULT)


def test_manifests_of_the_second_writer_open(vault, tmp_path):
    """A manifest made from the specification gives the keys that went in."""
    keyring = open_manifest(manifest_of(vault, "équipe"), "équipe", machine(vault, tmp_path))
    assert (keyring.epoch, dict(keyring.root_keys)) == (1, {1: ROOT_A})
    assert (keyring.id_key, keyring.mac_key, keyring.derivation_key) == (b"\xb1" * 32, b"\xb2" * 32, b"\xb3" * 32)


@pytest.mark.parametrize(
    "other",
    [
        {"wrapped_for": "other"},
        {"bound": bytes([0xA1]) * 32},
        {"pss": padding.PSS(padding.MGF1(hashes.SHA256()), 0)},
    ],
    ids=["wrapped for another namespace", "wrapped without a context", "a salt of no bytes"],
)
def test_what_was_wrapped_or_signed_otherwise_is_forged(vault, tmp_path, other):
    """The vault's own keys are not enough: what they are used for is part of what is checked."""
    with pytest.raises(DecryptionError):
        open_manifest(manifest_of(vault, "team", **other), "team", machine(vault, tmp_path))
