"""The runs of a team: each machine's calls of a run as its pages, cell by cell, and a list of its runs.

A run that several machines have recorded is one run. Of a cell its last execution counts, on whichever machine it was:
so it is on one machine, and two who share a notebook, a repository or a sweep mean the same cells.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.ledger.known import Head
from genai_cache_magic.ledger.pages import Content, PageRefused
from genai_cache_magic.ledger.run_rows import RunCall, read_amount
from genai_cache_magic.ledger.sharing import Draft

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.sharing import Learnt, Sharing

RUN: Final = "run"
INDEX: Final = "runs"

_PAGE_BYTES: Final = 256 * 1024
_LARGEST_CALL_BYTES: Final = 64 * 1024
_INDEX_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Headline:
    """A run in one line; days count from 1970-01-01."""

    name: str
    calls: int
    models: tuple[str, ...]
    first: int
    last: int
    spent_usd: Decimal
    saved_usd: Decimal
    persons: tuple[str, ...] = field(repr=False, default=())
    surroundings: Mapping[str, str] = field(repr=False, default_factory=dict)


def headline_of(name: str, calls: Sequence[RunCall]) -> Headline:
    """Return `calls` in a line; there is one at least."""
    days = [call.day for call in calls]
    return Headline(
        name=name,
        calls=len({(call.digest, call.sample) for call in calls}),
        models=tuple(sorted({call.model for call in calls})),
        first=min(days),
        last=max(days),
        spent_usd=sum((call.spent_usd or Decimal(0) for call in calls), Decimal(0)),
        saved_usd=sum((call.saved_usd or Decimal(0) for call in calls), Decimal(0)),
        persons=tuple(sorted({call.person for call in calls if call.person})),
        surroundings=dict(calls[-1].surroundings),
    )


class RunSource:
    """The runs of this machine, to be told; a ``Source``."""

    def __init__(self, accounts: Accounts, sharing: Sharing) -> None:
        self._accounts = accounts
        self._sharing = sharing

    def drafts(self) -> Iterator[Draft]:
        """Return the runs that have changed since they were told, and the list of all."""
        writer, known = self._sharing.writer(), self._sharing.known
        there, told = self._accounts.heads_of_runs(), known.heads()
        if not there:
            return
        lines: list[Any] = []
        for label, (last, count) in there.items():
            head = told.get(label)
            if head is not None and (head.last, head.calls) == (last, count):
                lines.append(self._sharing.seal.open_own(label, head.title))
                continue
            calls = [call for call in self._accounts.calls_of_label(label) if not call.is_imported]
            line = _line(headline_of(calls[0].run, calls)) if calls else None
            lines.append(line)
            now = Head(last, count, self._sharing.seal.seal_own(label, line))
            if calls:
                yield self._draft(writer, calls, {label: now})
            else:
                known.note_heads({label: now})
        yield self._index(writer, [line for line in lines if line])

    def forget(self) -> None:
        """Nothing is kept here."""

    def _draft(self, writer: str, calls: Sequence[RunCall], heads: Mapping[bytes, Head]) -> Draft:
        seal, name = self._sharing.seal, calls[0].run
        cells: dict[str, list[RunCall]] = {}
        for call in calls:
            cells.setdefault(call.cell, []).append(call)
        pages = {}
        for cell, asked in cells.items():
            parts = list(_parted(asked))
            for number, rows in enumerate(parts):
                key = seal.key(RUN, name, writer, cell, str(number))
                pages[key] = Content(RUN, writer, [cell, number, len(parts), *rows])
        return Draft(seal.key(RUN, name), pages, lambda: self._sharing.known.note_heads(heads))

    def _index(self, writer: str, lines: Sequence[Any]) -> Draft:
        seal = self._sharing.seal
        ordered = sorted(lines, key=lambda line: str(line.get("name")))
        pages = {
            seal.key(INDEX, writer, str(start)): Content(INDEX, writer, list(ordered[start : start + _INDEX_ROWS]))
            for start in range(0, len(ordered), _INDEX_ROWS)
        }
        return Draft(seal.key(INDEX), pages)


class TeamRuns:
    """What the other machines of a team have told of their runs."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing

    def headlines(self) -> tuple[dict[str, list[Headline]], Learnt]:
        """Return the runs of others by name, a line for each machine that has recorded it; and how well it is known."""
        learnt = self._sharing.learn([self._sharing.seal.key(INDEX)], INDEX)
        found: dict[str, list[Headline]] = {}
        for content in learnt.contents:
            for row in content.rows:
                line = _headline(row)
                if line is not None:
                    found.setdefault(line.name, []).append(line)
        return found, learnt

    def calls(self, name: str) -> tuple[list[RunCall], Learnt]:
        """Return the calls that others have noted of a run, and how well they are known."""
        learnt = self._sharing.learn([self._sharing.seal.key(RUN, name)], RUN)
        parts: dict[tuple[str, str], dict[int, tuple[int, list[RunCall]]]] = {}
        ignored = list(learnt.ignored)
        for content in learnt.contents:
            try:
                cell, number, count, calls = _calls(content.rows, name)
            except PageRefused as error:
                ignored.append(str(error))
                continue
            parts.setdefault((content.writer, cell), {})[number] = count, calls
        found: list[RunCall] = []
        for of_cell in parts.values():
            count = of_cell[0][0] if 0 in of_cell else 0  # what the cell had more when it was longer is no part of it
            found += [call for number in sorted(of_cell) if number < count for call in of_cell[number][1]]
        return found, _with(learnt, ignored)


