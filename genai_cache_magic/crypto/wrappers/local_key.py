"""The arithmetic of a local key: a KEK of 32 bytes that wraps and signs, wherever it lies (``spec/envelope.md`` §7)."""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Final, Never

from genai_cache_magic.crypto.aead import SALT_BYTES, derive_key, open_box, seal_box
from genai_cache_magic.crypto.wrappers.key_file import format_key
from genai_cache_magic.errors import DecryptionError, KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_DOMAIN: Final = b"genai-cache-magic/local-key/v1"


class LocalKey:
    """A key wrapper whose KEK is 32 bytes that this machine holds.

    Wraps by AES-256-GCM and signs by HMAC-SHA256, under keys derived from the KEK.
    """

    kind: Final = "local"
    signature_algorithm: Final = "HMAC-SHA256"
    remedy: Final = (
        "run `genai-cache keys export` on the machine that has the key, `genai-cache keys import --replace` here (the "
        "key that is here is kept beside it), and restart the kernel; "
        "or choose another GENAI_CACHE_NAMESPACE"
    )

    __slots__ = ("_kek", "_random", "_signing_key", "_wrapping_key", "fingerprint")

    def __init__(self, kek: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._kek = kek
        self._wrapping_key = derive_key(kek, _DOMAIN, b"wrap")
        self._signing_key = derive_key(kek, _DOMAIN, b"sign")
        self._random = random
        self.fingerprint = derive_key(kek, _DOMAIN, b"fingerprint")[:8].hex()

    def is_same(self, kek: bytes) -> bool:
        """Return whether this is the key `kek` (bytes, shape (32,))."""
        return hmac.compare_digest(self._kek, kek)

    @property
    def key_id(self) -> str:
        """``local:`` and the fingerprint."""
        return f"local:{self.fingerprint}"

    @property
    def signing_key_id(self) -> str:
        """The same as `key_id`: one KEK gives both."""
        return self.key_id

    def export_text(self) -> str:
        """Return the key as one line. It is the secret itself: to be shown only to its owner."""
        return format_key(self._kek)

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Return `secret` sealed under the KEK for `context`."""
        salt = self._random(SALT_BYTES)
        return seal_box(self._wrapping_key, _DOMAIN, secret, associated=context, salt=salt)

    def unwrap(self, wrapped: bytes, context: bytes, *, key_id: str) -> bytes:
        """Return what `wrap` sealed for `context`; raises as the protocol says."""
        self._require_id(key_id)
        return open_box(self._wrapping_key, _DOMAIN, wrapped, associated=context)

    def sign(self, data: bytes) -> bytes:
        """Return HMAC-SHA256 (bytes, shape (32,)) over `data`."""
        return hmac.digest(self._signing_key, data, "sha256")

    def verify(self, data: bytes, signature: bytes, *, key_id: str) -> None:
        """Return if `signature` is what `sign` returns for `data`; raises as the protocol says."""
        self._require_id(key_id)
        if not hmac.compare_digest(self.sign(data), signature):
            raise DecryptionError(f"a keyset failed authentication (key {self.fingerprint})")

    def _require_id(self, key_id: str) -> None:
        if key_id != self.key_id:
            raise KeyUnavailable(f"a keyset names key {key_id!r}, this machine has {self.key_id!r}: {self.remedy}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> Never:
        # SECURITY: the KEK leaves the process only by `keys export`.
        raise TypeError(f"a {type(self).__name__} holds a secret and can't be pickled or copied")
