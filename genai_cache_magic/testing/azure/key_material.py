"""Keys of a simulated vault: made, imported, shown as JSON web keys, used by the algorithms that Key Vault names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from genai_cache_magic.testing.azure.errors import bad_parameter
from genai_cache_magic.testing.azure.tokens import base64url, from_base64url, number

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA_SIZES = (2048, 3072, 4096)
_EXPONENT = 65537
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}
_CURVE_OF_ALGORITHM = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "P-256K"}
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_RSA_OPERATIONS = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")
_EC_OPERATIONS = ("sign", "verify")


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """A private key and its type in Key Vault's words, such as ``RSA-HSM``."""

    kty: str
    private: PrivateKey = field(repr=False)

    @property
    def operations(self) -> tuple[str, ...]:
        """What a key of this type may do unless its maker says otherwise."""
        return _RSA_OPERATIONS if isinstance(self.private, rsa.RSAPrivateKey) else _EC_OPERATIONS

    def public_jwk(self) -> dict[str, str]:
        """Return the type and the public part, as a JSON web key without id and operations."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            public = self.private.public_key().public_numbers()
            return {"kty": self.kty, "n": number(public.n), "e": number(public.e)}
        point = self.private.public_key().public_numbers()
        size_bytes = (self.private.curve.key_size + 7) // 8
        x, y = (base64url(value.to_bytes(size_bytes, "big")) for value in (point.x, point.y))
        return {"kty": self.kty, "crv": _curve_name(self.private.curve), "x": x, "y": y}

    def renewed(self) -> KeyMaterial:
        """Return a fresh key of the same kind."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return KeyMaterial(self.kty, rsa.generate_private_key(_EXPONENT, self.private.key_size))
        return KeyMaterial(self.kty, ec.generate_private_key(self.private.curve))

    # Each raises VaultRefusalError for what the algorithm or the key can't do.

    def encrypt(self, algorithm: str, plaintext: bytes) -> bytes:
        """Return `plaintext` encrypted, or a key wrapped: it is the same."""
        private = self._rsa(algorithm)
        scheme = _encryption_padding(algorithm)
        try:
            return private.public_key().encrypt(plaintext, scheme)
        except ValueError as exc:
            raise bad_parameter(
                f"Invalid length of 'value': {len(plaintext)} bytes is more than this key takes."
            ) from exc

    def decrypt(self, algorithm: str, ciphertext: bytes) -> bytes:
        """Return what `encrypt` was given."""
        private = self._rsa(algorithm)
        try:
            return private.decrypt(ciphertext, _encryption_padding(algorithm))
        except ValueError as exc:
            raise bad_parameter("The parameter is incorrect.\r\n") from exc

    def sign(self, algorithm: str, digest: bytes) -> bytes:
        """Return the signature over what has this digest."""
        hashed = _hash_of(algorithm, digest)
        if algorithm.startswith("ES"):
            private = self._ec(algorithm)
            r, s = utils.decode_dss_signature(private.sign(digest, ec.ECDSA(utils.Prehashed(hashed))))
            size_bytes = (private.curve.key_size + 7) // 8
            return r.to_bytes(size_bytes, "big") + s.to_bytes(size_bytes, "big")
        scheme = _signature_padding(algorithm, hashed)
        return self._rsa(algorithm).sign(digest, scheme, utils.Prehashed(hashed))

    def verify(self, algorithm: str, digest: bytes, signature: bytes) -> bool:
        """Whether `signature` is one over what has this digest."""
        hashed = _hash_of(algorithm, digest)
        try:
            if algorithm.startswith("ES"):
                half = len(signature) // 2
                r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
                public = self._ec(algorithm).public_key()
                public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashed)))
            else:
                scheme = _signature_padding(algorithm, hashed)
                self._rsa(algorithm).public_key().verify(signature, digest, scheme, utils.Prehashed(hashed))
        except InvalidSignature:
            return False
        return True

    def _rsa(self, algorithm: str) -> rsa.RSAPrivateKey:
        if not isinstance(self.private, rsa.RSAPrivateKey):
            raise bad_parameter(f"Key and signing or encryption algorithm are incompatible: {self.kty}, {algorithm}.")
        return self.private

    def _ec(self, algorithm: str) -> ec.EllipticCurvePrivateKey:
        wanted = _CURVE_OF_ALGORITHM[algorithm]
        if not isinstance(self.private, ec.EllipticCurvePrivateKey) or _curve_name(self.private.curve) != wanted:
            raise bad_parameter(f"Key and signing algorithm are incompatible: {algorithm} needs a key on {wanted}.")
        return self.private


