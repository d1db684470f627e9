"""The keys of one namespace, as a process holds them in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Never

from genai_cache_magic.crypto.aead import derive_key
from genai_cache_magic.errors import ConfigurationError, DecryptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITE_AES256GCM_HKDFSHA512: Final = 1
MAX_NAMESPACE_BYTES: Final = 255

_SUBKEY_DOMAIN: Final = b"genai-cache-magic/subkey/v1"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Keyring:
    """The keys of one namespace; its repr shows no secret, and it can't be pickled or copied.

    Attributes
    ----------
    epoch : int
        Epoch under which new entries are sealed. At least 1.
    suite : int
        The only cipher suite of this namespace; data never choose another.
    manifest_version : int
        Version of the keyset manifest that it came from. Keep the highest, as `lowest_version`.
    fingerprint : str
        Which key wraps the namespace key, for people to compare. 16 hex characters for a local key.
    id_key, mac_key : bytes, shape (32,)
        For entry ids, and for the generation document. Rotation leaves both as they are.
    derivation_key : bytes, shape (32,)
        Only the root of `subkey`. Rotation leaves it as it is.
    root_keys : Mapping[int, bytes]
        Epoch to root key, shape (32,). Revoked epochs are absent.
    """

    epoch: int
    suite: int
    manifest_version: int
    fingerprint: str
    id_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)
    derivation_key: bytes = field(repr=False)
    root_keys: Mapping[int, bytes] = field(repr=False)

    @property
    def revoked(self) -> frozenset[int]:
        """The epochs before the current one whose keys were given up."""
        return frozenset(range(1, self.epoch)) - self.root_keys.keys()

    def root_key(self, epoch: int) -> bytes:
        """Return the root key (bytes, shape (32,)) of `epoch`.

        Raises
        ------
        DecryptionError
            If the epoch is revoked or unknown here.
        """
        try:
            return self.root_keys[epoch]
        except KeyError:
            raise DecryptionError(f"no usable key for epoch {epoch}: revoked, or not known here") from None

    def subkey(self, purpose: str) -> bytes:
        """Return a key (bytes, shape (32,)) for one `purpose`, the same in every epoch.

        For what must survive rotation: keyed tags and names, sealed columns of local databases.
        """
        return derive_key(self.derivation_key, _SUBKEY_DOMAIN, purpose.encode())

    def __reduce__(self) -> Never:
        # SECURITY: keys leave the process only by `keys export`.
        raise TypeError("a Keyring holds secrets and can't be pickled or copied")


def encode_namespace(namespace: str) -> bytes:
    """Return the UTF-8 bytes of `namespace`, compared byte for byte wherever it is authenticated.

    Raises
    ------
    ConfigurationError
        If it is empty, longer than 255 bytes, or holds anything unprintable.
    """
    encoded = namespace.encode() if namespace.isprintable() else b""  # lone surrogates aren't printable
    if not 1 <= len(encoded) <= MAX_NAMESPACE_BYTES:
        raise ConfigurationError(
            f"namespace {namespace[:40]!a} can't be used: choose 1 to {MAX_NAMESPACE_BYTES} bytes of printable text"
        )
    return encoded
