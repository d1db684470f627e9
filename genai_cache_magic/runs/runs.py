"""What can be done with named runs: list and show them, compare two, pin one, carry one to somebody else."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.entries.entries import Found
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ledger.run_rows import RunCall, RunNote
from genai_cache_magic.runs.differences import differing_parts
from genai_cache_magic.runs.foreign import foreign_calls, likely_source
from genai_cache_magic.runs.lines import CallName, RecordedCall
from genai_cache_magic.runs.run_file import RunFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.policy import Fetch
    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.books import Books
    from genai_cache_magic.providers.base import Origins

_EPOCH = date(1970, 1, 1)
_IMPORTED = "imported"
_MOST_NAMED = 5


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
        What a recording of another tool holds beside them: how many, by what they are.
    """

    count: int
    changed: int = 0
    left_out: Mapping[str, int] = field(repr=False, default_factory=dict)


class Runs:
    """The named runs of a namespace.

    Parameters
    ----------
    pins
        The directory of pinned runs; None for a cache in memory, which has none.
    seal_key
        What seals them; None where encryption is off.
    find
        Looks answers up by their ids.
    origins
        Returns what is known of origins, by which model calls in recordings of others are recognised.
    """

    def __init__(  # noqa: PLR0913 - the parts that it works on, by name
        self,
        accounts: Accounts,
        books: Books,
        *,
        pins: Path | None,
        seal_key: bytes | None,
        find: Callable[[Iterable[EntryId]], Mapping[EntryId, Found | Fetch]],
        origins: Callable[[], Origins],
    ) -> None:
        self._accounts = accounts
        self._books = books
        self._pins = pins
        self._seal_key = seal_key
        self._find = find
        self._origins = origins

    def list(self) -> tuple[RunSummary, ...]:
        """Return every run, by name."""
        self._books.flush()
        by_name: dict[str, list[RunCall]] = {}
        for call in self._accounts.calls_of_runs():
            by_name.setdefault(call.run, []).append(call)
        return tuple(self._summary(name, calls) for name, calls in sorted(by_name.items()))

    def show(self, name: str) -> Run:
        """Return one run.

        Raises
        ------
        ConfigurationError
            There is no run of that name; the message names those that there are.
        """
        self._books.flush()
        calls = self._accounts.calls_of_runs(name)
        if not calls:
            known = ", ".join(run.name for run in self.list()) or "none: give a cell --run NAME"
            raise ConfigurationError(f"there is no run {name!r}; known are {known}")
        return Run(self._summary(name, calls), tuple(calls))

    def diff(self, one: str, other: str) -> RunDiff:
        """Compare two runs; raises as `show`."""
        return compared(self.show(one).calls, self.show(other).calls)

    def pinned(self, name: str) -> RunFile | None:
        """Return the bundle of a pinned run, None if it isn't pinned."""
        file = self._bundle(name)
        return file if file is not None and file.path.exists() else None

    def pin(self, name: str) -> Written:
        """Keep the answers of a run as they are now: `replay` takes them from there, whatever becomes of the entries.

        Raises
        ------
        ConfigurationError
            There is no such run, or an answer of it is not in the cache any more.
        """
        file = self._bundle(name)
        if file is None:
            raise ConfigurationError("a cache in memory pins nothing: use one on disk")
        recorded, changed = self._recorded(name)
        file.replace(recorded)
        return Written(len(recorded), changed)

    def write_bundle(self, name: str, path: Path) -> None:
        """Write the file from which a run is replayed: that of its pin, else its answers as they are now; as `pin`."""
        pinned = self.pinned(name)
        if pinned is not None:
            shutil.copyfile(pinned.path, path)
            return
        recorded, _ = self._recorded(name)
        RunFile(path, seal_key=self._key, is_sealed=self._seal_key is not None).replace(recorded)

    def unpin(self, name: str) -> bool:
        """Remove what `pin` made; return whether there was anything."""
        file = self.pinned(name)
        if file is not None:
            file.path.unlink(missing_ok=True)
        return file is not None

    def export(self, name: str, path: str | Path, *, plaintext: bool = False) -> Written:
        """Write a run into one file that others can import or name; raises as `pin`.

        It is sealed for those who share the namespace unless `plaintext`.
        """
        if not plaintext and self._seal_key is None:
            raise ConfigurationError("encryption is off, so nothing can be sealed: export with --plaintext")
        recorded, changed = self._recorded(name)
        file = RunFile(Path(path).absolute(), seal_key=self._key, is_sealed=not plaintext)
        file.replace(recorded)
        return Written(len(recorded), changed)

    def import_(self, path: str | Path, name: str, *, source: str = "", log: str | Path | None = None) -> Written:
        """Take over a run from a file, every line of which is checked first, as a pinned one: all of it or nothing.

        Nothing of it enters the cache: it answers in mode ``replay`` of that run alone.

        Parameters
        ----------
        source
            Who wrote the file, if it is none of ours: ``vcr`` or ``cachy``. What is no model call that we know, and
            what may not be stored, is left out and counted.
        log
            What ``CACHY_LOG`` named when pycachy recorded: it alone tells what was asked.

        Raises
        ------
        ConfigurationError
            The file can't be used, or there is another run of that name.
        """
        calls, left_out = self._calls_in(Path(path).absolute(), source, log)
        target = self._bundle(name)
        if target is None:
            raise ConfigurationError("a cache in memory imports nothing: use one on disk")
        self._books.flush()
        if any(call.outcome != _IMPORTED for call in self._accounts.calls_of_runs(name)):
            raise ConfigurationError(f"there is a run {name!r} of your own: import it under another name, with --as")
        target.replace(calls)
        today = self._books.today()
        self._accounts.replace_run(name, [_imported(call, name, today) for call in calls])
        return Written(len(calls), left_out=left_out)

    def _calls_in(
        self, path: Path, source: str, log: str | Path | None
    ) -> tuple[Sequence[RecordedCall], Mapping[str, int]]:
        if source:
            found = foreign_calls(path, source, None if log is None else Path(log).absolute(), self._origins())
            return found.calls, found.left_out
        file = RunFile(path, label=path.name, seal_key=self._key)
        try:
            file.load()
        except ConfigurationError as exc:
            if (likely := likely_source(path)) and path.exists():
                raise ConfigurationError(
                    f"{exc}; is it a recording of {likely}? Then import it with --from {likely}"
                ) from exc
            raise
        return file.calls(), {}

    def _bundle(self, name: str) -> RunFile | None:
        if self._pins is None:
            return None
        path = self._pins / f"{self._accounts.label_of_run(name).hex()}.run"
        return RunFile(
            path, label=f"pinned run {name}", seal_key=self._key, is_sealed=self._seal_key is not None, is_private=True
        )

    def _key(self) -> bytes:
        if self._seal_key is None:
            raise ConfigurationError("it is sealed, and encryption is off here: ask for a plain one")
        return self._seal_key

    def _recorded(self, name: str) -> tuple[Sequence[RecordedCall], int]:
        """Return the answers of a run as they are now, and how many are others than it got."""
        calls = self.show(name).calls
        wanted = {call.entry_id for call in calls if call.entry_id}  # one that was imported has no entry
        names = {name_of(call) for call in calls}
        found = self._find(wanted)  # type: ignore[arg-type]  # ids, as they were noted
        bundle = self.pinned(name)
        if bundle is not None:
            bundle.load()
        recorded: dict[CallName, RecordedCall] = {}
        changed: set[CallName] = set()
        missing: dict[CallName, RunCall] = {}
        for call in calls:
            one, is_same = self._answer(call, found, bundle)
            if one is None:
                missing[name_of(call)] = call
                continue
            recorded[one.name] = one
            if not is_same:
                changed.add(one.name)
        if missing:
            named = ", ".join(f"{call.model} {call.digest[:8]}" for call in [*missing.values()][:_MOST_NAMED])
            raise ConfigurationError(
                f"{len(missing)} of {len(names)} answers of run {name!r} are not in the cache any more ({named}): "
                "execute the run again, in mode use"
            )
        return list(recorded.values()), len(changed)

    @staticmethod
    def _answer(
        call: RunCall, found: Mapping[EntryId, Found | Fetch], bundle: RunFile | None
    ) -> tuple[RecordedCall | None, bool]:
        name = name_of(call)
        one = found.get(call.entry_id)  # type: ignore[call-overload]  # an id, as it was noted
        if not isinstance(one, Found):
            pinned = None if bundle is None else bundle.find(name)
            return pinned, True
        asked = one.sealed.account().asked or call.asked
        content = hashlib.sha256(one.response.body).hexdigest()
        is_same = asked != call.asked or content == call.content
        return RecordedCall(name, call.surface, call.model, one.response, asked), is_same

    def _summary(self, name: str, calls: Sequence[RunCall]) -> RunSummary:
        days = [_EPOCH + timedelta(days=call.day) for call in calls]
        return RunSummary(
            name=name,
            calls=len({name_of(call) for call in calls}),
            models=tuple(sorted({call.model for call in calls})),
            first=min(days),
            last=max(days),
            spent_usd=sum((call.spent_usd or Decimal(0) for call in calls), Decimal(0)),
            saved_usd=sum((call.saved_usd or Decimal(0) for call in calls), Decimal(0)),
            is_pinned=self.pinned(name) is not None,
            persons=tuple(sorted({call.person for call in calls if call.person})),
            surroundings=dict(calls[-1].surroundings),
        )


