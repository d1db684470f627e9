"""Alert rules over a sliding window: pure, but for the counts that they keep. The clock is the caller's.

Time is monotonic and counts sleep: a clock that is set changes nothing, and what was before a night is in no window. A
window is told in sixtieths: what a rule sees is exact to one of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from genai_cache_magic.events import CallRecord, Outcome, Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.events import Event
    from genai_cache_magic.monitoring.tiers import TierState
    from genai_cache_magic.settings.monitoring import AlertRule

LEAST_CALLS: Final = 10
"""Of fewer calls no rate is told: the first call of a day is always a miss."""

HOLD_S: Final = 30.0
"""An alert lasts at least so long [s], or one that is on the brink would be told again and again."""

_SLOTS: Final = 60
_LONGEST_STEP_S: Final = 5.0
"""Between two looks at a tier no more time is taken to have passed [s]: a laptop that slept saw nothing."""

_HOUR_S: Final = 3600
_MISSES: Final = frozenset({Outcome.MISS, Outcome.STALE, Outcome.REFUSED})


@dataclass(slots=True)
class _Slot:
    """What a sixtieth of a window held; `queue` is the lowest number that waited, None: nobody looked."""

    number: int
    hits: int = 0
    misses: int = 0
    spent: float = 0.0
    failures: int = 0
    away_s: float = 0.0
    queue: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An alert came into force, or ended; `value` is what was seen."""

    rule: AlertRule
    is_firing: bool
    value: float


@dataclass(slots=True)
class RuleState:
    """One rule, what it sees, and since when it is in force [s]; None: it is not."""

    rule: AlertRule
    since_s: float | None = None
    value: float | None = None
    _slots: deque[_Slot] = field(default_factory=deque, repr=False)
    _looked_s: float | None = None

    def note(self, event: Event, now_s: float) -> None:
        """Count `event`."""
        if isinstance(event, Trouble):
            if event.error == "DecryptionError":
                self._slot(now_s).failures += 1
            return
        self._note_call(event, self._slot(now_s))

    @staticmethod
    def _note_call(call: CallRecord, slot: _Slot) -> None:
        slot.hits += call.outcome is Outcome.HIT
        slot.misses += call.outcome in _MISSES
        slot.spent += float(call.spent_usd or 0)

    def look(self, tiers: Sequence[TierState], now_s: float) -> None:
        """Take note of how the tiers are now."""
        slot = self._slot(now_s)
        step_s = 0.0 if self._looked_s is None else min(max(0.0, now_s - self._looked_s), _LONGEST_STEP_S)
        self._looked_s = now_s
        slot.away_s += step_s * any(tier.is_away for tier in tiers)
        waiting = [tier.waiting for tier in tiers if tier.waiting is not None]
        if waiting:
            slot.queue = sum(waiting) if slot.queue is None else min(slot.queue, sum(waiting))

    def decide(self, now_s: float) -> Change | None:
        """Return whether the rule came into force now, or ended; None: it is as it was."""
        self._slot(now_s)
        self.value = self._measured()
        is_above = self.value is not None and self.value > self.rule.threshold
        if is_above == (self.since_s is not None):
            return None
        if self.since_s is not None and now_s - self.since_s < HOLD_S:
            return None
        self.since_s = now_s if is_above else None
        return Change(self.rule, is_above, self.value or 0.0)

    def _measured(self) -> float | None:
        slots = self._slots
        match self.rule.name:
            case "HighMissRate":
                hits, misses = sum(slot.hits for slot in slots), sum(slot.misses for slot in slots)
                return misses / (hits + misses) if hits + misses >= LEAST_CALLS else None
            case "HighCost":
                return sum(slot.spent for slot in slots) * _HOUR_S / self.rule.window
            case "L2Offline":
                return min(1.0, sum(slot.away_s for slot in slots) / self.rule.window)
            case "QueueGrowing":
                return self._grown()
            case _:
                return float(sum(slot.failures for slot in slots))

    def _grown(self) -> float | None:
        """Return by how much the lowest of the newer half is above that of the older: what drains is no growth."""
        middle = self._slots[-1].number - _SLOTS // 2
        seen = [(slot.number, slot.queue) for slot in self._slots if slot.queue is not None]
        older = [queue for number, queue in seen if number <= middle]
        newer = [queue for number, queue in seen if number > middle]
        return float(min(newer) - min(older)) if older and newer else None

    def _slot(self, now_s: float) -> _Slot:
        """Return the slot of this moment, and forget those that are outside of the window."""
        number = int(now_s * _SLOTS / self.rule.window)
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
        while self._slots[0].number <= self._slots[-1].number - _SLOTS:
            self._slots.popleft()
        return self._slots[-1]
