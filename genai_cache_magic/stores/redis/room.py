"""What a namespace takes in a Redis."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.stores.keys import KEY_DIGITS, key_range
from genai_cache_magic.stores.redis.by_size import POINTER_BYTES, pointed_to
from genai_cache_magic.stores.redis.limits import whole_memory_of
from genai_cache_magic.stores.redis.store import key_prefix
from genai_cache_magic.stores.rooms import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.stores.redis.connection import RedisConnection

_AT_ONCE: Final = 500
# What may not be asked for, or is not there any more, has the length of its value, or nothing.
_TAKEN: Final = """
local told = {}
for i, key in ipairs(KEYS) do
  local length = redis.pcall('STRLEN', key)
  if type(length) ~= 'number' then length = 0 end
  local taken = redis.pcall('MEMORY', 'USAGE', key)
  if type(taken) ~= 'number' then taken = length end
  told[2 * i - 1] = taken
  told[2 * i] = length == tonumber(ARGV[1]) and redis.call('GET', key) or ''
end
return told
"""


def room_of(connection: RedisConnection, namespace: str) -> Room:
    """Return what `namespace` takes; raises ``StoreUnavailable``."""
    prefix = key_prefix(namespace).encode()
    values = prefix + b"e:"
    sizes: dict[str, int] = {}
    pointed: dict[str, str] = {}
    beside: dict[bytes, int] = {}
    with connection.use() as client:
        names = client.scan_iter(match=f"{prefix.decode()}*", count=_AT_ONCE)
        while batch := list(itertools.islice(names, _AT_ONCE)):
            for name, size_bytes, value in taken(client, batch, is_cluster=connection.target.is_cluster):
                key = name[len(values) :].decode("ascii", "replace") if name.startswith(values) else ""
                if len(key) != KEY_DIGITS or key_range(key) is None:
                    beside[name] = size_bytes
                    continue
                sizes[key] = size_bytes
                if (large := pointed_to(value)) is not None:
                    pointed[key] = large
    used, most = whole_memory_of(connection) or (None, 0)
    return Room(
        connection.name,
        sizes,
        pointed,
        beside_bytes=sum(beside.values()),
        used_bytes=used,
        limit_bytes=most or None,
    )


def taken(client: Any, names: Sequence[bytes], *, is_cluster: bool) -> list[tuple[bytes, int, bytes]]:
    """Return what each of `names` takes [bytes], and its value if that is as long as a pointer."""
    if not is_cluster:
        told = client.eval(_TAKEN, len(names), *names, POINTER_BYTES)
    else:
        with client.pipeline() as batch:
            for name in names:
                batch.execute_command("EVAL", _TAKEN, 1, name, POINTER_BYTES)
            told = [part for one in batch.execute() for part in one]
    return list(zip(names, told[::2], told[1::2], strict=True))
