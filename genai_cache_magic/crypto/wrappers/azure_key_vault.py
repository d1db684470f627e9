"""The key wrapper of a team: a KEK and a signing key that Azure Key Vault guards and never gives away.

Wraps by RSA-OAEP-256 and signs by PS256, both in the vault; unwrapping is the one thing that a kernel asks it for. What
was signed is verified here, against the public key that this machine trusts (``known_keys.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import TYPE_CHECKING, Final, Never

from genai_cache_magic.crypto.aead import KEY_BYTES
from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.crypto.wrappers.azure_vault_client import LEAST_KEY_BITS
from genai_cache_magic.crypto.wrappers.known_keys import KnownKey
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyDenied, KeyMissing, KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.crypto.wrappers.azure_vault_client import VaultClient, VaultKey
    from genai_cache_magic.crypto.wrappers.known_keys import KnownKeys

WRAPPING: Final = ("wrapKey", "unwrapKey")
SIGNING: Final = ("sign", "verify")

_OAEP: Final = "RSA-OAEP-256"
_DIGEST_BYTES: Final = 32
_SEEN_LATELY_S: Final = 86_400.0
"""How long what was seen of a key's validity is taken for true [s]: after that the vault is asked again."""


class AzureKeyVault:
    """A ``KeyWrapper`` over two keys of one vault. Safe to share between threads.

    Parameters
    ----------
    client
        Speaks to the vault.
    key_name, signing_key_name
        The key that wraps, and the one that signs.
    known
        Where this machine keeps which keys it trusts.
    held
        What was unwrapped lately; shared by all that should ask but once.
    now_s
        The wall clock [s since the epoch].

    Raises
    ------
    ConfigurationError
        The vault's address or a name can't be one, or both names are one.
    """

    kind: Final = "key-vault"
    signature_algorithm: Final = "PS256"
    remedy: Final = (
        "set GENAI_CACHE_KEY_VAULT_URL and GENAI_CACHE_KEY_NAME as your team has them, "
        "or choose another GENAI_CACHE_NAMESPACE"
    )

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        client: VaultClient,
        *,
        known: KnownKeys,
        held: HeldKeys | None = None,
        key_name: str = "cache-key",
        signing_key_name: str = "cache-key-sign",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        if key_name.lower() == signing_key_name.lower():
            raise ConfigurationError(
                f"key_name and signing_key_name are both {key_name}: name two keys, "
                "or who may unwrap could be able to sign"
            )
        self._client = client
        self._known = known
        self._held = held or HeldKeys()
        self._now_s = now_s
        self._accepted: KnownKey | None = None  # replaced as a whole, so needs no lock
        self._key_name = key_name
        self._signing_key_name = signing_key_name
        self.key_url = client.target.key_url(key_name)
        self.signing_key_url = client.target.key_url(signing_key_name)
        self.fingerprint = hashlib.sha256(self.key_url.encode()).hexdigest()[:16]

    @property
    def key_id(self) -> str:
        """The KEK's URL with its current version; asks the vault."""
        return f"{self.key_url}/{self._usable(self._key_name, 'wrapKey').version}"

    @property
    def signing_key_id(self) -> str:
        """The signing key's URL with its current version; asks the vault."""
        return f"{self.signing_key_url}/{self._signer().version}"

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Return `secret`, behind the digest of `context`, wrapped by the vault; raises as the protocol says."""
        key = self._usable(self._key_name, "wrapKey")
        bound = hashlib.sha256(context).digest() + secret
        return self._client.operate("wrapKey", key.name, key.version, _OAEP, bound)

    def unwrap(self, wrapped: bytes, context: bytes, *, key_id: str) -> bytes:
        """Return what `wrap` wrapped for `context`; raises as the protocol says."""
        version = self._version(key_id, self.key_url)
        name = hashlib.sha256(b"\0".join((key_id.encode(), hashlib.sha256(context).digest(), wrapped))).digest()
        return self._held.get(name, lambda: self._unwrapped(wrapped, context, version))

    def _unwrapped(self, wrapped: bytes, context: bytes, version: str) -> bytes:
        self._require_validity(version)
        bound = self._client.operate("unwrapKey", self._key_name, version, _OAEP, wrapped)
        digest, secret = bound[:_DIGEST_BYTES], bound[_DIGEST_BYTES:]
        if len(secret) != KEY_BYTES or not hmac.compare_digest(digest, hashlib.sha256(context).digest()):
            raise DecryptionError(f"a wrapped key is not what its keyset needs (key {self.fingerprint})")
        return secret

    def sign(self, data: bytes) -> bytes:
        """Return a PS256 signature over `data`, made by the vault; raises as the protocol says."""
        return self._signed(self._signer(), data)

    def _signed(self, key: VaultKey, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        signature = self._client.operate("sign", key.name, key.version, self.signature_algorithm, digest)
        if not _is_signed(self._seen(key, self.signing_key_url), digest, signature):
            raise KeyUnavailable(f"vault {self._client.name} gave a signature that its own key does not confirm")
        return signature

    def verify(self, data: bytes, signature: bytes, *, key_id: str) -> None:
        """Return if the trusted version of the signing key signed `data`; the first one met becomes that.

        Raises as the protocol says.
        """
        version = self._version(key_id, self.signing_key_url)
        trusted = self._accepted if version == self._accepted_version else self._known.find(self.signing_key_url)
        signer = trusted or self._seen(self._client.get(self._signing_key_name, version), self.signing_key_url)
        if signer.version != version:
            raise self._changed(signer, version)
        if not _is_signed(signer, hashlib.sha256(data).digest(), signature):
            raise DecryptionError(f"a keyset failed authentication (key {signer.fingerprint})")
        # SECURITY: pinned only by what it has signed: no key becomes trusted by being named.
        if trusted is None and self._known.keep(signer).version != version:
            raise self._changed(signer, version)

    @property
    def trusted(self) -> KnownKey | None:
        """The signing key that this machine trusts, if it has met one."""
        return self._known.find(self.signing_key_url)

    def offered(self, key_id: str = "") -> KnownKey:
        """Return the version of the signing key that `key_id` names, or the current one; it is not trusted yet."""
        version = self._version(key_id, self.signing_key_url) if key_id else ""
        return self._seen(self._client.get(self._signing_key_name, version), self.signing_key_url)

    def accept(self, key: KnownKey) -> None:
        """Let this version of the signing key sign, and be verified, beside the trusted one: until it is trusted."""
        self._accepted = key

    @property
    def _accepted_version(self) -> str | None:
        return None if self._accepted is None else self._accepted.version

    def trust(self, key: KnownKey) -> None:
        """Trust this version of the signing key from now on, and none before it."""
        self._known.replace(key)

    def current(self) -> tuple[VaultKey, VaultKey]:
        """Return the current versions of both keys, usable or not."""
        return self._client.get(self._key_name), self._client.get(self._signing_key_name)

    def ensure_keys(self) -> tuple[str, ...]:
        """Make the keys that the vault lacks, and return the names of those that were made.

        Raises
        ------
        KeyUnavailable
            One can't be made, or is there and can't serve: no RSA key, too short, disabled, expired, for other uses.
        """
        made = []
        for name, operations in ((self._key_name, WRAPPING), (self._signing_key_name, SIGNING)):
            try:
                self._usable(name, *operations)
            except KeyMissing:
                self._client.create(name, operations)
                made.append(name)
        return tuple(made)

    def refusals(self) -> tuple[KeyDenied, ...]:
        """Return what this identity may not do of all that making and opening a keyset needs."""
        probe, found = os.urandom(KEY_BYTES), []
        context = b"genai-cache-magic/probe"

        def unwrapped() -> object:
            return self.unwrap(self.wrap(probe, context), context, key_id=self.key_id)

        def signed() -> object:  # by the current version, whichever is trusted: nothing comes of it
            return self._signed(self._usable(self._signing_key_name, "sign"), context)

        for tried in (unwrapped, signed):
            try:
                tried()
            except KeyDenied as refusal:
                found.append(refusal)
        return tuple(found)

    def refusal_to(self, operation: str) -> KeyDenied | None:
        """Return why this identity may not do one thing, ``unwrapKey`` or ``sign``; None if it may.

        What is unwrapped was wrapped here, by the public key: the right to wrap is not needed. Nothing is kept of it.
        Raises as the protocol says for what is no matter of rights.
        """
        probe = os.urandom(KEY_BYTES)
        try:
            if operation == "sign":
                self._signed(self._usable(self._signing_key_name, operation), probe)
            else:
                key = self._usable(self._key_name, operation)
                self._client.operate(operation, key.name, key.version, _OAEP, _wrapped_here(key, probe))
        except KeyDenied as refusal:
            return refusal
        return None

    def _usable(self, name: str, *operations: str) -> VaultKey:
        """Return the current version of a key; raises if it must not be used.

        Some vaults wrap with what they should not, and whoever has the public key could: so this is asked first.
        """
        key = self._client.get(name)
        if trouble := key.trouble(self._now_s()):
            raise KeyUnavailable(
                f"key {name} in vault {self._client.name} {trouble}: ask your administrator for a new version of it"
            )
        missing = [operation for operation in operations if key.operations and operation not in key.operations]
        if missing:
            raise KeyUnavailable(
                f"key {name} in vault {self._client.name} is not made for {' and '.join(missing)}: "
                f"`az keyvault key set-attributes --id {self._client.target.key_url(name)} --ops "
                f"{' '.join(operations)}`"
            )
        return key

    def _signer(self) -> VaultKey:
        key = self._usable(self._signing_key_name, "sign")
        trusted = self._known.find(self.signing_key_url)
        if trusted is not None and key.version not in {trusted.version, self._accepted_version}:
            raise self._changed(trusted, key.version)
        return key

    def _require_validity(self, version: str) -> None:
        """Refuse a version of the KEK that is disabled or out of its time, asking the vault about that once a day.

        A vault may unwrap with an expired key, so that nothing is lost: that is for an administrator to decide.
        """
        url, now_s = f"{self.key_url}/{version}", self._now_s()
        seen = self._known.find(url)
        if seen is None or not 0 <= now_s - seen.seen_s < _SEEN_LATELY_S:
            key = self._client.get(self._key_name, version)
            if trouble := key.trouble(now_s):
                raise self._invalid(version, trouble)
            self._known.replace(self._seen(key, url))
        elif seen.expires is not None and now_s >= seen.expires:
            raise self._invalid(version, "has expired")

    def _invalid(self, version: str, trouble: str) -> KeyUnavailable:
        return KeyUnavailable(
            f"key {self._key_name} in vault {self._client.name}, version {version}, {trouble}: ask your administrator "
            "to enable it again or to extend it, and then to run `genai-cache keys rewrap`"
        )

    def _seen(self, key: VaultKey, url: str) -> KnownKey:
        return KnownKey(url, key.version, key.modulus, key.exponent, self._now_s(), key.starts, key.expires)

    def _version(self, key_id: str, url: str) -> str:
        """Return the version of the key at `url` that `key_id` names, which nobody has authenticated yet."""
        version = key_id.removeprefix(f"{url}/")
        if version == key_id or not version.replace("-", "").isalnum():
            raise KeyUnavailable(f"a keyset names key {key_id}, this process uses {url}: {self.remedy}")
        return version

    def _changed(self, trusted: KnownKey, version: str) -> KeyUnavailable:
        return KeyUnavailable(
            f"the key that signs keysets, {self._signing_key_name} in vault {self._client.name}, has changed: this "
            f"machine trusts version {trusted.version} ({trusted.fingerprint}), and found {version}. If your "
            "administrator confirms that, run `genai-cache keys trust`; nothing is used until then"
        )

    def __repr__(self) -> str:
        return f"AzureKeyVault({self.key_url!r})"

    def __reduce__(self) -> Never:
        raise TypeError("an AzureKeyVault speaks as somebody and can't be pickled or copied")


def _wrapped_here(key: VaultKey, secret: bytes) -> bytes:
    """Return `secret` wrapped by RSA-OAEP-256 with the public part of `key` (RFC 8017 §7.1)."""
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.hashes import SHA256

    public = RSAPublicNumbers(key.exponent, key.modulus).public_key()
    return public.encrypt(secret, padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None))


def _is_signed(signer: KnownKey, digest: bytes, signature: bytes) -> bool:
    """Return whether `signature` is a PS256 one by `signer` over the SHA-256 `digest`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import padding, utils
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.hashes import SHA256

    if signer.modulus.bit_length() < LEAST_KEY_BITS:
        return False
    try:
        public = RSAPublicNumbers(signer.exponent, signer.modulus).public_key()
        scheme = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=_DIGEST_BYTES)  # RFC 7518 §3.5
        public.verify(signature, digest, scheme, utils.Prehashed(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
