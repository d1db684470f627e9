"""A namespace as it is now, into a backup: the answers of this machine and of the team's tier, as they lie there.

Nothing is opened for it. Each record is on the disk before the next one is made, and the last one says that the backup
is whole: who is killed in between goes on, the next time, behind what is there.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.factory import build_cache
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.api.team.custody import key_wrapper
from genai_cache_magic.api.team.line import KEYSET, team_line
from genai_cache_magic.api.team.storage import home_of
from genai_cache_magic.crypto.chain import Chain
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    EntryUndecodable,
    GenaiCacheError,
    StoreUnavailable,
)
from genai_cache_magic.events import Trouble
from genai_cache_magic.ops.backup_chain import (
    ANSWERS,
    BEGUN,
    LARGEST_ANSWER,
    WHOLE,
    Whole,
    encode_answers,
    encode_clear,
    fingerprint,
    keysets_in,
    read_chain,
)
from genai_cache_magic.stores.base import SupportsGetMany

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event
    from genai_cache_magic.ops.backup_chain import Chained
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Store
    from genai_cache_magic.stores.records import Records

BACKUP: Final = "backup"
_RECORD_BYTES: Final = 4 * 1024**2
_READ_AT_ONCE: Final = 16
_TELL_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup did: where, how many answers it added, and how many are there now."""

    namespace: str
    place: str = field(repr=False)
    added: int
    answers: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def back_up(
    settings: Settings,
    namespace: str,
    records: Records,
    *,
    progress: bool | Callable[[int, int], None] | None = None,
) -> BackedUp:
    """Add to `records` what they lack of `namespace`, and read all of it back.

    Raises
    ------
    ConfigurationError
        There is no such namespace here, or `records` are no backup of it, or damaged.
    DecryptionError
        `records` were changed, or are of other keys.
    KeyUnavailable
        The namespace's keys can't be used.
    StoreUnavailable
        The team's tier, or the place, can't be reached now: what was added until then stays, and is gone on from.
    """
    keysets_in(records, namespace)  # another's is refused before anything is opened or made for it
    _ensure_there(settings, namespace)
    told: list[Event] = []
    with build_cache(settings, namespace=namespace, on_event=told.append) as cache, records.writing():
        if settings.l2 and cache.team is None:
            why = next((one.message for one in told if isinstance(one, Trouble) and one.where == "L2"), "")
            raise StoreUnavailable(f"the team's answers can't be backed up now: {why or 'its tier is not in use'}")
        return _Backup(settings, cache, records).run(progress)


def _ensure_there(settings: Settings, namespace: str) -> None:
    """Raise ``ConfigurationError`` for a namespace in which nothing was ever stored: it is spelled otherwise."""
    line = team_line(settings, namespace)
    if line is not None:
        line.tier.close()
    elif not home_of(settings, namespace).exists():
        raise ConfigurationError(
            f"there is no namespace {namespace!r} on this machine: `genai-cache stats --namespace NAME` shows what is "
            "in one, and GENAI_CACHE_DIR says where they lie"
        )


