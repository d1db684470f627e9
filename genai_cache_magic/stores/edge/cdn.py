"""A read-only edge in front of a container: Azure Front Door, or any cache that speaks HTTP.

What is asked of it are values alone, never documents, keysets, leases or pages, and nothing that tells who asks. So an
address is the same for all readers, and holds no signature: the edge signs in at the container by itself.

Nothing that it says is believed. It hands out *copies*, which may be old, or anyone's: who looked up judges them as
what the container holds, and asks the container for what he refuses. Whatever an edge does can cost time, and that is
bounded; it can't change an answer.
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.azure.blob import BlobTier
from genai_cache_magic.stores.azure.rows import name_prefix
from genai_cache_magic.stores.base import Copy
from genai_cache_magic.stores.breaker import Breaker, Circuit
from genai_cache_magic.stores.edge.fetching import Fetch, Fetcher
from genai_cache_magic.stores.redis.by_size import SizedTier, pointed_to
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.stores.azure.connection import BlobConnection
    from genai_cache_magic.stores.base import LookUp, Pages, Store
    from genai_cache_magic.stores.breaker import Pass
    from genai_cache_magic.stores.edge.fetching import Site
    from genai_cache_magic.stores.edge.purging import Purger
    from genai_cache_magic.stores.redis.store import RedisTier

PATIENCE_S: Final = 0.5
"""How long a look-up waits for the edge before it goes on to the container [s]."""
LEFT_S: Final = 0.9
"""How long it then waits for all of what it asks of the container [s]: both together, less than a round may take."""
_WORKERS: Final = 8
_PROBE_LIFE_S: Final = 60.0
_UNNAMED: Final = "no-store"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long an edge may keep what is called so [s]; `match` is a pattern as of a shell."""

    match: str = field(repr=False)
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What an edge may keep, and for how long: the first rule that matches decides.

    A value is called ``<namespace>/<key>.json`` here. Without any rule all are kept for a day.
    """

    rules: Sequence[Rule] = field(default=(Rule("*", 86_400),), repr=False)

    def cache_control(self, namespace: str, key: str, ttl_s: float) -> str:
        """Return the header ``Cache-Control`` of a value that may live for `ttl_s` [s]."""
        name = f"{namespace}/{key}.json"
        found = next((rule for rule in self.rules if fnmatchcase(name, rule.match)), None)
        if found is None:
            return _UNNAMED
        return f"public, max-age={max(1, int(min(found.ttl_s, ttl_s)))}"


class Edge:
    """One machine's way to an edge, behind a breaker of its own. Safe to share between threads.

    Parameters
    ----------
    site
        Where it is, and what all its addresses begin with.
    breaker
        What keeps it from being asked while it fails.
    purge
        Lets the edge forget what it has of some names, as far as it is allowed to.
    tell
        Hears, in words, that it is of no use for now, or that it hands out what is not ours.
    """

    def __init__(
        self,
        site: Site,
        breaker: Breaker | None = None,
        *,
        purge: Purger | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = site.url
        self.breaker = breaker or Breaker(site.url, on_change=self._changed)
        self._purger = purge
        self._tell = tell
        self._is_told = self._is_forgery_told = False
        self._fetcher = Fetcher(site)
        self._workers = Workers(_WORKERS, "genai-cache-edge")
        self._probes = Workers(1, "genai-cache-edge-probe")

    def begin(self, names: Iterable[str]) -> Asked:
        """Ask for what the edge has of `names`; what comes of it is collected soon.

        While the edge may be well again after a failure, it is asked beside: nobody waits for that.
        """
        wanted = list(dict.fromkeys(names))
        try:
            leave = self.breaker.enter() if wanted else None
        except StoreUnavailable:
            leave = None
        if leave is not None and leave.is_probe:
            self._probes.submit(self._probe, (leave, wanted[0]))
            leave = None
        return Asked(self, leave, self._fetches(wanted if leave else ()))

    def fetch(self, name: str) -> bytes | None:
        """Return what the edge has of one name, whatever the breaker says; raises ``StoreUnavailable``."""
        found, trouble = self._fetches([name]).collect()
        if trouble is not None:
            raise trouble
        return found.get(name)

    def purge(self, names: Collection[str]) -> None:
        """Let the edge forget what it has of `names`, soon, as far as it is allowed to."""
        if self._purger is not None:
            self._purger(names)

    def say_forged(self) -> None:
        """Say, once, that something was handed out that nobody of this name space has sealed."""
        if not self._is_forgery_told:
            self._is_forgery_told = True
            self._tell(
                f"{self.name} hands out what this key does not open; it was refused, and the container asked: "
                "see who may write there, or take cdn.endpoint out"
            )

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        self._workers.close()
        self._probes.close()
        self._fetcher.close()
        if self._purger is not None:
            self._purger.close()

    def _fetches(self, names: Iterable[str]) -> _Fetches:
        return _Fetches(self.name, self._workers, {name: Fetch(self._fetcher, name) for name in names})

    def _probe(self, asked: tuple[Pass, str]) -> None:
        leave, name = asked
        Asked(self, leave, self._fetches([name])).copies()

    def _changed(self, state: Circuit, reason: str) -> None:
        if state is Circuit.CLOSED:
            self._is_told = False
        elif state is Circuit.OPEN and not self._is_told:
            self._is_told = True
            self._tell(f"the edge is left alone for now, and the container answers: {reason}")


class _Fetches:
    """Several GETs side by side, from now on."""

    def __init__(self, name: str, workers: Workers, fetches: Mapping[str, Fetch]) -> None:
        self._name = name
        self._fetches = fetches
        self._ends_at = time.monotonic() + PATIENCE_S
        self._asked = {name: workers.submit(Fetch.run, fetch) for name, fetch in fetches.items()}

    def collect(self) -> tuple[dict[str, bytes], StoreUnavailable | None]:
        """Return what came in time, and what is wrong if nothing did that is sound. The rest is given up."""
        done, late = wait(self._asked.values(), max(0.0, self._ends_at - time.monotonic()))
        self.give_up()
        found: dict[str, bytes] = {}
        trouble = StoreUnavailable(f"{self._name} does not answer in time") if late else None
        is_well = not self._asked
        for name, future in self._asked.items():
            if future not in done:
                continue
            try:
                value = future.result()
            except StoreUnavailable as error:
                trouble = error
                continue
            is_well = True
            if value is not None:
                found[name] = value
        return found, None if is_well else trouble

    def give_up(self) -> None:
        """Let what goes on come to its end."""
        for name, future in self._asked.items():
            if not future.done() and not future.cancel():
                self._fetches[name].abandon()


class Asked:
    """A look-up at an edge that has begun; `copies` or `give_up` is called once.

    Parameters
    ----------
    edge, leave
        Who is asked, and by whose leave; without one nothing is.
    fetches
        What goes on.
    """

    def __init__(self, edge: Edge, leave: Pass | None, fetches: _Fetches) -> None:
        self._edge = edge
        self._leave = leave
        self._fetches = fetches

    def copies(self) -> dict[str, bytes]:
        """Return what came soon, by name; it may be old, or anyone's. Raises nothing."""
        found, trouble = self._fetches.collect()
        if self._leave is None:
            return found
        if trouble is None:
            self._edge.breaker.succeeded(self._leave)
        else:
            self._edge.breaker.failed(self._leave, trouble)
        return found

    def give_up(self) -> None:
        """Wait for nothing: the container itself is in trouble."""
        self._fetches.give_up()
        if self._leave is not None:
            self._edge.breaker.gave_up(self._leave)


