"""The answers of a run as a file takes them: those that it got, as they are now, and what there is no answer to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from genai_cache_magic.entries.entries import Found
from genai_cache_magic.runs.lines import MAX_LINE_BYTES, CallName, RecordedCall, encode_line
from genai_cache_magic.runs.summaries import Written, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.policy import Fetch
    from genai_cache_magic.ledger.run_rows import RunCall
    from genai_cache_magic.runs.run_file import RunFile

_MOST_NAMED: Final = 5
_TOO_LONG: Final = f"longer than a line of a file may be ({MAX_LINE_BYTES // 1024**2} MiB)"


@dataclass(slots=True)
class Taken:
    """What is taken of a run.

    Attributes
    ----------
    recorded
        Its calls with their answers.
    changed
        Those of which the answer is another than the run got.
    left_out
        Calls that have no answer which a file could hold, and why.
    missing
        Calls whose answers were stored, and are gone.
    """

    recorded: dict[CallName, RecordedCall] = field(default_factory=dict, repr=False)
    changed: set[CallName] = field(default_factory=set, repr=False)
    left_out: dict[CallName, tuple[RunCall, str]] = field(default_factory=dict, repr=False)
    missing: dict[CallName, RunCall] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, calls: Iterable[RunCall], found: Mapping[EntryId, Found | Fetch], bundle: RunFile | None) -> Taken:
        """Return what there is of `calls`: of what was `found` in the cache, else of a `bundle` that keeps it."""
        taken = cls()
        for call in calls:
            taken._take(call, found.get(call.entry_id), bundle)  # type: ignore[call-overload]  # an id, as it was noted
        for name in taken.recorded:
            taken.left_out.pop(name, None)  # another cell that asks the same got an answer
            taken.missing.pop(name, None)
        return taken

    def _take(self, call: RunCall, one: Found | Fetch | None, bundle: RunFile | None) -> None:
        name = name_of(call)
        if not isinstance(one, Found):
            pinned = None if bundle is None else bundle.find(name)
            if pinned is not None:
                self.recorded[name] = pinned
            elif call.not_stored:
                self.left_out[name] = (call, call.not_stored)
            else:
                self.missing[name] = call
            return
        asked = one.sealed.account().asked or call.asked
        recorded = RecordedCall(name, call.surface, call.model, one.response, asked, is_similar=call.is_similar)
        if len(one.response.body) > MAX_LINE_BYTES // 2 and len(encode_line(recorded)) > MAX_LINE_BYTES:
            self.left_out[name] = (call, _TOO_LONG)
            return
        self.recorded[name] = recorded
        if asked == call.asked and hashlib.sha256(one.response.body).hexdigest() != call.content:
            self.changed.add(name)

    def written(self, *, is_told: bool | None = None) -> Written:
        """Return what is to be said of it."""
        named: dict[str, list[str]] = {}
        for call, why in self.left_out.values():
            named.setdefault(why, []).append(_named(call))
        left_out = {f"{why}: {in_short(names)}": len(names) for why, names in sorted(named.items())}
        similar = sum(call.is_similar for call in self.recorded.values())
        return Written(len(self.recorded), len(self.changed), left_out, is_told, similar)

    @property
    def missing_in_words(self) -> str:
        """What is gone, by name."""
        return in_short([_named(call) for call in self.missing.values()])


def in_short(names: list[str]) -> str:
    """Return the first of `names`, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _named(call: RunCall) -> str:
    return f"{call.model} {call.digest[:8]}"
