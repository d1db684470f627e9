"""A second writer of envelopes and manifests, made from `spec/envelope.md` alone, and what only it can write.

It shares no line with the package: plain HKDF and AES-GCM calls, plain concatenation. The vectors in
`spec/vectors/` came from it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from namespace_keys import keyring_of

from genai_cache_magic.crypto.envelope import Sealer
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, KeyUnavailable

ENVELOPE_DOMAIN = b"genai-cache-magic/envelope/v1/aes-256-gcm+hkdf-sha512"
KEYSET_DOMAIN = b"genai-cache-magic/keyset/v1/aes-256-gcm+hkdf-sha512"
LOCAL_DOMAIN = b"genai-cache-magic/local-key/v1"

ROOT_A = bytes(range(32))
ROOT_B = bytes(range(32, 64))
SALT = bytes(range(64, 96))
ENTRY = "e7" * 32


# --- the second writer -------------------------------------------------------------------------------


def hkdf(key: bytes, domain: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(algorithm=SHA512(), length=length, salt=domain, info=info).derive(key)


def entry_keys(root_key: bytes, domain: bytes, salt: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    okm = hkdf(root_key, domain, b"entry keys v1" + salt, 88)
    return okm[:32], okm[32:64], okm[64:76], okm[76:]


def prefixed(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def preface_of(root_key: bytes, header: bytes, metadata_bytes: int, body_bytes: int, **other) -> bytes:
    commitment = other.get("commitment", entry_keys(root_key, ENVELOPE_DOMAIN, other.get("salt", SALT))[1])
    extensions = other.get("extensions", b"")
    return (
        b"\x89GCE"
        + bytes([other.get("major", 1), other.get("flags", 0)])
        + struct.pack(">HI", other.get("suite", 1), other.get("epoch", 1))
        + other.get("salt", SALT)
        + commitment
        + struct.pack(">HHII", len(header), len(extensions), metadata_bytes + 16, body_bytes + 16)
        + header
        + extensions
    )


def associated_data(part: bytes, preface: bytes, namespace: str, entry_id: str) -> bytes:
    label = b"genai-cache-magic/envelope/v1/" + part + b"\x00"
    return label + preface + prefixed(namespace.encode()) + prefixed(entry_id.encode())


def envelope_of(
    root_key: bytes,
    namespace: str = "default",
    entry_id: str = ENTRY,
    *,
    header: bytes = b"header",
    metadata: bytes = b"metadata",
    body: bytes = b"body",
    **other,
) -> bytes:
    key, _, first_nonce, second_nonce = entry_keys(root_key, ENVELOPE_DOMAIN, other.get("salt", SALT))
    preface = preface_of(root_key, header, len(metadata), len(body), **other)
    return (
        preface
        + AESGCM(key).encrypt(first_nonce, metadata, associated_data(b"metadata", preface, namespace, entry_id))
        + AESGCM(key).encrypt(second_nonce, body, associated_data(b"body", preface, namespace, entry_id))
        + other.get("trailer", b"ECG\x89")
    )


def box_of(key: bytes, domain: bytes, plaintext: bytes, associated: bytes, salt: bytes) -> bytes:
    entry_key, commitment, nonce, _ = entry_keys(key, domain, salt)
    return salt + commitment + AESGCM(entry_key).encrypt(nonce, plaintext, associated)


def manifest_of(kek: bytes, namespace: str, records: list[tuple[int, int, bytes]], **other) -> bytes:
    """`records` are (epoch, state, root key); the secrets are fixed patterns, so that vectors can state them."""
    namespace_key = bytes([0xA1]) * 32
    fingerprint = hkdf(kek, LOCAL_DOMAIN, b"fingerprint")[:8].hex()
    context = b"genai-cache-magic/keyset/v1/namespace-key\x00" + namespace.encode()
    texts = [other.get("kind", "local"), f"local:{fingerprint}", other.get("fingerprint", fingerprint)]
    texts += [other.get("algorithm", "HMAC-SHA256"), other.get("signing_key_id", f"local:{fingerprint}")]
    bound = b"\x89GCK" + bytes([other.get("major", 1), other.get("flags", 0)])
    bound += struct.pack(">HQI", other.get("suite", 1), other.get("version", 1), other.get("epoch", 1))
    bound += b"".join(map(prefixed, [namespace.encode(), *(text.encode() for text in texts)]))
    bound += prefixed(box_of(hkdf(kek, LOCAL_DOMAIN, b"wrap"), LOCAL_DOMAIN, namespace_key, context, bytes(32)))
    bound += prefixed(other.get("extensions", b""))
    table = bytes([0xB1]) * 32 + bytes([0xB2]) * 32 + bytes([0xB3]) * 32
    table += struct.pack(">H", other.get("count", len(records)))
    table += b"".join(struct.pack(">IB", epoch, state) + root_key for epoch, state, root_key in records)
    label = b"genai-cache-magic/keyset/v1/"
    signed = bound + prefixed(box_of(namespace_key, KEYSET_DOMAIN, table, label + b"table\x00" + bound, bytes(32)))
    signing_key = hkdf(kek, LOCAL_DOMAIN, b"sign")
    signature = hmac.new(signing_key, label + b"signature\x00" + signed, hashlib.sha256).digest()
    return signed + prefixed(signature) + other.get("after", b"")


# --- both writers agree ------------------------------------------------------------------------------


def test_the_package_writes_what_the_specification_says():
    """Given the same salt, both writers make the same envelope to the byte."""
    sealer = Sealer(keyring_of({1: ROOT_A}), "default", random=lambda count: SALT[:count])
    assert sealer.seal(ENTRY, b"header", b"metadata", b"body") == envelope_of(ROOT_A)


def test_the_package_reads_what_the_specification_says():
    """An envelope of the second writer opens."""
    assert Sealer(keyring_of({1: ROOT_A}), "default").open(ENTRY, envelope_of(ROOT_A)) == (
        b"header",
        b"metadata",
        b"body",
    )


def test_manifests_of_the_second_writer_open():
    """A manifest made from the specification gives the keys that went in, revoked epochs left out."""
    kek = b"k" * 32
    manifest = manifest_of(
        kek, "team", [(1, 2, bytes(32)), (2, 1, ROOT_A), (7, 1, ROOT_B)], epoch=7, version=9, extensions=b"\0\5\0\1x"
    )
    keyring = open_manifest(manifest, "team", LocalKeyFile(kek), lowest_version=9)
    assert (keyring.epoch, keyring.suite, keyring.manifest_version) == (7, 1, 9)
    assert dict(keyring.root_keys) == {2: ROOT_A, 7: ROOT_B}
    assert (keyring.id_key, keyring.mac_key, keyring.derivation_key) == (b"\xb1" * 32, b"\xb2" * 32, b"\xb3" * 32)


def test_the_package_writes_manifests_as_the_specification_says():
    """Given the same randomness, both writers make the same first manifest to the byte."""
    kek = b"k" * 32
    draws = iter([b"\xb1" * 32, b"\xb2" * 32, b"\xb3" * 32, ROOT_A, b"\xa1" * 32, bytes(32)])
    wrapper = LocalKeyFile(kek, random=bytes)
    made = create_manifest("team", wrapper, random=lambda _: next(draws))
    assert made == manifest_of(kek, "team", [(1, 1, ROOT_A)])


# --- authentic, yet not to be accepted ----------------------------------------------------------------


def record(kind: int, value: bytes = b"") -> bytes:
    return struct.pack(">HH", kind, len(value)) + value


def test_unknown_extensions_that_are_not_critical_are_skipped():
    """A newer writer may add what an older reader need not understand."""
    envelope = envelope_of(ROOT_A, extensions=record(3, b"new") + record(9))
    sealer = Sealer(keyring_of({1: ROOT_A}), "default")
    assert sealer.open(ENTRY, envelope).body == b"body"
    assert sealer.open_metadata(ENTRY, envelope) == (b"header", b"metadata")
    assert sealer.metadata_size(envelope) == envelope.index(b"ECG\x89") - len(b"body") - 16


def test_extensions_are_authenticated():
    """Changing a skipped extension is a forgery."""
    envelope = envelope_of(ROOT_A, extensions=record(3, b"new"))
    with pytest.raises(DecryptionError):
        Sealer(keyring_of({1: ROOT_A}), "default").open(ENTRY, envelope.replace(b"new", b"old"))


@pytest.mark.parametrize(
    "extensions",
    [
        record(0x8003, b"must know"),
        record(3) + record(0x8004),
        record(3) + record(3),
        record(4) + record(3),
        record(3, b"abc")[:-1],
        b"\x00\x03\x00",
    ],
    ids=["critical", "critical-second", "repeated", "descending", "value-cut", "head-cut"],
)
def test_extensions_that_must_not_be_skipped(extensions):
    """A critical or malformed extension makes the envelope undecodable, in whole and in part."""
    sealer = Sealer(keyring_of({1: ROOT_A}), "default")
    envelope = envelope_of(ROOT_A, extensions=extensions)
    with pytest.raises(EntryUndecodable):
        sealer.open(ENTRY, envelope)
    with pytest.raises(EntryUndecodable):
        sealer.open_metadata(ENTRY, envelope)


@pytest.mark.parametrize("field", [{"major": 2}, {"major": 0}, {"flags": 1}, {"trailer": b"ECG\x88"}, {"trailer": b""}])
def test_other_versions_are_undecodable(field):
    """Another major version, any flag and any other trailer are refused though authentic."""
    with pytest.raises(EntryUndecodable):
        Sealer(keyring_of({1: ROOT_A}), "default").open(ENTRY, envelope_of(ROOT_A, **field))


def test_the_suite_is_never_chosen_by_the_data():
    """An envelope that is authentic in all but the suite that it names is refused."""
    with pytest.raises(DecryptionError):
        Sealer(keyring_of({1: ROOT_A}), "default").open(ENTRY, envelope_of(ROOT_A, suite=2))


@pytest.mark.parametrize(
    ("records", "other"),
    [
        ([(1, 3, ROOT_A)], {}),
        ([(1, 2, ROOT_A)], {}),
        ([(1, 1, bytes(32))], {}),
        ([(1, 1, ROOT_A), (1, 1, ROOT_B)], {}),
        ([(2, 1, ROOT_A), (1, 1, ROOT_B)], {}),
        ([(0, 1, ROOT_A), (1, 1, ROOT_B)], {}),
        ([(1, 1, ROOT_A)], {"count": 2}),
        ([(1, 1, ROOT_A)], {"version": 0}),
        ([(1, 1, ROOT_A)], {"epoch": 0}),
        ([(1, 1, ROOT_A)], {"suite": 2}),
        ([(1, 1, ROOT_A)], {"major": 2}),
        ([(1, 1, ROOT_A)], {"flags": 128}),
        ([(1, 1, ROOT_A)], {"kind": "key-vault"}),
        ([(1, 1, ROOT_A)], {"kind": "two words"}),
        ([(1, 1, ROOT_A)], {"fingerprint": "f" * 16}),
        ([(1, 1, ROOT_A)], {"signing_key_id": "local:other"}),
        ([(1, 1, ROOT_A)], {"extensions": record(0x8001)}),
        ([(1, 1, ROOT_A)], {"after": b"\0"}),
    ],
)
def test_signed_manifests_that_can_not_be_used(records, other):
    """A manifest that is signed but malformed, newer or another key's is not used, and not called a forgery."""
    kek = b"k" * 32
    with pytest.raises(KeyUnavailable):
        open_manifest(manifest_of(kek, "team", records, **other), "team", LocalKeyFile(kek))


