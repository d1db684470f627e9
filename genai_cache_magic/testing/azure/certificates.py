"""A certificate authority for loopback, made when it is constructed and gone when it is closed."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoopbackCertificates:
    """A certificate authority, and a certificate of it for this machine's loopback addresses.

    Parameters
    ----------
    name, addresses
        Whom the certificate is for.
    days
        From when until when it is good, from now on [days].

    Attributes
    ----------
    ca_file : Path
        The authority's certificate (PEM): what clients have to trust, such as by ``REQUESTS_CA_BUNDLE``.
    """

    def __init__(
        self,
        *,
        name: str = "localhost",
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        days: tuple[float, float] = (-1, 1),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="genai-cache-simulated-")
        directory = Path(self._directory.name)
        self.ca_file = directory / "ca.pem"
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _ca_certificate(ca_key)
        self.ca_file.write_bytes(ca.public_bytes(Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        chain = directory / "server.pem"
        with open(os.open(chain, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.write(_server_certificate(key, ca, ca_key, name, addresses, days).public_bytes(Encoding.PEM))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain)
        chain.unlink()

    @property
    def directory(self) -> Path:
        """A private directory, which goes when this is closed."""
        return Path(self._directory.name)

    @property
    def server_context(self) -> ssl.SSLContext:
        """What a server on loopback needs to serve HTTPS."""
        return self._context

    def close(self) -> None:
        """Remove the directory."""
        self._directory.cleanup()


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Simulated certificate authority")])
    return (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server_certificate(  # noqa: PLR0913, PLR0917 - what a certificate says
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    addresses: Sequence[str],
    days: tuple[float, float],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    told = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    return (
        _builder(subject, ca.subject, key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *told]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: tuple[float, float] = (-1, 1),
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    begins, ends = (now + dt.timedelta(days=day) for day in days)
    return x509.CertificateBuilder(
        issuer, subject, public_key, x509.random_serial_number(), begins, ends
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