class EdgeTier(BlobTier):
    """A container behind an edge. A ``SharedTier`` that ``SupportsEdge``.

    Parameters
    ----------
    connection, namespace
        As of a ``BlobTier``.
    edge
        What stands in front of it.
    rules
        What of it the edge may keep.
    """

    def __init__(self, connection: BlobConnection, namespace: str, edge: Edge, rules: Rules) -> None:
        super().__init__(
            connection, namespace, cache_control=partial(rules.cache_control, namespace), patience_s=LEFT_S
        )
        self.edge = edge
        self._folder = f"{name_prefix(namespace)}e/"

    def look_near(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return the version of `document`, and the edge's copies of `keys`; see ``SupportsEdge``."""
        names = {key: self._folder + key for key in keys}
        asked = self.edge.begin(names.values())
        with ExitStack() as undo:
            undo.callback(asked.give_up)
            found = self.look_up(document, ())
            undo.pop_all()
        return replace(found, copies=_by_key(names, asked.copies()), unasked=keys)

    def refuse(self, copies: Collection[Copy], *, are_forged: bool) -> None:
        """Take note that what the edge handed out is of no use."""
        _refuse(self.edge, copies, are_forged=are_forged)

    def forget(self, keys: Collection[str] | None) -> None:
        """Let the edge forget what it has of `keys` (None: of all), as far as it is allowed to."""
        self.edge.purge([self._folder + key for key in (("*",) if keys is None else keys)])

    def try_edge(self) -> str:
        """Write what nobody reads, and read it through the edge; return what is wrong with that, or nothing."""
        return _tried(self.edge, self.store, self._folder)

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        self.edge.close()
        super().close()


class EdgeSizedTier(SizedTier):
    """A Redis that rules, and a container behind an edge for what is large. ``SupportsEdge``.

    Parameters
    ----------
    fast, large, breaker, bundles, tell
        As of a ``SizedTier``.
    edge, namespace
        What stands in front of the container, and whose values these are.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        fast: RedisTier,
        large: Store,
        breaker: Breaker,
        *,
        edge: Edge,
        namespace: str,
        bundles: Pages,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(fast, large, breaker, bundles=bundles, tell=tell, patience_s=LEFT_S)
        self.edge = edge
        self._large = large
        self._folder = f"{name_prefix(namespace)}l/"

    def look_near(self, document: str, keys: Sequence[str]) -> LookUp:
        """Return what the Redis does, and the edge's copies of what is large; see ``SupportsEdge``."""
        found = self._fast.look_up(document, keys)
        names = {key: self._folder + name for key, value in found.blobs.items() if (name := pointed_to(value))}
        small = {key: value for key, value in found.blobs.items() if key not in names}
        copies = _by_key(names, self.edge.begin(names.values()).copies())
        return replace(found, blobs=small, copies=copies, unasked=list(names))

    def refuse(self, copies: Collection[Copy], *, are_forged: bool) -> None:
        """Take note that what the edge handed out is of no use."""
        _refuse(self.edge, copies, are_forged=are_forged)

    def forget(self, keys: Collection[str] | None) -> None:
        """Let the edge forget all if `keys` is None; under which name a single one lay is known to nobody any more."""
        if keys is None:
            self.edge.purge([self._folder + "*"])

    def try_edge(self) -> str:
        """Write what nobody reads, and read it through the edge; return what is wrong with that, or nothing."""
        return _tried(self.edge, self._large, self._folder)

    def close(self) -> None:
        """Give up workers and connections; may be called twice."""
        self.edge.close()
        super().close()


def _by_key(names: Mapping[str, str], found: Mapping[str, bytes]) -> dict[str, Copy]:
    return {key: Copy(found[name], name) for key, name in names.items() if name in found}


def _refuse(edge: Edge, copies: Collection[Copy], *, are_forged: bool) -> None:
    if are_forged and copies:
        edge.say_forged()
    edge.purge([copy.name for copy in copies])


def _tried(edge: Edge, store: Store, folder: str) -> str:
    """Return what is wrong with the way through the edge; raises ``StoreUnavailable`` if the container can't be asked.

    What is written is removed before it is read again: who still has it keeps what he hands out.
    """
    key, value = secrets.token_hex(32), secrets.token_bytes(64)
    store.put(key, value, ttl_s=_PROBE_LIFE_S)
    try:
        first = edge.fetch(folder + key)
    except StoreUnavailable as error:
        return str(error)
    finally:
        store.delete(key)
    if first is None:
        return f"{edge.name} does not find what the container holds: let it sign in there, and see cdn.path"
    if first != value:
        return f"{edge.name} hands out something else than the container holds: see cdn.path"
    with suppress(StoreUnavailable):
        if edge.fetch(folder + key) == value:
            return ""
    return f"{edge.name} keeps nothing of what it hands out: let it cache what Cache-Control allows, and see cdn.rules"
