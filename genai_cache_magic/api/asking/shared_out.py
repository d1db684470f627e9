"""Work for the workers of an executor: parts of it are given out, and what comes back is added up.

A budget is shared out too: each part may spend its allowance, and what it leaves goes back. So it holds on any machine,
with no file or server in common, and whoever dies takes its own allowance along and nobody else's.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.asking.outcomes import Warmed
from genai_cache_magic.api.asking.parts import Part, at_hand
from genai_cache_magic.api.asking.rounds import INTERRUPTED
from genai_cache_magic.api.asking.scopes import MOST_SHOWN
from genai_cache_magic.calls.spending import in_cents
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.intercept.active import active

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor, Future

    from genai_cache_magic.api.asking.parts import PartDone
    from genai_cache_magic.api.asking.requests_file import Wanted
    from genai_cache_magic.api.asking.scopes import Warmable
    from genai_cache_magic.api.asking.wanting import Wanting
    from genai_cache_magic.core.options import Options

_LARGEST: Final = 16
_ROUNDS: Final = 4
"""So many parts each worker gets, that none waits long for the slowest."""
_WORKER: Final = "genai_cache_magic.api.elsewhere"
"""Opens caches, so it stands above them: it is named here as a pickle would name it, and imported by who works."""


def ask_elsewhere(part: Part) -> PartDone:
    """Ask `part`, in whatever process this is."""
    done: PartDone = importlib.import_module(_WORKER).ask(part)
    return done


@dataclass(slots=True)
class _Sum:
    """What came back."""

    hits: int = 0
    stored: int = 0
    not_stored: int = 0
    failed: int = 0
    spent_usd: Decimal | None = Decimal(0)
    errors: list[str] = field(repr=False, default_factory=list)
    left_out: Counter[str] = field(repr=False, default_factory=Counter)

    def add(self, one: Warmed) -> None:
        self.hits += one.hits
        self.stored += one.stored
        self.not_stored += one.not_stored
        self.failed += one.failed
        self.spent_usd = None if self.spent_usd is None or one.spent_usd is None else self.spent_usd + one.spent_usd
        self.errors += one.errors
        self.left_out.update(one.left_out)


class SharedOut:
    """One warming by the workers of an executor."""

    def __init__(self, cache: Warmable, options: Options, wanted: Wanting, executor: Executor, workers: int) -> None:
        self._executor, self._workers = executor, workers
        self._whole = wanted
        self._queue: deque[tuple[Wanted, ...]] = deque(_cut(wanted.different, workers))
        self._under_way: dict[Future[PartDone], Part] = {}
        token = secrets.token_hex(8)
        self._cache = cache
        process, name = (os.getpid(), token), (token, 0)
        self._draft = Part(cache.fingerprint, cache.root, process, name, options, wanted, cache.person)
        self._number = 0
        self._limit = options.budget_usd
        self._committed = Decimal(0)
        self._is_scarce = False
        self._sum = _Sum(left_out=Counter(wanted.left_out))
        self._wrong: GenaiCacheError | None = None
        self.stopped_by = ""

    def run(self, show: Callable[[int], None]) -> Warmed:
        """Give the work out, and return what became of it; raises ``GenaiCacheError`` where a worker has no cache."""
        with at_hand.kept(self._draft.process[1], self._cache):
            self._go_on(show)
        if self._wrong is not None:
            raise self._wrong
        return self._told()

    def _go_on(self, show: Callable[[int], None]) -> None:
        try:
            while True:
                self._give_out()
                if not self._under_way:
                    break
                for future in wait(self._under_way, return_when=FIRST_COMPLETED).done:
                    self._take(future)
                show(len(self._whole.different) - self._left())
        except KeyboardInterrupt:
            self.stopped_by = INTERRUPTED
            for future in self._under_way:
                future.cancel()
            for future in list(self._under_way):
                self._take(future)

    def _give_out(self) -> None:
        while self._queue and not self.stopped_by and len(self._under_way) < self._workers:
            if self._is_scarce and self._under_way:
                return  # what those leave is needed first
            wanted = self._queue.popleft()
            self._number += 1
            part = replace(
                self._draft,
                name=(self._draft.name[0], self._number),
                wanted=_restricted(self._whole, wanted),
                allowance_usd=self._allowance(),
            )
            try:
                self._under_way[self._executor.submit(ask_elsewhere, part)] = part
            except Exception as exc:  # noqa: BLE001 - of whichever executor
                self._queue.appendleft(wanted)
                self.stopped_by = (
                    f"the executor takes no more work ({type(exc).__name__}): make another, and it goes on from there"
                )

    def _allowance(self) -> Decimal | None:
        """Return what the next part may cost [USD]: its share of what nobody holds."""
        if self._limit is None:
            return None
        held = sum((part.allowance_usd or Decimal(0) for part in self._under_way.values()), Decimal(0))
        free = max(Decimal(0), self._limit - self._committed - held)
        sharers = 1 if self._is_scarce else min(self._workers - len(self._under_way), len(self._queue) + 1)
        return free / max(1, sharers)

    def _take(self, future: Future[PartDone]) -> None:
        part = self._under_way.pop(future)
        try:
            done = future.result()
        except CancelledError:
            self._queue.append(part.wanted.different)
            return
        except ConfigurationError as exc:
            self._wrong = self._wrong or exc
            self.stopped_by = self.stopped_by or str(exc)
            return
        except Exception as exc:  # noqa: BLE001 - of whichever executor: its worker is gone, or it could not be sent
            self._lost(part, exc)
            return
        self._committed += done.committed_usd
        self._sum.add(done.warmed)
        left = tuple(one for one in part.wanted.different if one.line in done.left)
        if left:
            self._queue.appendleft(left)
            self._stopped(part, done)

    def _stopped(self, part: Part, done: PartDone) -> None:
        """Go on with all that is left of the budget in one hand, unless that was so already."""
        if part.allowance_usd is None or self._limit is None:
            self.stopped_by = self.stopped_by or done.warmed.stopped_by
            return
        is_all = not self._under_way and part.allowance_usd - done.committed_usd >= self._limit - self._committed
        if is_all:
            spent = f"of the budget of {in_cents(self._limit)}, {in_cents(self._committed)} is spent or lost"
            self.stopped_by = self.stopped_by or f"{spent}; with the rest, {done.warmed.stopped_by}"
        self._is_scarce = True

    def _lost(self, part: Part, error: BaseException) -> None:
        """Count a part whose worker did not come back; what it may have spent is spent."""
        lines = sorted(one.line for one in part.wanted.different)
        which = f"request {lines[0]}" if len(lines) == 1 else f"requests {lines[0]} to {lines[-1]}"
        self._sum.errors.append(f"{which}: lost with their worker ({type(error).__name__})")
        self._sum.failed += len(lines)
        self._sum.spent_usd = None
        self._committed += part.allowance_usd or Decimal(0)

    def _left(self) -> int:
        waiting = sum(map(len, self._queue))
        return waiting + sum(len(part.wanted.different) for part in self._under_way.values())

    def _told(self) -> Warmed:
        found = self._sum
        return Warmed(
            found.hits + self._whole.equal,
            found.stored,
            found.not_stored,
            found.failed,
            self._left(),
            found.spent_usd,
            self.stopped_by,
            tuple(found.errors[:MOST_SHOWN]),
            dict(found.left_out),
        )


def check_executor(executor: Any) -> None:
    """Raise ``ConfigurationError`` unless work can be given to `executor` here."""
    if not callable(getattr(executor, "submit", None)):
        raise ConfigurationError(
            f"executor is {type(executor).__name__}: give a concurrent.futures.Executor, such as ProcessPoolExecutor, "
            "client.get_executor() of Dask, or RayExecutor() of genai_cache_magic.integrations.ray"
        )
    here = active.get()
    follows = isinstance(executor, ThreadPoolExecutor | ProcessPoolExecutor)
    if here is not None and here.scope.budgets is not None and not follows:
        raise ConfigurationError(
            "the workers of this executor can't be held to the budget of the cell: give warm its own, budget=..., "
            "in a cell that has none"
        )


def _cut(wanted: Sequence[Wanted], workers: int) -> list[tuple[Wanted, ...]]:
    size = max(1, min(_LARGEST, -(-len(wanted) // (workers * _ROUNDS))))
    return [tuple(wanted[start : start + size]) for start in range(0, len(wanted), size)]


def _restricted(whole: Wanting, wanted: tuple[Wanted, ...]) -> Wanting:
    digests = {one.digest for one in wanted}
    return replace(
        whole,
        different=wanted,
        equal=0,
        recorded=tuple(call for call in whole.recorded if call.name.digest in digests),
        left_out=Counter(),
    )
