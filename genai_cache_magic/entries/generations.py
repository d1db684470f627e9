"""The live generation document of a namespace: read when it changed, changed by compare-and-swap."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.core.validity import Generations, decode_generations
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
    a new root above all that were seen: everything stored before becomes a miss, and nothing stale is served.
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
    ) -> None:
        self._document = document
        self._context = f"generations/{namespace}"
        self._mac_key = mac_key
        self._random_bytes = random_bytes
        self._on_loss = on_loss
        self._pending = pending
        self._seen: tuple[object, Generations] | None = None  # replaced as a whole, so needs no lock
        self._remembers = remembers or Forgets()
        self._lock = host.process_lock()
        self._highest = Mark()  # raised only, under _lock

    def current(self) -> Generations:
        """Return what is valid now: the document, and what this machine has invalidated but could not publish yet.

        Raises as `published`.
        """
        current = self.published()
        for change in self._pending():
            current = change.apply(current)
        return current

    def published(self) -> Generations:
        """Return the document as it is now; it is created if there is none.

        Raises
        ------
        StoreUnavailable
            It can't be read or created: nothing can be known to be valid.
        """
        seen = self._seen
        version = self._document.version()
        if seen is not None and version is not None and seen[0] == version:
            return seen[1]
        highest = self._known()  # before the load: what is loaded after it can't rightly be older
        blob = self._document.load()
        found = self._read(blob, highest)
        if found is None or blob is None:
            return self.change(lambda generations: generations)
        self._raise(Mark.of(found.ver, blob))
        # The version read before the load: a change in between is only noticed once more.
        self._seen = (version, found)
        return found

    def change(self, how: Callable[[Generations], Generations]) -> Generations:
        """Publish `how` of the document and return what was published.

        Raises
        ------
        StoreUnavailable
            It could not be written; nothing is changed.
        """
        for attempt in range(_ATTEMPTS):
            # Before the load: what other threads see as soon as this one has made it is no sign of an earlier one.
            was_seen = self._seen is not None
            highest = self._known()
            blob = self._document.load()
            found = self._read(blob, highest)
            base = found or Generations(self._random_bytes(16), highest.ver + 1)
            changed = how(base)
            if found is not None and changed is found:
                return found
            new = protect_document(self._mac_key, self._context, changed.encode())
            if self._document.replace(new, expected=blob):
                if found is None and (blob is not None or was_seen or highest.ver):
                    self._on_loss(
                        "what was invalidated is not known any more, since its record was "
                        f"{'removed' if blob is None else 'damaged or put back'}: the answers stored before are misses"
                    )
                self._seen = None
                self._raise(Mark.of(changed.ver, new))
                return changed
            time.sleep(host.chance.uniform(0, 0.002 * (attempt + 1)))
        raise StoreUnavailable("the generation document changes faster than it can be written: try again")

    def _known(self) -> Mark:
        """Return the mark of the highest document that this process or, before it, this machine has seen."""
        self._note(self._remembers.read())
        return self._highest

    def _raise(self, mark: Mark) -> None:
        if self._note(mark):
            self._remembers.keep(mark)

    def _note(self, mark: Mark) -> bool:
        with self._lock:
            is_higher = self._highest.ver < mark.ver
            if is_higher:
                self._highest = mark
            return is_higher

    def _read(self, blob: bytes | None, highest: Mark) -> Generations | None:
        if blob is None:
            return None
        try:
            found = decode_generations(verify_document(self._mac_key, self._context, blob))
        except (DecryptionError, EntryUndecodable):
            return None
        # Its counter is never lowered nor used twice: this one was put back.
        return None if Mark.of(found.ver, blob).is_behind(highest) else found
