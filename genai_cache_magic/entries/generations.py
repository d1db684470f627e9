"""The live generation document of a namespace: read when it changed, changed by compare-and-swap."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.core.validity import UNPUBLISHED_VER, Generations, decode_generations
from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.entries.highest import Forgets, Mark
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.core.validity import Change
    from genai_cache_magic.entries.highest import Remembers
    from genai_cache_magic.stores.base import Document

_ATTEMPTS = 50


class LiveGenerations:
    """One namespace's generation document, kept as fresh as its store's version token.

    A document that is lost, damaged, forged, or older than one that this machine has seen is replaced by one with
    a new root above all that were seen: everything stored before becomes a miss, and nothing stale is served. So is
    one that was put back and has grown since: it lacks what was invalidated.

    `least_ver` tells what the counter is raised to at least by a change. Where it rises with time, what one machine
    makes after a loss is above all that the others have seen, so they need no further root; and what is invalidated
    after an older document was put back is above the births of all that was stored before. While the document
    `is_provisional` it is not the one that others go by, and gives way to that however high it counts.

    Where writing one has to wait for others, `begin` is given: it lets a provisional one count, and returns whether it
    does. Then only what says so writes the document; whoever just wants to know what is valid never waits.
    """

    def __init__(  # noqa: PLR0913 - two secrets, two witnesses, and what they are about
        self,
        document: Document,
        *,
        namespace: str,
        mac_key: bytes,
        random_bytes: Callable[[int], bytes],
        remembers: Remembers | None = None,
        on_loss: Callable[[str], None] = lambda _: None,
        pending: Callable[[], Sequence[Change]] = tuple,
        least_ver: Callable[[], int] = lambda: 0,
        is_provisional: Callable[[], bool] = lambda: False,
        begin: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._document = document
        self._context = f"generations/{namespace}"
        self._mac_key = mac_key
        self._random_bytes = random_bytes
        self._on_loss = on_loss
        self._pending = pending
        self._least_ver = least_ver
        self._is_provisional = is_provisional
        self._begin = begin
        self._seen: tuple[object, Generations] | None = None  # replaced as a whole, so needs no lock
        self._remembers = remembers or Forgets()
        self._lock = host.process_lock()
        self._highest = Mark()  # raised only, under _lock
        self._latest: Generations | None = None  # the highest that this process has read; under _lock

    def current(self) -> Generations:
        """Return what is valid now: the document, and what this machine has invalidated but could not publish yet.

        Raises as `published`.
        """
        # As `published`: this is asked for each hit, and nearly always nothing has changed.
        seen, version = self._seen, self._document.version()
        current = seen[1] if seen is not None and version is not None and seen[0] == version else self.published()
        pending = self._pending()
        if not pending:
            return current
        # What is here is older, also what was born under a document that is gone: no birth is higher.
        current = replace(current, ver=UNPUBLISHED_VER)
        for change in pending:
            current = change.apply(current)
        return current

    @property
    def is_known(self) -> bool:
        """Whether what is valid can be told without writing a document anew."""
        try:
            return self._find()[0] is not None
        except StoreUnavailable:
            return True  # one of a newer version, or none can be read: writing another helps nobody

    def published(self) -> Generations:
        """Return the document as it is now; it is created if there is none and that takes no waiting.

        Raises
        ------
        StoreUnavailable
            It can't be read or created here: nothing can be known to be valid.
        """
        for _ in range(_ATTEMPTS):
            found, blob = self._find()
            if found is not None:
                return found
            if self._begin is None:
                return self.ensure()
            if blob is not None:
                break
            self._begin(self._protected(self._new_root(None, self._known()[0])))
        raise StoreUnavailable(
            "the record of what is invalid was damaged or put back: it is made anew by the next look"
        )

    def ensure(self) -> Generations:
        """Return the document as it is now; it is created if there is none, which may wait. Raises as `published`.

        A provisional one is none: another thread may have let it count since this one has looked.
        """
        found, _ = self._find()
        if found is None or self._is_provisional():
            return self.change(lambda generations: generations)
        return found

    def _find(self) -> tuple[Generations | None, bytes | None]:
        """Return the document, None if it is of no use, and its bytes, None if it is absent or known already."""
        seen = self._seen
        version = self._document.version()
        if seen is not None and version is not None and seen[0] == version:
            return seen[1], None
        known = self._known()  # before the load: what is loaded after it can't rightly be older
        blob = self._document.load()
        found = self._read(blob, *known)
        if found is not None and blob is not None:
            self._raise(Mark.of(found.ver, blob), found)
            # The version read before the load: a change in between is only noticed once more.
            self._seen = (version, found)
        return found, blob

    def recall(self) -> None:
        """Take what the document holds now for seen, so that nothing older is believed; nothing is written."""
        blob = self._document.load()
        found = self._read(blob, Mark(), None)
        if found is not None and blob is not None:
            self._raise(Mark.of(found.ver, blob), found)

    def change(self, how: Callable[[Generations], Generations]) -> Generations:
        """Publish `how` of the document and return what was published.

        Raises
        ------
        StoreUnavailable
            It could not be written; nothing is changed.
        """
        for attempt in range(_ATTEMPTS):
            # Before the load: what other threads see as soon as this one has made it is no sign of an earlier one.
            highest, latest = self._known()
            blob = self._document.load()
            found = self._read(blob, highest, latest)
            base = self._new_root(blob, highest) if found is None else self._raised(found)
            changed = how(base)
            if found is not None and changed is base and not self._is_provisional():
                return found
            new = self._protected(changed)
            if self._document.replace(new, expected=blob):
                if found is None and (blob is not None or latest is not None or highest.ver):
                    self._on_loss(
                        "what was invalidated is not known any more, since its record was "
                        f"{'removed' if blob is None else 'damaged or put back'}: the answers stored before are misses"
                    )
                self._seen = None
                self._raise(Mark.of(changed.ver, new), changed)
                return changed
            time.sleep(host.chance.uniform(0, 0.002 * (attempt + 1)))
        raise StoreUnavailable("the generation document changes faster than it can be written: try again")

    def _protected(self, generations: Generations) -> bytes:
        return protect_document(self._mac_key, self._context, generations.encode())

    def _new_root(self, blob: bytes | None, highest: Mark) -> Generations:
        """Return a document above all that were seen, in which nothing stored so far is valid."""
        put_back = self.authentic(blob)  # it may have grown beyond what was seen
        ver = max(highest.ver, put_back.ver if put_back else 0, self._least_ver()) + 1
        return Generations(self._random_bytes(16), ver, ver)

    def _raised(self, found: Generations) -> Generations:
        return replace(found, ver=max(found.ver, self._least_ver()))

    def _known(self) -> tuple[Mark, Generations | None]:
        """Return the mark of the highest document that this machine has seen, and the highest that this process has."""
        remembered = self._remembers.read()
        with self._lock:
            if self._highest.ver < remembered.ver:
                self._highest = remembered
            return self._highest, self._latest

    def _raise(self, mark: Mark, generations: Generations) -> None:
        if self._is_provisional():
            return
        with self._lock:
            if self._latest is None or self._latest.ver < generations.ver:
                self._latest = generations
            is_higher = self._highest.ver < mark.ver
            if is_higher:
                self._highest = mark
        if is_higher:
            self._remembers.keep(mark)

    def _read(self, blob: bytes | None, highest: Mark, latest: Generations | None) -> Generations | None:
        found = self.authentic(blob)
        if found is None or blob is None:
            return None
        # Its counter is never lowered nor used twice, and nothing that was invalidated is forgotten: it was put back.
        is_put_back = Mark.of(found.ver, blob).is_behind(highest) or not (latest is None or found.keeps(latest))
        return None if is_put_back else found

    def authentic(self, blob: bytes | None) -> Generations | None:
        """Return what a document says if it is one of this namespace, of whatever age; else None.

        Raises
        ------
        StoreUnavailable
            It is one of a newer version.
        """
        if blob is None:
            return None
        try:
            return decode_generations(verify_document(self._mac_key, self._context, blob))
        except DecryptionError:
            return None
        except EntryUndecodable as exc:
            # It is authentic, so a newer version wrote it: nobody may take that for damage, and begin anew.
            raise StoreUnavailable(
                "the record of what is invalid was written by a newer version: update genai-cache-magic"
            ) from exc
