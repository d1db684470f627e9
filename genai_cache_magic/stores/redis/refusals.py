"""What Redis's errors mean to a cache, each as a sentence that names the setting and the fix."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreDenied, StoreThrottled, StoreUnavailable, WritesUnavailable
from genai_cache_magic.stores.connection import unframed

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNKNOWN_HOST = "{name}: the host name is not known: check its spelling in l2"
_SIGNS = {
    "Cluster mode is not enabled": "{name} is no cluster: write {single} in l2",
    "max number of clients": "{name} admits no more clients: raise its maxclients, or end some that need it no more",
    "No master found": "the Sentinel at {name} knows no such master: write its name as the path in l2, as in /mymaster",
    "refused": "{name} refuses connections: is it running, and the port right? It stands in l2",
    "Name or service not known": _UNKNOWN_HOST,
    "getaddrinfo": _UNKNOWN_HOST,
    "nodename": _UNKNOWN_HOST,
    "MISCONF": "{name} can't save its data and refuses writes: its disk may be full",
}
"""By what is in the text of an error that kept us from a server: what to say and do."""
_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""How Redis 7.0 and later releases begin what they say of a command that a script's user may not use."""


class IsReplica(StoreUnavailable):
    """A server takes no writes since it follows another one."""


@contextlib.contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn redis-py's errors into ours, each with what to do. `name` is the server's address.

    SECURITY: no text of redis-py's goes into a message. It can hold what was sent, keys and passwords included.
    """
    from redis import exceptions

    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError, exceptions.AuthorizationError) as error:
        raise StoreDenied(_denied(name, error)) from unframed(error)
    except exceptions.OutOfMemoryError as error:
        raise WritesUnavailable(_WITHHELD["OOM"].format(name=name)) from unframed(error)
    except exceptions.BusyLoadingError as error:
        raise StoreThrottled(f"{name} is loading its data") from unframed(error)
    except exceptions.ReadOnlyError as error:
        raise _is_replica(name) from unframed(error)
    except (exceptions.TimeoutError, TimeoutError) as error:
        raise StoreUnavailable(f"{name} does not answer in time{_in_time(name)}") from unframed(error)
    except exceptions.AskError as error:  # MOVED too
        raise StoreUnavailable(f"{name} is one node of a cluster: write {_as_cluster(name)}") from unframed(error)
    except (exceptions.ConnectionError, exceptions.ClusterError, exceptions.RedisClusterException, OSError) as error:
        raise _connection_error(name, error) from unframed(error)
    except exceptions.ResponseError as error:
        raise _response_error(name, error) from unframed(error)
    except (exceptions.RedisError, UnicodeError, ValueError, LookupError, TypeError, AttributeError) as error:
        # What does not speak Redis makes redis-py's parsers raise anything.
        raise StoreUnavailable(
            f"{name} does not answer as a Redis server does: check host, port and TLS in l2"
        ) from unframed(error)


def _is_replica(name: str) -> IsReplica:
    return IsReplica(f"{name} is a read-only replica: name the primary, or the cluster")


def _in_time(name: str) -> str:
    """Return what to look at where nothing answers."""
    return ": check host, port and TLS in l2" if name.startswith("rediss") else ": check host and port in l2"


def _lacks_right(text: str) -> bool:
    """Return whether an error is of the user's rights; in a script a server says so in words of its own."""
    return "NOPERM" in text or "permission" in text.lower() or text.startswith(_DENIED_IN_SCRIPT)


def _denied(name: str, error: BaseException) -> str:
    if _lacks_right(_bare(error)):
        return f"{name}: this user (l2_username) may not do that: give it the commands and keys in docs/team.md"
    return f"{name} refuses the user name or password: check the credentials, l2_username and l2_password"


def _connection_error(name: str, error: Exception) -> StoreUnavailable:
    """Return what to say of a server that was not reached; a cluster's nodes may have refused us one by one."""
    from redis import exceptions

    refusals = exceptions.AuthenticationError, exceptions.NoPermissionError, exceptions.AuthorizationError
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, refusals) or (isinstance(cause, exceptions.ResponseError) and _lacks_right(_bare(cause))):
            return StoreDenied(_denied(name, cause))
        cause = cause.__cause__ or cause.__context__
    return _of_sentinel(name, error) or StoreUnavailable(_unreachable(name, error))


def _of_sentinel(name: str, error: Exception) -> StoreUnavailable | None:
    """Return what to say of a Sentinel that could not be asked; None if it was, or none should be."""
    from redis.sentinel import MasterNotFoundError

    # After the colon redis-py names each Sentinel that it could not ask, and the class of the error.
    asked = str(error).partition(" : ")[2] if isinstance(error, MasterNotFoundError) else ""
    if "AuthenticationError" in asked:
        return StoreDenied(
            f"the Sentinel at {name} refuses the user name or password: let it know those of its primary, l2_username "
            "and l2_password, or admit whoever asks"
        )
    if "TimeoutError" in asked:
        return StoreUnavailable(f"the Sentinel at {name} does not answer in time{_in_time(name)}")
    if asked:
        return StoreUnavailable(f"no Sentinel answers at {name}: is it running, and the port right? It stands in l2")
    return None


def _unreachable(name: str, error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"{name}: its certificate is not accepted ({cause.verify_message}): check the host name, and l2_ca_file"
            )
        if isinstance(cause, ssl.SSLError):
            return f"{name} does not speak TLS there: write redis:// in l2, or the port for TLS"
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    said = next((said for sign, said in _SIGNS.items() if sign in text), "{name} can't be reached: check l2")
    return said.format(name=name, single=_as_single(name))


def _as_cluster(name: str) -> str:
    scheme, _, rest = name.partition("://")
    return f"{scheme}+cluster://{rest}"


def _as_single(name: str) -> str:
    scheme, _, rest = name.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def _bare(error: BaseException) -> str:
    """Return what the server said: of a batch, redis-py says first which command it was."""
    return str(error).rpartition(" of pipeline caused error: ")[2]


_WITHHELD = {
    "OOM": "{name} is full and may evict nothing: raise maxmemory or set an eviction policy",
    "MISCONF": "{name} stores nothing since it can't save its data: give its disk room, see what its log says",
    "NOREPLICAS": "{name} stores nothing for want of replicas: bring them back, or lower min-replicas-to-write",
}
"""What a server that reads and does not write begins its refusal with -> what to do."""


def _response_error(name: str, error: Exception) -> StoreUnavailable:
    text = _bare(error)
    if text.startswith(("NOAUTH", "WRONGPASS")) or "AUTH" in text[:60] or _lacks_right(text):
        return StoreDenied(_denied(name, error))
    if text.startswith("DB index"):
        return StoreUnavailable(f"{name} has no database of that number: write another path in l2, such as /0")
    if withheld := _WITHHELD.get(text.partition(" ")[0]):
        return WritesUnavailable(withheld.format(name=name))
    if text.startswith(("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")):
        return StoreThrottled(f"{name} is busy: {text.split(maxsplit=1)[0]}")
    if text.startswith("READONLY"):
        return _is_replica(name)
    return StoreUnavailable(_refused_command(name, text))


def _refused_command(name: str, text: str) -> str:
    if not text.startswith("unknown command"):
        return f"{name} refused a command: {text.split(maxsplit=1)[0] if text else 'no reason given'}"
    if "SENTINEL" in text.upper():
        return f"{name} is no Sentinel: write {_as_single(name)} in l2"
    return f"{name} lacks a command that is needed: is it a Redis of release 6 or later? It stands in l2"