def compared(one: Iterable[RunCall], other: Iterable[RunCall]) -> RunDiff:
    """Return what tells two runs apart: calls are alike by request and sample, the others by their nearest."""
    mine, theirs = ({name_of(call): call for call in calls} for calls in (one, other))
    both = mine.keys() & theirs.keys()
    changed = [Differing(mine[name], theirs[name], ("answer",)) for name in mine if name in both]
    changed = [
        pair for pair in changed if pair.one.content != pair.other.content and pair.one.asked == pair.other.asked
    ]
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


def name_of(call: RunCall) -> CallName:
    """Return by what a run file finds `call`: calls of several cells that ask the same have one name."""
    return CallName(call.digest, call.sample)


def call_as_json(call: RunCall) -> dict[str, Any]:
    """Return plain values of what may be told of a call."""
    left_out = {"run", "passing", "entry_id", "parts", "person", "surroundings", "day"}
    fields = {name: value for name, value in asdict(call).items() if name not in left_out}
    day = (_EPOCH + timedelta(days=call.day)).isoformat()
    return {
        "day": day,
        **{name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in fields.items()},
    }


def _imported(call: RecordedCall, run: str, day: int) -> RunNote:
    noted = RunCall(
        run=run,
        cell="",
        passing="",
        digest=call.name.digest,
        sample=call.name.sample,
        entry_id="",
        surface=call.surface,
        model=call.model,
        outcome=_IMPORTED,
        asked=call.asked,
        content="",
        day=day,
    )
    return RunNote(noted, call.request, call.response)
