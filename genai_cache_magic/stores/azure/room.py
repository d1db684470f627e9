"""What a namespace takes in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.stores.azure.rows import name_prefix
from genai_cache_magic.stores.keys import KEY_DIGITS, key_range
from genai_cache_magic.stores.rooms import Room

if TYPE_CHECKING:
    from genai_cache_magic.stores.azure.connection import BlobConnection


def room_of(connection: BlobConnection, namespace: str, *, limit_bytes: int | None) -> Room:
    """Return what `namespace` takes of `limit_bytes` [bytes]; raises ``StoreUnavailable``."""
    prefix = name_prefix(namespace)
    values: dict[str, dict[str, int]] = {"e": {}, "l": {}}
    beside = total = 0
    with connection.use() as container:
        for properties in container.list_blobs(prefix):
            folder, _, key = properties.name[len(prefix) :].partition("/")
            total += properties.size
            if folder in values and len(key) == KEY_DIGITS and key_range(key) is not None:
                values[folder][key] = properties.size
            else:
                beside += properties.size
    return Room(
        connection.name,
        values["e"],
        large=values["l"],
        beside_bytes=beside,
        used_bytes=total,
        limit_bytes=limit_bytes,
    )
