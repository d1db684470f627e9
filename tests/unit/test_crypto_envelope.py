"""What `Sealer` promises to those who seal and open entries."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from namespace_keys import keyring_of

from genai_cache_magic.crypto import envelope as format_
from genai_cache_magic.crypto.aead import KeySchedule, open_box, seal_box
from genai_cache_magic.crypto.envelope import FIXED_BYTES, Sealer
from genai_cache_magic.errors import ConfigurationError, DecryptionError, EntryUndecodable, KeyUnavailable

ENTRY = "a1" * 32
OTHER = "a2" * 32
ROOT_1, ROOT_2 = b"\x11" * 32, b"\x22" * 32


@pytest.fixture
def sealer():
    return Sealer(keyring_of({1: ROOT_1}), "default")


@pytest.mark.parametrize("root_key", [ROOT_1, os.urandom(32)], ids=["fixed", "random"])
def test_entry_keys_are_plain_hkdf(root_key):
    """The fast derivation gives what HKDF-SHA512 of RFC 5869 gives."""
    salt = os.urandom(32)
    okm = HKDF(algorithm=SHA512(), length=88, salt=b"domain", info=b"entry keys v1" + salt).derive(root_key)
    keys = KeySchedule(root_key, b"domain").derive(salt)
    assert (keys.commitment, keys.first_nonce, keys.second_nonce) == (okm[32:64], okm[64:76], okm[76:])


def test_opening_changes_nothing(sealer):
    """The same envelope opens to the same entry as often as one likes, from many threads at once."""
    envelopes = {f"{n:064x}": sealer.seal(f"{n:064x}", b"h", b"%d" % n, bytes(n)) for n in range(50)}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            opened = pool.map(lambda item: sealer.open(*item), envelopes.items())
            assert [(entry.metadata, entry.body) for entry in opened] == [(b"%d" % n, bytes(n)) for n in range(50)]


def test_sealing_twice_shares_nothing(sealer):
    """Two envelopes of one entry have other salts, commitments and ciphertexts."""
    first, second = (sealer.seal(ENTRY, b"", b"metadata", b"body" * 8) for _ in range(2))
    assert first[12:76] != second[12:76]
    assert first[FIXED_BYTES : FIXED_BYTES + 24] != second[FIXED_BYTES : FIXED_BYTES + 24]


def test_only_the_header_is_readable(sealer):
    """Neither metadata nor body nor entry id nor namespace can be seen in an envelope."""
    envelope = sealer.seal(ENTRY, b"the header", b"the metadata", b"the body")
    assert b"the header" in envelope
    assert not any(secret in envelope for secret in (b"the metadata", b"the body", ENTRY.encode(), b"default"))


def test_envelopes_can_not_be_swapped_between_entries(sealer):
    """What was sealed for one entry doesn't open for another, in whole or in part."""
    envelope = sealer.seal(ENTRY, b"", b"", b"")
    with pytest.raises(DecryptionError):
        sealer.open(OTHER, envelope)
    with pytest.raises(DecryptionError):
        sealer.open_metadata(OTHER, envelope)


def test_envelopes_can_not_be_swapped_between_namespaces(sealer):
    """Even under one key, what was sealed in one namespace doesn't open in another."""
    other = Sealer(keyring_of({1: ROOT_1}), "defaul")
    with pytest.raises(DecryptionError):
        other.open("t" + ENTRY, sealer.seal(ENTRY, b"", b"", b""))
    with pytest.raises(DecryptionError):
        other.open(ENTRY, sealer.seal(ENTRY, b"", b"", b""))


def test_envelopes_can_not_be_moved_to_another_epoch():
    """An entry sealed under one epoch doesn't open after its epoch number was changed, even to the same key."""
    sealer = Sealer(keyring_of({1: ROOT_1, 2: ROOT_2, 3: ROOT_1}), "default")
    envelope = sealer.seal(ENTRY, b"", b"", b"")
    for epoch in (2, 3):
        with pytest.raises(DecryptionError):
            sealer.open(ENTRY, envelope[:8] + epoch.to_bytes(4, "big") + envelope[12:])


