"""What the MAC of a shared document promises."""

from __future__ import annotations

import pytest

from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.errors import DecryptionError

MAC_KEY = b"\x5a" * 32


@pytest.mark.parametrize("payload", [b"", b'{"ver":3}', bytes(5000)])
def test_a_protected_document_comes_back(payload):
    """The payload stays readable and is returned as it was."""
    blob = protect_document(MAC_KEY, "generation:team", payload)
    assert blob.startswith(payload)
    assert verify_document(MAC_KEY, "generation:team", blob) == payload


def test_every_change_is_noticed():
    """Any bit flipped, any byte cut off or added makes it a forgery."""
    blob = protect_document(MAC_KEY, "c", b"payload")
    changed = [blob[:length] for length in range(len(blob))] + [blob + b"\0", b"\0" + blob]
    changed += [(int.from_bytes(blob, "big") ^ 1 << bit).to_bytes(len(blob), "big") for bit in range(8 * len(blob))]
    for forged in changed:
        with pytest.raises(DecryptionError):
            verify_document(MAC_KEY, "c", forged)


def test_documents_can_not_be_swapped():
    """A document of another context, or under another key, is a forgery; context and payload can't trade bytes."""
    blob = protect_document(MAC_KEY, "generation:a", b"bc")
    for mac_key, context, candidate in [
        (MAC_KEY, "generation:b", blob),
        (bytes(32), "generation:a", blob),
        (MAC_KEY, "generation:ab", blob[1:]),
    ]:
        with pytest.raises(DecryptionError):
            verify_document(mac_key, context, candidate)
