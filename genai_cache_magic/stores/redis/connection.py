"""A connection to Redis: where, as whom, and how long to wait.

Nothing here is read or written. redis-py's defaults suit a service that must reach its database; a cache must
rather do without: no retries on the hot path, short deadlines, and every failure as a sentence (`refusals`).
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.stores.connection import Connection, is_loopback
from genai_cache_magic.stores.redis.refusals import IsReplica, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from genai_cache_magic.stores.private import PrivateOnly
    from genai_cache_magic.stores.redis.entraid import EntraCredentials

_SCHEMES = frozenset(
    {
        "redis",
        "rediss",
        "redis+cluster",
        "rediss+cluster",
        "redis+sentinel",
        "rediss+sentinel",
    }
)
_DEFAULT_PORTS = {"redis": 6379, "redis+cluster": 6379, "redis+sentinel": 26379}
_DEFAULT_TLS_PORT = 6380
_AZURE_MANAGED_PORT = 10_000
_AZURE_MANAGED_HOST = ".redis.azure.net"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Where a Redis is, as whom to speak to it, and how long to wait.

    Parameters
    ----------
    url
        ``redis[s]://[user:password@]host[:port][/database]``; ``redis[s]+cluster://`` for a cluster that is
        spoken to by its own protocol (Azure Managed Redis: OSS cluster policy);
        ``redis[s]+sentinel://host[:port]/service`` to ask a Sentinel where the primary is.
    username, password
        Win over those of the URL.
    identity
        Returns an azure-identity ``TokenCredential``, whose token is the password then; wins over one.
    ca_file
        Certificates that vouch for the server's; by default the system's.
    connect_timeout_s, command_timeout_s
        How long to wait for a connection, and for an answer [s].
    """

    url: str = field(repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    identity: Callable[[], Any] | None = field(default=None, repr=False)
    ca_file: Path | None = None
    connect_timeout_s: float = 0.5
    command_timeout_s: float = 1.5

    @property
    def parts(self) -> SplitResult:
        """The URL taken apart; raises ``ConfigurationError`` for one that is none of Redis."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            # SECURITY: the text of the error can hold a part of the password.
            raise ConfigurationError(
                "the Redis URL in l2 has a port that is none from 1 to 65535: write redis://host:6379 or "
                "rediss://host:6380, and signs in a password percent-encoded, such as %2F for /"
            ) from None
        if parts.scheme not in _SCHEMES:
            raise ConfigurationError(
                f"a Redis URL starts with {', '.join(sorted(s + '://' for s in _SCHEMES))}, not {parts.scheme!r}"
            )
        if not parts.hostname or port == 0:
            raise ConfigurationError(f"the Redis URL in l2 names no host: write {parts.scheme}://host:port")
        if "@" in parts.path:
            # SECURITY: nor is this: what begins with digits is taken for a host's port, and the rest for its path.
            raise ConfigurationError(
                "the Redis URL in l2 has an @ behind a /: write signs in a password percent-encoded, such as %2F for "
                "/, or set it as l2_password"
            )
        if parts.query or parts.fragment:
            # SECURITY: not shown: it may be the end of a password.
            raise ConfigurationError(
                "the Redis URL in l2 goes on after ? or #, which is not heard: write a database as its path, such as "
                "/2, the rest as settings (l2_password, l2_ca_file), and such signs in a password as %3F and %23"
            )
        return parts

    def check(self) -> None:
        """Raise ``ConfigurationError`` if the URL can't be one of Redis; nothing is asked."""
        _ = self.address, self.database
        if self.is_tls and self.ca_file is not None:
            _check_authorities(self.ca_file)
        if self.identity is not None and not self.is_tls and not is_loopback(self.parts.hostname or ""):
            # SECURITY: a token that others can read on its way is theirs.
            raise ConfigurationError(f"l2_credential sends a token, which {self.address} would show to others: use TLS")

    @property
    def is_cluster(self) -> bool:
        """Whether it is spoken to by the cluster protocol."""
        return self.parts.scheme.endswith("+cluster")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.parts.scheme.startswith("rediss")

    @property
    def address(self) -> str:
        """Scheme, host and port: fit to be shown."""
        parts = self.parts
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port or self._default_port(parts)}"

    @property
    def database(self) -> int:
        """The number of the database; a cluster has only 0."""
        path = self.parts.path.strip("/")
        if self.is_cluster and path not in {"", "0"}:
            raise ConfigurationError(f"the path of the Redis URL in l2 is {path!r}, and a cluster has database 0 alone")
        if self.is_cluster or self.parts.scheme.endswith("+sentinel") or not path:
            return 0
        if not path.isdecimal():
            raise ConfigurationError(f"the path of the Redis URL in l2 is a database number such as /0, not {path!r}")
        return int(path)

    def arguments(self) -> dict[str, Any]:
        """Return what redis-py's clients are constructed with, beside host and port."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        common: dict[str, Any] = {
            "socket_connect_timeout": self.connect_timeout_s,
            "socket_timeout": self.command_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "socket_keepalive": True,
            "decode_responses": False,
        }
        if self.identity is None:
            parts = self.parts
            common["username"] = self.username or unquote(parts.username or "") or None
            common["password"] = self.password or unquote(parts.password or "") or None
        if self.is_tls:
            # SECURITY: the server's certificate and its name are always checked; there is no setting to switch it off.
            common |= {
                "ssl": True,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_min_version": ssl.TLSVersion.TLSv1_2,
                "ssl_ca_certs": str(self.ca_file) if self.ca_file else None,
            }
        return common

    def host_and_port(self) -> tuple[str, int]:
        """Return the host and the port, the scheme's usual one where the URL names none."""
        parts = self.parts
        assert parts.hostname is not None
        return parts.hostname, parts.port or self._default_port(parts)

    def _default_port(self, parts: SplitResult) -> int:
        if (parts.hostname or "").endswith(_AZURE_MANAGED_HOST):
            return _AZURE_MANAGED_PORT
        if parts.scheme == "rediss":
            return _DEFAULT_TLS_PORT
        return _DEFAULT_PORTS[parts.scheme.replace("rediss", "redis")]


