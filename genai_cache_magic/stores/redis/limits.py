"""How much a Redis holds and what it gives up when it is full: set where that is asked for and allowed, else compared.

Both are the server's own, for all who use it. Azure's managed servers let nobody change them by a command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.redis.connection import RedisConnection

_EVICTS_ALL = "allkeys-"


@dataclass(frozen=True, slots=True)
class RedisLimits:
    """What a server's limits should be; None is whatever they are.

    Parameters
    ----------
    maxmemory_bytes
        How much it may hold [bytes]; 0 is without a limit.
    eviction_policy
        What it gives up when it is full.
    spell
        Writes a size [bytes] for people.
    """

    maxmemory_bytes: int | None = None
    eviction_policy: str | None = None
    spell: Callable[[int], str] = str

    @property
    def is_named(self) -> bool:
        """Whether anything is wanted of them."""
        return self.maxmemory_bytes is not None or self.eviction_policy is not None

    def settle(self, connection: RedisConnection) -> tuple[str, ...]:
        """Set what differs on the server, or say what and why not; return sentences, none where all is well.

        Raises
        ------
        StoreUnavailable
            The server can't be asked.
        """
        from redis.exceptions import ResponseError

        name = connection.name
        with connection.use() as client:
            try:
                nodes = _nodes(client)
            except ResponseError:
                if not self.is_named:
                    return ()
                return (f"maxmemory and eviction_policy of {name} can't be compared: give this user the command info",)
            said = [self._maxmemory(client, name, nodes), self._policy(client, name, nodes)]
        return tuple(sentence for sentence in said if sentence)

    def _maxmemory(self, client: Any, name: str, nodes: list[dict[str, Any]]) -> str:
        wanted = self.maxmemory_bytes
        found = [int(node.get("maxmemory", 0)) for node in nodes]
        differing = next((size for size in found if size != wanted), None)
        if wanted is None or differing is None:
            return ""
        used = max(int(node.get("used_memory", 0)) for node in nodes)
        if 0 < wanted < used:
            # Others' data would be evicted, or their writes be refused, from this moment on.
            return (
                f"maxmemory={self._shown(wanted)} is less than the {self._shown(used)} in use on {name}: it was not set"
            )
        return _set(client, name, "maxmemory", wanted, f"{self._shown(differing)}, not {self._shown(wanted)}")

    def _policy(self, client: Any, name: str, nodes: list[dict[str, Any]]) -> str:
        wanted = self.eviction_policy
        found = [str(node.get("maxmemory_policy", "")) for node in nodes]
        differing = next((policy for policy in found if policy != wanted), None)
        if wanted is not None and differing is not None:
            return _set(client, name, "eviction_policy", wanted, f"{differing}, not {wanted}")
        return next((_warning(name, policy) for policy in found if policy.startswith(_EVICTS_ALL)), "")

    def _shown(self, size_bytes: int) -> str:
        return self.spell(size_bytes) if size_bytes else "no limit"


def memory_of(connection: RedisConnection) -> tuple[int, int]:
    """Return how much the fullest server holds, and may hold [bytes]; 0 if that has no limit, or is not told.

    Raises ``StoreUnavailable`` if it can't be asked.
    """
    from redis.exceptions import ResponseError

    with connection.use() as client:
        try:
            found = [(int(node.get("used_memory", 0)), int(node.get("maxmemory", 0))) for node in _nodes(client)]
        except ResponseError:
            return 0, 1  # it may not be asked, so nothing is to be said
    return max(found, key=lambda one: one[0] / (one[1] or float("inf")), default=(0, 1))


def whole_memory_of(connection: RedisConnection) -> tuple[int, int] | None:
    """Return what all servers hold together, and may hold until the first is full [bytes]; 0 if that has no limit.

    Keys are spread over the servers of a cluster by their digests, so each gets as much of what is added as any other,
    and all of them are of use until the fullest one refuses. None: it is not told.
    Raises ``StoreUnavailable`` if it can't be asked.
    """
    from redis.exceptions import ResponseError

    with connection.use() as client:
        primaries = client.get_primaries() if hasattr(client, "get_primaries") else ()
        try:
            told = [client.info("memory", target_nodes=node) for node in primaries] or [client.info("memory")]
        except ResponseError:
            return None  # it may not be asked
    found = [(int(one.get("used_memory", 0)), int(one.get("maxmemory", 0))) for one in told]
    used = sum(one for one, _ in found)
    free = min((most - one for one, most in found if most), default=None)
    return used, 0 if free is None else max(1, used + len(found) * free)


def _nodes(client: Any) -> list[dict[str, Any]]:
    """Return what each server of `client` says of its memory."""
    return [client.info("memory", **where) for where in _each(client)]


def _each(client: Any) -> list[dict[str, Any]]:
    """Return the arguments by which a command reaches each server that redis-py knows: of a cluster, the primaries."""
    nodes = client.get_nodes() if hasattr(client, "get_nodes") else ()
    return [{"target_nodes": node} for node in nodes] or [{}]


_NAMES = {"maxmemory": "maxmemory", "eviction_policy": "maxmemory-policy"}
"""Our settings -> the server's."""


def _set(client: Any, name: str, setting: str, value: object, differs: str) -> str:
    """Set it on all servers, and return a sentence that says so, or that they let nobody do it."""
    from redis.exceptions import ResponseError

    try:
        for where in _each(client):
            client.config_set(_NAMES[setting], value, **where)
    except ResponseError:
        return (
            f"{setting} of {name} is {differs}, and this user may not change it: change it where the server is "
            "configured (in Azure: the portal), or the setting"
        )
    return f"{setting} of {name} was {differs}: it was set, as the settings say"


def _warning(name: str, policy: str) -> str:
    return (
        f"{name} evicts any key when it is full ({policy}), the record of what is invalid too, and then every answer "
        "is a miss: set eviction_policy to volatile-lru"
    )
