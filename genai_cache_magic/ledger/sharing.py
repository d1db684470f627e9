"""A machine and its team's pages: tells what is new here, and learns what others have told.

**Nothing is told twice.** A page is set absolutely: all that its ledger has to say of some days, or of a cell of a run.
One whose outcome nobody knows is set again, and comes to the same. What has changed is found by comparing the ledger
with what was told of it: nothing has to be queued, and what a killed kernel has left untold the next one finds.

**What others told is untrusted input.** A page that does not open, is older than one that was here before, or can be
none of ours is ignored with a reason, and what was known of it stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from genai_cache_magic.entries.link import DEADLINE_S, within
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.ledger.known import Known, Told
from genai_cache_magic.ledger.pages import Content, PageRefused, Place
from genai_cache_magic.stores.base import LARGEST_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.ledger.known import KnownPages
    from genai_cache_magic.ledger.pages import PageSeal
    from genai_cache_magic.stores.base import Page, Pages

KEPT_DAYS: Final = 400
"""So long the team's numbers and runs are kept after their last change."""
KEPT_S: Final = KEPT_DAYS * 86_400.0
DAY_MS: Final = 86_400_000

_NO_DAY: Final = 2**61
"""What is kept for ever is of no day."""

_READ_AT_ONCE: Final = 64
_READ_ROUNDS: Final = 16
"""How much is fetched before somebody who asked is told that there is more."""


@dataclass(frozen=True, slots=True)
class Draft:
    """All that this machine has to tell in one group, by name; `done` is called when that was told."""

    group: str = field(repr=False)
    pages: Mapping[str, Content] = field(repr=False)
    done: Callable[[], None] = field(default=lambda: None, repr=False)


class Source(Protocol):
    """A part of the ledger that is told."""

    def drafts(self) -> Iterable[Draft]:
        """Return the groups in which something may have changed since they were `done`.

        May raise ``StoreUnavailable``.
        """

    def forget(self) -> None:
        """Take none of it as told any more."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What others have told.

    Attributes
    ----------
    known_at_ms
        When the tier was last asked for all of it; None if it never was.
    trouble
        Why it could not be asked for all of it now; empty if it could.
    ignored
        Why pages are ignored, a reason for each.
    serials
        Of each of the contents.
    """

    contents: tuple[Content, ...] = field(repr=False)
    known_at_ms: int | None = None
    trouble: str = field(default="", repr=False)
    ignored: tuple[str, ...] = ()
    serials: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Change:
    """A draft, what was told of its group, the digests of what has changed since, and what is no part of it now."""

    draft: Draft = field(repr=False)
    told: Mapping[str, Told] = field(repr=False)
    digests: Mapping[str, bytes] = field(repr=False)
    gone: Sequence[str] = field(repr=False)


