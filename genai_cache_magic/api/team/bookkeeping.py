"""Wiring of the books: this machine's ledger, where there is a team its part of the team's, and the runs in them."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.ledger import accounts, statistics
from genai_cache_magic.ledger.books import Books
from genai_cache_magic.ledger.known import KnownPages
from genai_cache_magic.ledger.pages import PageSeal
from genai_cache_magic.ledger.shared_books import SharedBooks
from genai_cache_magic.ledger.sharing import Sharing
from genai_cache_magic.ledger.usage import Ledger
from genai_cache_magic.runs.runs import Runs
from genai_cache_magic.stores.disk.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.policy import Fetch
    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.entries.entries import Found
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.state import Columns
    from genai_cache_magic.entries.team.clock import TeamClock
    from genai_cache_magic.events import Event
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.stores.disk.home import Home

_LEDGER_WAITS_S = 0.25
"""How long a call that was paid for waits until another process has counted its own [s]; then it is counted later."""


def make_ledger(
    keys: Keys, home: Home | None, line: TeamLine | None, clock: TeamClock, tell: Callable[[Event], None]
) -> Ledger:
    """Return the books of a namespace, which lie beside its entries and outlive them."""

    def now_ms() -> int:
        return int(clock() * 1000)

    with contextlib.ExitStack() as undo:
        kept = _accounts(keys, home, tell)
        undo.callback(kept.file.close)
        shared = None
        if home is not None and line is not None and line.pages is not None:
            own = _accounts(keys, home, lambda _: None)
            undo.callback(own.file.close)
            known = KnownPages(home.path / "shared.db", ensure=home.ensure, tell=tell)
            undo.callback(known.close)
            sharing = Sharing(
                line.pages, known, PageSeal(keys), writer=own.ledger_id, now_ms=now_ms, overdue=line.overdue
            )
            shared = SharedBooks(sharing, own, lock=FileLock(home.path / "shared.lock"), retries=line.retries)
        counted = _statistics(keys, home, tell)
        undo.callback(counted.close)
        ledger = Ledger(keys.namespace, kept, Books(kept, now_ms=now_ms, statistics=counted), shared)
        undo.pop_all()
    return ledger


def make_runs(  # noqa: PLR0913 - its parts, by name
    books: Ledger,
    home: Home | None,
    line: TeamLine | None,
    *,
    seal: Seal,
    seal_key: bytes | None,
    find: Callable[[Iterable[EntryId]], tuple[Mapping[EntryId, Found | Fetch], Sequence[str]]],
    origins: Callable[[], Origins],
    ignore: tuple[str, ...],
) -> Runs:
    """Return the runs of a namespace, whose answers `find` looks for."""
    runs = Runs(
        books.accounts,
        books.books,
        pins=None if home is None else home.path / "pins",
        seal_key=seal_key,
        find=find,
        origins=origins,
        ignore=ignore,
        team=books.shared,
    )
    if line is not None and line.bundles is not None:
        runs.share_pins(line.bundles, seal, line.overdue)
    return runs


def _accounts(keys: Keys, home: Home | None, tell: Callable[[Event], None]) -> accounts.Accounts:
    """Return a way to the accounts of a namespace."""
    file = _file("ledger", home, tell, accounts.SCHEMA, accounts.COLUMNS)
    return accounts.Accounts(file, ColumnSeal(keys.mac_key), keyed=keys.owner)


def _statistics(keys: Keys, home: Home | None, tell: Callable[[Event], None]) -> statistics.Statistics:
    """Return what counts how a namespace is used: in a file of its own, which may begin anew without the books."""
    file = _file("statistics", home, tell, statistics.SCHEMA, statistics.COLUMNS, ensure=partial(_is_there, home))
    return statistics.Statistics(file, ColumnSeal(keys.mac_key), keyed=keys.owner)


def _is_there(home: Home | None) -> None:
    """Raise ``StoreUnavailable`` where the directory was removed: counting behind the calls is no reason to make it."""
    if home is not None and not home.is_in_place():
        raise StoreUnavailable(f"{home.path} was removed")


def _file(  # noqa: PLR0913, PLR0917 - what the two files differ in
    name: str,
    home: Home | None,
    tell: Callable[[Event], None],
    schema: tuple[str, ...],
    columns: Columns,
    ensure: Callable[[], None] | None = None,
) -> StateFile:
    return StateFile(
        None if home is None else home.path / f"{name}.db",
        schema,
        columns=columns,
        ensure=ensure or ((lambda: None) if home is None else home.ensure),
        tell=tell,
        part=name,
        busy_timeout_s=_LEDGER_WAITS_S,
    )
