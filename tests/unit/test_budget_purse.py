"""What a budget has reserved and spent: the numbers, whatever happens to their file, and the share of a whole run."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from genai_cache_magic.budgets import run_share
from genai_cache_magic.budgets.purse import Purse, Sums
from genai_cache_magic.budgets.run_share import RunShare
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Trouble

pytestmark = pytest.mark.timeout(100)


@pytest.fixture
def purse(tmp_path):
    return Purse(tmp_path / "budget")


def spend_all(path, results):
    """Reserve and settle in eight threads until nothing is left; return what was got."""
    purse = Purse(path)

    def spend(number):
        got = 0
        for amount in (1 + number % 7, 1):  # what is left in the end is spent in small pieces
            while purse.reserve(amount, limit=1_000)[0]:
                purse.settle(amount, amount)
                got += amount
        return got

    with ThreadPoolExecutor(8) as pool:
        results.put(sum(pool.map(spend, range(8))))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_eight_threads_of_four_processes_spend_no_more_than_there_is(tmp_path):
    """What all of them were given is what is spent, and that is the limit, to the last."""
    path = tmp_path / "budget"
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=spend_all, args=(path, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    got = sum(results.get(timeout=90) for _ in workers)
    for worker in workers:
        worker.join()
    found = Purse(path).read()
    assert got == found.spent == 1_000
    assert (found.reserved, found.in_flight) == (0, 0)


def test_another_process_sees_what_is_reserved(tmp_path, purse):
    """Each looks into the same file."""
    assert purse.reserve(60, limit=100) == (True, Sums())
    other = Purse(tmp_path / "budget")
    assert other.reserve(60, limit=100) == (False, Sums(reserved=60, in_flight=1))
    purse.settle(60, None)
    assert other.read() == Sums(spent=60, stopped=1, unknown=1)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"half"),
        lambda path: [one.unlink() for one in path.parent.iterdir()],
        lambda path: ([one.unlink() for one in path.parent.iterdir()], path.parent.rmdir()),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_file_that_is_lost_or_damaged_gives_no_money_back(tmp_path, harm):
    """A process goes on with what it knows, and makes no directory anew of a scope that is gone."""
    place = tmp_path / "scope"
    place.mkdir()
    purse = Purse(place / "budget")
    told = []
    purse.tells(told.append)
    purse.reserve(60, limit=100)
    harm(place / "budget")
    assert purse.reserve(60, limit=100)[0] is False
    purse.settle(60, 10)
    assert (purse.read().spent, purse.read().reserved) == (10, 0)
    assert len(told) <= 1
    assert place.exists() or not list(tmp_path.iterdir())


def test_a_call_that_ends_in_the_midst_of_another_ones_count(purse):
    """The garbage collector may end a call at any line: what it settles comes with what is being done."""
    purse.reserve(60, limit=100)

    class Call:
        def __del__(self):
            purse.settle(60, 10)

    found = purse._found

    def collect(blob):
        nonlocal call
        call = None
        gc.collect()
        return found(blob)

    call = Call()
    purse._found = collect
    assert purse.reserve(30, limit=100)[0]
    del purse._found
    assert purse.read() == Sums(spent=10, reserved=30, in_flight=1)


class Counter:
    """The count of a run, shared by all; it may be away."""

    def __init__(self):
        self.count = 0
        self.is_away = False
        self.debts = {}
        self._lock = threading.Lock()

    def owe(self, name, amount):
        self.debts[name] = self.debts.get(name, 0) + amount

    def take_owed(self, name):
        return self.debts.pop(name, 0)

    def add(self, name, field, amount):
        if self.is_away:
            raise StoreUnavailable("away")
        with self._lock:
            self.count += amount
            return self.count

    def add_within(self, name, field, amount, *, at_most):
        if self.is_away:
            raise StoreUnavailable("away")
        with self._lock:
            is_added = self.count + amount <= at_most
            self.count += amount * is_added
            return is_added, self.count


@pytest.fixture
def scope():
    scope = CellScope(Options(run="r"))
    scope.counts = Counter()
    return scope


def test_machines_of_a_run_reserve_no_money_twice(scope):
    """Of all that ask at one time, those get something for whom it is enough; what they give back is there again."""
    shares = [RunShare("r", 100, scope) for _ in range(8)]
    reserved = [share.reserve(30) for share in shares for _ in range(4)]
    got = [one for one in reserved if one.result(30) is None]
    assert len(got) == 3
    assert scope.counts.count == 30 * len(got)
    for one in got:
        shares[0].correct(one, -20)
    shares[0].wait()
    assert scope.counts.count == 10 * len(got)
    assert shares[1].reserve(70).result(30) is None
    shares[1].correct(reserved[-1], -30) if reserved[-1].result() is not None else None
    shares[1].wait()
    assert scope.counts.count == 10 * len(got) + 70


def test_a_team_that_is_away(scope, monkeypatch):
    """Calls go on, it is said once, and what was not counted is counted later."""
    share = RunShare("r", 100, scope)
    scope.counts.is_away = True
    first = share.reserve(30)
    assert first.result(30) is None
    share.correct(first, -20)
    share.wait()
    assert [trouble.where for trouble in scope.troubles if isinstance(trouble, Trouble)] == ["budget"]
    scope.counts.is_away = False
    assert share.reserve(1).result(30) is None
    assert scope.counts.count == 0  # nobody is asked again so soon
    monkeypatch.setattr(run_share.time, "monotonic", lambda: 1e9)
    assert share.reserve(1).result(30) is None
    assert scope.counts.count == 12


def test_a_scope_that_ended_while_the_team_was_away_is_counted_by_the_next(scope):
    """What it spent is the run's, whichever scope of the process asks first; another run's debts stay its own."""
    share = RunShare("r", 100, scope)
    scope.counts.is_away = True
    assert share.reserve(70).result(30) is None
    scope.counts.is_away = False
    assert RunShare("another", 100, scope).reserve(5).result(30) is None
    assert scope.counts.count == 5
    assert RunShare("r", 100, scope).reserve(40).result(30) == 75