@pytest.mark.parametrize(
    ("namespace", "lowest_version", "other"),
    [
        ("other", 0, {}),
        ("team", 2, {}),
        ("team", 0, {"epoch": 2}),
        ("team", 0, {"algorithm": "none"}),
        ("team", 0, {"algorithm": "HMAC-MD5"}),
    ],
    ids=["namespace", "rollback", "no-current-key", "algorithm-none", "algorithm-weak"],
)
def test_signed_manifests_that_are_attacks(namespace, lowest_version, other):
    """Swapping, rolling back and choosing the algorithm are refused although the signature is right."""
    kek = b"k" * 32
    manifest = manifest_of(kek, "team", [(1, 1, ROOT_A)], **other)
    with pytest.raises(DecryptionError):
        open_manifest(manifest, namespace, LocalKeyFile(kek), lowest_version=lowest_version)


# --- one ciphertext, two keys -------------------------------------------------------------------------


def multiply(left: int, right: int) -> int:
    """The product in GF(2^128) with GCM's reflected bits."""
    product = 0
    for bit in range(127, -1, -1):
        if right >> bit & 1:
            product ^= left
        left = left >> 1 ^ (0xE1 << 120 if left & 1 else 0)
    return product


def inverse(element: int) -> int:
    result, power = 1 << 127, element
    for _ in range(127):
        power = multiply(power, power)
        result = multiply(result, power)
    return result


