"""Questions of model calls, found by what they mean: kept beside the answers, sealed and valid as these are.

A question is an entry of its own that no listing shows: its text, its vector, and the entry id of the answer. It has
the birth, the tags and the time to live of that answer, but it decides nothing: what it leads to is judged as ever.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host
from genai_cache_magic.api.vector_index import VectorIndex
from genai_cache_magic.calls.alike import Question, Similar
from genai_cache_magic.core.canonical import canonical_bytes, dumps
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import QUESTION, Entry, EntryId, KeySpace, Metadata
from genai_cache_magic.core.policy import Why
from genai_cache_magic.entries.entries import Found
from genai_cache_magic.entries.team.everywhere import find_everywhere
from genai_cache_magic.errors import ConfigurationError, EntryUndecodable, StoreUnavailable, UncacheableRequest
from genai_cache_magic.events import Trouble, trouble
from genai_cache_magic.providers.questions import question_of
from genai_cache_magic.stores.workers import Workers
from genai_cache_magic.vectors import INSTALL_LOCAL
from genai_cache_magic.vectors.guard import MAX_CHARACTERS, differs
from genai_cache_magic.vectors.measures import measure_of
from genai_cache_magic.vectors.record import Record, packed, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import Header
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.listing.catalogue import Catalogue
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Document

    Embed = Callable[[list[str]], Iterable[Any]]

DIMENSION: Final = 384
MODEL: Final = "all-MiniLM-L6-v2"
_NEEDS: Final = (
    f"questions can't be compared here, so only equal calls are hits: {INSTALL_LOCAL}, or leave out --semantic"
)
_FRAME: Final = b"genai-cache question 1\0"
_KIND: Final = "question"
_MOST_FRAMES: Final = 64
"""Of so many frames the vectors are held in memory: those that were asked about last."""
_MOST_NOTED: Final = 10_000
_MOST_BEHIND: Final = 32
"""So many questions wait to be noted: calls wait behind them, 10 ms for each. Others are noted at their next hit."""
_WHERE: Final = "semantic"


@dataclass(frozen=True, slots=True)
class Held:
    """What questions are kept in."""

    entries: Entries
    keys: Keys
    catalogue: Catalogue
    team: Team | None = None
    file: Callable[[str], Document] | None = field(default=None, repr=False)

    @property
    def parts(self) -> Held:
        """These, as an index looks for them."""
        return self


class QuestionEntries:
    """The questions of one frame, as a `VectorIndex` reads them."""

    dimension = DIMENSION

    def __init__(self, cache: Held, name: str) -> None:
        self.cache = cache
        self.name = name

    def read(self, ids: Iterable[EntryId]) -> dict[EntryId, Record]:
        """Return those questions that may be served now; never raises for what it finds."""
        return self.look(ids)[0]

    def look(self, ids: Iterable[EntryId]) -> tuple[dict[EntryId, Record], set[EntryId]]:
        """Return what `read` does, and those that may be served again although they can't be now."""
        records, resting = {}, set()
        tag = self.cache.keys.tag("vectors", self.name)
        found, _ = find_everywhere(self.cache.entries, self.cache.team, list(ids), tell=lambda _: None)
        for found_id, one in found.items():
            if not isinstance(one, Found):
                if one.why is Why.UNCONFIRMED:
                    resting.add(found_id)
                continue
            with suppress(EntryUndecodable):
                record = read_record(one.response)
                # Questions of two frames never meet, whatever a listing says: the sealed word counts.
                is_of_frame = tag in one.sealed.header.tags
                if is_of_frame and record.kind == _KIND and len(record.vector) == 4 * DIMENSION:
                    records[found_id] = record
        return records, resting


