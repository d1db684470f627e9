"""Wycheproof's vectors through the package's own functions: what is valid is accepted, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from genai_cache_magic.core import key as ids
from genai_cache_magic.crypto import aead, document_mac
from genai_cache_magic.crypto.wrappers.azure_key_vault import _is_signed
from genai_cache_magic.crypto.wrappers.known_keys import KnownKey
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError
from genai_cache_magic.testing.azure.errors import VaultRefusalError
from genai_cache_magic.testing.azure.key_material import imported

DIRECTORY = Path(__file__).parents[2] / "spec" / "vectors" / "wycheproof"


def read(name):
    return json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))


def vectors(name):
    """Each test of a file, with its group."""
    return [
        pytest.param(group, test, id=f"{test['tcId']}-{test['result']}")
        for group in read(name)["testGroups"]
        for test in group["tests"]
    ]


def spelled(test, *names):
    return [bytes.fromhex(test[name]) for name in names]


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.stem)
def test_files_are_whole(path):
    """Each file holds as many tests as it says, with outcomes that are known, and its licence lies beside it."""
    file = json.loads(path.read_text("utf-8"))
    tests = [test for group in file["testGroups"] for test in group["tests"]]
    assert len(tests) == file["numberOfTests"] >= 30
    assert {test["result"] for test in tests} <= {"valid", "invalid", "acceptable"}
    assert {flag for test in tests for flag in test["flags"]} == file["notes"].keys()
    assert "Apache License" in (DIRECTORY / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize(("group", "test"), vectors("aes_gcm_test"))
def test_aes_256_gcm(group, test):
    """A block opens if it is valid, and gives no byte of plaintext if it is not."""
    key, nonce, associated, plaintext, ciphertext, tag = spelled(test, "key", "iv", "aad", "msg", "ct", "tag")
    opened = aead.decrypt(AESGCM(key), nonce, ciphertext + tag, associated)
    assert opened == (plaintext if test["result"] == "valid" else None)
    assert aead.decrypt(AESGCM(key), nonce, memoryview(ciphertext + tag), associated) == opened


@pytest.mark.parametrize(("group", "test"), vectors("hkdf_sha512_test"))
def test_hkdf_sha512(group, test):
    """Keys of one purpose are the first 32 bytes of what the standard derives."""
    secret, salt, info, expected = spelled(test, "ikm", "salt", "info", "okm")
    derived = aead.derive_key(secret, salt, info)
    assert test["result"] == "valid"
    assert derived[: len(expected)] == expected[:32]


@pytest.mark.parametrize(("group", "test"), vectors("hkdf_sha512_test"))
def test_hkdf_sha512_by_hand(group, test, monkeypatch):
    """The expansion that is written out, for entry keys, derives what the standard derives."""
    secret, salt, info, expected = spelled(test, "ikm", "salt", "info", "okm")
    monkeypatch.setattr(aead, "_INFO", b"")
    keys = aead.KeySchedule(secret, salt).derive(info)
    assert keys.commitment[: max(0, len(expected) - 32)] == expected[32:64]
    sealed = AESGCM(aead.derive_key(secret, salt, info)).encrypt(bytes(12), b"x", None)
    assert keys.cipher.decrypt(bytes(12), sealed, None) == b"x"


@pytest.mark.parametrize(("group", "test"), vectors("hmac_sha256_test"))
def test_hmac_sha256(group, test):
    """What keys ids and tags, protects documents and signs keysets is the standard's; nothing else verifies."""
    key, message, tag = spelled(test, "key", "msg", "tag")
    wrapper = LocalKeyFile(bytes(32))
    wrapper._signing_key = key
    computed = {wrapper.sign(message), ids._keyed(key, message), document_mac._mac(key, message)}
    assert (computed == {tag}) == (test["result"] == "valid")
    if test["result"] == "valid":
        wrapper.verify(message, tag, key_id=wrapper.key_id)
    else:
        with pytest.raises(DecryptionError):
            wrapper.verify(message, tag, key_id=wrapper.key_id)


@pytest.fixture(scope="module")
def rsa_keys():
    """Each file's private key as the simulated vault takes it, imported once."""

    def material(name):
        der = bytes.fromhex(read(name)["testGroups"][0]["privateKeyPkcs8"])
        numbers = load_der_private_key(der, None).private_numbers()
        public = numbers.public_numbers
        named = {"n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q}
        named |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
        jwk = {
            name: base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()
            for name, value in named.items()
        }
        return imported({"kty": "RSA", **jwk}, is_hsm=False)

    return {size: material(f"rsa_oaep_{size}_sha256_mgf1sha256_test") for size in (2048, 3072)}


@pytest.mark.parametrize(
    ("group", "test"),
    [*vectors("rsa_oaep_2048_sha256_mgf1sha256_test"), *vectors("rsa_oaep_3072_sha256_mgf1sha256_test")],
)
def test_rsa_oaep_256(group, test, rsa_keys):
    """A simulated vault unwraps what is valid and has no label, and refuses all else."""
    ciphertext, plaintext = spelled(test, "ct", "msg")
    key = rsa_keys[group["keySize"]]
    if test["result"] == "valid" and not test["label"]:
        assert key.decrypt("RSA-OAEP-256", ciphertext) == plaintext
        assert key.decrypt("RSA-OAEP-256", key.encrypt("RSA-OAEP-256", plaintext)) == plaintext
    else:
        with pytest.raises(VaultRefusalError):
            key.decrypt("RSA-OAEP-256", ciphertext)


@pytest.mark.parametrize(("group", "test"), vectors("rsa_pss_2048_sha256_mgf1_32_test"))
def test_ps256(group, test):
    """The signature of a vault's keyset is accepted if it is valid, by the public key alone."""
    message, signature = spelled(test, "msg", "sig")
    numbers = load_der_public_key(bytes.fromhex(group["publicKeyDer"])).public_numbers()
    signer = KnownKey("https://team.vault.azure.net/keys/k", "0" * 32, numbers.n, numbers.e, 0.0)
    assert _is_signed(signer, hashlib.sha256(message).digest(), signature) == (test["result"] == "valid")


def test_the_vectors_cover_both_outcomes():
    """Each kind has valid and refused ones, so that neither half of a test is idle."""
    for path in DIRECTORY.glob("*.json"):
        outcomes = {test["result"] for group in read(path.stem)["testGroups"] for test in group["tests"]}
        assert "valid" in outcomes
        assert len(outcomes) > 1 or path.stem == "hkdf_sha512_test"
