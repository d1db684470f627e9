"""What can be done with named runs: list and show them, compare two, pin one, carry one to somebody else."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from genai_cache_magic.core.ignoring import checked_rules, combined
from genai_cache_magic.core.options import checked_name
from genai_cache_magic.entries.entries import Found
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.ledger.run_rows import IMPORTED, IMPORTED_SIMILAR, RunCall, RunNote, merged
from genai_cache_magic.runs.foreign import foreign_calls, likely_source
from genai_cache_magic.runs.rekeying import under_rules
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.runs.summaries import Run, Written, compared, name_of, summary_from, summary_of
from genai_cache_magic.runs.taken import Taken
from genai_cache_magic.runs.team_pins import TeamPins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.policy import Fetch
    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.books import Books
    from genai_cache_magic.ledger.shared_books import SharedBooks
    from genai_cache_magic.ledger.sharing import Learnt
    from genai_cache_magic.ledger.team_runs import Headline
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.runs.lines import RecordedCall
    from genai_cache_magic.runs.summaries import RunDiff, RunSummary
    from genai_cache_magic.stores.base import Pages

_TELLING_S = 30.0
"""How long who pins a run waits until its team has it [s]."""


class Runs:
    """The named runs of a namespace.

    Parameters
    ----------
    pins
        The directory of pinned runs; None for a cache in memory, which has none.
    seal_key
        What seals them; None where encryption is off.
    find
        Looks answers up by their ids, here and with the team; also returns why the team could not be asked.
    origins
        Returns what is known of origins, by which model calls in recordings of others are recognised.
    ignore
        The configured rules about noise, under which what is imported is found.
    team
        What ties this machine's runs to those of its teammates; None where it works alone.

    Attributes
    ----------
    notes
        What there is to say of the last answer: how well the team's runs are known.
    """

    def __init__(  # noqa: PLR0913 - the parts that it works on, by name
        self,
        accounts: Accounts,
        books: Books,
        *,
        pins: Path | None,
        seal_key: bytes | None,
        find: Callable[[Iterable[EntryId]], tuple[Mapping[EntryId, Found | Fetch], Sequence[str]]],
        origins: Callable[[], Origins],
        ignore: tuple[str, ...] = (),
        team: SharedBooks | None = None,
    ) -> None:
        self._accounts = accounts
        self._books = books
        self._pins = pins
        self._seal_key = seal_key
        self._find = find
        self._origins = origins
        self._ignore = ignore
        self._team = None if team is None else team.runs
        self._shared = team
        self._team_pins: TeamPins | None = None
        self.notes: tuple[str, ...] = ()

    def share_pins(self, bundles: Pages, seal: Seal, overdue: Callable[[], str]) -> None:
        """Pin for the whole team from now on: `bundles` keep the answers, sealed by `seal`; see `TeamPins`."""
        if self._shared is not None and self._pins is not None:
            self._team_pins = TeamPins(
                self._shared.sharing,
                bundles,
                seal,
                label=self._accounts.label_of_run,
                bundle=self._file_of,
                overdue=overdue,
            )
            self._shared.add(self._team_pins)

    def list(self) -> tuple[RunSummary, ...]:
        """Return every run, the team's included, by name."""
        self._books.flush()
        own: dict[str, list[RunCall]] = {}
        for call in self._accounts.calls_of_runs():
            own.setdefault(call.run, []).append(call)
        others: dict[str, list[Headline]] = {}
        notes: tuple[str, ...] = ()
        if self._team is not None:
            others, learnt = self._team.headlines()
            notes = _notes(learnt)
        is_pinned = self._pinned_ones()
        found = tuple(
            self._summary(name, own.get(name, []), others.get(name, []), is_pinned=is_pinned(name))
            for name in sorted({*own, *others})
        )
        self.notes = notes
        return found

    def show(self, name: str) -> Run:
        """Return one run: of each cell its last execution, on whichever machine of the team it was.

        Raises
        ------
        ConfigurationError
            There is no run of that name; the message names those that there are.
        """
        self._books.flush()
        calls = self._calls(name)
        if not calls:
            known = ", ".join(run.name for run in self.list()) or "none: give a cell --run NAME"
            raise ConfigurationError(f"there is no run {name!r}; known are {known}")
        notes = self.notes
        found = Run(summary_of(name, calls, is_pinned=self._pinned_ones()(name)), tuple(calls))
        self.notes = notes
        return found

    def _pinned_ones(self) -> Callable[[str], bool]:
        """Return what tells whether a run is pinned, by what is known now."""
        pins = self._team_pins
        if pins is None:
            return lambda name: self.pinned(name) is not None
        known, _ = pins.known()
        return lambda name: pins.is_pinned(name, known)

    def _summary(self, name: str, own: Sequence[RunCall], others: Sequence[Headline], *, is_pinned: bool) -> RunSummary:
        calls = own if not others or _is_imported(own) else [] if not own and len(others) == 1 else self._calls(name)
        return summary_of(name, calls, is_pinned=is_pinned) if calls else summary_from(others[0], is_pinned=is_pinned)

    def _calls(self, name: str) -> Sequence[RunCall]:
        """Return the calls of a run, of all machines; one that was imported here is what its file says."""
        own = self._accounts.calls_of_runs(name)
        self.notes = ()
        if self._team is None or _is_imported(own):
            return own
        others, learnt = self._team.calls(name)
        self.notes = _notes(learnt)
        return merged([*own, *others])

    def diff(self, one: str, other: str) -> RunDiff:
        """Compare two runs; raises as `show`."""
        return compared(self.show(one).calls, self.show(other).calls)

    def pinned(self, name: str) -> RunFile | None:
        """Return the bundle of a pinned run, None if it isn't pinned.

        Raises
        ------
        StoreUnavailable
            A teammate has pinned it, and its answers can't be fetched now.
        """
        if self._team_pins is not None:
            return self._team_pins.file(name)
        file = self._bundle(name)
        return file if file is not None and file.path.exists() else None

    def pin(self, name: str) -> Written:
        """Keep the answers of a run as they are now: `replay` takes them from there, whatever becomes of the entries.

        In a team it is pinned for all; where that can't be told now it is as soon as it can.

        Raises
        ------
        ConfigurationError
            There is no such run, or an answer of it is not in the cache any more.
        """
        file = self._bundle(name)
        if file is None:
            raise ConfigurationError("a cache in memory pins nothing: use one on disk")
        taken = self._taken(name)
        file.replace(taken.recorded.values())
        return taken.written(is_told=self._tell(name, is_pinned=True))

    def _tell(self, name: str, *, is_pinned: bool) -> bool | None:
        """Tell the team of a pin; return whether it knows, None where there is no team."""
        if self._shared is None or self._team_pins is None:
            return None
        self._team_pins.note(name, is_pinned=is_pinned)
        self._shared.tell_now(within_s=_TELLING_S)
        return self._team_pins.is_told(name)

    def write_bundle(self, name: str, path: Path) -> Written | None:
        """Write the file from which a run is replayed: that of its pin (None), else its answers as they are now."""
        pinned = self.pinned(name)
        if pinned is not None:
            shutil.copyfile(pinned.path, path)
            return None
        taken = self._taken(name)
        RunFile(path, seal_key=self._key, is_sealed=self._seal_key is not None).replace(taken.recorded.values())
        return taken.written()

    def unpin(self, name: str) -> bool:
        """Remove what `pin` made, in a team for all; return whether there was anything."""
        was_pinned = self._pinned_ones()(name)
        if was_pinned:
            self._tell(name, is_pinned=False)
            self._file_of(name).path.unlink(missing_ok=True)
        return was_pinned

    def export(self, name: str, path: str | Path, *, plaintext: bool = False) -> Written:
        """Write a run into one file that others can import or name; raises as `pin`.

        It is sealed for those who share the namespace unless `plaintext`.
        """
        if not plaintext and self._seal_key is None:
            raise ConfigurationError("encryption is off, so nothing can be sealed: export with --plaintext")
        taken = self._taken(name)
        file = RunFile(Path(path).absolute(), seal_key=self._key, is_sealed=not plaintext)
        file.replace(taken.recorded.values())
        return taken.written()

    def import_(
        self,
        path: str | Path,
        name: str,
        *,
        source: str = "",
        log: str | Path | None = None,
        ignore: Iterable[str] | None = None,
    ) -> Written:
        """Take over a run from a file, every line of which is checked first, as a pinned one: all of it or nothing.

        Nothing of it enters the cache: it answers in mode ``replay`` of that run alone.

        Parameters
        ----------
        source
            Who wrote the file, if it is none of ours: ``vcr`` or ``cachy``. What is no model call that we know, and
            what may not be stored, is left out and counted.
        log
            What ``CACHY_LOG`` named when pycachy recorded: it alone tells what was asked.
        ignore
            The rules about noise of the cells that will replay it, beside the configured ones. What was recorded under
            rules of its own keeps those.

        Raises
        ------
        ConfigurationError
            The file can't be used, or there is another run of that name.
        """
        checked_name(name, of="run")
        recorded, left_out = self._calls_in(Path(path).absolute(), source, log)
        calls = under_rules(recorded, combined(self._ignore, checked_rules(ignore)))
        target = self._bundle(name)
        if target is None:
            raise ConfigurationError("a cache in memory imports nothing: use one on disk")
        self._books.flush()
        if not _is_imported(known := self._calls(name)) and known:
            whose = "of your own" if self._accounts.calls_of_runs(name) else "of your team"
            raise ConfigurationError(f"there is a run {name!r} {whose}: import it under another name, with --as")
        target.replace(calls)
        if self._team_pins is not None:
            self._team_pins.leave(name)
        today = self._books.today()
        self._accounts.replace_run(name, [_imported(call, name, today) for call in calls])
        return Written(len(calls), left_out=left_out, similar=sum(call.is_similar for call in calls))

    def calls_in(self, path: Path) -> Sequence[RecordedCall]:
        """Return the calls of a run file, every line of which is checked first; raises as `import_`."""
        return self._calls_in(path.absolute(), "", None)[0]

    def kept(self, name: str) -> Sequence[RecordedCall]:
        """Return the calls of a pinned or imported run, with what was asked where its file says that.

        Raises
        ------
        ConfigurationError
            There is no such run, or nothing but digests of its requests.
        """
        file = self.pinned(name)
        if file is None:
            self.show(name)  # says so where there is no such run
        else:
            file.load()
            if any(call.request is not None for call in file.calls()):
                return file.calls()
        raise ConfigurationError(
            f"of what was asked in run {name!r} digests are noted, so nobody can ask it again: execute its cells, or "
            "let them record a run file (--mode record --run-file FILE) and name that"
        )

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
        return None if self._pins is None else self._file_of(name)

    def _file_of(self, name: str) -> RunFile:
        assert self._pins is not None
        path = self._pins / f"{self._accounts.label_of_run(name).hex()}.run"
        return RunFile(
            path, label=f"pinned run {name}", seal_key=self._key, is_sealed=self._seal_key is not None, is_private=True
        )

    def _key(self) -> bytes:
        if self._seal_key is None:
            raise ConfigurationError("it is sealed, and encryption is off here: ask for a plain one")
        return self._seal_key

    def _taken(self, name: str) -> Taken:
        """Return the answers of a run as they are now; raises as `pin`."""
        calls = self.show(name).calls
        wanted = {call.entry_id for call in calls if call.entry_id}  # one that was imported has no entry
        found, troubles = self._find(wanted)  # type: ignore[arg-type]  # ids, as they were noted
        is_whole = all(isinstance(found.get(call.entry_id), Found) for call in calls)  # type: ignore[call-overload]  # as above
        bundle = None if is_whole else self.pinned(name)
        if bundle is not None:
            bundle.load()
        taken = Taken.of(calls, found, bundle)
        if taken.missing:
            count = len({name_of(call) for call in calls})
            said = f"{len(taken.missing)} of {count} answers of run {name!r} are not in the cache"
            named = taken.missing_in_words
            if troubles:
                raise StoreUnavailable(f"{said} of this machine ({named}), and the team can't be asked: {troubles[0]}")
            raise ConfigurationError(f"{said} any more ({named}): execute the run again, in mode use")
        if not taken.recorded:
            why = "; ".join(taken.written().left_out)
            raise ConfigurationError(f"run {name!r} has no answer that a file could hold ({why})")
        return taken


def _is_imported(calls: Sequence[RunCall]) -> bool:
    return bool(calls) and all(call.is_imported for call in calls)


def _notes(learnt: Learnt) -> tuple[str, ...]:
    """Return what there is to say of how well the team's runs are known."""
    notes = []
    if learnt.trouble:
        at_ms = learnt.known_at_ms
        known = (
            "not all known here" if at_ms is None else f"as of {datetime.fromtimestamp(at_ms / 1000, UTC):%F %R} UTC"
        )
        notes.append(f"what other machines have recorded is {known}: {learnt.trouble}")
    if learnt.ignored:
        notes.append(f"{len(learnt.ignored)} of the team's pages ignored: {'; '.join(sorted(set(learnt.ignored)))}")
    return tuple(notes)


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
        outcome=IMPORTED_SIMILAR if call.is_similar else IMPORTED,
        asked=call.asked,
        content="",
        day=day,
    )
    return RunNote(noted, call.request, call.response)
