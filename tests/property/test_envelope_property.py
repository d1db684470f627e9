"""Laws of envelopes and manifests: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from namespace_keys import keyring_of

from genai_cache_magic.crypto.envelope import FIXED_BYTES, MAGIC, TRAILER, Sealer
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, KeyUnavailable

ENTRY = "0f" * 32
SEALER = Sealer(
    keyring_of({1: b"\x01" * 32, 2: b"\x02" * 32}, epoch=2),
    "default",
)
ENVELOPE = SEALER.seal(ENTRY, b"head" * 10, b"meta" * 50, b"a whole answer. " * 110)
"""As large as an ordinary answer: 2 KB."""
WRAPPER = LocalKeyFile(b"k" * 32)
MANIFEST = create_manifest("team", WRAPPER)


def flips(blob):
    """Every copy of `blob` with one bit changed."""
    for bit in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def opens(blob):
    """Return whether `blob` opens; any exception but the two promised ones is a failure of the test."""
    try:
        SEALER.open(ENTRY, blob)
    except (EntryUndecodable, DecryptionError):
        return False
    return True


def metadata_opens(blob):
    try:
        SEALER.metadata_size(blob)
        SEALER.open_metadata(ENTRY, blob)
    except (EntryUndecodable, DecryptionError):
        return False
    return True


def manifest_opens(blob):
    try:
        open_manifest(blob, "team", WRAPPER)
    except (KeyUnavailable, DecryptionError):
        return False
    return True


@given(
    namespace=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60),
    entry_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    header=st.binary(max_size=300),
    metadata=st.binary(max_size=300),
    body=st.binary(max_size=3000),
)
def test_what_was_sealed_opens(namespace, entry_id, header, metadata, body):
    """Any bytes, under any names, come back as they were, from the whole and from its least prefix."""
    sealer = Sealer(keyring_of({1: b"\x07" * 32}), namespace)
    envelope = sealer.seal(entry_id, header, metadata, body)
    assert sealer.open(entry_id, envelope) == (header, metadata, body)
    assert sealer.open_metadata(entry_id, envelope[: sealer.metadata_size(envelope)]) == (header, metadata)


def test_no_flipped_bit_goes_unnoticed():
    """Each bit of an envelope, of its lengths, version and trailer too, is under guard."""
    assert opens(ENVELOPE)
    assert not any(map(opens, flips(ENVELOPE)))


def test_no_flipped_bit_before_the_body_goes_unnoticed_in_a_listing():
    """Each bit that `open_metadata` relies on, the stated length of the body too, is under guard."""
    prefix = ENVELOPE[: SEALER.metadata_size(ENVELOPE)]
    assert metadata_opens(prefix)
    assert not any(map(metadata_opens, flips(prefix)))


def test_no_cut_goes_unnoticed():
    """An envelope cut to any length is undecodable: the cut is seen without any key."""
    for length in range(len(ENVELOPE)):
        with pytest.raises(EntryUndecodable):
            SEALER.open(ENTRY, ENVELOPE[:length])


def test_no_byte_may_remain():
    """Bytes appended, inserted or removed anywhere make an envelope unusable."""
    assert not any(opens(ENVELOPE + tail) for tail in (b"\0", b"\n", TRAILER, ENVELOPE))
    for at in range(len(ENVELOPE)):
        assert not opens(ENVELOPE[:at] + b"\0" + ENVELOPE[at:])
        assert not opens(ENVELOPE[:at] + ENVELOPE[at + 1 :])


@given(st.binary(max_size=400))
def test_foreign_bytes_never_raise_anything_else(blob):
    """Random bytes, bare or dressed up as an envelope, raise one of the two errors."""
    dressed = MAGIC + b"\x01\x00\x00\x01\x00\x00\x00\x02" + blob
    for candidate in (blob, dressed, dressed + TRAILER):
        assert not opens(candidate)
        assert not metadata_opens(candidate)


@given(st.binary(min_size=12, max_size=12), st.binary(max_size=120))
def test_lying_lengths_never_raise_anything_else(lengths, tail):
    """Whatever lengths an envelope states, it raises one of the two errors."""
    candidate = ENVELOPE[: FIXED_BYTES - 12] + lengths + tail
    assert not opens(candidate)
    assert not opens(candidate + TRAILER)


def test_no_change_of_a_manifest_goes_unnoticed():
    """Each bit and each byte of a manifest is under guard, those that choose keys and algorithms too."""
    assert manifest_opens(MANIFEST)
    assert not any(map(manifest_opens, flips(MANIFEST)))
    assert not any(manifest_opens(MANIFEST[:length]) for length in range(len(MANIFEST)))
    assert not manifest_opens(MANIFEST + b"\0")


@given(st.binary(max_size=300))
def test_foreign_manifests_never_raise_anything_else(blob):
    """Random bytes, bare or dressed up as a manifest, raise one of the two errors."""
    assert not manifest_opens(blob)
    assert not manifest_opens(MANIFEST[:20] + blob)
