"""What guards a namespace key: something that can wrap, unwrap, sign and verify with a key of its own."""

from __future__ import annotations

from typing import Protocol


class KeyWrapper(Protocol):
    """A KEK and a signing key, wherever they live: a file on this machine, a vault.

    Implementations may talk to a network; callers unwrap once per process. They may be called from any
    thread and never show key material in a repr or a message. Two exceptions leave them:
    ``KeyUnavailable`` when the key can't be used now (absent, disabled, no permission, unreachable),
    with the fix in its message, and ``DecryptionError`` when bytes are not what this key made.
    """

    @property
    def kind(self) -> str:
        """Name of the kind, as manifests carry it: ``local``, ``key-vault``. Printable ASCII, at most 32."""

    @property
    def key_id(self) -> str:
        """The KEK *with its version*, as `wrap` uses it now. Printable ASCII, at most 512."""

    @property
    def fingerprint(self) -> str:
        """Which KEK this is, the same for all its versions; 16 lowercase hex characters."""

    @property
    def signature_algorithm(self) -> str:
        """The one algorithm that `sign` makes and `verify` accepts: ``HMAC-SHA256``, ``PS256``."""

    @property
    def signing_key_id(self) -> str:
        """The signing key with its version, as `sign` uses it now. Printable ASCII, at most 512."""

    @property
    def remedy(self) -> str:
        """What to do, as an order to the user, when a namespace is wrapped by another key than this."""

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Return `secret` (bytes, shape (32,)) wrapped under `key_id`, at most 1024 bytes.

        `context` is bound to the result, so that it can't be unwrapped as something else. A primitive
        without associated data (RSA-OAEP) wraps SHA-256(context) + secret.

        Raises
        ------
        KeyUnavailable
            If the key can't be used now. Ask the service before wrapping locally with a public key:
            a disabled or expired key must not gain new secrets.
        """

    def unwrap(self, wrapped: bytes, context: bytes, *, key_id: str) -> bytes:
        """Return the secret that was wrapped under version `key_id` for `context`.

        Raises
        ------
        KeyUnavailable
            If that version is not one of this KEK's, or can't be used now.
        DecryptionError
            If `wrapped` was not made by this key for this context.
        """

    def sign(self, data: bytes) -> bytes:
        """Return a signature over `data` by `signing_key_id`, at most 1024 bytes.

        Raises
        ------
        KeyUnavailable
            If the key can't be used now.
        """

    def verify(self, data: bytes, signature: bytes, *, key_id: str) -> None:
        """Return if `signature` over `data` was made by version `key_id` of the trusted signing key.

        `key_id` comes from data that nobody has authenticated yet: it chooses among the versions of the
        key that was configured (and pinned), never another key, vault or algorithm.

        Raises
        ------
        KeyUnavailable
            If the signing key can't be reached, or is not the one that was pinned.
        DecryptionError
            If the signature is wrong.
        """
