"""Named counts, such as tokens by day: kept under keyed names, with sealed labels, so that a store reads neither."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from genai_cache_magic import host
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import ConfigurationError, DecryptionError
from genai_cache_magic.stores.guarded import guarded, guarded_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.stores.base import Counted, Counters
    from genai_cache_magic.stores.breaker import Breaker

T = TypeVar("T")

_NAME: Final = b"genai-cache counter name 1\0"
_FIELD: Final = b"genai-cache counter field 1\0"
_DEADLINE_S: Final = 10.0
"""How long counting may take [s]: it is what the caller wants, and no call to a model waits for it."""
_MOST: Final = 2**53
"""The largest amount at once: beyond it languages that other clients are written in lose digits."""


class Counts:
    """The counts of one namespace. Safe to share between threads and processes.

    Every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    counters
        Where they are.
    is_provisional
        Whether they are counted here only until the team can be asked: what this process adds is kept in mind for
        `hand_over`.
    """

    def __init__(self, counters: Counters, keys: Keys, *, is_provisional: bool = False) -> None:
        self._counters = counters
        self._seal = ColumnSeal(keys.mac_key)
        self._keyed: Callable[[bytes], str] = lambda what: entry_id(what, keys.id_key)
        self._namespace = keys.namespace.encode() + b"\0"
        self._lock = host.process_lock()
        self._owed: Counter[str] = Counter()  # guarded by _lock, like the next four
        self._made: Counter[tuple[str, str]] | None = Counter() if is_provisional else None
        self._unsure = 0  # how many may have been handed over or not
        self._made_by = host.process_id()
        self._heir: Counts | None = None

    def add(self, name: str, field: object, amount: int) -> int:
        """Add `amount` to the count of `field` (a text, or a date) under `name`, and return what it is then.

        Raises
        ------
        ConfigurationError
            The amount is no whole number, or the count would leave the range of 64 bits.
        """
        count = self._added(name, field, amount, self._counters.add)
        self._keep_in_mind(name, field, amount)
        return count

    def add_within(self, name: str, field: object, amount: int, *, at_most: int) -> tuple[bool, int]:
        """Add `amount` unless the count would be more than `at_most` then, in one step for all who share it.

        Returns whether it was added, and what the count is then; raises as `add`.
        """
        found = self._added(name, field, amount, partial(self._counters.add_within, at_most=at_most))
        if found[0]:
            self._keep_in_mind(name, field, amount)
        return found

    @property
    def made(self) -> int:
        """How many counts were added to provisionally, and are not known to be handed over."""
        with self._lock:
            return len(self._made or ()) + self._unsure if self._made_by == host.process_id() else 0

    def hand_over(self, heir: Counts) -> None:
        """Add what was added to these counts to those of the team, `heir`, once; whatever comes late is added there.

        Raises
        ------
        StoreUnavailable
            The team can't be asked. What was not added by then waits for the next time, but for the one that was on
            its way: nobody knows whether it was counted, and none is counted twice.
        """
        self._ensure_own()
        with self._lock:
            self._heir = heir
        while True:
            with self._lock:
                if not self._made:
                    return
                (name, field), amount = self._made.popitem()
                self._unsure += 1
            with suppress(ConfigurationError):  # the team's has no room for it, which is no reason to keep the others
                heir.add(name, field, amount)
                with self._lock:
                    self._unsure -= 1

    def _keep_in_mind(self, name: str, field: object, amount: int) -> None:
        if self._made is None:
            return
        self._ensure_own()
        with self._lock:
            heir = self._heir
            if heir is None:
                self._made[name, _field(field)] += amount
        if heir is not None:
            heir.add(name, field, amount)

    def _ensure_own(self) -> None:
        """Forget in a forked child what its parent has made, and hands over itself."""
        if self._made_by != host.process_id():
            with self._lock:
                self._made, self._unsure, self._made_by = Counter(), 0, host.process_id()

    def _added(self, name: str, field: object, amount: int, add: Callable[[str, str, int, bytes], T]) -> T:
        if type(amount) is not int or abs(amount) > _MOST:
            given = "this is a larger one" if type(amount) is int else f"not {type(amount).__name__}"
            raise ConfigurationError(f"hincrby counts whole numbers up to 2**53 at once, {given}")
        text = _field(field)
        name_id, field_id = self._ids(name, text)
        label = self._seal.seal(text.encode("utf-8", "surrogatepass"), place=_place(name_id, field_id))
        try:
            return add(name_id, field_id, amount, label)
        except ValueError as exc:
            raise ConfigurationError(f"hincrby: {exc}") from exc

    def read(self, name: str, *, start: object = None, end: object = None) -> dict[str, int]:
        """Return the counts under `name`, sorted by field, from `start` to `end`; what is not ours is left out."""
        first, last = ("" if bound is None else _field(bound) for bound in (start, end))
        name_id, _ = self._ids(name, "")
        found: dict[str, int] = {}
        for field_id, one in self._counters.read(name_id).items():
            try:
                field = self._seal.open(one.label, place=_place(name_id, field_id)).decode("utf-8", "surrogatepass")
            except (DecryptionError, UnicodeError):
                continue
            # As precise as both are: a moment is of its day, and a day of its month.
            if first[: len(field)] <= field and (not last or field[: len(last)] <= last):
                found[field] = one.count
        return dict(sorted(found.items()))

    def owe(self, name: str, amount: int) -> None:
        """Keep what could not be added under `name` for who adds to it next, while this cache is open."""
        with self._lock:
            self._owed[name] += amount

    def take_owed(self, name: str) -> int:
        """Return what is owed under `name`: it is the caller's to add now."""
        with self._lock:
            return self._owed.pop(name, 0)

    def _ids(self, name: str, field: str) -> tuple[str, str]:
        whose = self._namespace + name.encode("utf-8", "surrogatepass") + b"\0"
        return self._keyed(_NAME + whose), self._keyed(_FIELD + whose + field.encode("utf-8", "surrogatepass"))


class TeamCounters:
    """The counters of a shared tier, asked only while its breaker lets them, and for no longer than a deadline.

    Parameters
    ----------
    overdue
        Called when they take too long; returns what to say.
    """

    def __init__(self, inner: Counters, breaker: Breaker, *, overdue: Callable[[], str]) -> None:
        self._inner = inner
        self._breaker = breaker
        self._overdue = overdue

    def add(self, name: str, field: str, amount: int, label: bytes) -> int:
        """Return what the tier's does; raises ``StoreUnavailable`` also where nobody knows whether it was counted."""
        return self._soon(guarded_write(self._breaker)(lambda: self._inner.add(name, field, amount, label)))

    def add_within(self, name: str, field: str, amount: int, label: bytes, *, at_most: int) -> tuple[bool, int]:
        """Return what the tier's does; raises as `add`."""
        add = partial(self._inner.add_within, name, field, amount, label, at_most=at_most)
        return self._soon(guarded_write(self._breaker)(add))

    def read(self, name: str) -> dict[str, Counted]:
        """Return what the tier's does."""
        return self._soon(guarded(self._breaker)(lambda: self._inner.read(name)))

    def _soon(self, work: Callable[[], T]) -> T:
        return within(_DEADLINE_S, work, overdue=self._overdue)


def _field(value: object) -> str:
    """Return the field of a count that is a text, or a date; raises ``ConfigurationError`` for anything else."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise ConfigurationError(f"the field of a count is a text or a date, not {type(value).__name__}")


def _place(name_id: str, field_id: str) -> bytes:
    return f"count {name_id} {field_id}".encode()
