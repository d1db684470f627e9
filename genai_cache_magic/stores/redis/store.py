"""A tier in Redis: single server, TLS, Sentinel or cluster. Values, documents and leases of one namespace.

All keys start with ``genai-cache:1:<namespace>:``, so that an administrator can grant a team just these
(``~genai-cache:1:team-a:*``), and nothing outside them is ever read, counted or removed::

    genai-cache:1:<namespace>:e:<entry id>       a value, with a time to live
    genai-cache:1:<namespace>:d:<name>           a document: a hash of ``value`` and a random ``token``
    genai-cache:1:<namespace>:h:<name>           counts; see `counters`
    genai-cache:1:<namespace>:p:<group>          pages; see `pages`
    genai-cache:1:<namespace>:l:<entry id>       a lease: its holder's random token, with a time to live

Every command names one key, so that a cluster can place each where it likes.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import secrets
import time
from typing import TYPE_CHECKING, Any

from genai_cache_magic.stores.base import LARGEST_DOCUMENT, LARGEST_VALUE, Held, LookUp, Put
from genai_cache_magic.stores.keys import KEY_DIGITS, LAYOUT, check_blob, check_key, key_range
from genai_cache_magic.stores.redis.counters import RedisCounters
from genai_cache_magic.stores.redis.limits import RedisLimits
from genai_cache_magic.stores.redis.pages import RedisPages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from genai_cache_magic.stores.redis.connection import RedisConnection

_SCAN_COUNT = 1_000

# What is larger than anything of ours, or of another type, counts as absent, and is never sent. Of what is more than
# fits into one answer the lengths are sent: whoever asked for it asks again, for as many as do.
_READ = f"""
local values, left = {{}}, tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local length = redis.call('TYPE', key).ok == 'string' and redis.call('STRLEN', key)
  if not length or length > {LARGEST_VALUE} then values[i] = false
  elseif length > left then values[i] = length
  else
    values[i] = redis.call('GET', key)
    left = left - length
  end
end
return values
"""
_READ_HEADS = f"""
local values = {{}}
for i, key in ipairs(KEYS) do
  local is_ours = redis.call('TYPE', key).ok == 'string' and redis.call('STRLEN', key) <= {LARGEST_VALUE}
  values[i] = is_ours and redis.call('GETRANGE', key, 0, ARGV[1] - 1)
