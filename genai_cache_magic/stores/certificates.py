"""Until when the certificate of a server is good, and whether it is accepted here."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from genai_cache_magic.errors import StoreUnavailable

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """When a certificate expires [s since the epoch], and why it is not accepted; empty if it is."""

    expires_s: float | None
    trouble: str = ""


_UNVOUCHED: Final = "nobody who is trusted here vouches for its certificate"
_REFUSALS: Final = {
    9: "its certificate is not valid yet: is this machine's clock right?",
    10: "its certificate has expired",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
    **dict.fromkeys((2, 18, 19, 20, 21), _UNVOUCHED),
}
"""X509_V_ERR_... of OpenSSL (docs.openssl.org/master/man3/X509_STORE_CTX_get_error) -> the words for it."""


def why_refused(error: ssl.SSLError) -> str:
    """Return in words what kept TLS from being agreed on.

    SECURITY: nothing of what the other side sent goes into a message.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        return _REFUSALS.get(code, f"its certificate is not accepted (code {code} of OpenSSL)")
    reason = error.reason or type(error).__name__
    return f"TLS is not agreed on ({reason}): does it speak https there, and TLS 1.2 or later?"


def trusted_by_azure() -> ssl.SSLContext:
    """Return whom to trust: the system's certificates, or those that Azure's SDK is told to go by."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE", "")
    if Path(bundle).is_dir() and bundle:
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle or None)


def examined(
    host: str, port: int, *, ca_file: Path | None = None, is_azure: bool = False, timeout_s: float = _TIMEOUT_S
) -> Seen:
    """Return what the certificate of a server says, as a client here would judge it.

    Parameters
    ----------
    ca_file
        Certificates that vouch for it; by default the system's.
    is_azure
        Whether it is spoken to by Azure's SDK, which may be told to go by others.

    Raises
    ------
    StoreUnavailable
        It can't be reached, or speaks no TLS.
    """
    try:
        context = (
            trusted_by_azure()
            if is_azure
            else ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        )
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            told = (secured.getpeercert() or {}).get("notAfter")
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate is not accepted ({error.verify_message}): check the host name, and who vouches for it"
        return Seen(None, why)
    except OSError as error:
        raise StoreUnavailable(
            f"{host}:{port} can't be asked for its certificate: is it running, and the port right?"
        ) from error
    return Seen(ssl.cert_time_to_seconds(told) if isinstance(told, str) else None)