def generate(parameters: dict[str, Any]) -> KeyMaterial:
    """Return a fresh key as a request to create one describes it; raises VaultRefusalError."""
    kty = parameters.get("kty")
    if kty in {"RSA", "RSA-HSM"}:
        size = parameters.get("key_size") or RSA_SIZES[0]
        if size not in RSA_SIZES:
            raise bad_parameter(f"Invalid key_size: {size!r}. RSA keys have 2048, 3072 or 4096 bits.")
        exponent = parameters.get("public_exponent") or _EXPONENT
        if exponent not in {3, _EXPONENT}:
            raise bad_parameter(f"Invalid public_exponent: {exponent!r}.")
        return KeyMaterial(kty, rsa.generate_private_key(exponent, size))
    if kty in {"EC", "EC-HSM"}:
        curve = _CURVES.get(parameters.get("crv") or "P-256")
        if curve is None:
            raise bad_parameter(f"Invalid crv: {parameters.get('crv')!r}.")
        return KeyMaterial(kty, ec.generate_private_key(curve()))
    raise bad_parameter(f"Property kty has invalid value: {kty!r}.")


def imported(jwk: Any, *, is_hsm: bool) -> KeyMaterial:
    """Return the RSA key that a JSON web key spells; raises VaultRefusalError."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in {"RSA", "RSA-HSM"}:
        raise bad_parameter("Property key has an invalid value: this simulation imports RSA keys.")
    try:
        n, e, d, p, q, dp, dq, qi = (int.from_bytes(from_base64url(jwk[name])) for name in _PRIVATE_NUMBERS)
        private = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise bad_parameter("Property key has an invalid value: it is no RSA key with its private part.") from exc
    if private.key_size not in RSA_SIZES:
        raise bad_parameter(f"RSA keys have 2048, 3072 or 4096 bits, this one has {private.key_size}.")
    return KeyMaterial("RSA-HSM" if is_hsm or jwk["kty"] == "RSA-HSM" else "RSA", private)


_PRIVATE_NUMBERS = ("n", "e", "d", "p", "q", "dp", "dq", "qi")


def _curve_name(curve: ec.EllipticCurve) -> str:
    return next(name for name, kind in _CURVES.items() if isinstance(curve, kind))


def _encryption_padding(algorithm: str) -> AsymmetricPadding:
    match algorithm:
        case "RSA-OAEP-256":
            return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        case "RSA-OAEP":
            # What the name stands for; that it uses SHA-1 is why nobody should choose it.
            return padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303
        case "RSA1_5":
            return padding.PKCS1v15()
    raise bad_parameter(f"Algorithm {algorithm!r} is not supported by this key.")


def _signature_padding(algorithm: str, hashed: hashes.HashAlgorithm) -> AsymmetricPadding:
    if algorithm.startswith("PS"):
        return padding.PSS(padding.MGF1(hashed), hashed.digest_size)
    return padding.PKCS1v15()


def _hash_of(algorithm: str, digest: bytes) -> hashes.HashAlgorithm:
    """Return the hash that a signature algorithm names, whose digests have this length."""
    hashed = _HASHES.get(algorithm[2:5])
    is_known = algorithm in _CURVE_OF_ALGORITHM or (algorithm[:2] in {"PS", "RS"} and len(algorithm) == len("PS256"))
    if hashed is None or not is_known:
        raise bad_parameter(f"Algorithm {algorithm!r} is not supported by this key.")
    if len(digest) != hashed.digest_size:
        raise bad_parameter(
            f"Invalid length of 'value': {len(digest)} bytes. {algorithm} requires {hashed.digest_size} bytes, encoded "
            "with base64url."
        )
    return hashed