end
return values
"""
_ANSWER_BYTES = 8 << 20
"""So much one answer brings [bytes], but for a single value that is more: well within a command's time-out."""
_ANSWER_OF_ONE_BYTES = 64 << 10
"""So much one key's answer brings in a cluster at first [bytes], where a thousand are asked for side by side."""
_PATIENCE_S = 1.0
"""After so long a look-up asks for no more of what was too much for one answer [s]."""
# Whether the value is still the one that was read. Sent by digest: the value itself may be a megabyte.
_PUT_IF = f"""
local done = {{}}
for i, key in ipairs(KEYS) do
  local revision, blob, life = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local is_ours = redis.call('TYPE', key).ok == 'string' and redis.call('STRLEN', key) <= {LARGEST_VALUE}
  local now = is_ours and redis.call('GET', key)
  done[i] = 1
  if (now and redis.sha1hex(now) or '') ~= revision then done[i] = 0
  elseif life == '0' then redis.call('DEL', key)
  elseif life == '' then redis.call('SET', key, blob)
  else redis.call('SET', key, blob, 'PX', life) end
end
return done
"""
_DOCUMENT = f"""
local is_hash = redis.call('TYPE', KEYS[1]).ok == 'hash'
local is_ours = is_hash and redis.call('HSTRLEN', KEYS[1], 'value') <= {LARGEST_DOCUMENT}
"""
_LOAD = f"""{_DOCUMENT}
return is_ours and redis.call('HGET', KEYS[1], 'value')
"""
_VERSION_AND_TIME = f"""{_DOCUMENT}
local now = redis.call('TIME')
return {{is_ours and redis.call('HGET', KEYS[1], 'token'), now[1], now[2]}}
"""
_REPLACE = f"""{_DOCUMENT}
local now = is_ours and redis.call('HGET', KEYS[1], 'value')
if ARGV[1] == '1' then if not now or redis.sha1hex(now) ~= ARGV[2] then return 0 end
elseif now then return 0 end
if not is_hash then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'value', ARGV[3], 'token', ARGV[4])
return 1
"""
_LONGEST_LEASE_MS = 600_000
# What has no end, or none that is near, was given by none of us. A cluster's client may have sent the same once before,
# to a node that was lost before it could answer.
_TAKE = f"""
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= {_LONGEST_LEASE_MS} then
  return redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def key_prefix(namespace: str, layout: int = LAYOUT) -> str:
    """Return what all keys of `namespace` start with."""
    return f"genai-cache:{layout}:{namespace}:"


def document_key(namespace: str, name: str) -> str:
    """Return the key of a document."""
    return f"{key_prefix(namespace)}d:{name}"


class RedisTier:
    """What a team shares in one Redis: values, documents and leases of a namespace. A ``SharedTier``.

    Parameters
    ----------
    connection
        The server.
    namespace
        Whose: letters, digits, ``.``, ``_`` and ``-``.
    limits
        What the server's limits should be.
    """

    round_size = 1_000

    def __init__(self, connection: RedisConnection, namespace: str, limits: RedisLimits | None = None) -> None:
        self.name = connection.name
        self._limits = limits or RedisLimits()
        self.store = RedisStore(connection, namespace)
        self.leases = RedisLeases(connection, namespace)
        self.counters = RedisCounters(connection, f"{key_prefix(namespace)}h:")
        self.pages = self.bundles = RedisPages(connection, f"{key_prefix(namespace)}p:")
        self._connection = connection
        self._namespace = namespace

    def document(self, name: str) -> RedisDocument:
        """Return the document of that name."""
        return RedisDocument(self._connection, self._namespace, name)

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document` and the values of `keys` in one round trip; in a cluster it takes two.

        Large ones may take more.
        """
        give_up_at = time.monotonic() + _PATIENCE_S
        key = document_key(self._namespace, document)
        names = [self.store.name_of(key) for key in keys]
        with self._connection.use() as client:
            if self._connection.target.is_cluster:
                told = client.eval(_VERSION_AND_TIME, 1, key)
                values = self.store.read_once(client, names)
            else:
                with client.pipeline(transaction=False) as batch:
                    batch.eval(_VERSION_AND_TIME, 1, key)
                    if names:
                        batch.eval(_READ, len(names), *names, _ANSWER_BYTES)
                    told, *rest = batch.execute()
                values = rest[0] if rest else []
            token, seconds, microseconds = told
            values = self.store.read_rest(client, names, values, give_up_at=give_up_at)
            found = {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}
            unread = [key for key, value in zip(keys, values, strict=True) if isinstance(value, int)]
            return LookUp(_bytes_or_none(token), int(seconds) + int(microseconds) / 1e6, found, unread)

    def settle(self) -> tuple[str, ...]:
        """Set or compare the server's limits; see `RedisLimits.settle`."""
        return self._limits.settle(self._connection)

    def close(self) -> None:
        """Give up the connections; may be called twice."""
        self._connection.close()


