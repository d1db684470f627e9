"""A tier in Azure Blob Storage: values and documents of one namespace, in a container that may hold other things.

All names start with ``genai-cache/1/<namespace>/``, and nothing outside them is ever read, listed or removed::

    genai-cache/1/<namespace>/e/<entry id>     a value; its metadata says how long it may live
    genai-cache/1/<namespace>/d/<name>         a document
    genai-cache/1/<namespace>/l/<name>         a large value, to which a Redis beside it points
    genai-cache/1/<namespace>/p/<group>/...    pages; see `pages`
"""

from __future__ import annotations

import math
from concurrent.futures import FIRST_COMPLETED, wait
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from genai_cache_magic.stores.azure.pages import BlobPages
from genai_cache_magic.stores.azure.rows import (
    BLOB_TYPE,
    BlobRow,
    ServiceClock,
    ensure_container,
    name_prefix,
    remove,
    ttl_metadata,
)
from genai_cache_magic.stores.base import LARGEST_DOCUMENT, UNUSED_S, CheckReport, Held, LookUp
from genai_cache_magic.stores.keys import KEY_DIGITS, check_blob, check_key, key_range
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from genai_cache_magic.stores.azure.connection import BlobConnection
    from genai_cache_magic.stores.base import Put

CacheControl: TypeAlias = "Callable[[str, float], str]"

_T = TypeVar("_T")
_R = TypeVar("_R")

_WORKERS = 8
_PATIENCE_S = 1.4
"""How long a look-up of many waits for all of them [s]."""


