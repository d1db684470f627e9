"""A document of a shared tier as this machine last saw it: reading it never waits.

Whoever wants it fresh asks for that, at a place where waiting is allowed, and is told how old it is everywhere else.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.base import Document


_READS: Final = 8
"""How often it is read again after another thread was faster: then what that one has seen stays."""


class SnapshotDocument:
    """A ``Document`` whose readers get what was last seen, and whose writers go to the original.

    Where neither the original nor a copy was ever seen, a first value can be written all the same: it is
    provisional, and gives way to whatever is found of the original, be it that there is none.

    The processes of a machine share the copy. One that finds another value there can't tell which is later: it takes
    its own for as old as can be, so that whoever wants it fresh asks. So what one process publishes holds in the others
    at once.

    Parameters
    ----------
    original
        The document in the shared tier.
    copy
        Where the last one seen survives this process, and other processes of this machine find it.
    clock, wall_clock
        Seconds that never run backwards, and those since the epoch: a machine that slept has moved the second
        alone, so age goes by whichever says more.
    """

    def __init__(
        self,
        original: Document,
        copy: Document,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._original = original
        self._copy = copy
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = host.process_lock()
        self._value = copy.load()  # this and the following guarded by _lock
        self._copy_version: object = None
        self._token: object = None
        self._changes = 0
        self._confirms = 0
        self._confirmed: tuple[float, float] | None = None
        self._is_provisional = False
        self._sight: Callable[[bytes | None, bytes | None], None] = lambda *_: None

    def watched_by(self, sight: Callable[[bytes | None, bytes | None], None]) -> None:
        """Call `sight` with what was seen before and what is seen now, each time, before that is believed.

        Whatever ``StoreUnavailable`` it raises is passed on, and nothing is believed.
        """
        self._sight = sight

    @property
    def age_s(self) -> float:
        """How long ago the original was seen to be as it is here [s]; infinite if it never was, or that is doubtful."""
        with self._lock:
            confirmed = self._confirmed
        if confirmed is None or self._is_doubtful():
            return float("inf")
        return max(self._clock() - confirmed[0], self._wall_clock() - confirmed[1], 0.0)

    @property
    def is_provisional(self) -> bool:
        """Whether the value was never the original's: it was written while neither that nor a copy was ever seen."""
        with self._lock:
            return self._is_provisional

    def version(self) -> object:
        """Return a token that differs after every change seen here; None if no value was ever seen."""
        with self._lock:
            return None if self._value is None else self._changes

    def load(self) -> bytes | None:
        """Return the last value seen."""
        with self._lock:
            return self._value

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the original is still `expected`; return whether it was written.

        Raises
        ------
        StoreUnavailable
            It can't be reached, and there is a value already: nothing is changed.
        """
        begun = self._begun()
        try:
            is_written = self._original.replace(new, expected=expected)
        except StoreUnavailable:
            with self._lock:
                if expected is not None or self._value is not None:
                    raise
                self._let_count(new)
            return True
        if is_written:
            self._sight(self.load(), new)
            with self._lock:
                if not self._is_overtaken(new, begun):
                    self._token = None  # not known yet; the next look confirms it
                    self._is_provisional = False
                    self._confirm(new)
                    return True
                self._confirmed = None  # until it is read, nobody knows which is the later one
            with suppress(StoreUnavailable):
                self._fetch(None)
        else:
            self._fetch(None)
        return is_written

    def begin(self, new: bytes) -> bool:
        """Let `new` count until the original is seen, if there is no value; return whether it does. Asks nobody."""
        with self._lock:
            if self._value is not None:
                return False
            self._let_count(new)
            return True

    def _let_count(self, new: bytes) -> None:
        """Take `new` for the value until the original is seen; the caller holds the lock."""
        self._is_provisional = True
        self._value = new  # not kept: whoever comes next takes what is kept for the original's
        self._changes += 1
        self._confirmed = None

    def look(self) -> None:
        """See whether the original has changed, and if so how; raises ``StoreUnavailable``."""
        self.seen(self._original.version())

    def seen(self, token: object) -> None:
        """Take note that the original's version is `token` now (None: it is absent); it is read if that is new.

        Raises
        ------
        StoreUnavailable
            It can't be read; what was seen stays as old as it is.
        """
        with self._lock:
            is_same = token is not None and token == self._token and not self._is_provisional
            if is_same:
                self._confirmed = self._now()
            value = self._value
        if not is_same:
            self._fetch(token)
            return
        if self._is_doubtful():
            self._put_right()
        self._sight(value, value)

    def _fetch(self, token: object) -> None:
        for _ in range(_READS):
            begun, now = self._begun(), self._now()  # before the read: what is read is at least as fresh
            value = self._original.load()
            self._sight(self.load(), value)
            with self._lock:
                if not self._is_overtaken(value, begun):
                    self._token = None if value is None else token
                    self._is_provisional = False
                    self._confirm(value)
                    self._confirmed = now
                    return
            token = None  # of another value than the next one, perhaps

    def _begun(self) -> int:
        with self._lock:
            return self._confirms

    def _is_overtaken(self, value: bytes | None, begun: int) -> bool:
        """Whether another thread has seen or written another value since this one had `begun`; holds the lock.

        Which of the two is the later one can't be told then.
        """
        return self._confirms != begun and self._value != value

    def _is_doubtful(self) -> bool:
        """Whether another process of this machine has seen another value than this one has."""
        try:
            version = self._copy.version()
            with self._lock:
                if version == self._copy_version:
                    return False
            value = self._copy.load()
        except StoreUnavailable:
            return False
        with self._lock:
            if value is not None and value != self._value:
                return True
            self._copy_version = version
        return False

    def _put_right(self) -> None:
        """Keep a value that the original was just seen to have, in place of an older one that a slower process kept."""
        with self._lock:
            if self._value is not None:
                self._keep(self._value, None)

    def _confirm(self, value: bytes | None) -> None:
        """Take `value` for the original's; the caller holds the lock."""
        self._confirmed = self._now()
        self._confirms += 1
        self._see(value)

    def _see(self, value: bytes | None) -> None:
        """Take `value` for the last one seen, and keep it; the caller holds the lock."""
        if value == self._value:
            return
        before, self._value = self._value, value
        self._changes += 1
        if value is not None:
            self._keep(value, before)

    def _keep(self, value: bytes, before: bytes | None) -> None:
        try:
            if not self._copy.replace(value, expected=before):
                kept = self._copy.load()
                if kept != value:
                    self._copy.replace(value, expected=kept)
        except StoreUnavailable:
            return  # a copy is for the next process without a network; this one has the value

    def _now(self) -> tuple[float, float]:
        return self._clock(), self._wall_clock()