class RedisStore:
    """Opaque bytes in Redis. A ``Store`` that answers many look-ups in one round trip.

    Parameters
    ----------
    connection
        The server; shared with the documents and leases of the same namespace, and closed with this store.
    namespace
        Whose values: letters, digits, ``.``, ``_`` and ``-``.
    """

    def __init__(self, connection: RedisConnection, namespace: str) -> None:
        self._connection = connection
        self._prefix = f"{key_prefix(namespace)}e:"

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent or expired."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there, in one round trip per server."""
        wanted = list(dict.fromkeys(keys))
        names = [self.name_of(key) for key in wanted]
        with self._connection.use() as client:
            values = self.read_rest(client, names, self.read_once(client, names))
        found = zip(wanted, map(_bytes_or_none, values), strict=True)
        return {key: value for key, value in found if value is not None}

    def get_heads(self, keys: Iterable[str], *, size_bytes: int) -> dict[str, bytes]:
        """Return the first `size_bytes` of what is under those `keys` that are there, in one round trip per server."""
        wanted = list(dict.fromkeys(keys))
        names = [self.name_of(key) for key in wanted]
        with self._connection.use() as client:
            values = self._each(client, _READ_HEADS, names, size_bytes)
        return {key: value for key, value in zip(wanted, values, strict=True) if isinstance(value, bytes)}

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], replacing what was there."""
        name = self.name_of(key)
        check_blob(blob)
        with self._connection.use() as client:
            if ttl_s <= 0:
                client.delete(name)
            else:
                client.set(name, blob, px=_milliseconds(ttl_s))

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision; None if absent or expired."""
        return self.held_many([key]).get(key)

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return what `held` does of those `keys` that are there, in one round trip per server."""
        return {key: Held(blob, _digest(blob)) for key, blob in self.get_many(keys).items()}

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Do what `put` does if `key` still holds `held` (None: nothing); return whether it did."""
        return self.put_many_if([Put(key, blob, ttl_s, held)])[0]

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts` what `put_if` does, in one round trip per server."""
        for put in puts:
            check_blob(put.blob)
        names = [self.name_of(put.key) for put in puts]
        # With nothing there and no time to live there is nothing to do.
        wanted = [number for number, put in enumerate(puts) if put.held is not None or put.ttl_s > 0]
        with self._connection.use() as client:
            batch = [(names[number], _arguments(puts[number])) for number in wanted]
            done = dict(zip(wanted, self._put_many(client, batch), strict=True))
        return [bool(done.get(number)) for number in range(len(puts))]

    def _put_many(self, client: Any, batch: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        if not batch:
            return []
        if not self._connection.target.is_cluster:
            names = [name for name, _ in batch]
            return list(client.eval(_PUT_IF, len(names), *names, *itertools.chain(*(given for _, given in batch))))
        with client.pipeline() as pipeline:
            for name, given in batch:
                pipeline.execute_command("EVAL", _PUT_IF, 1, name, *given)
            return [done for (done,) in pipeline.execute()]

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""
        name = self.name_of(key)
        with self._connection.use() as client:
            return bool(client.delete(name))

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys, in no order, that start with `prefix`; never blocks the server."""
        if key_range(prefix) is None:
            return
        start = len(self._prefix)
        seen: set[str] = set()  # SCAN may give a key twice while the server's table grows
        # The namespace's own characters mean nothing in a pattern, `prefix` is hex.
        with self._connection.use() as client:
            for name in client.scan_iter(match=f"{self._prefix}{prefix}*", count=_SCAN_COUNT):
                key = name.decode("ascii", "replace")[start:]
                if len(key) == KEY_DIGITS and key_range(key) is not None and key not in seen:
                    seen.add(key)
                    yield key

    def close(self) -> None:
        """Give up the connections; may be called twice."""
        self._connection.close()

    def name_of(self, key: str) -> str:
        """Return the server's name for `key`."""
        check_key(key)
        return self._prefix + key

    def read_once(self, client: Any, names: Sequence[str], limit_bytes: int | None = None) -> list[Any]:
        """Return what `client` holds under each of `names`, in one round trip per server.

        In the place of what is more than `limit_bytes` (by default as much as fits into one answer) stands its length.
        """
        usual = _ANSWER_OF_ONE_BYTES if self._connection.target.is_cluster else _ANSWER_BYTES
        return self._each(client, _READ, names, usual if limit_bytes is None else limit_bytes)

    def read_rest(
        self, client: Any, names: Sequence[str], values: Iterable[Any], *, give_up_at: float = math.inf
    ) -> list[Any]:
        """Return `values`, of which some are lengths, with what stands under their `names`.

        It is asked for in as many round trips as it takes; none begins after `give_up_at` [s, monotonic].
        """
        values = list(values)
        while (left := [n for n, one in enumerate(values) if isinstance(one, int)]) and time.monotonic() < give_up_at:
            sums = itertools.accumulate(values[n] for n in left)
            batch = [n for n, total in zip(left, sums, strict=True) if n == left[0] or total <= _ANSWER_BYTES]
            read = self.read_once(client, [names[n] for n in batch], len(batch) * LARGEST_VALUE)
            for n, value in zip(batch, read, strict=True):
                values[n] = value
        return values

    def _each(self, client: Any, script: str, names: Sequence[str], given: int) -> list[Any]:
        """Return what `script`, which takes one number, does for each of `names`."""
        if not names:
            return []
        if not self._connection.target.is_cluster:
            return list(client.eval(script, len(names), *names, given))
        # A cluster refuses one command over several slots; a pipeline goes to each node once.
        with client.pipeline() as batch:
            for name in names:
                batch.execute_command("EVAL", script, 1, name, given)  # its own `eval` it refuses, whatever the keys
            return [value for (value,) in batch.execute()]


class RedisDocument:
    """One small value in Redis that many machines change. A ``Document``.

    Its token is random, not counted: a server that lost a document and got another never shows an old token again.

    Parameters
    ----------
    connection
        The server.
    namespace, name
        Whose document, and which.
    """

    def __init__(self, connection: RedisConnection, namespace: str, name: str) -> None:
        self._connection = connection
        self._key = document_key(namespace, name)

    def version(self) -> object:
        """Return a token that differs after every change; None if absent."""
        with self._connection.use() as client:
            return _bytes_or_none(client.eval(_VERSION_AND_TIME, 1, self._key)[0])

    def load(self) -> bytes | None:
        """Return the whole value, or None if it was never written."""
        with self._connection.use() as client:
            return _bytes_or_none(client.eval(_LOAD, 1, self._key))

    def remove(self) -> None:
        """Remove it, be it there or not: for one that nobody depends on."""
        with self._connection.use() as client:
            client.delete(self._key)

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the value is still `expected` (None: absent); return whether it was written."""
        check_blob(new)
        arguments = ["0", ""] if expected is None else ["1", _digest(expected)]
        with self._connection.use() as client:
            return bool(client.eval(_REPLACE, 1, self._key, *arguments, new, secrets.token_bytes(16)))


class RedisLeases:
    """Leases by entry id: of all machines of a team, one asks the model while the others wait.

    Parameters
    ----------
    connection
        The server.
    namespace
        Whose leases.
    """

    def __init__(self, connection: RedisConnection, namespace: str) -> None:
        self._connection = connection
        self._prefix = f"{key_prefix(namespace)}l:"

    def try_take(self, key: str, *, life_s: float) -> bytes | None:
        """Take the lease of `key` for `life_s` [s] if nobody has it; return the token that gives it back, or None."""
        token = secrets.token_bytes(16)
        with self._connection.use() as client:
            taken = client.eval(_TAKE, 1, self._name(key), token, _milliseconds(life_s))
        return token if taken else None

    def is_held(self, key: str) -> bool:
        """Return whether somebody has the lease of `key`."""
        with self._connection.use() as client:
            return 0 <= int(client.pttl(self._name(key))) <= _LONGEST_LEASE_MS

    def extend_many(self, held: Mapping[str, bytes], *, life_s: float) -> set[str]:
        """Let leases live `life_s` [s] from now, in one round trip per server; return the keys that are still ours."""
        names = [self._name(key) for key in held]
        with self._connection.use() as client, _batch(client, self._connection) as batch:
            for name, token in zip(names, held.values(), strict=True):
                batch.execute_command("EVAL", _RENEW, 1, name, token, _milliseconds(life_s))
            return {key for key, is_ours in zip(held, batch.execute(), strict=True) if is_ours}

    def release(self, key: str, token: bytes) -> bool:
        """Give the lease back; False if it was no longer ours."""
        with self._connection.use() as client:
            return bool(client.eval(_RELEASE, 1, self._name(key), token))

    def _name(self, key: str) -> str:
        check_key(key)
        return self._prefix + key


def _batch(client: Any, connection: RedisConnection) -> Any:
    """Return what takes commands to be sent together, each by itself."""
    return client.pipeline() if connection.target.is_cluster else client.pipeline(transaction=False)


def _digest(blob: bytes) -> str:
    """Return the digest by which a script of Redis knows a value; it protects from accidents, the seal from forgers."""
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


def _arguments(put: Put) -> tuple[Any, ...]:
    """Return what `_PUT_IF` is given beside the key: revision, value, time to live."""
    revision = put.held.revision if put.held else ""
    return revision, put.blob, "0" if put.ttl_s <= 0 else _milliseconds(put.ttl_s) or ""


def _milliseconds(ttl_s: float) -> int | None:
    """Return a time to live as Redis takes it [ms]; None is for ever."""
    return None if math.isinf(ttl_s) else max(1, int(ttl_s * 1000))


def _bytes_or_none(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None
