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
