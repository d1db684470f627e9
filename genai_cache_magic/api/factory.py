"""Wiring: from settings to a cache. The one place that knows which parts exist."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic import host
from genai_cache_magic.api.cache import Cache
from genai_cache_magic.api.insight import Insight
from genai_cache_magic.api.kinds import settings_of
from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.api.parts import CacheParts, close_parts
from genai_cache_magic.api.similar import Held, Questions
from genai_cache_magic.api.team.bookkeeping import make_ledger, make_runs
from genai_cache_magic.api.team.custody import is_remote
from genai_cache_magic.api.team.joining import Joining
from genai_cache_magic.api.team.line import TeamLine, Waiting, make_permits, make_team, team_line
from genai_cache_magic.api.team.storage import Storage, local_or_team_storage, lost, memory_storage, team_storage
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.calls.explain import Explainer, nearest_difference
from genai_cache_magic.calls.keeping import Limits
from genai_cache_magic.calls.recalling import MOST_CHARS, Recollection
from genai_cache_magic.core.frame import MAX_BODY_BYTES
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.crypto.held_keys import MAX_AGE_S
from genai_cache_magic.entries.codec import Codec, Compression
from genai_cache_magic.entries.entries import Entries
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.highest import HighestDocument
from genai_cache_magic.entries.listing.catalogue import Catalogue
from genai_cache_magic.entries.listing.shared_rows import SharedRows
from genai_cache_magic.entries.rows import Rows
from genai_cache_magic.entries.team.clock import TeamClock
from genai_cache_magic.entries.team.counting import Counts
from genai_cache_magic.entries.team.everywhere import find_everywhere
from genai_cache_magic.entries.trust import Trust
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.settings.reading import ignored
from genai_cache_magic.settings.units import spell_size
from genai_cache_magic.stores.counters import DocumentCounters
from genai_cache_magic.stores.snapshot import SnapshotDocument

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.events import Event
    from genai_cache_magic.ledger.usage import Ledger
    from genai_cache_magic.runs.runs import Runs
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Counters, Document
    from genai_cache_magic.stores.disk.home import Home

_LARGEST_FILE_BYTES = 1 << 33
"""More than an index of vectors comes to, of a million texts."""
_LOOK_AGAIN_S = 60.0
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
        return Cache(_assembled(settings, name, memory_storage(settings, name), on_event), on_event=on_event)
    storage, missed = local_or_team_storage(settings, name, on_event)
    with contextlib.ExitStack() as undo:
        if missed is not None:
            undo.callback(missed.tier.close)
        made = _assembled(settings, name, storage, on_event, is_waiting=missed is not None)
        undo.callback(close_parts, made)
        cache = Cache(made, on_event=on_event)
        if missed is not None:
            heirs: list[Counts] = []

            def join() -> bool:
                joined = _assembled(settings, name, team_storage(settings, name, on_event, missed), on_event)
                if not cache.adopt(joined):
                    return False
                heirs.append(joined.counts)
                left()
                return True

            def left() -> int:
                # When the cache is closed, what the team could not be told by then is tried again, and the rest said.
                with contextlib.suppress(StoreUnavailable):
                    for heir in heirs:
                        made.counts.hand_over(heir)
                return made.counts.made

            cache.joins(Joining(missed.breaker, join, on_event, leave=missed.tier.close, left=left))
        undo.pop_all()
    return cache


def _assembled(
    settings: Settings, name: str, storage: Storage, tell: Callable[[Event], None], *, is_waiting: bool = False
) -> CacheParts:
    """Return what a cache of namespace `name` is made of; it owns `storage` from now on, and closes it if it fails.

    It `is_waiting` for a team that could not be asked yet.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(storage.close)
        base = _base_of(settings, name, storage, tell, undo)
        assembled = _parts_upon(base, settings, tell, is_waiting=is_waiting)
        undo.pop_all()
    return assembled


@dataclass(frozen=True, slots=True, repr=False)
class _Base:
    """What the parts of one namespace have in common: where all of it lies, and what codes, rules and counts it."""

    storage: Storage
    codec: Codec
    clock: TeamClock
    live: LiveGenerations
    rows: Rows
    books: Ledger
    waiting: Waiting | None


def _base_of(
    settings: Settings, name: str, storage: Storage, tell: Callable[[Event], None], undo: contextlib.ExitStack
) -> _Base:
    """Return it; what it opens is closed by `undo`."""
    keys, home, line = storage.keys, storage.home, storage.line
    compression = settings.compression
    codec = Codec(storage.seal, Compression(compression.algorithm, compression.threshold, compression.level))
    waiting = Waiting(home.path / "outbox.db", tell) if line is not None and home is not None else None
    if waiting is not None:
        undo.callback(waiting.outbox.close)
    clock = TeamClock()
    live = _live_generations(name, storage, waiting, clock, tell)
    rows = Rows(storage.state, ColumnSeal(keys.mac_key), tag=keys.tag)
    books = make_ledger(keys, home, line, clock, tell)
    undo.callback(books.close)
    return _Base(storage, codec, clock, live, rows, books, waiting)


