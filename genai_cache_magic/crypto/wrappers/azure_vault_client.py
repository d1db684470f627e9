"""A client of one Azure Key Vault: where, as whom, how long to wait, and what its answers mean.

Only the documented REST of keys is used, through the pipeline of ``azure-keyvault-keys``: it signs in, and checks that
a challenge comes from the vault that was asked. Each operation is one request, so that nothing is asked that was not
meant to be: the SDK's own client for cryptography reads a key before it unwraps with it.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

from genai_cache_magic.crypto.wrappers.azure_rights import Asked, denied
from genai_cache_magic.errors import ConfigurationError, KeyMissing, KeyThrottled, KeyUnavailable
from genai_cache_magic.host import request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

API_VERSION: Final = "7.4"
"""One that every release of the SDK, and every emulator, knows."""
KEY_BITS: Final = 3072
LEAST_KEY_BITS: Final = 2048

_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
_VERSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_HTTPS_PORT: Final = 443
_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_PAUSE_S: Final = 1.0
"""How long to wait where a vault that is busy does not say [s]."""


@dataclass(frozen=True, slots=True)
class VaultTarget:
    """Where a vault is, as whom to speak to it, and how long to wait.

    Parameters
    ----------
    url
        ``https://NAME.vault.azure.net``.
    credential
        A ``TokenCredential``, or the name of one of Azure's kinds: ``default``, ``cli``, ``environment``,
        ``managed-identity``, ``workload-identity``.
    verify_challenge
        Whether what the vault demands a token for has to be the vault itself; only a vault on loopback does without.
    connect_timeout_s, read_timeout_s
        How long to wait for a connection, and for each answer [s].
    deadline_s
        How long an operation may take with all repetitions [s].
    """

    url: str = field(repr=False)
    credential: Any = field(default="default", repr=False)
    verify_challenge: bool = True
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 5.0
    deadline_s: float = 10.0

    @property
    def base(self) -> str:
        """The vault's URL in its one spelling; raises ``ConfigurationError`` if it can't be one."""
        try:
            parts = urlsplit(self.url.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme != "https" or not host or parts.username or parts.path.strip("/") or parts.query:
            raise ConfigurationError("key_vault_url is no address of a vault: write https://NAME.vault.azure.net")
        if not self.verify_challenge and not _is_loopback(host):
            raise ConfigurationError(
                f"verify_challenge=false is for a vault on loopback alone, not for {host}: remove it"
            )
        spelled = f"[{host}]" if ":" in host else host
        return f"https://{spelled}" + ("" if port in (None, _HTTPS_PORT) else f":{port}")

    def key_url(self, name: str) -> str:
        """Return the URL of a key, without a version; raises ``ConfigurationError``."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name[:40]!r} is no name of a vault's key: write letters, digits and '-'")
        return f"{self.base}/keys/{name}"


@dataclass(frozen=True, slots=True)
class VaultKey:
    """One version of a vault's key, its public part alone; times in seconds since the epoch, None if unlimited."""

    name: str
    version: str
    kind: str
    modulus: int
    exponent: int
    operations: tuple[str, ...]
    is_enabled: bool = True
    starts: float | None = None
    expires: float | None = None

    def trouble(self, now_s: float) -> str:
        """Return why this version may not be used, in words; empty if it may."""
        if not self.is_enabled:
            return "is disabled"
        if self.expires is not None and now_s >= self.expires:
            return "has expired"
        if self.starts is not None and now_s < self.starts:
            return "is not valid yet"
        if not self.kind.startswith("RSA") or self.modulus.bit_length() < LEAST_KEY_BITS:
            return f"is no RSA key of {LEAST_KEY_BITS} bits or more"
        return ""

    def pem(self) -> str:
        """Return the public key as PEM."""
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = RSAPublicNumbers(self.exponent, self.modulus).public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


