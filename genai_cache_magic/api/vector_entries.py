"""The entries of one vector cache: a text, its vector and its value in each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import VALUE, Entry, EntryId, Metadata
from genai_cache_magic.core.policy import Why
from genai_cache_magic.core.validity import MAX_ENTRY_RECORDS
from genai_cache_magic.entries.entries import Found
from genai_cache_magic.errors import EntryUndecodable
from genai_cache_magic.events import Trouble, trouble
from genai_cache_magic.vectors.record import FLOAT_BYTES, Record, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.core.model import Stamp
    from genai_cache_magic.events import Event

_ID = b"genai-cache vector key 1\0"
_ALL_LOST = (
    f"more than {MAX_ENTRY_RECORDS:,} entries of this namespace were replaced or deleted within a day: all that is "
    "older in it counts as out of date from now on. To change a whole corpus, clear() it and add it anew"
)


class VectorEntries:
    """What one vector cache stores in the cache of its namespace.

    Parameters
    ----------
    prefix, model, dimension
        What never meets if it differs: all three stand in each entry's id.
    """

    def __init__(
        self, cache: Cache, *, prefix: str, model: str, dimension: int, on_event: Callable[[Event], None]
    ) -> None:
        self.name = dumps([prefix, model, dimension]).decode()
        """The tag of kind ``vectors`` under which all of them are counted, listed and cleared."""
        self.cache = cache
        self.dimension = dimension
        self._model = model
        self._on_event = on_event

    def id_of(self, text: str) -> EntryId:
        """Return the id of the entry of a text."""
        keys = self.cache.parts.keys
        named = (_ID + keys.namespace.encode(), self.name.encode(), text.encode("utf-8", "surrogatepass"))
        return entry_id(b"\0".join(named), keys.id_key)

    def read(self, ids: Iterable[EntryId]) -> dict[EntryId, Record]:
        """Return those entries that may be served now, by one look-up; never raises for what it finds."""
        return self.look(ids)[0]

    def look(self, ids: Iterable[EntryId]) -> tuple[dict[EntryId, Record], set[EntryId]]:
        """Return what `read` does, and those that may be served again although they can't be now."""
        records, resting = {}, set()
        wanted = list(ids)
        for found_id, found in (self.cache.find(wanted) if wanted else {}).items():
            if not isinstance(found, Found):
                if found.why is Why.UNCONFIRMED:  # until the team can be asked once more
                    resting.add(found_id)
                continue
            try:
                record = read_record(found.response)
            except EntryUndecodable as exc:
                self._on_event(trouble("L1", exc))
                continue
            if len(record.vector) == FLOAT_BYTES * self.dimension:
                records[found_id] = record
        return records, resting

    def of_texts(self, texts: Iterable[str]) -> dict[str, Record]:
        """Return what is kept under texts."""
        ids = {self.id_of(text): text for text in texts}
        return {ids[found_id]: record for found_id, record in self.read(ids).items()}

    def store(self, records: Iterable[Record], *, ttl_s: int, tags: tuple[str, ...]) -> None:
        """Store them all in place of what is there; raises ``StoreUnavailable``."""
        kept = list(records)
        with self._saying_all_lost(len(kept)):
            self.cache.store(lambda birth: dict(self._entry(record, birth, ttl_s, tags) for record in kept))

    def delete(self, text: str) -> None:
        """Remove what is kept under `text`; raises ``StoreUnavailable``."""
        with self._saying_all_lost(1):
            self.cache.store(lambda _: {}, removed=[self.id_of(text)])

    @contextmanager
    def _saying_all_lost(self, count: int) -> Iterator[None]:
        """Say so if so many invalidations leave no room for others of the day: all older entries are invalid then."""
        generations = self.cache.parts.entries.generations
        before = generations.current()
        yield
        is_full = len(before.entries) + count > MAX_ENTRY_RECORDS
        if is_full and generations.current().floor > before.floor:
            self._on_event(Trouble("cache", "OutOfDate", _ALL_LOST))

    def _entry(self, record: Record, birth: Stamp, ttl_s: int, tags: tuple[str, ...]) -> tuple[EntryId, Entry]:
        parts = self.cache.parts
        metadata = Metadata(surface=VALUE, model=self._model or "vectors", tags=tags)
        keyed = [parts.keys.tag("user", tag) for tag in tags]
        keyed += [parts.keys.tag("vectors", self.name), parts.keys.tag("model", metadata.label)]
        header = parts.entries.header(birth, ttl_s=ttl_s, tags=keyed)
        return self.id_of(record.text), Entry(header, metadata, record.response())
