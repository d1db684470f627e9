"""Warming a cache: requests are asked for beforehand, a few at a time, and a dry run says what that would come to.

They are sent by the vendors' own SDKs, as the user's code would send them, so that the answers are found again: with
keys and addresses from the environment, where those look for them. What is in the cache is not asked again, so who was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

from genai_cache_magic.api.held import held_to_budget
from genai_cache_magic.api.placeholders import placeholders
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.api.requests_file import read_requests
from genai_cache_magic.budgets.dry import DryAnswers, DryBudgets
from genai_cache_magic.calls.estimates import Estimate, Range
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.options import Options, checked_tags
from genai_cache_magic.errors import BudgetExceeded, CellInterrupt, ConfigurationError, NotSent, make_ordinary
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.active import Active, Answers
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.intercept.threads import in_force
from genai_cache_magic.runs.recorder import RunRecorder
from genai_cache_magic.runs.watching import WatchedAnswers
from genai_cache_magic.settings.units import parse_duration, parse_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from genai_cache_magic.api.requests_file import Wanted
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.entries.counting import Counts
    from genai_cache_magic.ledger.usage import Ledger
    from genai_cache_magic.runs.runs import Runs

_MESSAGES: Final = "/v1/messages"
_MOST_SHOWN: Final = 5
_MAX_WORKERS: Final = 64


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What requests would come to.

    Attributes
    ----------
    hits, misses
        How many are in the cache, and how many would be asked. Of equal ones that are not in it one is asked.
    input_tokens, output_tokens
        Of those that would be asked, as expected.
    least_usd, expected_usd, most_usd
        What they may cost, as far as prices are known [USD].
    unknown
        How many of them have a price that nobody knows.
    unbounded
        How many of them set no limit to their answer: those may cost more than the most.
    """

    hits: int = 0
    misses: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    least_usd: Decimal = Decimal(0)
    expected_usd: Decimal = Decimal(0)
    most_usd: Decimal = Decimal(0)
    unknown: int = 0
    unbounded: int = 0

    def plus(self, one: Estimate) -> Foreseen:
        """Return this and one call more that would be asked."""
        usd = one.usd
        known = usd.least is not None and usd.expected is not None and usd.most is not None
        return replace(
            self,
            misses=self.misses + 1,
            input_tokens=self.input_tokens + one.input_tokens,
            output_tokens=self.output_tokens + one.output_tokens,
            least_usd=self.least_usd + (usd.least or 0),
            expected_usd=self.expected_usd + (usd.expected or 0),
            most_usd=self.most_usd + (usd.most or 0),
            unknown=self.unknown + (not known),
            unbounded=self.unbounded + (not one.is_bounded),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD]."""
        numbers = ("hits", "misses", "input_tokens", "output_tokens", "unknown", "unbounded")
        money = {name: f"{getattr(self, name):f}" for name in ("least_usd", "expected_usd", "most_usd")}
        return {**{name: getattr(self, name) for name in numbers}, **money}


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of requests.

    Attributes
    ----------
    hits, stored
        How many were in the cache before, or equal to one that was asked now, and how many are in it since.
    not_stored
        Asked, and their answer may not be stored.
    failed
        Refused by their origin, or never answered.
    left
        Not asked, since the budget was at its end, or somebody interrupted.
    spent_usd
        What it has cost [USD]; None if a price is unknown.
    stopped_by
        What ended it early, in words; empty if nothing did.
    errors
        The first errors, by the line of their request.
    """

    hits: int
    stored: int
    not_stored: int
    failed: int
    left: int
    spent_usd: Decimal | None
    stopped_by: str = field(repr=False, default="")
    errors: tuple[str, ...] = field(repr=False, default=())

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD], null where it is unknown."""
        counts = {name: getattr(self, name) for name in ("hits", "stored", "not_stored", "failed", "left")}
        spent = None if self.spent_usd is None else f"{self.spent_usd:f}"
        return {**counts, "spent_usd": spent, "stopped_by": self.stopped_by, "errors": list(self.errors)}


class Warmable(Answers, Protocol):
    """What of a cache is needed here."""

    namespace: str
    ledger: Ledger
    counts: Counts
    runs: Runs
    fingerprint: str

    def stored(self, entry_id: EntryId) -> Response | None:
        """Return the answer that is stored under an id, None if there is no valid one."""


class Warms:
    """The part of a cache that asks beforehand, and says what that would come to."""

    def estimate(self: Warmable, requests: Any = (), *, endpoint: str = "", run: str = "") -> Foreseen:
        """Return how many of `requests`, or of the calls of a run, are in the cache, and what the others would cost.

        Nothing is sent. Of a run, whose calls have been made, it is known what each came to; only its tokens and its
        price then are told, at the prices of that time.

        Parameters
        ----------
        requests, endpoint
            As for `warm`.
        run
            A run's name, in place of requests.

        Raises
        ------
        ConfigurationError
            What was given is no request, or there is no such run.
        """
        if run:
            return _run_again(self, run)
        wanted = read_requests(requests, endpoint=endpoint)
        different = _different(wanted)
        found: list[Estimate] = []
        with _dry(self, found.append) as scope, _Clients() as clients:
            for one in different:
                with suppress(NotSent):
                    clients.ask(one)
            result = Foreseen(hits=scope.hits + len(wanted) - len(different))
        for estimated in found:
            result = result.plus(estimated)
        return result

    def warm(  # noqa: PLR0913 - one parameter for each option of the command
        self: Warmable,
        requests: Any,
        *,
        endpoint: str = "",
        budget: object = None,
        budget_unknown: object = None,
        run: str = "",
        tags: Iterable[str] = (),
        ttl: str | None = None,
        max_workers: int = 8,
        progress: bool | Callable[[int, int], None] | None = None,
    ) -> Warmed:
        """Ask what of `requests` is not in the cache, a few at a time, by the vendors' own SDKs.

        Parameters
        ----------
        requests
            A list of bodies or of lines of OpenAI's batch files as objects, or the path of a file of such lines.
        endpoint
            The path of bodies that stand alone, such as ``/v1/responses``; without it their fields tell.
        budget, budget_unknown, run, tags, ttl
            As the options of a cell. What the budget stops is left for the next time.
        max_workers
            How many are asked at one time.
        progress
            As for `map`.

        Raises
        ------
        ConfigurationError
            An option is wrong, something is no request, or no client can be made of the environment.
        """
        if type(max_workers) is not int or not 1 <= max_workers <= _MAX_WORKERS:
            raise ConfigurationError(f"max_workers is {max_workers!r}: write a whole number from 1 to {_MAX_WORKERS}")
        options = Options(
            namespace=self.namespace,
            run=run,
            tags=checked_tags(tags),
            ttl_s=None if ttl is None else parse_duration(ttl, name="ttl"),
            budget_usd=None if budget is None else parse_usd(budget, name="budget"),
            budget_unknown_usd=None
            if budget_unknown is None
            else parse_usd(budget_unknown, name="budget_unknown", may_be_zero=True),
        )
        wanted = read_requests(requests, endpoint=endpoint)
        different = _different(wanted)
        round_ = _Round(different)
        scope = _new_scope(self, options)
        with (
            _in_scope(held_to_budget(_recorded(self, scope), scope), scope),
            _Clients() as clients,
            bar_of(len(different), 0, progress, name="warm") as bar,
        ):
            round_.run(clients, max_workers, bar.show)
        return _told(scope, round_, equal=len(wanted) - len(different), left=len(different) - round_.done)


@contextmanager
def _dry(cache: Warmable, tell: Callable[[Estimate], None]) -> Iterator[CellScope]:
    scope = _new_scope(cache, Options(namespace=cache.namespace))
    scope.books = None  # nothing is spent, and what is looked up saves nothing
    scope.budgets = DryBudgets(tell)
    placeholders.fill()
    try:
        with _in_scope(DryAnswers(cache, tell), scope):
            yield scope
    finally:
        placeholders.take_back()


def _new_scope(cache: Warmable, options: Options) -> CellScope:
    scope = CellScope(options)
    scope.books, scope.store = cache.ledger.books, cache.fingerprint
    scope.past, scope.counts = cache.ledger.past, cache.counts
    return scope


def _recorded(cache: Warmable, scope: CellScope) -> Answers:
    """Return the answers of `cache`, noted where the scope belongs to a run."""
    if not scope.options.run:
        return cache
    return WatchedAnswers(cache, RunRecorder(scope, now_ms=lambda: time.time_ns() // 1_000_000))


def _run_again(cache: Warmable, run: str) -> Foreseen:
    result = Foreseen()
    for call in cache.runs.show(run).calls:
        # One that was imported has no entry.
        if call.entry_id and cache.stored(EntryId(call.entry_id)) is not None:
            result = replace(result, hits=result.hits + 1)
            continue
        usd = call.spent_usd if call.spent_usd is not None else call.saved_usd
        tokens = (call.input_tokens or 0, call.output_tokens or 0)
        result = result.plus(Estimate(*tokens, Range(usd, usd, usd), is_bounded=True))
    return result


def _told(scope: CellScope, round_: _Round, *, equal: int, left: int) -> Warmed:
    counts = [call.outcome for call in scope.calls]
    asked = [call for call in scope.calls if call.outcome in (Outcome.MISS, Outcome.STALE, Outcome.REFUSED)]
    stored = sum(call.stored for call in asked)
    return Warmed(
        hits=counts.count(Outcome.HIT) + equal,
        stored=stored,
        not_stored=len(asked) - stored + counts.count(Outcome.BYPASS),
        failed=len(round_.errors),
        left=left,
        spent_usd=scope.spent_usd,
        stopped_by=round_.stopped_by,
        errors=tuple(round_.errors[:_MOST_SHOWN]),
    )


class _Round:
    """Requests that are asked a few at a time, until all are or one is stopped."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = iter(wanted)
        self.done = 0
        self.stopped_by = ""
        self.errors: list[str] = []

    def run(self, clients: _Clients, workers: int, show: Callable[[int], None]) -> None:
        """Ask; what was begun when one was stopped, or somebody interrupted, comes to its end."""
        under_way: dict[Future[None], Wanted] = {}
        with ThreadPoolExecutor(workers, "genai-cache-warm") as pool:
            try:
                while True:
                    while len(under_way) < workers and not self.stopped_by and (one := next(self._wanted, None)):
                        under_way[pool.submit(clients.ask, one)] = one
                    if not under_way:
                        return
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        self._take(future, under_way.pop(future))
                        show(self.done)
            except KeyboardInterrupt:
                self.stopped_by = "interrupted: what was answered is kept, and the next time it goes on from there"
                for future, one in under_way.items():
                    self._take(future, one)

    def _take(self, future: Future[None], one: Wanted) -> None:
        try:
            future.result()
        except BudgetExceeded as exc:
            self.stopped_by = self.stopped_by or str(exc)
            return
        except ConfigurationError:
            raise  # no client can be made, of this or of any other request
        except Exception as exc:  # noqa: BLE001 - of whichever SDK; its text may hold what was asked
            self.errors.append(f"request {one.line}: {type(exc).__name__}")
        self.done += 1


