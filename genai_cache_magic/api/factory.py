"""Wiring: from settings to a cache. The one place that knows which parts exist."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.bookkeeping import make_ledger, make_runs
from genai_cache_magic.api.cache import Cache
from genai_cache_magic.api.custody import inside, is_remote, keyring_of, made_home
from genai_cache_magic.api.insight import Insight
from genai_cache_magic.api.joining import Joining
from genai_cache_magic.api.kinds import settings_of
from genai_cache_magic.api.parts import CacheParts, close_parts
from genai_cache_magic.api.similar import Held, Questions
from genai_cache_magic.api.team_line import TeamLine, Waiting, apart, make_permits, make_team, may_join_later, team_line
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.calls.explain import Explainer, nearest_difference
from genai_cache_magic.calls.keeping import Limits
from genai_cache_magic.calls.recalling import MOST_CHARS, Recollection
from genai_cache_magic.core.frame import MAX_BODY_BYTES
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.crypto.held_keys import MAX_AGE_S
from genai_cache_magic.entries.catalogue import Catalogue
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.entries.counting import Counts
from genai_cache_magic.entries.entries import Entries, Keys
from genai_cache_magic.entries.everywhere import find_everywhere
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.highest import HighestDocument
from genai_cache_magic.entries.rows import COLUMNS, SCHEMA, Rows
from genai_cache_magic.entries.shared_rows import SharedRows
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.entries.team import GENERATIONS, TeamClock
from genai_cache_magic.entries.trust import Trust
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyUnavailable, StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.providers.base import OriginRule, Origins
from genai_cache_magic.providers.origins import normalise_origin
from genai_cache_magic.providers.remembered import Remembered
from genai_cache_magic.settings.reading import ignored
from genai_cache_magic.settings.units import spell_size
from genai_cache_magic.stores.counters import DocumentCounters
from genai_cache_magic.stores.snapshot import SnapshotDocument

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genai_cache_magic.crypto.keyring import Keyring
    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.events import Event
    from genai_cache_magic.ledger.usage import Ledger
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Counters, Document, Store
    from genai_cache_magic.stores.disk import DiskStore
    from genai_cache_magic.stores.home import Home

_ENTRIES = "l1"
_LOOK_AGAIN_S = 60.0
_REMEMBERED = 4
"""Beside the room for opened answers, a part of so much of it is for the requests that they answer."""
"""So long a cache stays open, whatever claims to be sealed with newer keys [s]: anyone who writes can claim that."""


def create_cache(kind: str = "disk", *, on_event: Callable[[Event], None] = lambda _: None, **settings: Any) -> Cache:
    """Make a cache.

    Parameters
    ----------
    kind
        ``disk`` (with the team tier that the settings name, if any), ``memory``, or one in front of a team tier that
        has to be named: ``redis`` and ``azure_redis`` by ``connection={"endpoint": ..., "key": ..., "ssl": True}``,
        ``azure_storage`` by ``account`` and ``container``, all of them by ``l2``; else Azure's own variables count.
    on_event
        Hears of trouble that look-ups turn into misses.
    settings
        As in configuration files, such as ``namespace="team-a"``, ``ttl="7d"``; they win over those.

    Raises
    ------
    ConfigurationError
        A setting is unknown or wrong, or the directory can't be used.
    KeyUnavailable
        Encryption is configured and its key can't be read.
    """
    loaded = settings_of(kind, settings)
    if kind not in {"disk", "memory"}:
        line = team_line(loaded, loaded.namespace)  # here a wrong address is an error, in a notebook it is a sentence
        if line is not None:
            line.tier.close()
    for sentence in ignored():
        on_event(Trouble("settings", "Ignored", sentence))
    return build_cache(loaded, in_memory=kind == "memory", on_event=on_event)


def build_cache(
    settings: Settings,
    *,
    namespace: str | None = None,
    in_memory: bool = False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Cache:
    """Make the cache of one namespace; raises as `create_cache`."""
    name = namespace or settings.namespace
    if in_memory:
        return Cache(_assembled(settings, name, _memory_parts(settings, name), on_event), on_event=on_event)
    parts, missed = _local_or_team_parts(settings, name, on_event)
    with contextlib.ExitStack() as undo:
        if missed is not None:
            undo.callback(missed.tier.close)
        made = _assembled(settings, name, parts, on_event)
        undo.callback(close_parts, made)
        cache = Cache(made, on_event=on_event)
        if missed is not None:

            def join() -> bool:
                parts = _team_parts(settings, name, on_event, missed)
                return cache.adopt(_assembled(settings, name, parts, on_event))

            cache.joins(Joining(missed.breaker, join, on_event, leave=missed.tier.close))
        undo.pop_all()
    return cache


def _assembled(settings: Settings, name: str, parts: _Parts, on_event: Callable[[Event], None]) -> CacheParts:
    """Return what a cache of namespace `name` is made of; it owns `parts` from now on, and closes them if it fails."""
    with contextlib.ExitStack() as undo:
        undo.callback(parts.close)
        assembled = _of_parts(settings, name, parts, on_event, undo)
        undo.pop_all()
    return assembled


def _of_parts(
    settings: Settings, name: str, parts: _Parts, on_event: Callable[[Event], None], undo: contextlib.ExitStack
) -> CacheParts:
    keys, home = parts.keys, parts.home
    compression = settings.compression
    codec = Codec(parts.seal, Compression(compression.algorithm, compression.threshold, compression.level))
    waiting = Waiting(home.path / "outbox.db", on_event) if parts.line is not None and home is not None else None
    if waiting is not None:
        undo.callback(waiting.outbox.close)
    clock = TeamClock()
    live = _live_generations(name, parts, waiting, clock, on_event)
    rows = Rows(parts.state, ColumnSeal(keys.mac_key), tag=keys.tag)
    books = make_ledger(keys, home, parts.line, clock, on_event)
    undo.callback(books.close)
    team = None
    if parts.line is not None and waiting is not None and home is not None:
        with contextlib.suppress(StoreUnavailable):  # of a newer version: the first look-up says so
            live.recall()
        emptied = partial(_emptied, parts, books)
        team = make_team(parts.line, waiting, parts.generations, live, codec, clock, emptied)
    trust = Trust(parts.state, live, longest_s=settings.offline_trust, clock=clock)
    entries = Entries(
        parts.store,
        codec,
        live,
        rows=rows,
        recent_bytes=settings.memory,
        clock=clock,
        team=team,
        trusts=(lambda _: True) if team is None else trust.trusts,
    )
    if isinstance(parts.generations, SnapshotDocument):
        trust.guards(entries)
        parts.generations.watched_by(trust.sees)
    permits = None if home is None else make_permits(home.path, parts.line, team)
    limits = Limits(settings.ttl, min(settings.max_response, MAX_BODY_BYTES))
    shared = None if team is None else SharedRows(team.store, codec, rows, view=team.seen)
    catalogue = Catalogue(entries, rows, keys, random_bytes=os.urandom, tell=on_event, shared=shared)
    recollection = Recollection(min(settings.memory, MOST_CHARS))
    file = None if home is None else partial(_file, home)
    questions = Questions(Held(entries, keys, catalogue, team, file))
    runs = make_runs(
        books,
        home,
        parts.line,
        seal=parts.seal,
        seal_key=None if settings.encryption == "off" else keys.mac_key,
        find=partial(find_everywhere, entries, team, tell=on_event),
        origins=partial(origins_of, settings),
        ignore=settings.ignore.rules,
    )
    return CacheParts(
        entries=entries,
        keys=keys,
        calls=CallDesk(
            entries,
            keys,
            nearest=lambda own: nearest_difference(catalogue, own),
            limits=limits,
            team=team,
            permits=permits,
            recollection=recollection,
            likens=questions,
        ),
        questions=questions,
        explainer=Explainer(catalogue, recollection, keys.id_key),
        permits=permits,
        team=team,
        catalogue=catalogue,
        origins=origins_of(settings),
        ttl_s=settings.ttl,
        ignore=settings.ignore.rules,
        person=settings.person,
        state=parts.state,
        ledger=books,
        runs=runs,
        insight=Insight(
            books, catalogue, ttl_s=settings.ttl, size_limit=spell_size(settings.size_limit), now_ms=entries.now_ms
        ),
        counts=Counts(_counters(home, parts.line), keys),
        directory="" if home is None else str(home.path),
        root="" if home is None else str(home.root),
        place=_place(settings, parts),
        file=file,
        is_superseded=partial(_is_superseded, parts, time.monotonic(), is_held=is_remote(settings)),
    )


def _live_generations(
    name: str, parts: _Parts, waiting: Waiting | None, clock: TeamClock, on_event: Callable[[Event], None]
) -> LiveGenerations:
    """Return what rules the validity of the entries of namespace `name`."""
    ruling, mac_key = parts.generations, parts.keys.mac_key
    snapshot = ruling if isinstance(ruling, SnapshotDocument) else None
    return LiveGenerations(
        ruling,
        namespace=name,
        mac_key=mac_key,
        random_bytes=os.urandom,
        remembers=HighestDocument(parts.state, namespace=name, mac_key=mac_key),
        on_loss=partial(_lost, on_event) if parts.home is None else parts.home.note_lost_record,
        pending=waiting.pending if waiting else tuple,
        least_ver=clock.count if waiting else lambda: 0,
        is_provisional=lambda: snapshot is not None and snapshot.is_provisional,
        begin=None if snapshot is None else snapshot.begin,
    )


def _counters(home: Home | None, line: TeamLine | None) -> Counters:
    """Return where counts are: with the team, else in files of this machine, or in memory."""
    from genai_cache_magic.stores.documents import MemoryDocument

    if line is not None:
        return line.counters
    if home is not None:
        return DocumentCounters(partial(_file, home))
    documents: dict[str, MemoryDocument] = {}
    return DocumentCounters(lambda name: documents.setdefault(name, MemoryDocument()))


def _file(home: Home, name: str) -> Document:
    from genai_cache_magic.stores.documents import FileDocument

    return FileDocument(home.path / name, ensure=home.ensure)


def _lost(tell: Callable[[Event], None], sentence: str) -> None:
    tell(Trouble("L1", StoreUnavailable.__name__, sentence))


def _place(settings: Settings, parts: _Parts) -> str:
    """Return what tells the store of these parts from others that the same keys would open; empty for one in memory."""
    if parts.home is None:
        return ""
    if parts.line is not None:
        return parts.line.place
    # A keyset belongs to one directory; without encryption everybody has the same keys.
    return f"{settings.machine}\0{parts.home.path}" if settings.encryption == "off" else "local"


def _emptied(parts: _Parts, books: Ledger) -> None:
    """Give a tier that lost everything what this machine has of it."""
    parts.emptied()
    if books.shared is not None:
        books.shared.lost()


def _is_superseded(parts: _Parts, since_s: float, *, is_held: bool) -> bool:
    """Return whether a cache has to be opened anew.

    Its directory was begun anew, its keys are held for too long, or a teammate seals with newer ones.
    """
    if parts.home is not None and parts.home.is_superseded:
        return True
    age_s = time.monotonic() - since_s
    return (is_held and age_s > MAX_AGE_S) or (_has_met_newer(parts.seal) and age_s > _LOOK_AGAIN_S)


def _has_met_newer(seal: Seal) -> bool:
    return getattr(seal, "has_met_newer", False)


def origins_of(settings: Settings) -> Origins:
    """Return what the settings say of origins; raises ``ConfigurationError`` for one that is no URL."""
    for origin in settings.origins:
        normalise_origin(origin)
    rules = {
        origin: OriginRule(o.provider, o.alias, o.models, o.circle, o.no_store == "ignore")
        for origin, o in settings.origins.items()
    }
    headers = frozenset(name.lower() for name in settings.extra_headers)
    return Origins(
        rules,
        settings.machine,
        headers,
        settings.key_include,
        settings.key_exclude,
        remembered=Remembered(settings.memory // _REMEMBERED),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What differs between a cache on disk and one in memory, which has no home."""

    store: Store
    generations: Document
    state: StateFile
    seal: Seal
    keys: Keys
    home: Home | None = field(default=None, repr=False)
    line: TeamLine | None = None
    emptied: Callable[[], None] = field(default=lambda: None, repr=False)

    def close(self) -> None:
        """Give up what they hold, before a cache is made of them."""
        with contextlib.ExitStack() as each:
            each.callback(self.store.close)
            each.callback(self.state.close)
            if self.line is not None:
                each.callback(self.line.tier.close)


