"""Runs as people read them: tables of runs, of calls, of differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from genai_cache_magic.ledger.run_rows import RunCall
    from genai_cache_magic.runs.summaries import Differing, Run, RunDiff, RunSummary, Written

_DIGITS: Final = 8
_KINDS: Final = 20
_NUMBERS: Final = frozenset({"calls", "spent", "saved", "sample", "tokens in", "out"})


def listed(found: Sequence[RunSummary]) -> Report:
    """Return the table of runs."""
    rows = tuple(
        (
            run.name,
            f"{run.calls:,}",
            ", ".join(run.models),
            str(run.last),
            dollars(run.spent_usd),
            dollars(run.saved_usd),
            "pinned" if run.is_pinned else "",
        )
        for run in found
    )
    header = ("run", "calls", "models", "last", "spent", "saved", "")
    return Report(counted(len(found), "run"), Table(rows, header, _NUMBERS))


def described(run: Run) -> Report:
    """Return the calls of one run."""
    rows = tuple(
        (
            call.cell[:_DIGITS],
            call.model,
            f"{call.sample}",
            f"{call.outcome} ({call.not_stored})" if call.not_stored else call.outcome,
            _count(call.input_tokens),
            _count(call.output_tokens),
            _money(call.spent_usd if call.saved_usd is None else None),
            _money(call.saved_usd),
            call.digest[:_DIGITS],
            call.content[:_DIGITS],
        )
        for call in run.calls
    )
    header = ("cell", "model", "sample", "outcome", "tokens in", "out", "spent", "saved", "request", "answer")
    said = run.summary
    again = len(run.calls) - said.calls
    several = f" ({again:,} asked again in another cell)" if again else ""
    title = f"run {said.name}: {counted(said.calls, 'call')}{several}, {said.first} to {said.last}"
    used = ", ".join(f"{name} {version}" for name, version in said.surroundings.items())
    notes = (*((f"with {used}",) if used else ()), *(("pinned",) if said.is_pinned else ()))
    return Report(title, Table(rows, header, _NUMBERS), notes)


def differences(one: str, other: str, found: RunDiff) -> Report:
    """Return what tells two runs apart, a call a row."""
    rows = (
        *((*_named(d), "answered otherwise", _similar(one, other, d)) for d in found.changed),
        *((*_named(d), "asked otherwise", ", ".join(d.parts)) for d in found.differing),
        *((*_call(call), f"in {one} alone", "") for call in found.only_one),
        *((*_call(call), f"in {other} alone", "") for call in found.only_other),
    )
    title = f"{one} and {other}: {counted(found.same, 'call')} the same, {counted(len(rows), 'difference')}"
    return Report(title, Table(tuple(rows), ("cell", "model", "request", "difference", "in")))


def written(what: str, name: str, done: Written) -> str:
    """Return what was done with the answers of a run."""
    changed = f"; {counted(done.changed, 'answer')} changed since the run" if done.changed else ""
    similar = f", {done.similar:,} of them similar (the answer to another question)" if done.similar else ""
    told = {True: ", for the team too", False: "; the team is told as soon as it can be reached"}.get(done.is_told, "")  # type: ignore[arg-type]  # None is no team
    return f"run {name}, {counted(done.count, 'call')}{similar}, is {what}{told}{changed}"


def left_out(done: Written) -> tuple[str, ...]:
    """Return what is not among the calls that were taken, a line a kind."""
    if not done.left_out:
        return ()
    kinds = [f"{count:,} left out: {what}" for what, count in done.left_out.items()]
    more = sum([*done.left_out.values()][_KINDS:])
    return (*kinds[:_KINDS], *((f"{more:,} left out for other reasons",) if more else ()))


def _similar(one: str, other: str, pair: Differing) -> str:
    """Return in which of the runs it got the answer to another question."""
    names = [name for name, call in ((one, pair.one), (other, pair.other)) if call.is_similar]
    return f"similar in {' and '.join(names)}" if names else ""


def _named(pair: Differing) -> tuple[str, str, str]:
    return _call(pair.one)


def _call(call: RunCall) -> tuple[str, str, str]:
    return call.cell[:_DIGITS], call.model, call.digest[:_DIGITS]


def _count(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _money(amount: Decimal | None) -> str:
    return "" if amount is None else dollars(amount)
