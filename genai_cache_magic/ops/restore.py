"""A backup into a namespace: its keyset and its record of what is invalid first, then the answers that are valid.

All of the backup is read and checked before anything is changed. What is here counts: an answer is put back only if
neither the backup's record of what is invalid nor the one here says otherwise, and never over one that is valid. Each
step is whole in itself, so who is killed in between restores again, and goes on.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.factory import build_cache
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.api.team.custody import key_wrapper, made_home
from genai_cache_magic.api.team.keysets import keyset_of
from genai_cache_magic.api.team.line import KEYSET, team_line
from genai_cache_magic.api.team.storage import home_of, public_keys
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import PRUNED
from genai_cache_magic.crypto.chain import Chain
from genai_cache_magic.crypto.document_mac import protect_document
from genai_cache_magic.entries.filling import ANY
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    EntryUndecodable,
    KeyUnavailable,
    StoreUnavailable,
)
from genai_cache_magic.ops.backup_chain import answers_of, keysets_in, read_chain
from genai_cache_magic.stores.disk.home import Losses
from genai_cache_magic.stores.documents import FileDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.core.model import EntryId, Header
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.placing import Placed
    from genai_cache_magic.ops.backup_chain import Whole
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Document
    from genai_cache_magic.stores.records import Records

RESTORE: Final = "restore"
_STATE: Final = ("state.db", "state.db-wal", "state.db-shm")
_ALWAYS_THERE: Final = frozenset(
    {".genai-cache", "l1", "locks", KEYSET, f"{KEYSET}.lock", GENERATIONS, f"{GENERATIONS}.lock", *_STATE}
)
"""What a namespace consists of before anything was asked in it."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of each answer of a backup.

    `stored` are there again, `kept` were there already, `invalid` were made so before or since, `expired` have lived
    their time, and `unopened` are sealed with keys that were revoked, or were damaged before they were backed up.
    """

    namespace: str
    made_ms: int = field(repr=False)
    stored: int = 0
    kept: int = 0
    invalid: int = 0
    expired: int = 0
    unopened: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("namespace", "made_ms", "stored", "kept", "invalid", "expired", "unopened")
        return {name: getattr(self, name) for name in names}


def restore(
    settings: Settings,
    namespace: str,
    records: Records,
    *,
    last_whole: bool = False,
    progress: bool | Callable[[int, int], None] | None = None,
) -> Restored:
    """Put what is valid of a backup into `namespace`: into the team's tier if there is one, else on this machine.

    Parameters
    ----------
    last_whole
        Take a place whose last backup was not finished, or was cut off, as it was when one last was.

    Raises
    ------
    ConfigurationError
        It is no backup of this namespace, not whole, or damaged; or its keys, or its record of what is invalid, don't
        go with those here. Nothing was changed.
    DecryptionError
        It was changed, or its keyset was. Nothing was changed.
    KeyUnavailable
        Its keys can't be had here. Nothing was changed.
    StoreUnavailable
        The place, or where it goes, can't be reached now; what was put back until then stays.
    """
    mac_key = _mac_key(settings, namespace, records)
    found = read_chain(records, Chain(mac_key, namespace))
    if found.whole is None or not (found.is_whole or last_whole):
        then = ", or restore what was whole before with --last-whole" if found.whole else ""
        never = "" if found.whole else "; none before was finished either, so there is nothing in it to restore"
        raise ConfigurationError(
            f"{records.name} is not whole: its last backup was not finished, or it was cut off{never}: run "
            f"`genai-cache backup {namespace} ...` into it again{then}"
        )
    _prepare(settings, namespace, found.whole, mac_key)
    with build_cache(settings, namespace=namespace) as cache:
        return _Restore(cache, found.whole).run(records, Chain(mac_key, namespace), progress)


def _mac_key(settings: Settings, namespace: str, records: Records) -> bytes:
    """Return what the chain is sealed with, by a keyset in it that the key of this machine opens."""
    from genai_cache_magic.crypto.keyset import open_manifest

    keysets = keysets_in(records, namespace)
    if not keysets:
        raise ConfigurationError(f"there is no backup of namespace {namespace!r} in {records.name}")
    if settings.encryption == "off" or not any(keysets):
        if settings.encryption != "off" or any(keysets):
            here, there = ("off", "sealed") if any(keysets) else ("on", "plain text")
            fix = "set GENAI_CACHE_ENCRYPTION to what it was, or back up again"
            raise ConfigurationError(f"{records.name} is {there}, and encryption is {here} here: {fix}")
        return public_keys(namespace).mac_key
    wrapper = key_wrapper(settings, make=False)
    refusals: list[KeyUnavailable | DecryptionError] = []
    for keyset in filter(None, keysets):
        try:
            return open_manifest(keyset, namespace, wrapper).mac_key
        except (KeyUnavailable, DecryptionError) as exc:
            refusals.append(exc)
    first = refusals[0]
    raise type(first)(f"{records.name}: {first}") if type(first) in {DecryptionError, KeyUnavailable} else first


def _prepare(settings: Settings, namespace: str, whole: Whole, mac_key: bytes) -> None:
    """Let the keyset and the record of what is invalid count, each where there is none.

    The keyset goes first: by another one the record would be taken for a forged one.
    """
    if settings.encryption != "off":
        with keyset_of(settings, namespace) as keyset:
            keyset.adopt(whole.keyset, is_unused=lambda: _is_unused(settings, namespace))
    line = team_line(settings, namespace)
    with ExitStack() as each:
        if line is not None:
            each.callback(line.tier.close)
        home = made_home(settings, namespace, line, Losses())
        own: Document = FileDocument(home.path / GENERATIONS, ensure=home.ensure)
        document = own if line is None else line.document(GENERATIONS)
        if document.load() is None:
            blob = protect_document(mac_key, f"{GENERATIONS}/{namespace}", whole.generations.encode())
            document.replace(blob, expected=None)  # whoever is first wins


def _is_unused(settings: Settings, namespace: str) -> bool:
    """Return whether this machine has its own keys of a namespace only since somebody looked whether it is there."""
    if settings.l2 or any(path.name not in _ALWAYS_THERE for path in home_of(settings, namespace).iterdir()):
        return False
    with build_cache(settings, namespace=namespace) as cache:
        return next(iter(cache.parts.entries.store.scan()), None) is None


class _Restore:
    def __init__(self, cache: Cache, whole: Whole) -> None:
        self._cache = cache
        self._whole = whole
        self._entries = cache.parts.entries
        self._places = self._entries.places if cache.team is None else cache.team.places
        self._counts: Counter[str] = Counter()

    def run(
        self,
        records: Records,
        chain: Chain,
        progress: bool | Callable[[int, int], None] | None,  # noqa: FBT001 - as `map` has it
    ) -> Restored:
        generations = self._agreed()
        total = self._whole.answers
        with bar_of(total, 0, progress, name=RESTORE) as bar:
            for answers in answers_of(records, chain, self._whole.records, bar.show):
                self._put(answers, generations)
        return Restored(self._cache.namespace, self._whole.made_ms, **self._counts)

    def _live(self) -> Generations:
        team = self._cache.team
        return self._entries.generations.published() if team is None else team.look_anew()

    def _agreed(self) -> Generations:
        """Return what is valid here, once nothing that the backup knows to be invalid is valid by it."""
        here, backup = self._live(), self._whole.generations
        is_one = here.root == backup.root
        # Who clears, or begins anew after a loss, begins above all that was seen: what does not, is no successor.
        if _says_all(here, backup) if is_one else here.floor > backup.ver:
            return here
        joined = joined_records(here, backup) if is_one else None if self._has_answers() else backup
        if joined is None:
            raise ConfigurationError(
                f"what was made invalid in namespace {self._cache.namespace!r} here can't be told together with what "
                "the backup knows of: restore into a directory, or a tier, in which it is not there yet"
            )

        def how(found: Generations) -> Generations:
            if replace(found, ver=here.ver) != here:
                raise StoreUnavailable("something was made invalid here in this moment: restore again")
            return replace(joined, ver=max(found.ver, joined.ver) + 1)

        return self._entries.generations.change(how)

    def _has_answers(self) -> bool:
        return next(iter(self._places.store.scan()), None) is not None

    def _put(self, answers: Iterable[tuple[EntryId, bytes]], generations: Generations) -> None:
        batch: dict[EntryId, Placed] = {}
        for entry_id, envelope in answers:
            placed = self._opened(entry_id, envelope)
            if placed is None:
                self._counts["unopened"] += 1
            elif not self._is_valid(entry_id, placed.header, generations):
                self._counts["invalid"] += 1
            elif self._entries.judge.remaining_s(placed.header) <= 0:
                self._counts["expired"] += 1
            elif entry_id in batch and not _is_later(placed.header, batch[entry_id].header):
                self._counts["kept"] += 1
            else:
                self._counts["kept"] += entry_id in batch
                batch[entry_id] = placed
        for filled in self._places.place(batch, ANY).values() if batch else ():
            self._counts[_OUTCOMES[filled]] += 1

    def _opened(self, entry_id: EntryId, envelope: bytes) -> Placed | None:
        try:
            return self._places.opened(entry_id, envelope)
        except (DecryptionError, EntryUndecodable):
            return None

    def _is_valid(self, entry_id: EntryId, header: Header, here: Generations) -> bool:
        """Return whether neither record says that it was made invalid, nor may have said so and forgotten it."""
        backup = self._whole.generations
        if not (backup.is_valid(entry_id, header) and here.is_valid(entry_id, header)):
            return False
        # SECURITY: the record of one entry is dropped after a day, when what it made invalid is gone: here, not there.
        return not here.has_forgotten(backup) or header.birth.ver >= here.entries[PRUNED].ver


_OUTCOMES: Final = {Filled.STORED: "stored", Filled.KEPT: "kept", Filled.OUTDATED: "invalid"}


def joined_records(here: Generations, backup: Generations) -> Generations | None:
    """Return a record of one root by which all is invalid that is so by either, None if that can't be told.

    Whatever only one of the two says is said anew: of what was born since they parted nobody knows which came first.
    """
    if _says_all(backup, here):
        return backup
    if here.floor != backup.floor or here.entries.get(PRUNED) != backup.entries.get(PRUNED):
        return None  # something was forgotten by one of the two since they parted
    ver = max(here.ver, backup.ver) + 1
    tags = dict.fromkeys(here.tags.keys() | backup.tags.keys(), ver)
    tags |= {tag: one for tag, one in here.tags.items() if backup.tags.get(tag) == one}
    records = {**here.entries, **backup.entries}
    entries = {
        entry_id: record if here.entries.get(entry_id) == backup.entries.get(entry_id) else replace(record, ver=ver)
        for entry_id, record in records.items()
    }
    return replace(here, ver=ver, tags=tags, entries=entries)


def _says_all(one: Generations, other: Generations) -> bool:
    """Return whether all that `other`, of the same root, makes invalid is so by `one`, or was dropped there as gone.

    `Generations.keeps` goes by the time alone, which is right of one that has grown out of the other: of two that
    went on apart, a record that lacks may be one that was never heard of.
    """
    known = max(one.floor, one.forgotten)
    lacking = (record for entry_id, record in other.entries.items() if entry_id not in one.entries)
    return one.keeps(other) and all(record.ver <= known for record in lacking)


def _is_later(new: Header, old: Header) -> bool:
    return (new.birth.ver, new.created_ms) > (old.birth.ver, old.created_ms)