class Sharing:
    """The pages of one namespace as this machine tells and knows them. Safe to share between threads.

    Parameters
    ----------
    pages
        The tier's, behind its breaker.
    known
        What was told, and what is known of others.
    writer
        Returns what tells this machine's ledger from others, 32 hex digits; may raise ``StoreUnavailable``.
    now_ms
        The time by the tier's clock [ms since the epoch].
    overdue
        Called when the tier takes too long; returns what to say.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        pages: Pages,
        known: KnownPages,
        seal: PageSeal,
        *,
        writer: Callable[[], str],
        now_ms: Callable[[], int],
        overdue: Callable[[], str],
    ) -> None:
        self.seal = seal
        self.known = known
        self.writer = writer
        self.now_ms = now_ms
        self._pages = pages
        self._overdue = overdue
        self._refused: dict[Place, tuple[str, str]] = {}  # what can't be used: its revision, and why
        self.lost: Callable[[], None] = lambda: None  # called when the tier has not what this machine has told

    def tell(self, sources: Sequence[Source]) -> None:
        """Tell what has changed; raises ``StoreUnavailable``: what was not told is told the next time."""
        self._is_of(self.writer(), sources)
        for _ in range(2):
            changes = [change for source in sources for draft in source.drafts() if (change := self._change(draft))]
            if not changes:
                return
            there = self._pages.revisions(list(dict.fromkeys(change.draft.group for change in changes)))
            are_whole = [self._tell(change, there[change.draft.group]) for change in changes]
            if all(are_whole):
                return
            self.forget(sources)  # the tier has lost something, perhaps more: all of it is told once more

    def forget(self, sources: Sequence[Source]) -> None:
        """Take nothing as told any more; raises ``StoreUnavailable``."""
        self.known.forget_told()
        for source in sources:
            source.forget()

    def prune(self) -> int:
        """Remove from the tier what has expired, where it does not do so itself; raises ``StoreUnavailable``."""
        return self._pages.prune()

    def names(self, group: str) -> frozenset[str]:
        """Return the names of the pages that the tier has in a group now; raises ``StoreUnavailable``."""
        return frozenset(self._pages.revisions([group])[group])

    def post(self, place: Place, content: Content) -> int:
        """Set a page that is nobody's alone, for ever, above all that is known of it; return its serial.

        Raises ``StoreUnavailable``.
        """
        before = self.known.pages([place.group]).get(place)
        serial = max(self.now_ms() * 1000, before.serial + 1 if before else 1)
        blob = self.seal.seal(place, content, serial=serial)
        revision = self._pages.put(place.group, {place.name: blob}, ttl_s=math.inf)[place.name]
        self.known.note_pages({place: Known(revision, serial, blob)}, day=_NO_DAY)
        return serial

    def learn(self, groups: Sequence[str], of: str, *, with_own: bool = False) -> Learnt:
        """Return what others have told in `groups` about `of`, as it is now, or as it was last known."""
        try:
            trouble = self._refresh(groups)
        except StoreUnavailable as error:
            trouble = str(error)
        try:
            return self._learnt(groups, of, trouble, with_own=with_own)
        except StoreUnavailable as error:
            return Learnt((), None, trouble or str(error))

    def _learnt(self, groups: Sequence[str], of: str, trouble: str, *, with_own: bool) -> Learnt:
        own = self.writer()
        refused = list(self._refused.items())  # at once: other threads add to it
        ignored = [reason for place, (_, reason) in refused if place.group in groups]
        found, serials = [], []
        for place, page in self.known.pages(groups).items():
            try:
                content, serial = self.seal.open(place, page.blob)
            except PageRefused as error:
                ignored.append(str(error))
                continue
            if content.of == of and (with_own or content.writer != own):
                found.append(content)
                serials.append(serial)
        return Learnt(tuple(found), self.known.asked_at_ms(groups), trouble, tuple(ignored), tuple(serials))

    def _is_of(self, writer: str, sources: Sequence[Source]) -> None:
        """Forget what another ledger has told that lay here: its pages are those of another machine now."""
        told_by = self.known.file.mark("writer")
        if told_by != writer.encode():
            self.known.forget_ledger(writer)
            for source in sources:
                source.forget()

    def _change(self, draft: Draft) -> _Change | None:
        """Return what has changed in a group since it was told; None if nothing has."""
        told = self.known.told(draft.group)
        digests = {name: content.digest() for name, content in draft.pages.items()}
        changed = [name for name, digest in digests.items() if name not in told or told[name].digest != digest]
        gone = [name for name in told if name not in draft.pages]
        if changed or gone:
            return _Change(draft, told, {name: digests[name] for name in changed}, gone)
        draft.done()
        return None

    def _tell(self, change: _Change, there: Mapping[str, str]) -> bool:
        """Tell what has changed in a group; return False if the tier lacks something else that was told."""
        draft, told = change.draft, change.told
        blobs, serials = {}, {}
        for name in change.digests:
            serials[name] = max(self.now_ms() * 1000, told[name].serial + 1 if name in told else 1)
            blob = self.seal.seal(Place(draft.group, name), draft.pages[name], serial=serials[name])
            if len(blob) <= LARGEST_PAGE:  # who makes drafts sees to that
                blobs[name] = blob
        revisions = self._pages.put(draft.group, blobs, ttl_s=KEPT_S) if blobs else {}
        if change.gone:
            self._pages.remove(draft.group, change.gone)
        noted = {name: Told(change.digests[name], serials[name], revisions[name]) for name in blobs}
        self.known.note_told(draft.group, noted, change.gone)
        was_told = {name: one for name, one in told.items() if one.digest and name in draft.pages}
        is_whole = all(name in change.digests or there.get(name) == one.revision for name, one in was_told.items())
        if is_whole and there.keys() >= was_told.keys():
            draft.done()
            return True
        return False

    def _refresh(self, groups: Sequence[str]) -> str:
        """Fetch what has changed of what others told; return why not all of it is here, empty if it is."""
        there = within(DEADLINE_S, lambda: self._pages.revisions(groups), overdue=self._overdue)
        known = self.known.pages(groups)
        wanted: dict[str, list[str]] = {}
        for group in groups:
            told = self.known.told(group)
            if any(one.digest and there[group].get(name) != one.revision for name, one in told.items()):
                self.lost()
            for name, revision in there[group].items():
                place = Place(group, name)
                page = known.get(place)
                is_known = page is not None and page.revision == revision
                is_refused = self._refused.get(place, ("", ""))[0] == revision
                if name not in told and not is_known and not is_refused:
                    wanted.setdefault(group, []).append(name)
        rounds = [
            (group, names[start : start + _READ_AT_ONCE])
            for group, names in wanted.items()
            for start in range(0, len(names), _READ_AT_ONCE)
        ]
        for group, names in rounds[:_READ_ROUNDS]:
            found = within(DEADLINE_S, lambda g=group, n=names: self._pages.read(g, n), overdue=self._overdue)  # type: ignore[misc]
            self._take_in(group, found, known)
        now_ms = self.now_ms()
        if len(rounds) > _READ_ROUNDS:
            return "there is more than was fetched now: ask again"
        self.known.note_asked(groups, now_ms, before_day=max(0, now_ms // DAY_MS - KEPT_DAYS))
        return ""

    def _take_in(self, group: str, found: Mapping[str, Page], known: Mapping[Place, Known]) -> None:
        """Note the pages that open and are no older than those that are known; the others are refused."""
        taken = {}
        for name, page in found.items():
            place = Place(group, name)
            try:
                _, serial = self.seal.open(place, page.blob)
                if place in known and serial < known[place].serial:
                    raise PageRefused("older than what was there before: somebody put it back")  # noqa: TRY301 - as the others
            except PageRefused as error:
                self._refused[place] = page.revision, str(error)
                continue
            self._refused.pop(place, None)
            taken[place] = Known(page.revision, serial, page.blob)
        if taken:
            self.known.note_pages(taken, day=max(0, self.now_ms() // DAY_MS))
