"""The private directory of one namespace: made on first use, and made again as it was if somebody removes it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.disk.directory import device_of, ensure_private_directory, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genai_cache_magic.stores.base import Document


class Losses:
    """What was lost at rest, in sentences, until it can be told: not while a store is locked."""

    def __init__(self, on_loss: Callable[[str], None] = lambda _: None) -> None:
        self._on_loss = on_loss
        self._waiting: deque[str] = deque()
        self._covered: set[str] = set()

    def add(self, sentence: str, *, part: str = "") -> None:
        """Keep `sentence` for `tell`, unless it only says of a `part` what was said of the whole."""
        if part in self._covered:
            self._covered.discard(part)
        else:
            self._waiting.append(sentence)

    def cover(self, *parts: str) -> None:
        """Take it that of each of `parts` the next loss is told already."""
        self._covered.update(parts)

    def tell(self) -> None:
        """Pass on what waits."""
        while self._waiting:
            self._on_loss(self._waiting.popleft())


class Home:
    """The directory of one namespace, which the cache's own directory holds.

    Whatever lives in it calls `ensure` before it makes a file, so that nothing is ever stored in a directory that
    others may enter, or beside a keyset that can't open it.

    Parameters
    ----------
    root
        The cache's directory; what is missing of it and below is made for the user alone.
    inside
        The names below it.
    losses
        Hears of what was removed.

    Raises
    ------
    ConfigurationError, StoreUnavailable
        As `ensure_private_directory`.
    """

    def __init__(self, root: Path, *inside: tuple[str, ...], losses: Losses) -> None:
        self.root = root
        self._inside = inside
        self.losses = losses
        self.is_superseded = False
        self._records_lost = 0
        self._kept: tuple[Document, bytes, object] | None = None  # replaced as a whole, so needs no lock
        self.path = self._make()
        self._identity = identity_of(self.path)

    def keep(self, document: Document, content: bytes) -> None:
        """Let `document` hold `content` from now on, which it does already: if it is removed, write it again."""
        self._kept = (document, content, document.version())

    def is_in_place(self) -> bool:
        """Return whether the directory, and what is kept in it, are the ones that we know."""
        kept = self._kept
        return self._is_made() and (kept is None or _is_kept(kept[0], kept[2]))

    def ensure(self) -> None:
        """Make the directory and what is kept in it again if they are gone, and tell what was lost.

        Raises
        ------
        StoreUnavailable
            They can't be made, or somebody has begun the namespace anew: `is_superseded` from now on.
        """
        try:
            self.restore()
        finally:
            self.losses.tell()

    def note_lost_record(self, sentence: str) -> None:
        """Tell that the record of what was invalidated is lost, unless it went with the directory.

        Who empties a tier every hour is told so the first time, the second, the fourth: and each time how often it was.
        """
        self._records_lost += 1
        count = self._records_lost
        if count & (count - 1):
            return
        again = f" ({count} times by now: find out what empties it, such as FLUSHALL, eviction or a restart)"
        self.losses.add(sentence + (again if count > 1 else ""), part="generations")
        self.losses.tell()

    def restore(self) -> bool:
        """As `ensure`, but leave it to the caller to tell; return whether the directory was made again."""
        was_removed = not self._is_made()
        if was_removed:
            try:
                self._make()
            except ConfigurationError as error:
                raise StoreUnavailable(str(error)) from error
            self.losses.add(
                f"the cache directory {self.path} was removed while it was in use: it was made again, and what it held "
                "is gone"
            )
            self.losses.cover("database", "generations")
            self._identity = identity_of(self.path)
        if self._kept is not None:
            self._restore_kept(*self._kept, was_removed=was_removed)
        return was_removed

    def _restore_kept(self, document: Document, content: bytes, version: object, *, was_removed: bool) -> None:
        if not self.is_superseded and _is_kept(document, version):
            return
        if document.replace(content, expected=None) and not was_removed:
            self.losses.add(f"the keyset in {self.path} was removed while it was in use: it was written again")
        version = document.version()  # before the load: what changes in between is noticed once more
        found = document.load()
        if found is None:
            raise StoreUnavailable(f"what is in {self.path} is being removed: try again")
        if found != content:
            self.is_superseded = True
            raise StoreUnavailable(
                f"{self.path} was begun anew by another process, with other keys: run the cell again to use what "
                "is there now"
            )
        self._kept = (document, content, version)

    def _is_made(self) -> bool:
        # Where nothing was when we looked, nothing is no sign that all is as it was: somebody removes it meanwhile.
        return self._identity is not None and identity_of(self.path) == self._identity

    def _make(self) -> Path:
        path = ensure_private_directory(self.root)
        self.device = device_of(path)
        for names in self._inside:
            path = ensure_private_directory(path.joinpath(*names), device=self.device)
        return path


def _is_kept(document: Document, version: object) -> bool:
    """Return whether `document` has that version; it has none while it is absent."""
    return version is not None and document.version() == version
