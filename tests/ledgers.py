"""Ledgers of a team's machines in this process, over pages in memory that can be away or say that they failed."""

from __future__ import annotations

from datetime import date

from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.keys import Keys
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.ledger import accounts
from genai_cache_magic.ledger.books import Books
from genai_cache_magic.ledger.known import KnownPages
from genai_cache_magic.ledger.pages import PageSeal
from genai_cache_magic.ledger.shared_books import SharedBooks
from genai_cache_magic.ledger.sharing import Sharing
from genai_cache_magic.ledger.usage import Ledger, Period
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.testing.pages import MemoryPages

ALL = Period(None, date(2100, 1, 1))
KEYS = Keys("default", b"i" * 32, b"m" * 32)


class Tier:
    """Pages that can be away, or do what they are asked and say that they did not."""

    def __init__(self):
        self.inner = MemoryPages()
        self.is_away = self.is_mute = False
        self.puts = []

    def put(self, group, pages, *, ttl_s):
        self._reach()
        done = self.inner.put(group, pages, ttl_s=ttl_s)
        self.puts.append((group, dict(pages)))
        if self.is_mute:
            raise StoreUnavailable("nobody knows whether that was done")
        return done

    def revisions(self, groups):
        self._reach()
        return self.inner.revisions(groups)

    def read(self, group, names):
        self._reach()
        return self.inner.read(group, names)

    def remove(self, group, names):
        self._reach()
        self.inner.remove(group, names)

    def _reach(self):
        if self.is_away:
            raise StoreUnavailable("the tier can't be reached")


class Machine:
    """One machine: its ledger, and its way to the tier; nothing is told by itself."""

    def __init__(self, directory, tier, clock, keys=KEYS):
        directory.mkdir(exist_ok=True)
        self.tier = tier
        self.clock = clock
        kept, own = (self._accounts(directory, keys) for _ in range(2))
        known = KnownPages(directory / "shared.db")
        sharing = Sharing(
            tier, known, PageSeal(keys), writer=own.ledger_id, now_ms=clock, overdue=lambda: "it takes too long"
        )
        self.shared = SharedBooks(sharing, own, lock=FileLock(directory / "shared.lock"))
        self.ledger = Ledger("default", kept, Books(kept, now_ms=clock), self.shared)

    @staticmethod
    def _accounts(directory, keys):
        file = StateFile(directory / "ledger.db", accounts.SCHEMA, columns=accounts.COLUMNS, part="ledger")
        return accounts.Accounts(file, ColumnSeal(keys.mac_key), keyed=keys.owner)

    def note(self, *calls, run="", person="ann"):
        for call in calls:
            self.ledger.books.note(call, run=run, person=person)
        self.ledger.books.flush()

    def tell(self):
        self.shared._tell()

    def usage(self, by=(), period=ALL):
        return self.ledger.usage(period, by, of_team=True)

    def counted(self):
        total = self.usage().total
        return total.misses, total.hits

    def close(self):
        self.ledger.close()