def _memory_parts(settings: Settings, namespace: str) -> _Parts:
    from genai_cache_magic.stores.documents import MemoryDocument
    from genai_cache_magic.stores.memory import MemoryStore

    # Nothing is at rest: what could read this memory could read the key beside it.
    store = MemoryStore(settings.size_limit)
    return _Parts(store, MemoryDocument(), StateFile(None, SCHEMA, columns=COLUMNS), Unsealed(), public_keys(namespace))


def _local_or_team_parts(
    settings: Settings, namespace: str, tell: Callable[[Event], None]
) -> tuple[_Parts, TeamLine | None]:
    """Return the parts of a cache on disk, in front of the team tier if there is one that can be used.

    Also returns the way to a tier that could not be asked now, and may be later.
    """
    missed = None
    with contextlib.ExitStack() as undo:
        try:
            line = team_line(settings, namespace, tell)
            if line is not None:
                undo.callback(line.tier.close)
                parts = _team_parts(settings, namespace, tell, line)
                undo.pop_all()
                return parts, None
        except (ConfigurationError, DecryptionError, KeyUnavailable, StoreUnavailable) as exc:
            if isinstance(exc, KeyUnavailable) and is_remote(settings):
                raise  # one key guards the team's keyset and any of this machine: it would be asked for in vain again
            # SECURITY: on its own a machine uses its own keyset, and a directory that the team's entries never enter.
            tell(Trouble("L2", type(exc).__name__, apart(exc)))
            missed = line if may_join_later(exc) else None
        parts = _disk_parts(settings, namespace, tell)
        if missed is not None:
            undo.pop_all()  # it is tried again
    return parts, missed


