"""Pages in Redis: a hash for each group, a field for each page.

genai-cache:1:<namespace>:p:<group>     a hash, with a time to live that each change begins anew
<name>                                  a page
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.stores.base import LARGEST_PAGE, MOST_PAGES, Page
from genai_cache_magic.stores.keys import check_key, check_page, is_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from genai_cache_magic.stores.redis.connection import RedisConnection

_HASHED_BYTES: Final = 64 * 1024
"""The server makes no digest of what is larger [bytes], which changes its length or its name when it changes."""
_PUT_BYTES: Final = 4 * 1024**2
_READ_AT_ONCE: Final = 32

# What is of another type, or has grown beyond anything of ours, can't be ours and gives way.
_PUT: Final = f"""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and (kind ~= 'hash' or redis.call('HLEN', KEYS[1]) > {MOST_PAGES}) then redis.call('DEL', KEYS[1]) end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
"""
_IS_OURS: Final = (
    f"redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HLEN', KEYS[1]) <= {MOST_PAGES}"  # what follows is long
)
_REVISIONS: Final = f"""
if not ({_IS_OURS}) then return {{}} end
local told = {{}}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local size = redis.call('HSTRLEN', KEYS[1], name)
  if #name == 64 and size <= {LARGEST_PAGE} then
    told[#told + 1] = name
    told[#told + 1] = size <= {_HASHED_BYTES} and redis.sha1hex(redis.call('HGET', KEYS[1], name)) or tostring(size)
  end
end
return told
"""
_READ: Final = f"""
if not ({_IS_OURS}) then return {{}} end
local found = {{}}
for i, name in ipairs(ARGV) do
  found[i] = redis.call('HSTRLEN', KEYS[1], name) <= {LARGEST_PAGE} and redis.call('HGET', KEYS[1], name)
end
return found
"""
_REMOVE: Final = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
for _, name in ipairs(ARGV) do redis.call('HDEL', KEYS[1], name) end
return 1
"""


class RedisPages:
    """The pages of a namespace in one Redis. A ``Pages``; every command names one key.

    Parameters
    ----------
    connection
        The server.
    prefix
        What all their keys start with.
    """

    def __init__(self, connection: RedisConnection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        """Set pages of a group; some megabytes of them are set in one step."""
        key = self._key(group)
        for name, blob in pages.items():
            check_page(name, blob)
        life = "" if math.isinf(ttl_s) else str(max(1, int(ttl_s * 1000)))
        with self._connection.use() as client:
            given: list[str | bytes] = []
            size_bytes = 0
            for name, blob in pages.items():
                given += (name, blob)
                size_bytes += len(blob)
                if size_bytes > _PUT_BYTES:
                    client.eval(_PUT, 1, key, life, *given)
                    given, size_bytes = [], 0
            if given:
                client.eval(_PUT, 1, key, life, *given)
        return {name: _revision(blob) for name, blob in pages.items()}

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what there is of each group, in one round trip per server."""
        keys = [self._key(group) for group in groups]
        if not keys:
            return {}
        with self._connection.use() as client, self._batch(client) as batch:
            for key in keys:
                batch.execute_command("EVAL", _REVISIONS, 1, key)  # a cluster's pipeline has no other way
            answers = batch.execute()
        return {group: _table(answer) for group, answer in zip(groups, answers, strict=True)}

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        """Return those of the pages that are there."""
        key, wanted = self._key(group), list(names)
        for name in wanted:
            check_key(name)
        found: dict[str, Page] = {}
        with self._connection.use() as client:
            for start in range(0, len(wanted), _READ_AT_ONCE):
                some = wanted[start : start + _READ_AT_ONCE]
                for name, blob in zip(some, client.eval(_READ, 1, key, *some), strict=False):
                    if isinstance(blob, bytes):
                        found[name] = Page(blob, _revision(blob))
        return found

    def remove(self, group: str, names: Collection[str]) -> None:
        """Remove pages."""
        key = self._key(group)
        for name in names:
            check_key(name)
        if names:
            with self._connection.use() as client:
                client.eval(_REMOVE, 1, key, *names)

    def prune(self) -> int:
        """Redis does so itself."""
        return 0

    def _batch(self, client: Any) -> Any:
        return client.pipeline() if self._connection.target.is_cluster else client.pipeline(transaction=False)

    def _key(self, group: str) -> str:
        check_key(group)
        return self._prefix + group


def _revision(blob: bytes) -> str:
    """Return what the server tells of a page; it protects from accidents, the seal from forgers."""
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() if len(blob) <= _HASHED_BYTES else str(len(blob))


def _table(answer: Any) -> dict[str, str]:
    pairs = zip(answer[::2], answer[1::2], strict=True) if isinstance(answer, list) else ()
    told = {name.decode("ascii", "replace"): revision.decode("ascii", "replace") for name, revision in pairs}
    return {name: revision for name, revision in told.items() if is_key(name)}
