"""The local key wrapper: a KEK in a file of the user's own (``key_file.py``)."""

from __future__ import annotations

import contextlib
import hmac
import os
from typing import TYPE_CHECKING, Final, Never, Self

from genai_cache_magic.crypto.aead import KEY_BYTES, SALT_BYTES, derive_key, open_box, seal_box
from genai_cache_magic.crypto.wrappers.key_file import (
    format_key,
    parse_key,
    publish_key,
    read_key,
    remove_drafts,
    require_outside,
    translated,
)
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DOMAIN: Final = b"genai-cache-magic/local-key/v1"


class LocalKeyFile:
    """A key wrapper whose KEK is 32 bytes in a local file; made by `load_or_create` or `load`.

    Wraps by AES-256-GCM and signs by HMAC-SHA256, under keys derived from the KEK.
    """

    kind: Final = "local"
    signature_algorithm: Final = "HMAC-SHA256"
    remedy: Final = (
        "run `genai-cache keys export` on the machine that has the key, `genai-cache keys import` here, "
        "or choose another GENAI_CACHE_NAMESPACE"
    )

    __slots__ = ("_kek", "_random", "_signing_key", "_wrapping_key", "fingerprint")

    def __init__(self, kek: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._kek = kek
        self._wrapping_key = derive_key(kek, _DOMAIN, b"wrap")
        self._signing_key = derive_key(kek, _DOMAIN, b"sign")
        self._random = random
        self.fingerprint = derive_key(kek, _DOMAIN, b"fingerprint")[:8].hex()

    @classmethod
    def load_or_create(cls, path: Path, *, cache_directory: Path, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key at `path`, making it (and its directory, 0700) if there is none.

        Of several processes that make it at once, the first wins and all get its key. A file that is
        there is never replaced, whatever is wrong with it.

        Raises
        ------
        ConfigurationError
            If `path` lies inside `cache_directory`.
        KeyUnavailable
            If the file can't be read or made, is not a key, or can be read by others.
        """
        require_outside(path, cache_directory)
        remove_drafts(path)
        with translated("read", path), contextlib.suppress(FileNotFoundError):
            return cls(read_key(path), random=random)
        with translated("make", path):
            publish_key(path, random(KEY_BYTES))
        return cls.load(path, cache_directory=cache_directory, random=random)

    @classmethod
    def load(cls, path: Path, *, cache_directory: Path, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key at `path`. Raises as `load_or_create` does, and KeyUnavailable if there is none."""
        require_outside(path, cache_directory)
        with translated("read", path):
            return cls(read_key(path), random=random)

    @classmethod
    def import_text(
        cls, path: Path, text: str, *, cache_directory: Path, random: Callable[[int], bytes] = os.urandom
    ) -> Self:
        """Put a key that `export_text` gave elsewhere at `path`, and return it; harmless if it is there already.

        Raises
        ------
        ConfigurationError
            If `text` is not a key, or `path` holds a different one or lies inside `cache_directory`.
        KeyUnavailable
            If the file can't be read or made.
        """
        require_outside(path, cache_directory)
        kek = parse_key(text.strip())
        if kek is None:
            raise ConfigurationError("this is not a key: paste the whole line that `genai-cache keys export` prints")
        with translated("make", path):
            publish_key(path, kek)
        there = cls.load(path, cache_directory=cache_directory, random=random)
        if not hmac.compare_digest(there._kek, kek):  # noqa: SLF001 - our own class
            raise ConfigurationError(
                f"{path} holds another key ({there.fingerprint}), which is never overwritten: export it first, "
                "move the file away, then import again"
            )
        return there

    @property
    def key_id(self) -> str:
        """``local:`` and the fingerprint."""
        return f"local:{self.fingerprint}"

    @property
    def signing_key_id(self) -> str:
        """The same as `key_id`: one file holds both."""
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
        return f"LocalKeyFile(fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> Never:
        # SECURITY: the KEK leaves the process only by `keys export`.
        raise TypeError("a LocalKeyFile holds a secret and can't be pickled or copied")
