"""Where a backup lies: a file, or a container of Azure Blob Storage."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic.api.team.line import BLOB, container_at, kind_of
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.stores.records import RecordFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.records import Records

_PATIENT: Final = {"connect_timeout": 10.0, "command_timeout": 60.0}
"""Nobody waits for an answer meanwhile, and records are larger than answers [s]."""


@contextmanager
def records_at(place: str, settings: Settings, namespace: str) -> Iterator[Records]:
    """Give the records at `place`, a path or the address of a container; nothing is read yet.

    Raises
    ------
    ConfigurationError
        It is the address of something else.
    """
    if "://" not in place:
        yield RecordFile(Path(place).expanduser().absolute())
        return
    if kind_of(place) != BLOB:
        raise ConfigurationError(
            "a backup goes into a file, or into a container: "
            "write a path, https://ACCOUNT.blob.core.windows.net/CONTAINER, or azure-blob://CONTAINER"
        )
    from genai_cache_magic.stores.azure.records import BlobRecords

    connection = container_at(settings.model_copy(update=_PATIENT), place)
    try:
        yield BlobRecords(connection, namespace)
    finally:
        connection.close()