class _Backup:
    def __init__(self, settings: Settings, cache: Cache, records: Records) -> None:
        self._settings = settings
        self._cache = cache
        self._records = records
        self._is_sealed = settings.encryption != "off"
        self._chain = self._new_chain()
        self._known: set[bytes] = set()

    def run(self, progress: bool | Callable[[int, int], None] | None) -> BackedUp:  # noqa: FBT001 - as `map` has it
        before = read_chain(self._records, self._chain)
        self._known.update(before.known)
        has_begun = False
        for batch in _by_size(self._new(progress)):
            if not has_begun:
                self._append(BEGUN, self._clear(), b"")
                has_begun = True
            self._append(ANSWERS, b"", encode_answers(batch))
        generations, keyset = self._generations(), self._keyset()
        if has_begun or not before.is_whole or before.whole is None or not before.whole.same_as(generations, keyset):
            if not has_begun:
                self._append(BEGUN, self._clear(), b"")
            number = self._chain.number + 1
            whole = Whole(int(time.time() * 1000), len(self._known), generations, keyset, number)
            self._append(WHOLE, encode_clear(self._cache.namespace, keyset), whole.encode())
        self._read_back()
        added = len(self._known) - len(before.known)
        return BackedUp(self._cache.namespace, self._records.name, added, len(self._known))

    def _new(self, progress: bool | Callable[[int, int], None] | None) -> Iterator[tuple[str, bytes]]:  # noqa: FBT001
        """Yield what is not in the chain yet, the team's before this machine's own."""
        team = self._cache.team
        if team is not None and not team.tell(within_s=_TELL_S):
            raise StoreUnavailable(
                f"{team.name} can't be told what waits for it: back up once it can be reached and written"
            )
        entries = self._cache.parts.entries
        entries.settle()
        stores = [entries.store] if team is None else [team.store, entries.store]
        listed = [(store, list(store.scan())) for store in stores]
        done = 0
        with bar_of(sum(len(keys) for _, keys in listed), 0, progress, name=BACKUP) as bar:
            for store, keys in listed:
                for batch in _batches(keys, _READ_AT_ONCE):
                    for key, envelope in _read(store, batch).items():
                        if not 0 < len(envelope) <= LARGEST_ANSWER:
                            continue  # whatever others have written there
                        mark = fingerprint(key, envelope)
                        if mark not in self._known:
                            self._known.add(mark)
                            yield key, envelope
                    done += len(batch)
                    bar.show(done)

    def _generations(self) -> Any:
        team = self._cache.team
        return self._cache.parts.entries.generations.published() if team is None else team.look_anew()

    def _keyset(self) -> bytes:
        """Return the newest keyset, authenticated: that of the team, where somebody else may have changed it."""
        parts = self._cache.parts
        copy = None if parts.file is None else parts.file(KEYSET).load()
        if not self._is_sealed or copy is None:
            return b""
        team = self._cache.team
        shared = None if team is None else team.document(KEYSET).load()
        if shared is None or shared == copy:
            return copy
        from genai_cache_magic.crypto.keyset import open_manifest

        try:
            wrapper = key_wrapper(self._settings, make=False)
            keyring = open_manifest(shared, self._cache.namespace, wrapper)
        except GenaiCacheError:
            return copy  # what this machine can't judge is not handed on
        return shared if keyring.mac_key == parts.keys.mac_key else copy

    def _clear(self) -> bytes:
        return encode_clear(self._cache.namespace, self._keyset())

    def _append(self, kind: int, clear: bytes, plain: bytes) -> None:
        self._records.append(self._chain.seal(kind, clear, plain))

    def _new_chain(self) -> Chain:
        return Chain(self._cache.seal_key, self._cache.namespace)

    def _read_back(self) -> Chained:
        """Read all of it once more, from where it lies; raises ``StoreUnavailable`` if it is not what was written."""
        try:
            found = read_chain(self._records, self._new_chain())
        except (ConfigurationError, DecryptionError, EntryUndecodable) as exc:
            raise StoreUnavailable(f"{self._records.name} does not read back as it was written: {exc}") from exc
        if not found.is_whole or found.known != self._known:
            raise StoreUnavailable(
                f"{self._records.name} does not read back as it was written: was it changed meanwhile? Run it again"
            )
        return found


def _read(store: Store, keys: list[str]) -> dict[str, bytes]:
    if isinstance(store, SupportsGetMany):
        return store.get_many(keys)
    return {key: blob for key in keys if (blob := store.get(key)) is not None}


def _batches(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    each = iter(keys)
    while batch := list(itertools.islice(each, size)):
        yield batch


def _by_size(answers: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield `answers` in groups of a few megabytes; a larger one is alone."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for key, envelope in answers:
        if batch and size + len(envelope) > _RECORD_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((key, envelope))
        size += len(envelope)
    if batch:
        yield batch