class RedisConnection(Connection):
    """A pool of connections to one Redis.

    Parameters
    ----------
    target
        Where and as whom.
    private
        Sees to it that it is at a private address, and so are the nodes of a cluster; None: it may be anywhere.
    """

    def __init__(self, target: RedisTarget, private: PrivateOnly | None = None) -> None:
        super().__init__(target.address, self._connected, translated, self._ensure_private)
        self.target = target
        self._private = private
        self._tokens: EntraCredentials | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        """Give the client to a block, as any connection does; no connection to what became a replica is used again."""
        client = None
        try:
            with super().use() as client:
                yield client
        except IsReplica:
            # Its name may stand for another server by now, and it ends no connection by itself.
            if client is self._client:  # else another thread was told before, and others ask the new primary by now
                self.close()
            raise

    def close(self) -> None:
        """Give up all connections, and renew no token for them; may be called twice, and used again."""
        super().close()
        self._stop_renewing()

    def _stop_renewing(self) -> None:
        tokens, self._tokens = self._tokens, None
        if tokens is not None:
            tokens.stop()

    def _ensure_private(self) -> None:
        if self._private is not None:
            self._private.ensure(self.target.host_and_port()[0])

    def _connected(self) -> Any:
        client = self._signed_in()
        if self._private is not None:
            with contextlib.ExitStack() as undo:
                undo.callback(self._stop_renewing)
                undo.callback(client.close)
                for host in _others(client, self.target):
                    self._private.ensure(host)
                undo.pop_all()
        return client

    def _signed_in(self) -> Any:
        identity = self.target.identity
        if identity is None:
            return _connect(self.target, {})
        from genai_cache_magic.stores.redis.entraid import EntraCredentials

        tokens = EntraCredentials(identity, username=self.target.username)
        with contextlib.ExitStack() as undo:
            undo.callback(tokens.stop)  # a cluster is asked already when its client is made
            client = _connect(self.target, {"credential_provider": tokens})
            undo.pop_all()
        self._tokens = tokens
        return client


def _others(client: Any, target: RedisTarget) -> list[str]:
    """Return the hosts that a server has told us of: the nodes of a cluster, the primary that a Sentinel knows."""
    if target.is_cluster:
        return [str(node.host) for node in client.get_nodes()]
    if target.parts.scheme.endswith("+sentinel"):
        return [str(client.connection_pool.get_master_address()[0])]
    return []


def _connect(target: RedisTarget, credentials: dict[str, Any]) -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.retry import Retry

    host, port = target.host_and_port()
    arguments = {**target.arguments(), **credentials}
    if target.is_cluster:
        # One repetition after MOVED or a lost node: the slots are then known anew. More would be a storm.
        return RedisCluster(host=host, port=port, **{**arguments, "retry": Retry(NoBackoff(), 1)})
    if target.parts.scheme.endswith("+sentinel"):
        service = target.parts.path.strip("/") or "mymaster"
        return _sentinel(host, port, arguments).master_for(service, db=target.database)
    return Redis(host=host, port=port, db=target.database, **arguments)


def _sentinel(host: str, port: int, arguments: dict[str, Any]) -> Any:
    """Return a Sentinel, which is asked as the user that its primary knows, and else as nobody in particular."""
    from redis import Sentinel

    credentials = ("username", "password", "credential_provider")
    nobody = {name: value for name, value in arguments.items() if name not in credentials}
    sentinel: Any = Sentinel([(host, port)], sentinel_kwargs=arguments, **arguments)  # type: ignore[no-untyped-call]
    if any(arguments.get(name) for name in credentials):
        # Seldom does a Sentinel know the users of its primary; redis-py goes on to the next one that is named.
        again: Any = Sentinel([(host, port)], sentinel_kwargs=nobody)  # type: ignore[no-untyped-call]
        sentinel.sentinels += again.sentinels
    return sentinel


def _check_authorities(file: Path) -> None:
    """Raise ``ConfigurationError`` unless `file` holds certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError as exc:
        raise ConfigurationError(f"l2_ca_file: {file} holds no certificates: write a file of them in PEM") from exc
    except OSError as exc:
        raise ConfigurationError(f"l2_ca_file: {file} can't be read ({exc.strerror}): check the path") from exc
