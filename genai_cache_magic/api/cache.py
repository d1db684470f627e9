"""``Cache``: the programming interface of one namespace, beside what interceptors use of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from genai_cache_magic import host
from genai_cache_magic.api.asking.batching import WarmsByBatch
from genai_cache_magic.api.asking.warming import Warms
from genai_cache_magic.api.batches import MapOptions, mapped
from genai_cache_magic.api.explaining import explanations
from genai_cache_magic.api.parts import CacheParts, close_parts
from genai_cache_magic.api.pipeline import Pipeline
from genai_cache_magic.api.tallies import Tallies
from genai_cache_magic.api.values import Value, decoded, encoded, pairs_of, several
from genai_cache_magic.core.canonical import check_json, dumps
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import VALUE, Entry, EntryId, Metadata, Response
from genai_cache_magic.core.options import checked_name, checked_tags
from genai_cache_magic.core.policy import Fetch, Filled
from genai_cache_magic.entries.entries import Found
from genai_cache_magic.entries.team.everywhere import find_everywhere
from genai_cache_magic.errors import ConfigurationError, EntryUndecodable, StoreUnavailable, UncacheableRequest
from genai_cache_magic.events import Event, Trouble, trouble
from genai_cache_magic.settings.units import parse_duration, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping

    from genai_cache_magic.api.team.joining import Joining
    from genai_cache_magic.calls.explain import Explanation
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins
    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.model import Stamp
    from genai_cache_magic.entries.listing.results import Collected, Invalidation, Stats
    from genai_cache_magic.entries.team.tier import Team

T = TypeVar("T")
R = TypeVar("R")

_VALUE_KEY = b"genai-cache value key 1\0"
_REQUEST_KEY = b"genai-cache request key 1\0"
_NOT_KEPT = (
    "values that were set and are not kept: {count}; the team can't be reached, and what it has under their keys is "
    "invalidated as soon as it can be: set them again then"
)


class Cache(Warms, WarmsByBatch, Tallies):
    """Answers and values of one namespace. Safe to share between threads.

    Look-ups never raise for trouble of the cache's own: they miss, and `on_event` hears why. Writes
    raise ``StoreUnavailable``, since the caller asked for just that.
    """

    def __init__(self, parts: CacheParts, *, on_event: Callable[[Event], None] = lambda _: None) -> None:
        self._on_event = on_event
        self._lock = host.process_lock()
        self._in_use: list[CacheParts] = []  # guarded by _lock, like the next
        self._is_closed = False
        self._go_on: Callable[[], None] = lambda: None
        self._stop_joining: Callable[[], None] = lambda: None
        self._use(parts)

    def _use(self, parts: CacheParts) -> None:
        self._in_use.append(parts)
        self._calls = parts.calls
        self.origins = parts.origins
        self.catalogue = parts.catalogue
        self.ledger = parts.ledger
        self.runs, self.insight, self.explainer = parts.runs, parts.insight, parts.explainer
        self.namespace = parts.keys.namespace
        self._keys = parts.keys
        self.counts = parts.counts
        self._ttl_s, self.ignore, self.person = parts.ttl_s, parts.ignore, parts.person
        self.directory, self.root = parts.directory, parts.root
        self._is_superseded = parts.is_superseded
        self._team = parts.team
        self._id_prefix = _VALUE_KEY + parts.keys.namespace.encode() + b"\0"
        self.fingerprint = parts.keys.fingerprint(parts.place) if parts.place else ""
        """16 hex digits that tell this namespace in this store from any other; empty for one in memory."""
        self._entries = parts.entries  # last: see `write`

    def __repr__(self) -> str:
        return f"<Cache {self.namespace!r}>"

    def __enter__(self) -> Cache:  # noqa: PYI034 - the class is final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        self._go_on()
        return self._calls

    @property
    def team(self) -> Team | None:
        """The team's tier, None where this machine works alone."""
        return self._team

    @property
    def parts(self) -> CacheParts:
        """What it is made of now; other parts may be adopted later."""
        return self._in_use[-1]

    @property
    def is_remote(self) -> bool:
        """Whether a look-up may wait for a network: there is a team, and what it holds may not be here."""
        return self._team is not None

    @property
    def seal_key(self) -> bytes:
        """The secret of the namespace by which a run file is sealed for all who share it, bytes, shape (32,)."""
        return self._keys.mac_key

    @property
    def is_superseded(self) -> bool:
        """Whether its directory was begun anew by another process: this cache stores and serves nothing any more."""
        return self._is_superseded()

    def joins(self, joining: Joining) -> None:
        """Let `joining` go on until it has given this cache its team, or the cache is closed."""
        self._go_on, self._stop_joining = joining.go_on, joining.stop
        joining.start()

    def adopt(self, parts: CacheParts) -> bool:
        """Go on with other parts; return False, and close them, if this cache is closed.

        What is on its way ends with the parts that it began with, which stay open until the cache is closed.
        """
        with self._lock:
            if not self._is_closed:
                self._use(parts)
                return True
        close_parts(parts)
        return False

    def close(self) -> None:
        """Give up connections and descriptors; may be called twice."""
        with self._lock:
            self._is_closed, in_use = True, list(self._in_use)
        with contextlib.ExitStack() as each:
            for parts in in_use:
                each.callback(close_parts, parts)
            each.callback(self._stop_joining)

    def key_for(self, request: Any) -> str:
        """Return a key for any JSON value: 64 hex characters that nobody without our key can guess.

        Raises
        ------
        UncacheableRequest
            `request` holds something that JSON does not know; the message names where.
        """
        check_json(request)
        return entry_id(_REQUEST_KEY + dumps(request), self._keys.id_key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value last set under `key`, a fresh copy of it, or `default`."""
        return self.mget([key], default)[0]

    def set(self, key: str, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> None:
        """Keep `value` (bytes, str or JSON) under `key` for `ttl`, such as ``"7d"``, or 3600 [s].

        Raises
        ------
        UncacheableRequest
            The value is neither bytes, text nor JSON.
        StoreUnavailable
            It could not be stored.
        """
        self.mset({key: value}, ttl=ttl, tags=tags)

    def exists(self, key: str) -> bool:
        """Return whether `get` would find a value."""
        return isinstance(self._found([key])[0], Found)

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there."""
        return bool(self.pipeline().delete(key).execute()[0])

    def expire(self, key: str, ttl: str | float) -> bool:
        """Give the value under `key` a new time to live from now on; return whether it was there."""
        return bool(self.pipeline().expire(key, ttl).execute()[0])

    def mget(self, keys: Iterable[str], default: Any = None) -> list[Any]:
        """Return the values of `keys`, in their order, `default` where there is none."""
        asked = several(keys, named="mget", alone="get")
        return [decoded(found.response) if isinstance(found, Found) else default for found in self._found(asked)]

    def _found(self, keys: Iterable[str]) -> list[Found | Fetch]:
        ids = [self._value_id(key) for key in keys]
        found = self.find(ids)
        return [found[entry_id] for entry_id in ids]

    def find(self, ids: Collection[EntryId]) -> dict[EntryId, Found | Fetch]:
        """Look entries up: here, and what is not here with the team, in one round."""
        self._go_on()
        found, troubles = find_everywhere(self._entries, self._team, ids, tell=self._on_event)
        for message in troubles:
            self._on_event(Trouble("L2", StoreUnavailable.__name__, message))
        return found

    def mset(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        ttl: str | float | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Set many values, given as a dict or as pairs; raises as `set`, and sets none then."""
        named = checked_tags(tags)
        pairs = pairs_of(items, named="mset")
        self.write({_checked_key(key): self.value(value, ttl=ttl, tags=named) for key, value in pairs})

    def value(self, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> Value:
        """Return `value` as `set` would store it, checked; raises ``UncacheableRequest``."""
        ttl_s = self._ttl_s if ttl is None else parse_seconds(ttl, name="ttl")
        return encoded(value, ttl_s=ttl_s, tags=checked_tags(tags))

    def check_key(self, key: str) -> None:
        """Raise ``ConfigurationError`` unless `key` is text."""
        self._value_id(key)

    def read(self, keys: Collection[str]) -> dict[str, Value | None]:
        """Return what is stored under each of `keys`, by one look-up."""
        found = zip(keys, self._found(keys), strict=True)
        return {key: _stored(one) if isinstance(one, Found) else None for key, one in found}

    def write(self, values: Mapping[str, Value], removed: Collection[str] = ()) -> None:
        """Set `values` and remove what is under the keys `removed`, all at once; raises as `set`."""
        self.store(
            lambda birth: dict(self._value_entry(*item, birth) for item in values.items()),
            removed=[self._value_id(key) for key in removed],
        )

    def store(self, made: Callable[[Stamp], Mapping[EntryId, Entry]], removed: Collection[EntryId] = ()) -> None:
        """Store what `made` returns for a birth in place of what is there, and remove others; raises as `set`."""
        self._go_on()
        self._ask_what_is_valid()
        entries = None
        while entries is not self._entries:  # a second time where other parts were adopted meanwhile
            entries = self._entries
            self._say_lost(entries.overwrite(made(entries.stamp()), removed=removed))

    def _say_lost(self, count: int) -> None:
        """Say that so many values are not kept, if that is since a team that may have others can't be reached."""
        if count and self._entries.reach == "queued":
            self._on_event(Trouble("L2", StoreUnavailable.__name__, _NOT_KEPT.format(count=count)))

    def _ask_what_is_valid(self) -> None:
        """Ask the team what is valid if that is not known here: where its record was lost it is made anew by that."""
        if self._team is None:
            return
        try:
            self._entries.stamp()
        except StoreUnavailable:
            self._team.trouble()  # which parts are in use may be others now

    def birth(self) -> Stamp | None:
        """Return a stamp to take before a value is computed, for `fill`; None while there can be none."""
        try:
            return self._entries.stamp()
        except StoreUnavailable as exc:
            self._on_event(trouble("L1", exc))
            return None

    def fill(
        self, key: str, value: Any, *, birth: Stamp | None, ttl: str | float | None = None, tags: Iterable[str] = ()
    ) -> bool:
        """Keep a computed value unless there is one, or it was invalidated since `birth`; return whether it was kept.

        The caller has the value already: trouble of the cache's own is told, not raised.
        """
        return self.fill_many({key: value}, birth=birth, ttl=ttl, tags=tags) > 0

    def fill_many(
        self,
        values: Mapping[str, Any],
        *,
        birth: Stamp | None,
        ttl: str | float | None = None,
        tags: Iterable[str] = (),
        overwrites: bool = False,
    ) -> int:
        """Keep many computed values at once, each as `fill` does, or in place of what is there; return how many."""
        named = checked_tags(tags)
        entries = {}
        if birth is None:
            return 0
        for key, value in values.items():
            try:
                entry_id, entry = self._value_entry(key, self.value(value, ttl=ttl, tags=named), birth)
                entries[entry_id] = entry
            except UncacheableRequest as exc:
                self._on_event(trouble("L1", exc))
        try:
            if overwrites:
                outdated = self._entries.overwrite(entries)
                self._say_lost(outdated)
                return len(entries) - outdated
            filled = self._entries.fill_many(entries) if entries else {}
        except (StoreUnavailable, EntryUndecodable) as exc:
            self._on_event(trouble("L1", exc))
            return 0
        return sum(what is Filled.STORED for what in filled.values())

    def pipeline(self) -> Pipeline:
        """Return a batch of operations that are carried out together by ``execute``."""
        return Pipeline(self)

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys of values that match a shell pattern, sorted."""
        return self.catalogue.keys(pattern)

    @overload
    def map(  # type: ignore[overload-overlap]  # what returns an awaitable is also a function
        self, function: Callable[[T], Awaitable[R]], items: Iterable[T], **options: Unpack[MapOptions]
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(self, function: Callable[[T], R], items: Iterable[T], **options: Unpack[MapOptions]) -> list[R]: ...

    def map(
        self, function: Callable[[T], Any], items: Iterable[T], **options: Unpack[MapOptions]
    ) -> list[Any] | Coroutine[Any, Any, list[Any]]:
        """Return ``function(item)`` of each item, in order, computing each different one that is not cached, once.

        Of a coroutine function it returns what is to be awaited: ``await cache.map(ask, prompts)``. What is cached is
        looked up at once. What was computed is kept at once too, whatever becomes of the others: if one fails, no
        more are begun, and its error is raised once those under way are done.

        Parameters
        ----------
        function
            Known by its module and qualified name, and by the texts, numbers and functions that it holds of a function
            around it: change the name, or invalidate, when it comes to mean something else. It belongs to the scope
            that `map` is called in.
        items
            JSON values. Results are bytes, text or JSON.
        **options
            ``ttl`` and ``tags`` as for `set`, beside those of the scope; ``max_workers``, how many are computed at one
            time (8); ``name``, what to keep results under, instead of the function's own name; ``progress``, False
            for no bar, or a function that is told how many are done, and of how many.

        Raises
        ------
        ConfigurationError
            The function has no name of its own, or an option is wrong.
        UncacheableRequest
            An item is no JSON value.
        """
        return mapped(self, function, items, options)

    def try_set(self, key: str, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> bool:
        """Set a value that the caller already has: trouble of the cache's own is told, not raised."""
        try:
            self.set(key, value, ttl=ttl, tags=tags)
        except (StoreUnavailable, UncacheableRequest, EntryUndecodable) as exc:
            self._on_event(trouble("L1", exc))
            return False
        return True

    def invalidate(self, pattern: str, *, dry_run: bool = False) -> Invalidation:
        """Invalidate the entries whose name matches a shell pattern.

        A value's name is its key; a model call's is its model, ``:`` and the start of its id.
        """
        return self.catalogue.invalidate_pattern(pattern, dry_run=dry_run)

    def invalidate_tag(self, tag: str, *, kind: TagKind = "user", dry_run: bool = False) -> Invalidation:
        """Invalidate all entries with a tag; `kind` may be ``user``, ``run``, ``cell``, ``model`` or ``person``."""
        (named,) = checked_tags((tag,))
        return self.catalogue.invalidate_tag(kind, named, dry_run=dry_run)

    def invalidate_entry(self, prefix: str, *, dry_run: bool = False) -> Invalidation:
        """Invalidate the one entry whose id starts with `prefix` (at least 6 hex digits)."""
        return self.catalogue.invalidate_entry(prefix, dry_run=dry_run)

    def invalidate_older_than(self, age: str, *, dry_run: bool = False) -> Invalidation:
        """Invalidate the entries fetched longer ago than `age`, such as ``"7d"``."""
        return self.catalogue.invalidate_older_than(parse_duration(age, name="older-than"), dry_run=dry_run)

    def clear(self, *, dry_run: bool = False) -> Invalidation:
        """Invalidate everything in this namespace, and nothing else."""
        return self.catalogue.clear(dry_run=dry_run)

    def collect(self) -> Collected:
        """Remove what can't be served any more, and give its room back."""
        collected = self.catalogue.collect()
        if self._team is None or self._team.is_reader:
            return collected
        try:
            pruned = self._team.prune(lowest=collected.lowest)
            self.ledger.prune()
        except StoreUnavailable as exc:
            self._on_event(trouble("L2", exc))
            return collected
        there = {"shared_entries": pruned.entries, "records": pruned.records, "shared_orphans": pruned.orphans}
        return replace(collected, **there)

    def stats(self) -> Stats:
        """Return what this namespace holds."""
        return self.catalogue.stats(self.directory)

    def stored(self, entry_id: EntryId) -> Response | None:
        """Return the answer that is stored here under an id, None if there is no valid one."""
        found = self._entries.find(entry_id, ttl_s=None, tell=self._on_event)
        return found.response if isinstance(found, Found) else None

    def explain(self, scope: CellScope | None = None, *, call: str = "", run: str = "") -> tuple[Explanation, ...]:
        """Say of each call of `scope` that was no hit why, or of one or those of a run: see `explaining`."""
        return explanations(self.explainer, self.runs, scope, call=call, run=run)

    def _value_entry(self, key: str, value: Value, birth: Stamp) -> tuple[EntryId, Entry]:
        """Return the entry that keeps `value`, under its id."""
        metadata = Metadata(surface=VALUE, key=key, tags=value.tags)
        keyed = [self._keys.tag("user", tag) for tag in value.tags]
        keyed += [self._keys.tag("model", metadata.label)]
        header = self._entries.header(birth, ttl_s=value.ttl_s, tags=keyed)
        return self._value_id(key), Entry(header, metadata, value.response())

    def _value_id(self, key: str) -> EntryId:
        return entry_id(self._id_prefix + _checked_key(key).encode(), self._keys.id_key)


def _checked_key(key: str) -> str:
    if type(key) is not str:
        raise ConfigurationError(f"a key is text, not {type(key).__name__}: cache.key_for(...) makes one of any JSON")
    return checked_name(key, of="key")


def _stored(found: Found) -> Value:
    header = found.sealed.header
    return Value(found.response.headers[0][1], found.response.body, header.ttl_s, found.sealed.metadata().tags)
