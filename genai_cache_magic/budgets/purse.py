"""The purse of a budget: what is spent, reserved and stopped, for all threads and processes of its scope.

Five numbers in a small file of the user's alone, changed under a lock, so that no two calls reserve the same money.
It is beside what processes tell of their calls (`calls/reports.py`), and goes with it. Money is counted in whole
10^-9 USD.

bytes  0-7    spent           what calls have cost, unknown prices as they were reserved
bytes  8-15   reserved        for calls on their way; for ever, if their process was killed
bytes 16-23   in flight       number of those calls
bytes 24-31   stopped         number of calls that were not made
bytes 32-39   unknown         number of calls whose price nobody knows
"""

from __future__ import annotations

import os
import struct
from collections import deque
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NUMBERS: Final = struct.Struct("<5q")
_PATIENCE_S: Final = 10.0
"""How long other processes may hold the file [s]; each does so for a fraction of a millisecond."""
_MOST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Sums:
    """What is in a purse [1e-9 USD], and numbers of calls."""

    spent: int = 0
    reserved: int = 0
    in_flight: int = 0
    stopped: int = 0
    unknown: int = 0

    @property
    def committed(self) -> int:
        """What is spent or reserved."""
        return self.spent + self.reserved


class Purse:
    """One purse, as one process sees it. Safe to share between threads and by forked children.

    Where its file can't be used, this process goes on with what it knows, and whoever listens hears of that once.

    Parameters
    ----------
    path
        Its file, made when it is first used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tell: Callable[[str], None] = lambda _: None
        self._lock = host.process_lock()
        self._pid = os.getpid()
        self._known = Sums()  # guarded by _lock, like all below
        self._is_busy = False
        self._is_told = False
        self._late: deque[Callable[[Sums], Sums]] = deque()

    def tells(self, tell: Callable[[str], None]) -> None:
        """Let `tell` hear of trouble from now on."""
        self._tell = tell

    def reserve(self, amount: int, *, limit: int) -> tuple[bool, Sums]:
        """Set `amount` aside unless more than `limit` would be committed; return whether it was, and what was there."""
        before = Sums()
        is_reserved = False

        def change(sums: Sums) -> Sums:
            nonlocal before, is_reserved
            before, is_reserved = sums, sums.committed + amount <= limit
            if not is_reserved:
                return replace(sums, stopped=sums.stopped + 1)
            return replace(sums, reserved=sums.reserved + amount, in_flight=sums.in_flight + 1)

        self._change(change)
        return is_reserved, before

    def settle(self, amount: int, cost: int | None) -> None:
        """Put what a call has cost in the place of what was reserved for it; None is unknown: all of it."""
        spent = amount if cost is None else cost

        def change(sums: Sums) -> Sums:
            return replace(
                sums,
                spent=min(sums.spent + spent, _MOST),
                reserved=max(0, sums.reserved - amount),
                in_flight=max(0, sums.in_flight - 1),
                unknown=sums.unknown + (cost is None),
            )

        self._change(change)

    def stop(self) -> Sums:
        """Count a call that is not made for another reason; return what is there."""
        return self._change(lambda sums: replace(sums, stopped=sums.stopped + 1))

    def read(self) -> Sums:
        """Return what is there."""
        return self._change(lambda sums: sums)

    def _change(self, change: Callable[[Sums], Sums]) -> Sums:
        with self._lock:
            if self._pid != os.getpid():
                # A forked child: what its parent was at in that moment is its parent's.
                self._pid, self._is_busy = os.getpid(), False
                self._late.clear()
            self._late.append(change)
            if self._is_busy:  # the garbage collector ended a call in the middle of this: it comes with the next
                return self._known
            self._is_busy = True
            try:
                while self._late:
                    self._carry_out()
            finally:
                self._is_busy = False
            return self._known

    def _carry_out(self) -> None:
        """Do the changes that wait; the caller holds the lock of this process."""
        try:
            if not self._path.parent.is_dir():  # nothing is made anew of a scope that is gone
                raise FileNotFoundError(self._path.parent)
            with FileLock(self._path.with_suffix(".lock")).hold(timeout_s=_PATIENCE_S):
                descriptor = host.open_lock(self._path)
                try:
                    before = self._found(os.read(descriptor, _NUMBERS.size))
                    self._known = self._applied(before)
                    if self._known != before:
                        os.lseek(descriptor, 0, os.SEEK_SET)
                        os.write(descriptor, _NUMBERS.pack(*astuple(self._known)))
                finally:
                    os.close(descriptor)
        except (OSError, StoreUnavailable) as exc:
            self._known = self._applied(self._known)
            if not self._is_told:
                self._is_told = True
                self._tell(
                    f"the budget's file can't be used ({type(exc).__name__}): other processes of this cell are not "
                    "counted in; make room in the directory for temporary files"
                )

    def _found(self, blob: bytes) -> Sums:
        """Return what the file says; one that was lost says nothing, and then counts what this process last saw."""
        if len(blob) != _NUMBERS.size:
            return self._known
        return Sums(*_NUMBERS.unpack(blob))

    def _applied(self, sums: Sums) -> Sums:
        while self._late:
            sums = self._late.popleft()(sums)
        return sums
