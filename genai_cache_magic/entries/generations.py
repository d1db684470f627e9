"""The live generation document of a namespace: read when it changed, changed by compare-and-swap."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from genai_cache_magic.core.validity import Generations, decode_generations
from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.base import Document

_ATTEMPTS = 50


class LiveGenerations:
    """One namespace's generation document, kept as fresh as its store's version token.

    A document that is lost, damaged or forged is replaced by one with a new root: everything stored
    before becomes a miss, and nothing stale is served.
    """

    def __init__(
        self,
        document: Document,
        *,
        namespace: str,
        mac_key: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._document = document
        self._context = f"generations/{namespace}"
        self._mac_key = mac_key
        self._random_bytes = random_bytes
        self._seen: tuple[object, Generations] | None = None  # replaced as a whole, so needs no lock

    def current(self) -> Generations:
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
        found = self._read(self._document.load())
        if found is None:
            return self.change(lambda generations: generations)
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
            blob = self._document.load()
            found = self._read(blob)
            base = found or Generations(self._random_bytes(16), self._highest_seen() + 1)
            changed = how(base)
            if found is not None and changed is found:
                return found
            new = protect_document(self._mac_key, self._context, changed.encode())
            if self._document.replace(new, expected=blob):
                self._seen = None
                return changed
            time.sleep(random.uniform(0, 0.002 * (attempt + 1)))  # noqa: S311 - jitter, not a secret
        raise StoreUnavailable("the generation document changes faster than it can be written: try again")

    def _highest_seen(self) -> int:
        return self._seen[1].ver if self._seen else 0

    def _read(self, blob: bytes | None) -> Generations | None:
        if blob is None:
            return None
        try:
            return decode_generations(verify_document(self._mac_key, self._context, blob))
        except (DecryptionError, EntryUndecodable):
            return None