class Questions:
    """Finds answers to similar questions in one namespace. Safe to share between threads.

    Parameters
    ----------
    embed
        Returns the vectors of texts; the model of this machine if nothing is given. If it has a ``reads_whole``, that
        tells whether a text counts to its end.
    """

    def __init__(self, held: Held, embed: Embed | None = None) -> None:
        self._held = held
        self._embed = embed
        # One: vectors are computed and compared one after the other, and what was noted first is found first.
        self._workers = Workers(1, "genai-cache-questions")
        self._indexes: OrderedDict[str, VectorIndex] = OrderedDict()  # of the worker alone
        self._lock = host.process_lock()
        self._noted: OrderedDict[tuple[EntryId, int], None] = OrderedDict()  # guarded by _lock

    def look(
        self, lead: Lead, find: Callable[[EntryId], Found | None], deliver: Callable[[Similar | None], None]
    ) -> None:
        """Look for an answer to a question like that of `lead`, and `deliver` it, or None."""
        asked = self._asked(lead)
        if asked is None:
            deliver(None)
            return
        lead.question = asked
        self._begin(partial(self._nearest, lead, asked, find), lead.scope.emit, deliver)

    def learn(self, lead: Lead, entry_id: EntryId, header: Header) -> None:
        """Note what `lead` asked, and where its answer lies; behind, unless its vector is known by now."""
        filled = (entry_id, header.created_ms)
        is_known = lead.question is not None and bool(lead.question.vector)
        if not is_known and self._workers.unfinished >= _MOST_BEHIND:
            return
        with self._lock:
            if filled in self._noted:
                return
            self._noted[filled] = None
            if len(self._noted) > _MOST_NOTED:
                self._noted.popitem(last=False)
        asked = lead.question or self._asked(lead)
        if asked is None:
            return
        store = partial(self._store, asked, entry_id, header)
        if not asked.vector:
            self._begin(store, lead.scope.emit, lambda _: None)
            return
        try:
            store()
        except (EntryUndecodable, StoreUnavailable) as exc:
            lead.scope.emit(trouble("L1", exc))

    def settle(self) -> None:
        """Wait until what was begun is done."""
        self._workers.submit(lambda _: None, None).result()

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        self._workers.close()

    def _asked(self, lead: Lead) -> Question | None:
        keys = self._held.keys
        with suppress(UncacheableRequest):
            found = question_of(lead.call.as_keyed)
            if found is not None and len(found[1]) <= MAX_CHARACTERS:
                space = KeySpace(keys.namespace, lead.scope.options.salt)
                frame = entry_id(_FRAME + canonical_bytes(found[0], space), keys.id_key)
                return Question(frame, found[1])
        return None

    def _begin(
        self, work: Callable[[], Similar | None], tell: Callable[[Event], None], deliver: Callable[[Any], None]
    ) -> None:
        def done(future: Future[Similar | None]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                tell(_told(error))
            deliver(None if error is not None or future.cancelled() else future.result())

        try:
            future = self._workers.submit(lambda _: work(), None)
        except RuntimeError as exc:  # no thread can be started
            tell(_told(exc))
            deliver(None)
            return
        future.add_done_callback(done)

    def _nearest(self, lead: Lead, asked: Question, find: Callable[[EntryId], Found | None]) -> Similar | None:
        vector = self._vector(asked.text)
        if not vector:
            return None
        lead.question = replace(asked, vector=vector)
        served: dict[EntryId, Found] = {}

        def accepts(one: Any) -> bool:
            answer = EntryId(one.record.body.decode())
            if answer == lead.entry_id or differs(asked.text, one.record.text) is not None:
                return False
            found = find(answer)
            if found is not None:
                served[one.entry_id] = found
            return found is not None

        least = lead.scope.options.semantic or 1.0
        for one in self._index(asked.frame).search(vector, least=least, count=1, accepts=accepts):
            answer = EntryId(one.record.body.decode())
            return Similar(one.similarity, one.record.text, answer, served[one.entry_id])
        return None

    def _index(self, frame: str) -> VectorIndex:
        name = _name(frame)
        if name not in self._indexes:
            self._indexes[name] = VectorIndex(QuestionEntries(self._held, name), measure_of("cosine"), shows=False)
            if len(self._indexes) > _MOST_FRAMES:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(name)
        return self._indexes[name]

    def _store(self, asked: Question, answer: EntryId, header: Header) -> None:
        held, name = self._held, _name(asked.frame)
        named = entry_id(_FRAME + f"{name}\0{answer}".encode(), held.keys.id_key)
        vector = asked.vector or self._vector(asked.text)
        if not vector:
            return
        tags = {*header.tags, held.keys.tag("vectors", name)}
        record = Record(asked.text, _KIND, answer.encode(), vector)
        kept = replace(header, tags=tuple(sorted(tags)))
        held.entries.fill(named, Entry(kept, Metadata(surface=QUESTION, model=name), record.response()))

    def _vector(self, text: str) -> bytes:
        """Return the vector of a question; empty if that would say nothing of its end, which may decide."""
        if self._embed is None:
            self._embed = _local()
        reads_whole = getattr(self._embed, "reads_whole", None)
        if reads_whole is not None and not reads_whole(text):
            return b""
        (vector,) = self._embed([text])
        return packed(vector, dimension=DIMENSION, needs_direction=True)


def _name(frame: str) -> str:
    return dumps(["question", frame, MODEL]).decode()


def _local() -> Embed:
    if importlib.util.find_spec("numpy") is None:
        raise ConfigurationError(_NEEDS)
    from genai_cache_magic.vectors.local_model import LocalModel

    return LocalModel()


def _told(error: BaseException) -> Trouble:
    is_missing = isinstance(error, ConfigurationError)
    said = _NEEDS if is_missing else f"questions could not be compared, so only equal calls are hits: {error}"
    return Trouble(_WHERE, type(error).__name__, said)