def _parts_upon(base: _Base, settings: Settings, tell: Callable[[Event], None], *, is_waiting: bool) -> CacheParts:
    storage, keys, home, line, books = base.storage, base.storage.keys, base.storage.home, base.storage.line, base.books
    team = _team_upon(base)
    entries = _entries_upon(base, settings, team, tell)
    permits = None if home is None else make_permits(home.path, line, team)
    shared = None if team is None else SharedRows(team.store, base.codec, base.rows, view=team.seen)
    catalogue = Catalogue(entries, base.rows, keys, random_bytes=os.urandom, tell=tell, shared=shared)
    recollection = Recollection(min(settings.memory, MOST_CHARS))
    file = None if home is None else partial(_file, home)
    questions = Questions(Held(entries, keys, catalogue, team, file))
    return CacheParts(
        entries=entries,
        keys=keys,
        calls=CallDesk(
            entries,
            keys,
            nearest=lambda own: nearest_difference(catalogue, own),
            limits=Limits(settings.ttl, min(settings.max_response, MAX_BODY_BYTES)),
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
        state=storage.state,
        ledger=books,
        runs=_runs_upon(base, settings, entries, team, tell),
        insight=Insight(
            books, catalogue, ttl_s=settings.ttl, size_limit=spell_size(settings.size_limit), now_ms=entries.now_ms
        ),
        counts=Counts(_counters(home, line), keys, is_provisional=is_waiting),
        directory="" if home is None else str(home.path),
        root="" if home is None else str(home.root),
        place=storage.place(settings),
        file=file,
        is_superseded=partial(_is_superseded, storage, host.seconds_awake_or_asleep(), is_held=is_remote(settings)),
    )


def _team_upon(base: _Base) -> Team | None:
    """Return the team that shares the entries, if there is one."""
    storage, waiting = base.storage, base.waiting
    if storage.line is None or waiting is None:
        return None
    with contextlib.suppress(StoreUnavailable):  # of a newer version: the first look-up says so
        base.live.recall()
    emptied = partial(_emptied, storage, base.books)
    return make_team(storage.line, waiting, storage.generations, base.live, base.codec, base.clock, emptied)


def _entries_upon(base: _Base, settings: Settings, team: Team | None, tell: Callable[[Event], None]) -> Entries:
    """Return the entries of this machine, trusted without their team for so long as the settings say."""
    ruling = base.storage.generations
    trust = Trust(base.storage.state, base.live, longest_s=settings.offline_trust, clock=base.clock)
    entries = Entries(
        base.storage.store,
        base.codec,
        base.live,
        rows=base.rows,
        recent_bytes=settings.memory,
        clock=base.clock,
        team=team,
        trusts=None if team is None else trust.trusts,
    )
    if isinstance(ruling, SnapshotDocument):
        trust.guards(entries)
        ruling.watched_by(trust.sees)
    if team is not None:
        team.guards(entries, tell)
        team.ensure_seen()  # after `watched_by`: whatever is seen is watched
    return entries


def _runs_upon(
    base: _Base, settings: Settings, entries: Entries, team: Team | None, tell: Callable[[Event], None]
) -> Runs:
    """Return the runs of the namespace, whose answers are looked for everywhere."""
    return make_runs(
        base.books,
        base.storage.home,
        base.storage.line,
        seal=base.storage.seal,
        seal_key=None if settings.encryption == "off" else base.storage.keys.mac_key,
        find=partial(find_everywhere, entries, team, tell=tell),
        origins=partial(origins_of, settings),
        ignore=settings.ignore.rules,
    )


def _live_generations(
    name: str, storage: Storage, waiting: Waiting | None, clock: TeamClock, tell: Callable[[Event], None]
) -> LiveGenerations:
    """Return what rules the validity of the entries of namespace `name`."""
    ruling, mac_key = storage.generations, storage.keys.mac_key
    snapshot = ruling if isinstance(ruling, SnapshotDocument) else None
    said = partial(lost, tell) if storage.home is None else storage.home.note_lost_record
    place = "" if storage.line is None else f"{storage.line.tier.name}: "  # whose record it was
    return LiveGenerations(
        ruling,
        namespace=name,
        mac_key=mac_key,
        random_bytes=os.urandom,
        remembers=HighestDocument(storage.state, namespace=name, mac_key=mac_key),
        on_loss=lambda sentence: said(f"{place}{sentence}"),
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

    return FileDocument(home.path / name, ensure=home.ensure, most_bytes=_LARGEST_FILE_BYTES)


def _emptied(storage: Storage, books: Ledger) -> None:
    """Give a tier that lost everything what this machine has of it."""
    storage.emptied()
    if books.shared is not None:
        books.shared.lost()


def _is_superseded(storage: Storage, since_s: float, *, is_held: bool) -> bool:
    """Return whether a cache has to be opened anew.

    Its directory was begun anew, its keys are held for too long, or a teammate seals with newer ones.
    """
    if storage.home is not None and storage.home.is_superseded:
        return True
    age_s = host.seconds_awake_or_asleep() - since_s
    return (is_held and age_s > MAX_AGE_S) or (_has_met_newer(storage.seal) and age_s > _LOOK_AGAIN_S)


def _has_met_newer(seal: Seal) -> bool:
    return getattr(seal, "has_met_newer", False)