def _team_parts(settings: Settings, namespace: str, tell: Callable[[Event], None], line: TeamLine) -> _Parts:
    parts = _disk_parts(settings, namespace, tell, line)
    with contextlib.ExitStack() as undo:
        undo.callback(parts.close)
        for sentence in line.settle():
            tell(Trouble("L2", "Limits", sentence))
        if line.breaker.rights.is_reader:
            tell(Trouble("L2", "ReadOnly", line.breaker.rights.says))
        undo.pop_all()
    return parts


def _disk_parts(
    settings: Settings,
    namespace: str,
    tell: Callable[[Event], None],
    line: TeamLine | None = None,
) -> _Parts:
    from genai_cache_magic.stores.disk import DiskConfig, DiskStore
    from genai_cache_magic.stores.documents import FileDocument
    from genai_cache_magic.stores.home import Losses

    home = made_home(settings, namespace, line, Losses(partial(_lost, tell)))
    emptied: Callable[[], None] = lambda: None  # noqa: E731
    with contextlib.ExitStack() as undo:
        store = DiskStore(home.path / _ENTRIES, DiskConfig(size_limit_bytes=settings.size_limit), home=home)
        undo.callback(store.close)
        generations = FileDocument(home.path / "generations", ensure=home.ensure, make_room=store.make_room)
        # Not whether there is a database: another process may be making all of it in this very moment.
        has_entries = partial(_has_entries, store)
        if generations.version() is None and has_entries():
            home.losses.add(f"what was invalidated in {home.path} is not known any more: the answers there are misses")
        state = StateFile(home.path / "state.db", SCHEMA, columns=COLUMNS, ensure=home.ensure, tell=tell)
        undo.callback(state.close)
        if settings.encryption == "off":
            seal: Seal = Unsealed()
            keys = public_keys(namespace)
        else:
            keyring, team = keyring_of(settings, home, namespace, state, line, has_entries=has_entries, tell=tell)
            seal, keys = _sealed(keyring, namespace)
            emptied = emptied if team is None else team.offer_again
        undo.pop_all()
    home.losses.tell()
    ruling = SnapshotDocument(line.document(GENERATIONS), generations) if line else generations
    return _Parts(store, ruling, state, seal, keys, home, line, emptied)


def home_of(settings: Settings, namespace: str, line: TeamLine | None = None) -> Path:
    """Return where a namespace lies, whether it is there or not."""
    return settings.dir.joinpath(*(name for names in inside(settings, namespace, line) for name in names))


def _has_entries(store: DiskStore) -> bool:
    try:
        return store.count() > 0
    except StoreUnavailable:
        return False


def _sealed(keyring: Keyring, namespace: str) -> tuple[Seal, Keys]:
    from genai_cache_magic.crypto.envelope import Sealer

    return Sealer(keyring, namespace), Keys(namespace, keyring.id_key, keyring.mac_key)


def public_keys(namespace: str) -> Keys:
    """Without encryption ids still need a key; anyone can compute this one, as the documentation says."""
    name = namespace.encode()
    return Keys(
        namespace,
        hashlib.sha256(b"genai-cache public id key 1\0" + name).digest(),
        hashlib.sha256(b"genai-cache public mac key 1\0" + name).digest(),
    )
