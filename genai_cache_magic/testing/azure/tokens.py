"""Who asks, and the tokens that say so: principals of a simulated directory, and signed JSON web tokens (RS256)."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody, or some machine, that can have tokens.

    Attributes
    ----------
    object_id : str
        What a token names it by (``oid``); rights are given to this.
    client_id : str
        What it names itself by when it asks for a token.
    client_secret : str
        The secret of a service principal.
    machine_secret : str
        The value of ``IDENTITY_HEADER`` on a machine whose managed identity this is.
    """

    name: str
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    machine_secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was given out.

    Attributes
    ----------
    flow : str
        How it was asked for: ``app-service``, ``imds``, ``client-secret`` or ``workload``.
    audience : str
        The service that it is for.
    issued_at, expires_at : int
        Seconds since 1970 [s].
    """

    principal: Principal
    flow: str
    audience: str
    issued_at: int
    expires_at: int
    text: str = field(repr=False)


class InvalidTokenError(Exception):
    """A token was not signed here, or is for another time or service; the message says which."""


class TokenSigner:
    """Makes and checks tokens of one directory, signed with a key of its own."""

    def __init__(self) -> None:
        self._private_key = rsa.generate_private_key(65537, 2048)
        self._key_id = secrets.token_urlsafe(20)

    def sign(self, claims: dict[str, Any]) -> str:
        """Return the token that makes these claims."""
        head = {"typ": "JWT", "alg": "RS256", "x5t": self._key_id, "kid": self._key_id}
        signed = f"{_encoded_json(head)}.{_encoded_json(claims)}"
        signature = self._private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64url(signature)}"

    def claims_of(self, token: str) -> dict[str, Any]:
        """Return what a token claims.

        Raises
        ------
        InvalidTokenError
            It was not signed with this key.
        """
        signed, _, signature = token.rpartition(".")
        try:
            self._private_key.public_key().verify(
                from_base64url(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            claims: dict[str, Any] = json.loads(from_base64url(signed.partition(".")[2]))
        except (InvalidSignature, ValueError) as exc:
            raise InvalidTokenError("the signature is wrong") from exc
        return claims

    def key_set(self) -> dict[str, Any]:
        """Return the public key as a JSON web key set."""
        numbers = self._private_key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "kid": self._key_id, "n": number(numbers.n), "e": number(numbers.e)}
        return {"keys": [key]}


def base64url(data: bytes) -> str:
    """Return `data` in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return what `text` spells, with or without padding.

    Raises
    ------
    ValueError
        It is not base64url.
    """
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)


def number(value: int) -> str:
    """Return a number as JSON web keys spell it: big-endian, base64url."""
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded_json(value: dict[str, Any]) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