def test_blocks_can_not_be_swapped():
    """The two sealed blocks of one envelope can't stand in for one another, nor can those of two envelopes."""
    sealer = Sealer(keyring_of({1: ROOT_1}), "default")
    first, second = (sealer.seal(ENTRY, b"", b"same", b"size") for _ in range(2))
    metadata, body = slice(FIXED_BYTES, FIXED_BYTES + 20), slice(FIXED_BYTES + 20, FIXED_BYTES + 40)
    mixed = first[:FIXED_BYTES] + first[body] + first[metadata] + first[-4:]
    grafted = first[: FIXED_BYTES + 20] + second[body] + first[-4:]
    for forged in (mixed, grafted):
        with pytest.raises(DecryptionError):
            sealer.open(ENTRY, forged)


def test_rotation_keeps_old_entries_readable():
    """After rotation old entries open, and new ones are sealed under the new epoch."""
    old = Sealer(keyring_of({1: ROOT_1}), "default").seal(ENTRY, b"", b"", b"old")
    rotated = Sealer(keyring_of({1: ROOT_1, 2: ROOT_2}, epoch=2), "default")
    assert rotated.open(ENTRY, old).body == b"old"
    assert rotated.seal(ENTRY, b"", b"", b"")[8:12] == b"\0\0\0\2"


def test_a_revoked_epoch_opens_nothing():
    """Without the root key of its epoch an entry is a miss that says no more than the epoch."""
    envelope = Sealer(keyring_of({1: ROOT_1}), "default").seal(ENTRY, b"", b"", b"")
    with pytest.raises(DecryptionError, match="epoch 1"):
        Sealer(keyring_of({2: ROOT_2}, epoch=2), "default").open(ENTRY, envelope)


def test_every_failure_to_authenticate_reads_the_same(sealer):
    """A wrong key, a changed byte and a wrong entry can't be told apart by their message."""
    envelope = sealer.seal(ENTRY, b"", b"metadata", b"body")
    stranger = Sealer(keyring_of({1: ROOT_2}), "default")
    causes = [(stranger, ENTRY, envelope), (sealer, OTHER, envelope)]
    causes += [
        (sealer, ENTRY, envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]) for at in (7, 20, 50, 100)
    ]
    messages = set()
    for opener, entry_id, blob in causes:
        with pytest.raises(DecryptionError) as caught:
            opener.open(entry_id, blob)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_metadata_opens_from_a_prefix(sealer):
    """A listing needs `metadata_size` bytes, not one less, and none of the body."""
    envelope = sealer.seal(ENTRY, b"head", b"meta", b"x" * 1000)
    size = sealer.metadata_size(envelope[:FIXED_BYTES])
    assert size == FIXED_BYTES + len(b"head") + len(b"meta") + 16
    assert sealer.open_metadata(ENTRY, envelope[:size]) == (b"head", b"meta")
    assert sealer.open_metadata(ENTRY, envelope[: size + 7]) == (b"head", b"meta")
    with pytest.raises(EntryUndecodable):
        sealer.open_metadata(ENTRY, envelope[: size - 1])
    with pytest.raises(EntryUndecodable):
        sealer.metadata_size(envelope[: FIXED_BYTES - 1])


def test_the_largest_entry_goes_through(sealer):
    """Header and metadata of the largest size allowed are sealed and opened."""
    header, metadata = bytes(format_.MAX_HEADER_BYTES), bytes(format_.MAX_METADATA_BYTES)
    assert sealer.open(ENTRY, sealer.seal(ENTRY, header, metadata, b"body")) == (header, metadata, b"body")


