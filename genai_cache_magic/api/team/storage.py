"""What a namespace lies in and is sealed with: in memory, on disk, or on disk in front of a team tier."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from genai_cache_magic.api.team.custody import inside, is_remote, keyring_of, made_home
from genai_cache_magic.api.team.line import TeamLine, apart, may_join_later, team_line
from genai_cache_magic.entries.codec import Unsealed
from genai_cache_magic.entries.keys import Keys
from genai_cache_magic.entries.rows import COLUMNS, SCHEMA
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyUnavailable, StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.snapshot import SnapshotDocument

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genai_cache_magic.crypto.keyring import Keyring
    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Document, Store
    from genai_cache_magic.stores.disk.home import Home
    from genai_cache_magic.stores.disk.store import DiskStore

_ENTRIES = "l1"


@dataclass(frozen=True, slots=True)
class Storage:
    """What a cache is made upon: in memory it has no home, and without a team no line.

    `emptied` gives a tier that lost everything the keyset that this machine has of it.
    """

    store: Store
    generations: Document
    state: StateFile
    seal: Seal
    keys: Keys
    home: Home | None = field(default=None, repr=False)
    line: TeamLine | None = None
    emptied: Callable[[], None] = field(default=lambda: None, repr=False)

    def place(self, settings: Settings) -> str:
        """Return what tells this store from others that the same keys would open; empty for one in memory."""
        if self.home is None:
            return ""
        if self.line is not None:
            return self.line.place
        # A keyset belongs to one directory; without encryption everybody has the same keys.
        return f"{settings.machine}\0{self.home.path}" if settings.encryption == "off" else "local"

    def close(self) -> None:
        """Give up what it holds, before a cache is made upon it."""
        with contextlib.ExitStack() as each:
            each.callback(self.store.close)
            each.callback(self.state.close)
            if self.line is not None:
                each.callback(self.line.tier.close)


def memory_storage(settings: Settings, namespace: str) -> Storage:
    """Return what a cache in memory is made upon."""
    from genai_cache_magic.stores.documents import MemoryDocument
    from genai_cache_magic.stores.memory import MemoryStore

    # Nothing is at rest: what could read this memory could read the key beside it.
    store = MemoryStore(settings.size_limit)
    return Storage(
        store, MemoryDocument(), StateFile(None, SCHEMA, columns=COLUMNS), Unsealed(), public_keys(namespace)
    )


def local_or_team_storage(
    settings: Settings, namespace: str, tell: Callable[[Event], None]
) -> tuple[Storage, TeamLine | None]:
    """Return what a cache on disk is made upon, in front of the team tier if there is one that can be used.

    Also returns the way to a tier that could not be asked now, and may be later.
    """
    missed = None
    with contextlib.ExitStack() as undo:
        try:
            line = team_line(settings, namespace, tell)
            if line is not None:
                undo.callback(line.tier.close)
                storage = team_storage(settings, namespace, tell, line)
                undo.pop_all()
                return storage, None
        except (ConfigurationError, DecryptionError, KeyUnavailable, StoreUnavailable) as exc:
            if isinstance(exc, KeyUnavailable) and is_remote(settings):
                raise  # one key guards the team's keyset and any of this machine: it would be asked for in vain again
            # SECURITY: on its own a machine uses its own keyset, and a directory that the team's entries never enter.
            tell(Trouble("L2", type(exc).__name__, apart(exc)))
            missed = line if may_join_later(exc) else None
        storage = _disk_storage(settings, namespace, tell)
        if missed is not None:
            undo.pop_all()  # it is tried again
    return storage, missed


def team_storage(settings: Settings, namespace: str, tell: Callable[[Event], None], line: TeamLine) -> Storage:
    """Return what a cache in front of the tier at the other end of `line` is made upon."""
    storage = _disk_storage(settings, namespace, tell, line)
    with contextlib.ExitStack() as undo:
        undo.callback(storage.close)
        for sentence in line.settle():
            tell(Trouble("L2", "Limits", sentence))
        if line.breaker.rights.is_reader:
            tell(Trouble("L2", "ReadOnly", line.breaker.rights.says))
        undo.pop_all()
    return storage


def _disk_storage(
    settings: Settings,
    namespace: str,
    tell: Callable[[Event], None],
    line: TeamLine | None = None,
) -> Storage:
    from genai_cache_magic.stores.disk.home import Losses
    from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore
    from genai_cache_magic.stores.documents import FileDocument

    home = made_home(settings, namespace, line, Losses(partial(lost, tell)))
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
    return Storage(store, ruling, state, seal, keys, home, line, emptied)


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


def lost(tell: Callable[[Event], None], sentence: str) -> None:
    """Tell of something on disk that was lost."""
    tell(Trouble("L1", StoreUnavailable.__name__, sentence))
