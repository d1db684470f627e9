"""A container of Azure Blob Storage: where, as whom, how long to wait, and what its errors mean."""

from __future__ import annotations

import base64
import contextlib
import importlib
import logging
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from genai_cache_magic import host
from genai_cache_magic.errors import ConfigurationError, StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.connection import Connection, is_loopback, unframed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.stores.private import PrivateOnly

_BY_NAME = "azure-blob://"
_NOT_THERE = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_THROTTLED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE})
_SHORTEST_NAME = 3
# learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")
_SIGNATURE = re.compile(r"(?<=[?&]sig=)[^&\s]*")


@dataclass(frozen=True, slots=True)
class BlobTarget:
    """Where a container is, as whom to speak to it, and how long to wait.

    Parameters
    ----------
    url
        ``https://ACCOUNT.blob.core.windows.net/CONTAINER``, with a shared access signature as its query or
        without; or ``azure-blob://CONTAINER`` beside a connection string. ``http`` on loopback alone.
    connection_string
        The account's, from its page "Access keys"; wins over other credentials.
    account_key
        The account's key.
    identity
        Returns a ``TokenCredential``; by default ``DefaultAzureCredential`` where there is neither key nor signature.
    create_container
        Whether to create the container if it is not there.
    connect_timeout_s, command_timeout_s
        How long to wait for a connection, and for an answer [s].
    """

    url: str = field(repr=False)
    connection_string: str = field(default="", repr=False)
    account_key: str = field(default="", repr=False)
    identity: Callable[[], Any] | None = field(default=None, repr=False)
    create_container: bool = False
    connect_timeout_s: float = 0.5
    command_timeout_s: float = 1.5

    def check(self) -> None:
        """Raise ``ConfigurationError`` if the URL can't be a container's; nothing is asked."""
        _ = self.address
        has_secret = self.account_key or urlsplit(self.url).query
        if not (has_secret or self.is_by_name or self.account_url.startswith("https://")):
            raise ConfigurationError(
                f"{self.address}: an Azure identity signs in over https alone: set l2_account_key, or a signature in l2"
            )
        if self.account_key:
            try:
                base64.b64decode(self.account_key, validate=True)
            except ValueError as exc:
                raise ConfigurationError(
                    "l2_account_key is no key of a storage account: copy it from its page Access keys"
                ) from unframed(exc)

    @property
    def container(self) -> str:
        """The container's name; raises ``ConfigurationError`` for a URL that names none."""
        path = self.url.removeprefix(_BY_NAME) if self.is_by_name else urlsplit(self.url).path
        name = path.strip("/").rpartition("/")[2]
        if len(name) >= _SHORTEST_NAME and not _CONTAINER.fullmatch(name):
            raise ConfigurationError(
                "the container that l2 names can't be one: write 3 to 63 lowercase letters, digits and single hyphens"
            )
        if len(name) < _SHORTEST_NAME:
            raise ConfigurationError(
                "the Blob URL names no container of 3 characters or more: "
                "write https://ACCOUNT.blob.core.windows.net/CONTAINER"
            )
        return name

    @property
    def is_by_name(self) -> bool:
        """Whether the URL names the container alone, and the connection string the account."""
        return self.url.startswith(_BY_NAME)

    @property
    def account_url(self) -> str:
        """The URL of the account, without container and signature."""
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ConfigurationError(
                f"a Blob URL starts with https:// (http:// for an emulator on loopback alone), not {parts.scheme!r}"
            )
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], self._account_path(parts.path), "", ""))

    @property
    def host(self) -> str:
        """The host that is asked; raises as `connect`."""
        if not self.is_by_name:
            return urlsplit(self.account_url).hostname or ""
        with contextlib.closing(self.connect()) as client:
            return urlsplit(client.url).hostname or ""

    @property
    def address(self) -> str:
        """Account and container: fit to be shown."""
        return f"{_BY_NAME}{self.container}" if self.is_by_name else f"{self.account_url}/{self.container}"

    def connect(self) -> Any:
        """Return the SDK's client of the container; raises ``ConfigurationError`` for what can't be one."""
        from azure.storage.blob import ContainerClient

        how: dict[str, Any] = {
            "connection_timeout": self.connect_timeout_s,
            "read_timeout": self.command_timeout_s,
            "retry_policy": _once_more(),
        }
        if self.is_by_name and not self.connection_string:
            raise ConfigurationError(
                f"{self.address} names no account: set l2_account (AZURE_STORAGE_ACCOUNT) or "
                "l2_connection_string (AZURE_STORAGE_CONNECTION_STRING), or write the URL in l2"
            )
        if self.connection_string:
            make: Callable[..., Any] = partial(
                ContainerClient.from_connection_string, self.connection_string, self.container, **how
            )
        else:
            make = partial(ContainerClient, self.account_url, self.container, credential=self._credential(), **how)
        try:
            client = make()
        except ValueError as exc:
            if not self.connection_string:
                raise
            raise ConfigurationError(
                "l2_connection_string is none of a storage account: copy it from its page Access keys"
            ) from exc
        if not is_loopback(urlsplit(client.url).hostname or ""):
            return client
        client.close()
        # SECURITY: what may be sent in the clear since it stays on this machine is shown to no proxy.
        return make(proxies={"no_proxy": "*"})

    def _credential(self) -> Any:
        if self.account_key:
            from azure.core.credentials import AzureNamedKeyCredential

            return AzureNamedKeyCredential(self._account_name(), self.account_key)
        if signature := urlsplit(self.url).query:
            _mask_signatures()
            from azure.core.credentials import AzureSasCredential

            return AzureSasCredential(signature)
        if self.identity is not None:
            return self.identity()
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential()

    def _account_name(self) -> str:
        parts = urlsplit(self.account_url)
        # An emulator's account is the first part of the path, a real one's the first of the host.
        return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]

    def _account_path(self, path: str) -> str:
        return path.rstrip("/").rpartition("/")[0]


