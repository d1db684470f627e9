"""What a team's calls came to: each machine's accounts as its pages, eight days of one a page.

A page holds all that its ledger has of those days, so it can be set as often as one likes. The pages of 32 days are one
group: a month is had in one or two look-ups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.ledger.accounts import COUNTED, Account, Sums
from genai_cache_magic.ledger.pages import Content, PageRefused
from genai_cache_magic.ledger.sharing import DAY_MS, KEPT_DAYS, Draft, Learnt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.pages import PageSeal
    from genai_cache_magic.ledger.sharing import Sharing

OF: Final = "usage"
_PAGE_DAYS: Final = 8
_GROUP_DAYS: Final = 32
_MOST_ACCOUNTS: Final = 4_000
"""Beyond that the accounts of some days are told without their runs, then without persons, at last without models."""
_FOLDED: Final = ("run", "person", "model", "provider")
_MOST = 2**62
_LONGEST_NAME: Final = 1_000


class UsageSource:
    """The accounts of this machine, to be told; a ``Source``."""

    def __init__(self, accounts: Accounts, seal: PageSeal, sharing: Sharing) -> None:
        self._accounts = accounts
        self._seal = seal
        self._sharing = sharing
        self._told: dict[int, tuple[float, ...]] = {}  # by page: what it looked like when it was told

    def drafts(self) -> Iterator[Draft]:
        """Return the groups of days in which calls were counted since they were told."""
        first = max(0, self._sharing.now_ms() // DAY_MS - KEPT_DAYS)
        marks = self._accounts.marks(first - first % _GROUP_DAYS, days=_PAGE_DAYS)
        pages_of: dict[int, list[int]] = {}
        for page in marks:
            pages_of.setdefault(page * _PAGE_DAYS // _GROUP_DAYS, []).append(page)
        for group, pages in pages_of.items():
            if any(self._told.get(page) != marks[page] for page in pages):
                yield self._draft(group, {page: marks[page] for page in pages})

    def forget(self) -> None:
        """Take nothing as told."""
        self._told = {}

    def _draft(self, group: int, marks: Mapping[int, tuple[float, ...]]) -> Draft:
        writer = self._sharing.writer()
        first = group * _GROUP_DAYS
        rows: dict[int, list[tuple[Account, Sums]]] = {}
        for account, sums in self._accounts.between(first, first + _GROUP_DAYS - 1):
            rows.setdefault(account.day // _PAGE_DAYS, []).append((account, sums))
        pages = {
            self._seal.key(OF, str(group), writer, str(page)): Content(OF, writer, _encoded(found))
            for page, found in rows.items()
        }
        return Draft(group_key(self._seal, group), pages, lambda: self._told.update(marks))


class TeamUsage:
    """What the other machines of a team have told."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing

    def between(self, first: int, last: int) -> tuple[dict[str, list[tuple[Account, Sums]]], Learnt]:
        """Return the accounts of some days, the last one included, by whose they are; and how well they are known."""
        today = self._sharing.now_ms() // DAY_MS
        first, last = max(first, today - KEPT_DAYS, 0), min(last, today + 1)
        groups = [group_key(self._sharing.seal, n) for n in range(first // _GROUP_DAYS, last // _GROUP_DAYS + 1)]
        learnt = self._sharing.learn(groups, OF)
        found: dict[str, list[tuple[Account, Sums]]] = {}
        ignored = list(learnt.ignored)
        for content in learnt.contents:
            try:
                rows = [_decoded(row) for row in content.rows]
            except PageRefused as error:
                ignored.append(str(error))
                continue
            found.setdefault(content.writer, []).extend(row for row in rows if first <= row[0].day <= last)
        return found, Learnt((), learnt.known_at_ms, learnt.trouble, tuple(ignored))


def group_key(seal: PageSeal, group: int) -> str:
    """Return the key of a group of days."""
    return seal.key(OF, str(group))


def _encoded(found: Sequence[tuple[Account, Sums]]) -> list[Any]:
    rows = dict(found)
    for name in _FOLDED:
        if len(rows) <= _MOST_ACCOUNTS:
            break
        folded: dict[Account, Sums] = {}
        for account, sums in rows.items():
            names = {**account._asdict(), name: ""}
            folded.setdefault(Account(**names), Sums()).add(sums)
        rows = folded
    return [
        [*account, {name: value for name in COUNTED if (value := getattr(sums, name))}]
        for account, sums in sorted(rows.items())
    ]


def _decoded(row: Any) -> tuple[Account, Sums]:
    """Return an account of a page; raises `PageRefused` for what can be none."""
    if type(row) is not list or len(row) != len(Account._fields) + 1:
        raise PageRefused("no page of this format")
    day, *names, told = row
    is_well = type(day) is int and 0 <= day < 3_000_000 and type(told) is dict  # noqa: PLR2004 - the year 9999
    if not is_well or not all(type(name) is str and len(name) <= _LONGEST_NAME for name in names):
        raise PageRefused("no page of this format")
    values = {name: told.get(name, 0) for name in COUNTED}  # what else it counts this version does not know
    for name, value in values.items():
        lowest = -_MOST if name in {"spent", "saved"} else 0  # a bill may be a credit
        if type(value) is not int or not lowest <= value <= _MOST:
            raise PageRefused("no page of this format")
    return Account(day, *names), Sums(**values)
