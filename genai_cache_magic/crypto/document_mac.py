"""Authentication of a small shared document: readable by all who can fetch it, changeable by key holders.

    offset  bytes  field
         0      n  payload
         n     32  HMAC-SHA256(mac key, label, context length (2, big-endian), context, payload)

The context says which document it is (kind and namespace), so that one can't stand in for another.
Whether it is the *latest* one is for the caller to judge, by a counter in the payload.
"""

from __future__ import annotations

import hmac
from typing import Final

from genai_cache_magic.errors import DecryptionError

TAG_BYTES: Final = 32

_LABEL: Final = b"genai-cache-magic/document/v1\x00"


def protect_document(mac_key: bytes, context: str, payload: bytes) -> bytes:
    """Return `payload` with its tag.

    Parameters
    ----------
    mac_key : bytes, shape (32,)
        `Keyring.mac_key`.
    context : str
        Kind of document and namespace, at most 65,535 bytes.
    payload : bytes
        Stays readable.
    """
    return payload + _tag(mac_key, context, payload)


def verify_document(mac_key: bytes, context: str, blob: bytes) -> bytes:
    """Return the payload of `blob`.

    Raises
    ------
    DecryptionError
        If `blob` was not protected under this key for this context.
    """
    payload, tag = blob[:-TAG_BYTES], blob[-TAG_BYTES:]
    if not hmac.compare_digest(_tag(mac_key, context, payload), tag):
        raise DecryptionError("a shared document failed authentication")
    return payload


def _tag(mac_key: bytes, context: str, payload: bytes) -> bytes:
    encoded = context.encode()
    return _mac(mac_key, _LABEL + len(encoded).to_bytes(2, "big") + encoded + payload)


def _mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, message, "sha256")