@pytest.mark.parametrize("part", ["header", "metadata", "body"])
def test_too_large_an_entry_is_not_sealed(sealer, part):
    """Nothing is written that no reader would accept."""
    limits = {
        "header": format_.MAX_HEADER_BYTES,
        "metadata": format_.MAX_METADATA_BYTES,
        "body": format_.MAX_BODY_BYTES,
    }
    parts = {name: bytes(limits[name] + 1) if name == part else b"" for name in limits}
    with pytest.raises(EntryUndecodable):
        sealer.seal(ENTRY, **parts)


@pytest.mark.parametrize(
    ("offset", "stated"),
    [
        (76, b"\x10\x01"),
        (78, b"\x10\x01"),
        (80, b"\0\0\0\x0f"),
        (80, b"\0\4\0\x11"),
        (84, b"\0\0\0\0"),
        (84, b"\2\x80\0\x11"),
    ],
)
def test_lengths_out_of_bounds_are_refused_at_once(sealer, offset, stated):
    """A stated length beyond its bound is undecodable however many bytes there are, before any is read."""
    envelope = sealer.seal(ENTRY, b"", b"", b"")
    lying = envelope[:offset] + stated + envelope[offset + len(stated) :]
    for read in (lambda: sealer.open(ENTRY, lying), lambda: sealer.metadata_size(lying[:FIXED_BYTES])):
        with pytest.raises(EntryUndecodable, match="out of bounds"):
            read()


def test_a_suite_of_the_future_is_refused_at_construction():
    """A namespace with an unknown suite has no sealer, and the message says to update."""
    with pytest.raises(KeyUnavailable, match="update"):
        Sealer(keyring_of({1: ROOT_1}, suite=2), "default")


@pytest.mark.parametrize("namespace", ["", "x" * 256, "a\nb", "\ud800"])
def test_namespaces_that_can_not_be_authenticated(namespace):
    """An empty, oversized or unprintable namespace is a configuration error."""
    with pytest.raises(ConfigurationError, match="namespace"):
        Sealer(keyring_of({1: ROOT_1}), namespace)


def test_boxes_open_for_their_purpose_only():
    """A sealed secret opens under its key, domain and associated data, and under no other; a damaged one never."""
    box = seal_box(ROOT_1, b"domain", b"secret", associated=b"for a", salt=os.urandom(32))
    assert open_box(ROOT_1, b"domain", box, associated=b"for a") == b"secret"
    attempts = [(ROOT_2, b"domain", b"for a"), (ROOT_1, b"other", b"for a"), (ROOT_1, b"domain", b"for b")]
    for root_key, domain, associated in attempts:
        with pytest.raises(DecryptionError):
            open_box(root_key, domain, box, associated=associated)
    damaged = [box[:length] for length in range(len(box))] + [box + b"\0"]
    damaged += [box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :] for at in range(len(box))]
    for forged in damaged:
        with pytest.raises(DecryptionError):
            open_box(ROOT_1, b"domain", forged, associated=b"for a")


def test_a_keyring_shows_no_secret():
    """Neither repr nor pickling nor copying lets a key out."""
    keyring = keyring_of({1: ROOT_1})
    shown = repr(keyring) + repr(Sealer(keyring, "default")) + repr(KeySchedule(ROOT_1, b"").derive(bytes(32)))
    assert not any(repr(secret)[2:-1] in shown for secret in (ROOT_1, keyring.id_key, keyring.mac_key))
    assert not any(secret.hex() in shown for secret in (ROOT_1, keyring.id_key, keyring.mac_key))
    for leak in (lambda: pickle.dumps(keyring), lambda: copy.copy(keyring), lambda: copy.deepcopy(keyring)):
        with pytest.raises(TypeError):
            leak()


def test_subkeys_differ_by_purpose_and_survive_rotation():
    """Each purpose has a key of its own, the same in every epoch, and none is a stored key."""
    before, after = keyring_of({1: ROOT_1}), keyring_of({1: ROOT_1, 2: ROOT_2}, epoch=2)
    assert before.subkey("tags") == after.subkey("tags")
    assert len({before.subkey("tags"), before.subkey("names"), before.derivation_key, before.id_key}) == 4
