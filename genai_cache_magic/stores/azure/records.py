"""Records in Azure Blob Storage, one behind the other: a blob for each, numbered, written once.

genai-cache/1/<namespace>/b/<8 digits>     a record, from 00000000 on
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.azure.rows import ensure_container, name_prefix
from genai_cache_magic.stores.records import LARGEST_RECORD, ensure_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.stores.azure.connection import BlobConnection

_DIGITS: Final = 8


class BlobRecords:
    """`Records` of one namespace in a container. The service writes a blob whole or not at all.

    Parameters
    ----------
    connection
        The container.
    namespace
        Whose: letters, digits, ``.``, ``_`` and ``-``.
    """

    is_cut_off = False

    def __init__(self, connection: BlobConnection, namespace: str) -> None:
        self.name = f"{connection.name} ({namespace})"
        self._connection = connection
        self._prefix = f"{name_prefix(namespace)}b/"
        self._count = 0

    def read(self) -> Iterator[bytes]:
        """Yield each record, in the order of their numbers."""
        self._count = 0
        with self._connection.use() as container:
            names = [one.name for one in container.list_blobs(self._prefix)]
        # What is missing shows as what is no longer behind the one before it; nothing is read beyond a gap.
        for number, name in enumerate(sorted(names)):
            if name != self._name(number):
                raise ConfigurationError(
                    f"{self.name}: record {number} is missing, and others are there: "
                    "use another copy, or a new container"
                )
            yield self._read(name)
            self._count = number + 1

    def _read(self, name: str) -> bytes:
        from azure.core.exceptions import ResourceNotFoundError

        with self._connection.use() as container:
            try:
                answer = container.download_blob(name, max_concurrency=1)
                if answer.properties.size > LARGEST_RECORD:
                    raise ConfigurationError(f"{self.name}: {name} is no record of a backup: use another container")
                return bytes(answer.readall())
            except ResourceNotFoundError as error:
                ensure_container(error)
                raise StoreUnavailable(f"{self.name} was changed while it was read: try again") from error

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Hold nothing: of two that add, the second is refused by the service."""
        return contextlib.nullcontext()

    def append(self, record: bytes) -> None:
        """Add a record, unless there is one of its number."""
        from azure.core.exceptions import ResourceExistsError

        ensure_readable(record)
        with self._connection.use() as container:
            try:
                container.upload_blob(self._name(self._count), record, overwrite=False)
            except ResourceExistsError as error:
                raise StoreUnavailable(
                    f"{self.name} is being written by another process: wait until it has ended"
                ) from error
        self._count += 1

    def _name(self, number: int) -> str:
        return f"{self._prefix}{number:0{_DIGITS}d}"