class BlobTier:
    """What a team shares in one container: values and documents of a namespace. A ``SharedTier``.

    Parameters
    ----------
    connection
        The container.
    namespace
        Whose: letters, digits, ``.``, ``_`` and ``-``.
    cache_control
        As of a ``BlobStore``.
    patience_s
        How long a look-up of many waits for all of them [s].
    """

    round_size = 8 * _WORKERS  # each is a request of its own, and may take tens of milliseconds

    def __init__(
        self,
        connection: BlobConnection,
        namespace: str,
        *,
        cache_control: CacheControl | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.name = connection.name
        self.store = BlobStore(connection, namespace, cache_control=cache_control)
        self._patience_s = patience_s
        self.pages = self.bundles = BlobPages(connection, namespace)
        self._connection = connection
        self._namespace = namespace

    def document(self, name: str) -> BlobDocument:
        """Return the document of that name."""
        return BlobDocument(self._connection, self._namespace, name)

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document`, then the values of `keys`, at most 8 asked for at a time."""
        clock = ServiceClock()
        token = BlobDocument(self._connection, self._namespace, document).version(clock)
        found, unread = self.store.read_in_time(keys, self._patience_s)
        return LookUp(token, clock.now_s, found, unread)

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        self.pages.close()
        self.store.close()


class BlobStore:
    """Opaque bytes in a container. A ``Store`` that answers many look-ups side by side.

    Parameters
    ----------
    connection
        The container; shared with the documents of the same namespace, and closed with this store.
    namespace
        Whose values: letters, digits, ``.``, ``_`` and ``-``.
    folder
        What their names have in common beside that.
    cache_control
        Returns the header ``Cache-Control`` of a value, by its key and the time that it may live [s]: what an edge
        in front of the container, and whoever else passes it on, is told.
    """

    def __init__(
        self,
        connection: BlobConnection,
        namespace: str,
        folder: str = "e",
        *,
        cache_control: CacheControl | None = None,
    ) -> None:
        self._connection = connection
        self._cache_control = cache_control
        self._prefix = f"{name_prefix(namespace)}{folder}/"
        self._workers = Workers(_WORKERS, "genai-cache-blob")

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent or expired."""
        held = self.held(key)
        return None if held is None else held.blob

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision; None if absent or expired."""
        return self._held(key)

    def _held(self, key: str, size_bytes: int | None = None) -> Held | None:
        """Return what `held` does, or (`size_bytes`) how it begins."""
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

        name = self._name(key)
        clock = ServiceClock()
        with self._connection.use() as container:
            try:
                part = {} if size_bytes is None else {"offset": 0, "length": size_bytes}
                answer = container.download_blob(name, max_concurrency=1, raw_response_hook=clock, **part)
                row = clock.row(answer.properties)
                return None if row.is_expired else Held(answer.readall(), row.etag)
            except ResourceNotFoundError as error:
                ensure_container(error)
                return None
            except HttpResponseError as error:
                if size_bytes is None or error.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
        return self._held(key)  # an empty one has no part

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there; at most 8 are asked for at a time."""
        return {key: held.blob for key, held in self.held_many(keys).items()}

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return what `held` does of those `keys` that are there; at most 8 are asked for at a time."""
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key)
        found = zip(wanted, self._side_by_side(self.held, wanted), strict=True)
        return {key: held for key, held in found if held is not None}

    def read_in_time(self, keys: Iterable[str], patience_s: float = _PATIENCE_S) -> tuple[dict[str, bytes], list[str]]:
        """Return what `get_many` does, as far as it comes in time, and the keys of what did not.

        A service of which nothing comes is waited for as for one value.
        """
        asked = {key: self._workers.submit(self.get, key) for key in dict.fromkeys(keys)}
        done, late = wait(asked.values(), patience_s)
        if late and not done:
            done, late = wait(late, return_when=FIRST_COMPLETED)
        for future in late:
            future.cancel()
        arrived = {key: future.result() for key, future in asked.items() if future in done}
        found = {key: value for key, value in arrived.items() if value is not None}
        return found, [key for key, future in asked.items() if future in late]

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return the first `size_bytes` of what is under those `keys` that are there, at most 8 at a time."""
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key)
        found = zip(wanted, self._side_by_side(lambda key: self._held(key, size_bytes), wanted), strict=True)
        return {key: held.blob for key, held in found if held is not None}

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts` what `put_if` does, at most 8 at a time."""
        for put in puts:
            check_key(put.key)
            check_blob(put.blob)
        return self._side_by_side(lambda put: self.put_if(put.key, put.blob, ttl_s=put.ttl_s, held=put.held), puts)

    def _side_by_side(self, work: Callable[[_T], _R], given: Iterable[_T]) -> list[_R]:
        asked = [self._workers.submit(work, one) for one in given]
        return [answer.result() for answer in asked]

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], replacing what was there."""
        name = self._name(key)
        check_blob(blob)
        if ttl_s <= 0:
            self.delete(key)
            return
        with self._connection.use() as container:
            container.upload_blob(name, blob, overwrite=True, **self._said_of(key, ttl_s))

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Do what `put` does if `key` still holds `held` (None: nothing); return whether it did."""
        name = self._name(key)
        check_blob(blob)
        with self._connection.use() as container:
            row = self._row(container, name) if held or ttl_s <= 0 else None
            if held is None and ttl_s <= 0:
                return False
            if held is not None and (row is None or row.is_expired or row.etag != held.revision):
                return False
            said = self._said_of(key, ttl_s) if ttl_s > 0 else None
            if _upload_if(container, name, blob, said, row):
                return True
            # What stands in the way of a fill may have expired: then it counts as nothing.
            row = self._row(container, name) if held is None else None
            return row is not None and row.is_expired and _upload_if(container, name, blob, said, row)

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""
        name = self._name(key)
        with self._connection.use() as container:
            row = self._row(container, name)
            # Of two who remove it at once, the faster is the one that says True.
            return row is not None and remove(container, name) and not row.is_expired

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys, in no order, that start with `prefix` and have not expired."""
        for key, row in self._list(prefix):
            if not row.is_expired:
                yield key

    def check(self) -> CheckReport:
        """Remove what has expired, unless it was put anew meanwhile."""
        expired = [(key, row) for key, row in self._list("") if row.is_expired]
        return CheckReport(self._remove_all(expired), 0, is_rebuilt=False)

    def remove_unused(self, used: Callable[[], Collection[str]]) -> int:
        """Remove what was put long ago and is not among `used`, unless it was put anew meanwhile."""
        old = [(key, row) for key, row in self._list("") if row.age_s > UNUSED_S and not row.is_expired]
        if not old:
            return 0
        kept = used()
        return self._remove_all([(key, row) for key, row in old if key not in kept])

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        self._workers.close()
        self._connection.close()

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _said_of(self, key: str, ttl_s: float) -> dict[str, Any]:
        """Return what is uploaded with a value."""
        header = None if self._cache_control is None else self._cache_control(key, ttl_s)
        return _said(ttl_s, header)

    def _row(self, container: Any, name: str) -> BlobRow | None:
        from azure.core.exceptions import ResourceNotFoundError

        clock = ServiceClock()
        try:
            properties = container.get_blob_client(name).get_blob_properties(raw_response_hook=clock)
        except ResourceNotFoundError as error:
            ensure_container(error)
            return None
        return clock.row(properties)

    def _list(self, prefix: str) -> Iterator[tuple[str, BlobRow]]:
        if key_range(prefix) is None:
            return
        clock = ServiceClock()
        with self._connection.use() as container:
            start = len(self._prefix)
            for properties in container.list_blobs(
                self._prefix + prefix, include=["metadata"], raw_response_hook=clock
            ):
                key = properties.name[start:]
                if len(key) == KEY_DIGITS and key_range(key) is not None:
                    yield key, clock.row(properties)

    def _remove_all(self, rows: list[tuple[str, BlobRow]]) -> int:
        with self._connection.use() as container:
            removed = self._side_by_side(lambda row: remove(container, self._prefix + row[0], row[1].etag), rows)
        return sum(removed)


class BlobDocument:
    """One small value in a blob that many machines change. A ``Document``; its token is the ETag.

    Parameters
    ----------
    connection
        The container.
    namespace, name
        Whose document, and which.
    """

    def __init__(self, connection: BlobConnection, namespace: str, name: str) -> None:
        self._connection = connection
        self._name = f"{name_prefix(namespace)}d/{name}"

    def version(self, clock: ServiceClock | None = None) -> object:
        """Return a token that differs after every change; None if absent. `clock` hears what time it is."""
        from azure.core.exceptions import ResourceNotFoundError

        hears = {} if clock is None else {"raw_response_hook": clock}
        with self._connection.use() as container:
            try:
                found = container.get_blob_client(self._name).get_blob_properties(**hears)
                return None if found.size > LARGEST_DOCUMENT else str(found.etag)
            except ResourceNotFoundError as error:
                ensure_container(error)
                return None

    def load(self) -> bytes | None:
        """Return the whole value, or None if it was never written."""
        with self._connection.use() as container:
            return self._load(container)[0]

    def remove(self) -> None:
        """Remove it, be it there or not: for one that nobody depends on."""
        with self._connection.use() as container:
            remove(container, self._name)

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the value is still `expected` (None: absent); return whether it was written."""
        check_blob(new)
        with self._connection.use() as container:
            value, etag = self._load(container)
            if value != expected:
                return False
            row = BlobRow(etag, math.inf) if etag else None
            return _upload_if(container, self._name, new, _said(math.inf, "no-store"), row)

    def _load(self, container: Any) -> tuple[bytes | None, str]:
        """Return the value, and the ETag of what is there: what is larger than any document of ours is no value."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            answer = container.download_blob(self._name, max_concurrency=1)
            value = None if answer.properties.size > LARGEST_DOCUMENT else answer.readall()
            return value, str(answer.properties.etag)
        except ResourceNotFoundError as error:
            ensure_container(error)
            return None, ""


def _said(ttl_s: float, cache_control: str | None) -> dict[str, Any]:
    """Return what is uploaded with a blob: how long it may live [s], and what whoever passes it on is told."""
    from azure.storage.blob import ContentSettings

    settings = ContentSettings(content_type=BLOB_TYPE, cache_control=cache_control)
    return {"metadata": ttl_metadata(ttl_s), "content_settings": settings}


def _upload_if(container: Any, name: str, blob: bytes, said: dict[str, Any] | None, row: BlobRow | None) -> bool:
    """Write, or remove if nothing is `said`, on the condition that `row` (None: nothing) is still there."""
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

    try:
        if row is None:
            container.upload_blob(name, blob, overwrite=False, **(said or {}))
            return True
        same = {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}
        if said is None:
            container.delete_blob(name, **same)
        else:
            container.upload_blob(name, blob, overwrite=True, **said, **same)
    except (ResourceExistsError, ResourceModifiedError):
        return False
    except ResourceNotFoundError as error:
        ensure_container(error)
        return False
    return True