def aes(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block), "big")


def ghash(subkey: int, associated: bytes, ciphertext: bytes) -> int:
    lengths = struct.pack(">QQ", 8 * len(associated), 8 * len(ciphertext))
    padded = associated + bytes(-len(associated) % 16) + ciphertext + lengths
    state = 0
    for start in range(0, len(padded), 16):
        state = multiply(state ^ int.from_bytes(padded[start : start + 16], "big"), subkey)
    return state


def ciphertext_for_two(keys: list[tuple[bytes, bytes]], associated: bytes) -> bytes:
    """Return 16 bytes and a tag that are authentic under both (key, nonce) pairs."""
    subkeys = [aes(key, bytes(16)) for key, _ in keys]
    masks = [aes(key, nonce + b"\0\0\0\1") for key, nonce in keys]
    zero = bytes(16)
    difference = ghash(subkeys[0], associated, zero) ^ ghash(subkeys[1], associated, zero) ^ masks[0] ^ masks[1]
    squares = multiply(subkeys[0], subkeys[0]) ^ multiply(subkeys[1], subkeys[1])
    block = multiply(difference, inverse(squares)).to_bytes(16, "big")
    return block + (ghash(subkeys[0], associated, block) ^ masks[0]).to_bytes(16, "big")


def test_a_ciphertext_for_two_keys_opens_under_the_committed_one_only():
    """AES-GCM accepts one ciphertext under two keys; the commitment lets only one of the two readers open it."""
    key_a, _, nonce_a, _ = entry_keys(ROOT_A, ENVELOPE_DOMAIN, SALT)
    key_b, _, nonce_b, _ = entry_keys(ROOT_B, ENVELOPE_DOMAIN, SALT)
    preface = preface_of(ROOT_A, b"header", 16, 0)
    associated = associated_data(b"metadata", preface, "default", ENTRY)
    sealed = ciphertext_for_two([(key_a, nonce_a), (key_b, nonce_b)], associated)
    for_a = AESGCM(key_a).decrypt(nonce_a, sealed, associated)
    for_b = AESGCM(key_b).decrypt(nonce_b, sealed, associated)
    assert for_a != for_b

    assert Sealer(keyring_of({1: ROOT_A}), "default").open_metadata(ENTRY, preface + sealed) == (b"header", for_a)
    with pytest.raises(DecryptionError):
        Sealer(keyring_of({1: ROOT_B}), "default").open_metadata(ENTRY, preface + sealed)