class _ContainerMissing(StoreUnavailable):
    """The account can be asked, and has no container of that name."""


class BlobConnection(Connection):
    """The client of one container. That a blob is not there, or is not the expected one, is for its users to handle.

    Parameters
    ----------
    target
        Where and as whom.
    private
        Sees to it that it is at a private address; None: it may be anywhere.
    """

    def __init__(self, target: BlobTarget, private: PrivateOnly | None = None) -> None:
        # Now, while no deadline runs: loading the SDK takes half a second, more on a busy machine, and then the service
        # would be said not to answer in time.
        importlib.import_module("azure.storage.blob")
        super().__init__(target.address, partial(_connect, target), translated, self._ensure_private)
        self.target = target
        self._private = private
        self._host = ""  # of a name in a connection string, which takes a client to be told

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        """Give the client to a block, as any connection does; what was removed is made anew, if asked for."""
        try:
            with super().use() as client:
                yield client
        except _ContainerMissing:
            if self.target.create_container:
                self.close()  # the next client makes it
            raise

    def _ensure_private(self) -> None:
        if self._private is not None:
            self._host = self._host or self.target.host
            self._private.ensure(self._host)


def _once_more() -> Any:
    """Return a policy of the SDK's that repeats nothing but a reading whose kept-alive connection had just been ended.

    A service ends those that are idle, and may do so in the moment in which one is used again: that is no trouble.
    Each request gets its id here, too: see `host.request_id`.
    """
    from azure.core.exceptions import ServiceResponseError
    from azure.storage.blob import LinearRetry

    class OnceMore(LinearRetry):
        def configure_retries(self, request: Any) -> dict[str, Any]:
            options = request.context.options
            options.setdefault("client_request_id", host.request_id())
            return {**super().configure_retries(request), "options": options}

        def increment(
            self, settings: dict[str, Any], request: Any, response: Any = None, error: Any = None, **_: Any
        ) -> bool:
            settings["options"]["client_request_id"] = host.request_id()
            was_ended = isinstance(error, ServiceResponseError) and "without response" in str(error)
            is_first, settings["count"] = not settings["count"], settings["count"] + 1
            return is_first and was_ended and response is None and request.method in {"GET", "HEAD"}

        def get_backoff_time(self, settings: dict[str, Any]) -> float:
            del settings
            return 0.0

    return OnceMore(retry_total=0)


def _connect(target: BlobTarget) -> Any:
    client = target.connect()
    with contextlib.ExitStack() as undo:
        undo.callback(client.close)
        if target.create_container:
            _create(client)
        undo.pop_all()
    return client


def _create(client: Any) -> None:
    from azure.core.exceptions import ResourceExistsError

    with contextlib.suppress(ResourceExistsError):
        client.create_container()


