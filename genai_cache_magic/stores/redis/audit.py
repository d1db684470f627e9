"""What lies in a Redis otherwise than we put it there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from genai_cache_magic.stores.redis.store import key_prefix

if TYPE_CHECKING:
    from genai_cache_magic.stores.redis.connection import RedisConnection

_AT_ONCE: Final = 500
_ENDLESS: Final = -1


def count_endless(connection: RedisConnection, namespace: str) -> int:
    """Return how many values of `namespace` have no time to live; raises ``StoreUnavailable``."""
    count = 0
    with connection.use() as client:
        keys = client.scan_iter(match=f"{key_prefix(namespace)}e:*", count=_AT_ONCE)
        while batch := list(itertools.islice(keys, _AT_ONCE)):
            asked = client.pipeline(transaction=False)
            for key in batch:
                asked.pttl(key)
            count += sum(left == _ENDLESS for left in asked.execute())
    return count