def _with(learnt: Learnt, ignored: Iterable[str]) -> Learnt:
    return type(learnt)((), learnt.known_at_ms, learnt.trouble, tuple(ignored))


def _parted(calls: Iterable[RunCall]) -> Iterator[list[Any]]:
    """Yield the calls of a cell as rows, as many as a page may hold."""
    rows: list[Any] = []
    size_bytes = 0
    for call in calls:
        fields = call.as_fields()
        size = len(orjson.dumps(fields))
        if size > _LARGEST_CALL_BYTES:  # a request of thousands of messages: it is known by its digest alone
            fields |= {"parts": {}, "surroundings": {}}
            size = len(orjson.dumps(fields))
        if rows and size_bytes + size > _PAGE_BYTES:
            yield rows
            rows, size_bytes = [], 0
        rows.append(fields)
        size_bytes += size
    if rows:
        yield rows


def _calls(rows: Sequence[Any], name: str) -> tuple[str, int, int, list[RunCall]]:
    """Return what a page says: cell, which part of how many, and its calls; raises `PageRefused`."""
    head, told = rows[:3], rows[3:]
    try:
        cell, number, count = head
        calls = [RunCall.of_fields(row) for row in told]
    except ValueError:
        raise PageRefused("no page of this format") from None
    are_its = all(call.run == name and call.cell == cell for call in calls)
    if type(cell) is not str or type(number) is not int or type(count) is not int or not are_its:
        raise PageRefused("no page of this format")
    return cell, number, count, calls


def _line(headline: Headline) -> dict[str, Any]:
    return {**asdict(headline), "spent_usd": f"{headline.spent_usd:f}", "saved_usd": f"{headline.saved_usd:f}"}


def _headline(row: Any) -> Headline | None:
    """Return a line of the list; None for what can be none, or is of another version."""
    try:
        amounts = [read_amount(row[name]) for name in ("spent_usd", "saved_usd")]
        line = Headline(
            row["name"],
            row["calls"],
            tuple(row["models"]),
            row["first"],
            row["last"],
            amounts[0],
            amounts[1],
            tuple(row["persons"]),
            dict(row["surroundings"]),
        )
    except (LookupError, TypeError, ValueError):
        return None
    texts = [line.name, *line.models, *line.persons, *(one for pair in line.surroundings.items() for one in pair)]
    numbers = [line.calls, line.first, line.last]
    is_well = all(type(text) is str for text in texts) and all(type(n) is int and 0 <= n < 2**62 for n in numbers)
    are_days = is_well and line.first <= line.last < 2_900_000  # noqa: PLR2004 - the year 9909, which a date can say
    return line if are_days else None