class _Masked(logging.Filter):
    """Takes signatures out of what a logger is told."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask them in the arguments of a message, and let it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(_SIGNATURE.sub("...", one) if isinstance(one, str) else one for one in record.args)
        return True


_masked = _Masked()


def _mask_signatures() -> None:
    """SECURITY: a signature is part of the address that is asked for, and urllib3 logs those in full."""
    logging.getLogger("urllib3.connectionpool").addFilter(_masked)  # the same one again is added once


@contextlib.contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the Azure SDK's errors into ours, each with what to do. `name` is the container's address.

    SECURITY: no text of the SDK's goes into a message. It can hold URLs with their signatures.
    """
    from azure.core import exceptions

    try:
        yield
    except exceptions.ClientAuthenticationError as error:
        raise StoreDenied(_denied(name, error)) from unframed(error)
    except exceptions.HttpResponseError as error:
        raise _http_error(name, error) from unframed(error)
    except (exceptions.ServiceResponseTimeoutError, exceptions.ServiceRequestTimeoutError) as error:
        raise StoreUnavailable(f"{name} does not answer in time: check the URL in l2") from unframed(error)
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
        raise StoreUnavailable(_unreachable(name, error)) from unframed(error)
    except (exceptions.AzureError, OSError) as error:
        raise StoreUnavailable(f"{name} can't be reached: check l2") from unframed(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # What is not Azure Storage makes the SDK's readers raise anything.
        said = f"{name} does not answer as Azure Storage does: check the URL in l2"
        raise StoreUnavailable(said) from unframed(error)


_ROLE = "give the identity the role Storage Blob Data Contributor, or make a signature with the permissions racwdl"
_REFUSED = {
    "AuthorizationFailure": "{name} refuses this identity or key, or lets nobody in from here: check l2_account_key, "
    "l2_connection_string or the signature in l2, and that the account's firewall admits this machine",
    "KeyBasedAuthenticationNotPermitted": "{name} accepts no account key, nor a signature made with one: take "
    "l2_account_key and l2_connection_string out, and sign in with an Azure identity",
    "AuthorizationPermissionMismatch": "{name} does not let this identity or signature do that: " + _ROLE,
    "InsufficientAccountPermissions": "{name} does not let this identity or signature do that: " + _ROLE,
    "AuthorizationSourceIPMismatch": "{name}: the signature in l2 holds for other addresses than this machine's",
    "AccountIsDisabled": "{name}: the storage account is disabled",
}
"""By the code of a refusal (learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes): what to say."""
_CLOCK_OFF_S = 14 * 60
"""The service accepts what was signed within a quarter of an hour of its own clock."""


def _denied(name: str, error: Any) -> str:
    if getattr(error, "status_code", None) is None:
        return f"{name}: no Azure identity is at hand: sign in (az login), or set l2_account_key, or a signature in l2"
    if said := _REFUSED.get(code_of(error)):
        return said.format(name=name)
    ahead_s = _ahead_s(error)
    if abs(ahead_s) > _CLOCK_OFF_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        return (
            f"{name} refuses what was signed at another time than its own: the clock of this machine is "
            f"{round(abs(ahead_s) / 60)} minutes {way} the service's; set it"
        )
    return (
        f"{name} refuses this identity or key: check l2_account_key, l2_connection_string or the signature in l2, "
        "or that the identity has the role Storage Blob Data Contributor"
    )


def code_of(error: Any) -> str:
    """Return the service's code of an error; the SDK makes a member of an enumeration of those that it knows."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _ahead_s(error: Any) -> float:
    """Return by how much this machine's clock is ahead of the service's, as its answer tells [s]; 0 if it does not."""
    headers = getattr(error.response, "headers", None) or {}
    try:
        return time.time() - parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _http_error(name: str, error: Any) -> StoreUnavailable:
    status = error.status_code
    code = code_of(error)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return StoreDenied(_denied(name, error))
    if code == "ContainerNotFound":
        # No denial: it may be there a moment later, and then it is used without a restart.
        return _ContainerMissing(
            f"{name} is no container of that account: create it, or set l2_create_container = true"
        )
    if code == "BlobImmutableDueToPolicy":
        return StoreUnavailable(f"{name} has a policy by which no blob may be changed: name another container in l2")
    if status in _THROTTLED:
        return StoreThrottled(f"{name} is busy (status {status})", retry_after_s=_retry_after_s(error))
    if status in _NOT_THERE:
        return StoreUnavailable(f"{name} is no container, as it seems (status {status}): check account and URL in l2")
    return StoreUnavailable(f"{name} refused a request (status {status})")


def _retry_after_s(error: Any) -> float | None:
    headers = getattr(error.response, "headers", None) or {}
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


_UNKNOWN_HOST = "{name}: the host name is not known: check how the account is spelled in l2 or l2_connection_string"
_NO_STORAGE = "{name} does not answer as Azure Storage does: check the URL in l2"
_NO_TLS = "{name} does not speak TLS there: check the port in l2"
_SIGNS = {
    "connect to proxy": "{name} can't be reached by the proxy that HTTPS_PROXY names: check it, or write the host into "
    "NO_PROXY",
    "CERTIFICATE_VERIFY_FAILED": "{name}: its certificate is not accepted: check the host name, and REQUESTS_CA_BUNDLE",
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "record layer failure": _NO_TLS,
    "BadStatusLine": _NO_STORAGE,
    "without response": _NO_STORAGE,
    "timed out": "{name} does not answer in time: check the URL in l2",
    "refused": "{name} refuses connections: is it running, and the port right? It stands in l2",
    "resolve": _UNKNOWN_HOST,
    "Name or service": _UNKNOWN_HOST,
    "getaddrinfo": _UNKNOWN_HOST,
}
"""By what is in the text of an error, or of one of its causes: what to say and do."""


def _unreachable(name: str, error: BaseException) -> str:
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            text = "CERTIFICATE_VERIFY_FAILED"
        elif isinstance(cause, ssl.SSLError):
            text = "WRONG_VERSION_NUMBER"
        for sign, said in _SIGNS.items():
            if sign.lower() in text.lower():
                return said.format(name=name)
        cause = cause.__cause__ or cause.__context__
    return f"{name} can't be reached: check l2"
