"""What is said of runs: a run in a line, its calls, and what tells two apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.ledger.team_runs import headline_of
from genai_cache_magic.runs.differences import differing_parts
from genai_cache_magic.runs.lines import CallName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from genai_cache_magic.ledger.run_rows import RunCall
    from genai_cache_magic.ledger.team_runs import Headline

EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line.

    Attributes
    ----------
    calls
        Number of different calls: one that several cells ask counts once, as in a file of the run.
    spent_usd, saved_usd
        What is known of it [USD].
    """

    name: str
    calls: int
    models: tuple[str, ...]
    first: date
    last: date
    spent_usd: Decimal
    saved_usd: Decimal
    is_pinned: bool
    persons: tuple[str, ...] = field(repr=False, default=())
    surroundings: Mapping[str, str] = field(repr=False, default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        fields = {**asdict(self), "first": self.first.isoformat(), "last": self.last.isoformat()}
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class Run:
    """A run and its calls, in the order in which they were asked last."""

    summary: RunSummary
    calls: tuple[RunCall, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; what only this machine can use is left out."""
        return {**self.summary.as_json(), "calls": [call_as_json(call) for call in self.calls]}


@dataclass(frozen=True, slots=True)
class Differing:
    """Two calls, one of each run, that ask nearly the same, and the parts in which they differ."""

    one: RunCall
    other: RunCall
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunDiff:
    """What tells two runs apart.

    Attributes
    ----------
    same
        Number of calls that both asked and were answered alike.
    changed
        Calls that both asked and were answered differently.
    differing
        Calls of both that ask nearly the same.
    only_one, only_other
        Calls without their like.
    """

    same: int
    changed: tuple[Differing, ...]
    differing: tuple[Differing, ...]
    only_one: tuple[RunCall, ...]
    only_other: tuple[RunCall, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing tells them apart."""
        return not (self.changed or self.differing or self.only_one or self.only_other)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""

        def pairs(found: Iterable[Differing]) -> list[dict[str, Any]]:
            return [
                {"one": call_as_json(d.one), "other": call_as_json(d.other), "differs": list(d.parts)} for d in found
            ]

        return {
            "same": self.same,
            "changed": pairs(self.changed),
            "differing": pairs(self.differing),
            "only_one": [call_as_json(call) for call in self.only_one],
            "only_other": [call_as_json(call) for call in self.only_other],
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What was pinned, exported or imported.

    Attributes
    ----------
    count
        Number of calls.
    changed
        Of so many the answer is another than the run got.
    left_out
        What is not among them, of a run or of a recording of another tool: how many, by what they are.
    is_told
        Whether the team has what was pinned; False: it is told as soon as it can be; None: it is this machine's alone.
    similar
        Of so many the answer is that to another question, much alike.
    """

    count: int
    changed: int = 0
    left_out: Mapping[str, int] = field(repr=False, default_factory=dict)
    is_told: bool | None = None
    similar: int = 0


def summary_of(name: str, calls: Sequence[RunCall], *, is_pinned: bool) -> RunSummary:
    """Return `calls` in a line; there is one at least."""
    return summary_from(headline_of(name, calls), is_pinned=is_pinned)


def summary_from(line: Headline, *, is_pinned: bool) -> RunSummary:
    """Return what a machine tells of a run in a line."""
    first, last = (EPOCH + timedelta(days=day) for day in (line.first, line.last))
    return RunSummary(
        line.name,
        line.calls,
        line.models,
        first,
        last,
        line.spent_usd,
        line.saved_usd,
        is_pinned,
        line.persons,
        line.surroundings,
    )


def compared(one: Iterable[RunCall], other: Iterable[RunCall]) -> RunDiff:
    """Return what tells two runs apart: calls are alike by request and sample, the others by their nearest."""
    mine, theirs = ({name_of(call): call for call in calls} for calls in (one, other))
    both = mine.keys() & theirs.keys()
    changed = [Differing(mine[name], theirs[name], ("answer",)) for name in mine if name in both]
    changed = [pair for pair in changed if _is_answered_otherwise(pair.one, pair.other)]
    left = [call for name, call in mine.items() if name not in both]
    right = [call for name, call in theirs.items() if name not in both]
    ranked = sorted(
        (call.cell != near.cell, len(parts := differing_parts(call.parts, near.parts)), n, m, parts)
        for n, call in enumerate(left)
        for m, near in enumerate(right)
        if call.surface == near.surface and call.parts and near.parts
    )
    pairs: dict[int, tuple[int, tuple[str, ...]]] = {}
    taken: set[int] = set()
    for _, _, n, m, parts in ranked:
        if n not in pairs and m not in taken:
            pairs[n] = (m, parts)
            taken.add(m)
    return RunDiff(
        same=len(both) - len(changed),
        changed=tuple(changed),
        differing=tuple(Differing(left[n], right[m], parts) for n, (m, parts) in sorted(pairs.items())),
        only_one=tuple(call for n, call in enumerate(left) if n not in pairs),
        only_other=tuple(call for m, call in enumerate(right) if m not in taken),
    )


def _is_answered_otherwise(one: RunCall, other: RunCall) -> bool:
    """Return whether two calls that ask the same got other answers; whose question it answered is part of one."""
    return one.is_similar != other.is_similar or (one.content != other.content and one.asked == other.asked)


def name_of(call: RunCall) -> CallName:
    """Return by what a run file finds `call`: calls of several cells that ask the same have one name."""
    return CallName(call.digest, call.sample)


def call_as_json(call: RunCall) -> dict[str, Any]:
    """Return plain values of what may be told of a call."""
    left_out = {"run", "passing", "entry_id", "parts", "person", "surroundings", "day", "at_ms"}
    fields = {name: value for name, value in asdict(call).items() if name not in left_out}
    day = (EPOCH + timedelta(days=call.day)).isoformat()
    return {
        "day": day,
        **{name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in fields.items()},
    }
