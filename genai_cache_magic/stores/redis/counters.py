"""Counters in Redis: a hash for each name, its counts changed where they are.

genai-cache:1:<namespace>:h:<name>      a hash, with a time to live that each change begins anew
c:<field>                           a count
n:<field>                           its label
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.stores.base import LARGEST_COUNT, Counted
from genai_cache_magic.stores.keys import check_blob, check_key

if TYPE_CHECKING:
    from genai_cache_magic.stores.redis.connection import RedisConnection

_LIFE_MS: Final = 400 * 86_400 * 1000
"""Nothing of ours stays in a Redis for ever: a year and a month after its last change a count is of no use [ms]."""
_MOST_FIELDS: Final = 200_000

# What is of another type can't be ours, and gives way. The count is read again as text: a number of Lua is no integer.
_ADD: Final = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
if not tonumber(redis.call('HGET', KEYS[1], 'c:' .. ARGV[1]) or '0') then
  redis.call('HDEL', KEYS[1], 'c:' .. ARGV[1])
end
redis.call('HINCRBY', KEYS[1], 'c:' .. ARGV[1], ARGV[2])
redis.call('HSETNX', KEYS[1], 'n:' .. ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local count = redis.call('HGET', KEYS[1], 'c:' .. ARGV[1])
if ARGV[5] and tonumber(count) > tonumber(ARGV[5]) then
  redis.call('HINCRBY', KEYS[1], 'c:' .. ARGV[1], ARGV[6])
  return {0, redis.call('HGET', KEYS[1], 'c:' .. ARGV[1])}
end
return {1, count}
"""
_READ: Final = f"""
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' or redis.call('HLEN', KEYS[1]) > {2 * _MOST_FIELDS} then return {{}} end
return redis.call('HGETALL', KEYS[1])
"""


class RedisCounters:
    """Counters of a namespace in one Redis. A ``Counters``.

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

    def add(self, name: str, field: str, amount: int, label: bytes) -> int:
        """Add `amount` to a count and return what it is then."""
        return self._added(name, field, amount, label)[1]

    def add_within(self, name: str, field: str, amount: int, label: bytes, *, at_most: int) -> tuple[bool, int]:
        """Add `amount` unless the count would be more than `at_most` then; return whether, and what it is then."""
        return self._added(name, field, amount, label, at_most, -amount)

    def _added(self, name: str, field: str, amount: int, label: bytes, *bound: int) -> tuple[bool, int]:
        from redis.exceptions import ResponseError

        check_key(field)
        check_blob(label)
        key = self._key(name)
        with self._connection.use() as client:
            # A cluster's client sends again what was cut off, which may have been counted, unless it is told the node.
            at = {"target_nodes": client.get_node_from_key(key)} if self._connection.target.is_cluster else {}
            try:
                words = (key, field, amount, label, _LIFE_MS, *bound)
                is_added, count = client.execute_command("EVAL", _ADD, 1, *words, **at)
                return bool(is_added), int(count)
            except ResponseError as error:
                if "overflow" not in str(error):
                    raise
        raise ValueError("the count would leave the range of 64 bits")

    def read(self, name: str) -> dict[str, Counted]:
        """Return the counts under `name`, by field."""
        key = self._key(name)
        with self._connection.use() as client:
            found = client.eval(_READ, 1, key)
        names = found[::2] if isinstance(found, list) else found
        values = found[1::2] if isinstance(found, list) else found.values()
        table = {bytes(name): value for name, value in zip(names, values, strict=True)}
        return {
            name[2:].decode("ascii", "replace"): Counted(int(count), table.get(b"n:" + name[2:], b""))
            for name, count in table.items()
            if name.startswith(b"c:") and _is_count(count)
        }

    def _key(self, name: str) -> str:
        check_key(name)
        return self._prefix + name


def _is_count(text: bytes) -> bool:
    try:
        return abs(int(text)) <= LARGEST_COUNT
    except ValueError:
        return False
