"""What older major versions have left: each has a place of its own, which nothing reads any more but a kernel of then.

It is removed only when somebody asks for it, who is told first what would go. Backups stay: they can be restored.
"""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.team.custody import layout_directory
from genai_cache_magic.api.team.line import REDIS, container_at, kind_of, redis_at
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.host import tilde
from genai_cache_magic.settings.roles import READER
from genai_cache_magic.stores.keys import LAYOUT
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.azure.connection import BlobConnection
    from genai_cache_magic.stores.redis.connection import RedisConnection

_AT_ONCE: Final = 200
_AT_A_TIME: Final = 8
_BACKUPS: Final = "b/"


@dataclass(frozen=True, slots=True)
class Left:
    """What an older version has left of a namespace in one place: so many values or files, and their size [bytes]."""

    where: str
    version: int
    count: int
    size_bytes: int
    names: tuple[Any, ...] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        told = asdict(self)
        del told["names"]
        return told


def look(settings: Settings, namespace: str) -> tuple[Left, ...]:
    """Return what is left of a namespace, on this machine and in each of the team's tiers; changes nothing.

    Raises
    ------
    ConfigurationError, StoreUnavailable
        A place can't be used, or asked.
    """
    found = []
    for version in range(1, LAYOUT):
        found.append(_in_directory(settings, namespace, version))
        for url in (one.get_secret_value() for one in settings.l2):
            if kind_of(url) == REDIS:
                with closing(redis_at(settings, url)) as redis:
                    found.append(_in_redis(redis, namespace, version))
            else:
                with closing(container_at(settings, url)) as container:
                    found.append(_in_container(container, namespace, version))
    return tuple(one for one in found if one.count)


def remove(settings: Settings, found: Iterable[Left]) -> None:
    """Remove what `look` has found; raises as that.

    A machine that is a ``Cache.Reader`` removes from its own directory alone.
    """
    shared: dict[str, list[Any]] = {}
    for one in found:
        if one.where == _own(settings):
            _remove_directory(one.names[0])
        else:
            shared[one.where] = [*shared.get(one.where, ()), *one.names]
    if not shared:
        return
    if settings.role == READER:
        raise ConfigurationError("a Cache.Reader removes nothing from the team's tier: let a Cache.Writer do it")
    for url in (one.get_secret_value() for one in settings.l2):
        if kind_of(url) == REDIS:
            with closing(redis_at(settings, url)) as redis:
                _remove_keys(redis, shared.get(redis.name, ()))
        else:
            with closing(container_at(settings, url)) as container:
                _remove_blobs(container, shared.get(container.name, ()))


def _own(settings: Settings) -> str:
    return tilde(str(settings.dir))


def _in_directory(settings: Settings, namespace: str, version: int) -> Left:
    path = settings.dir / layout_directory(version) / namespace
    sizes = [size for where, _, names in os.walk(path) for size in _sizes(where, names)]
    return Left(_own(settings), version, len(sizes), sum(sizes), (path,))


def _sizes(where: str, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        try:
            yield os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 - as os.walk names them
        except OSError:
            continue  # it went meanwhile


def _remove_directory(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as exc:
        raise StoreUnavailable(f"{tilde(str(path))} can't be removed ({exc.strerror}): remove it by hand") from exc


def _in_redis(redis: RedisConnection, namespace: str, version: int) -> Left:
    from genai_cache_magic.stores.redis.room import taken
    from genai_cache_magic.stores.redis.store import key_prefix

    sizes: dict[bytes, int] = {}
    with redis.use() as client:
        keys = client.scan_iter(match=f"{key_prefix(namespace, version)}*", count=_AT_ONCE)
        while batch := list(itertools.islice(keys, _AT_ONCE)):
            told = taken(client, batch, is_cluster=redis.target.is_cluster)
            sizes |= {name: size_bytes for name, size_bytes, _ in told}
    return Left(redis.name, version, len(sizes), sum(sizes.values()), tuple(sizes))


def _remove_keys(redis: RedisConnection, keys: Iterable[bytes]) -> None:
    left = iter(keys)
    with redis.use() as client:
        while batch := list(itertools.islice(left, _AT_ONCE)):
            asked = client.pipeline(transaction=False)
            for key in batch:
                asked.delete(key)
            asked.execute()


def _in_container(container: BlobConnection, namespace: str, version: int) -> Left:
    from genai_cache_magic.stores.azure.rows import name_prefix

    prefix = name_prefix(namespace, version)
    with container.use() as client:
        found = {blob.name: blob.size for blob in client.list_blobs(prefix)}
    found = {name: size for name, size in found.items() if not name[len(prefix) :].startswith(_BACKUPS)}
    return Left(container.name, version, len(found), sum(found.values()), tuple(found))


def _remove_blobs(container: BlobConnection, names: Iterable[str]) -> None:
    from genai_cache_magic.stores.azure.rows import remove

    workers = Workers(_AT_A_TIME, "genai-cache-old-versions")
    with container.use() as client, closing(workers):
        for asked in [workers.submit(partial(remove, client), name) for name in names]:
            asked.result()