class _Clients:
    """The vendors' clients, made when they are first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}  # guarded by _lock
        self._open = ExitStack()

    def __enter__(self) -> _Clients:  # noqa: PYI034 - the class is final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def ask(self, one: Wanted) -> None:
        """Send one request; raises what the client raises."""
        kind = "anthropic" if one.path == _MESSAGES else "openai"
        path = one.path if kind == "anthropic" else one.path.removeprefix("/v1")
        try:
            self._client(kind).post(path, body=dict(one.body), cast_to=object)
        except CellInterrupt as exc:
            make_ordinary(exc)  # it has left the SDK behind, and this thread is a pool's
            raise

    def _client(self, kind: str) -> Any:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._open.enter_context(_new_client(kind))
            return self._made[kind]


def _new_client(kind: str) -> Any:
    try:
        if kind == "anthropic":
            import anthropic

            return anthropic.Anthropic()
        import openai

        return openai.OpenAI()
    except ImportError as exc:
        raise ConfigurationError(f"such requests are sent by the package {kind}: pip install {kind}") from exc
    except Exception as exc:
        raise ConfigurationError(
            f"{kind}'s client can't be made ({type(exc).__name__}): set {kind.upper()}_API_KEY, and where another "
            f"server is to be asked {kind.upper()}_BASE_URL"
        ) from exc


@contextmanager
def _in_scope(answers: Answers, scope: CellScope) -> Iterator[None]:
    """Let the calls of the block, and of threads that it starts, belong to `scope`."""
    patcher.install()
    try:
        with in_force(Active(answers, scope)):
            yield
    finally:
        scope.end()


def _different(wanted: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """Return the first of each that are equal."""
    seen: dict[str, Wanted] = {}
    for one in wanted:
        seen.setdefault(repr((one.path, sorted(one.body.items(), key=lambda item: item[0]))), one)
    return tuple(seen.values())