class VaultClient:
    """Speaks to one vault. Safe to share between threads; connects when it is first asked something.

    Raises, from every method that asks, ``KeyUnavailable`` and its kinds.

    Parameters
    ----------
    target
        Where and as whom.
    clock, sleep
        Seconds that never run backwards, and how to let some pass.
    """

    def __init__(
        self,
        target: VaultTarget,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.target = target
        self.name = target.base.removeprefix("https://")
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._client: Any = None  # guarded by _lock

    def get(self, name: str, version: str = "") -> VaultKey:
        """Return a version of a key, the current one by default."""
        return self._key(name, self._ask("GET", Asked("get", name), version=version))

    def create(self, name: str, operations: tuple[str, ...]) -> VaultKey:
        """Make a key, or a new version of one that is there."""
        is_hsm = self.name.partition(":")[0].endswith(".managedhsm.azure.net")  # which makes no other keys
        wanted = {"kty": "RSA-HSM" if is_hsm else "RSA", "key_size": KEY_BITS, "key_ops": list(operations)}
        return self._key(name, self._ask("POST", Asked("create", name), body=wanted))

    def operate(self, operation: str, name: str, version: str, algorithm: str, value: bytes) -> bytes:
        """Return what the vault makes of `value`: ``wrapKey``, ``unwrapKey`` or ``sign`` it."""
        body = {"alg": algorithm, "value": encode(value)}
        answer = self._ask("POST", Asked(operation, name), version=version, body=body)
        result = answer.get("value")
        if not isinstance(result, str):
            self._garbled()
        return decode(result)

    def close(self) -> None:
        """Give up connections; may be called twice."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _key(self, name: str, answer: Mapping[str, Any]) -> VaultKey:
        try:
            key, attributes = answer["key"], answer.get("attributes") or {}
            version = str(key["kid"]).rstrip("/").rpartition("/")[2]
            if not _VERSION.fullmatch(version):
                self._garbled()
            return VaultKey(
                name,
                version,
                str(key["kty"]),
                int.from_bytes(decode(key.get("n", ""))),
                int.from_bytes(decode(key.get("e", ""))),
                tuple(map(str, key.get("key_ops") or ())),
                bool(attributes.get("enabled", True)),
                _moment(attributes.get("nbf")),
                _moment(attributes.get("exp")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            self._garbled()

    def _ask(self, method: str, asked: Asked, *, version: str = "", body: Any = None) -> Mapping[str, Any]:
        """Send one request, and again where the vault says when; return the JSON of its answer."""
        action = {"get": version, "create": "create"}.get(asked.operation, f"{version}/{asked.operation.lower()}")
        url = f"{self.target.key_url(asked.key_name)}/{action}".rstrip("/")
        ends_at = self._clock() + self.target.deadline_s
        while True:
            status, headers, answer = self._send(method, url, body)
            if status not in _LATER:
                break
            pause_s = _retry_after_s(headers)
            if self._clock() + (_PAUSE_S if pause_s is None else pause_s) >= ends_at:
                raise KeyThrottled(f"vault {self.name} is busy (status {status})", retry_after_s=pause_s)
            self._sleep(_PAUSE_S if pause_s is None else pause_s)
        if status == HTTPStatus.OK:
            if not isinstance(answer, dict):
                self._garbled()
            return answer
        if status == HTTPStatus.NOT_FOUND:
            which = f"{asked.key_name} (version {version})" if version else asked.key_name
            raise KeyMissing(
                f"vault {self.name} has no key {which}: an administrator makes it with `genai-cache keys init`; "
                "or check GENAI_CACHE_KEY_VAULT_URL, GENAI_CACHE_KEY_NAME and GENAI_CACHE_SIGNING_KEY_NAME"
            )
        raise denied(self.name, asked, status, _code(answer))

    def _send(self, method: str, url: str, body: Any) -> tuple[int, Mapping[str, str], Any]:
        with _translated(self.name):
            from azure.core.rest import HttpRequest

            headers = {"x-ms-client-request-id": request_id()}
            request = HttpRequest(method, url, headers=headers, **({} if body is None else {"json": body}))
            response = self._connected().send_request(request)
            content = response.content
            try:
                answer = json.loads(content) if content else None
            except ValueError:
                answer = None  # an error page of something between, or an answer that was cut off
            return response.status_code, response.headers, answer

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                from azure.keyvault.keys import KeyClient

                self._client = KeyClient(
                    self.target.base,
                    credential_of(self.target.credential),
                    api_version=API_VERSION,
                    verify_challenge_resource=self.target.verify_challenge,
                    connection_timeout=self.target.connect_timeout_s,
                    read_timeout=self.target.read_timeout_s,
                    retry_total=0,  # a refusal is repeated four times else; what may be repeated is decided here
                    permit_redirects=False,  # a token is for the vault that was asked
                )
            return self._client

    def _garbled(self) -> NoReturn:
        raise KeyUnavailable(_strange(self.name))


def credential_of(named: Any) -> Any:
    """Return the credential that `named` is, or names."""
    if not isinstance(named, str):
        return named
    from azure import identity

    kinds = {
        "default": identity.DefaultAzureCredential,
        "cli": identity.AzureCliCredential,
        "environment": identity.EnvironmentCredential,
        "managed-identity": identity.ManagedIdentityCredential,
        "workload-identity": identity.WorkloadIdentityCredential,
    }
    try:
        return kinds[named]()
    except ValueError as exc:  # a workload's identity needs variables that are not there
        raise KeyUnavailable(
            f"the Azure identity {named!r} is not at hand here: its variables are not set; "
            "choose another GENAI_CACHE_KEY_VAULT_CREDENTIAL"
        ) from exc


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn the Azure SDK's errors into ours, each with what to do.

    SECURITY: no text of the SDK's goes into a message: it can hold tokens, and ids of people.
    """
    from azure.core import exceptions

    try:
        yield
    except exceptions.ClientAuthenticationError as exc:
        raise KeyUnavailable(
            f"vault {name}: no Azure identity is at hand: sign in (`az login`), or set GENAI_CACHE_KEY_VAULT_CREDENTIAL"
        ) from exc
    except (exceptions.ServiceResponseTimeoutError, exceptions.ServiceRequestTimeoutError) as exc:
        raise KeyUnavailable(f"vault {name} does not answer in time") from exc
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as exc:
        raise KeyUnavailable(_unreachable(name, exc)) from exc
    except exceptions.DecodeError as exc:
        raise KeyUnavailable(_strange(name)) from exc
    except ValueError as exc:
        if "challenge" in str(exc).lower():
            raise KeyUnavailable(
                f"vault {name} demands a token for another service, and got none: check GENAI_CACHE_KEY_VAULT_URL "
                "(GENAI_CACHE_VERIFY_CHALLENGE=false is for an emulator on loopback alone)"
            ) from exc
        raise KeyUnavailable(_strange(name)) from exc
    except (exceptions.AzureError, OSError, LookupError, TypeError, AttributeError) as exc:
        # What is no vault makes the SDK's readers raise anything.
        raise KeyUnavailable(f"vault {name} can't be used: check GENAI_CACHE_KEY_VAULT_URL, and the network") from exc


def _strange(name: str) -> str:
    return f"vault {name} does not answer as Key Vault does: check GENAI_CACHE_KEY_VAULT_URL, and proxies between"


def _unreachable(name: str, error: BaseException) -> str:
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if isinstance(cause, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in text:
            return f"vault {name}: its certificate is not accepted: check the host name, and REQUESTS_CA_BUNDLE"
        if "timed out" in text.lower():
            return f"vault {name} does not answer in time"
        if "refused" in text:
            return f"vault {name} refuses connections: is its address right?"
        if "resolve" in text or "Name or service" in text or "getaddrinfo" in text:
            return f"vault {name}: the host name is not known: check its spelling"
        cause = cause.__cause__ or cause.__context__
    return f"vault {name} can't be reached"


def _code(answer: Any) -> str:
    """Return the innermost code of an error body, such as ``KeyDisabled``."""
    code = ""
    error = answer.get("error") if isinstance(answer, dict) else None
    while isinstance(error, dict):
        code = str(error.get("code") or code)
        error = error.get("innererror")
    return code if re.fullmatch(r"\w{1,64}", code) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def _moment(value: Any) -> float | None:
    return None if value is None else float(value)


def encode(value: bytes) -> str:
    """Return `value` as Key Vault spells bytes: base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that `text` spells; raises ``KeyUnavailable``."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as exc:
        raise KeyUnavailable("a vault's answer is no base64url: check GENAI_CACHE_KEY_VAULT_URL") from exc


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
