"""What a cell's calls come to: counts, tokens, money and troubles, as data that two equal runs share.

Nothing here depends on the order in which calls ended, on how long they took, on the machine or on the
clock, so a notebook that is executed twice from the cache is saved twice as the same bytes.
"""

from __future__ import annotations

import platform
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from genai_cache_magic.core.ignoring import in_words as rules_in_words
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.events import SERVED, Outcome, Tier
from genai_cache_magic.host import tilde

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from genai_cache_magic.calls.estimates import Foreseen
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.events import CallRecord, Trouble

    Kind: TypeAlias = tuple[Outcome, str, str, Tier | None, str]

MAX_ROWS = 50
MAX_TROUBLES = 5
MAX_HOSTS = 10
MAX_SIMILAR = 10
MAX_TEXT = 200
"""What is shown of a text that others wrote, such as a model's name or a reason [characters]."""
_LONGEST_TROUBLE = 400
"""What is shown of a trouble, at whose end stands what to do about it [characters]."""

_WORST_FIRST = (
    Outcome.ERROR,
    Outcome.OPEN,
    Outcome.UNRECOGNISED,
    Outcome.REFUSED,
    Outcome.BYPASS,
    Outcome.STALE,
    Outcome.MISS,
    Outcome.SIMILAR,
    Outcome.HIT,
)
_FETCHED = frozenset({Outcome.MISS, Outcome.STALE})
_PLACES = re.compile(
    r"(?<=://)[^\s'\"]+"  # what follows the scheme of an address
    r"|(?<![\w.])[\w.-]+:\d{2,5}\b"  # host and port, or a time
    r"|(?<![\w./~])(?:~|[A-Za-z]:)?[/\\](?:[^\s`'\",;:()/\\]+[/\\])+[^\s`'\",;:()]*"  # a path
)
_OUR_FILES = frozenset({"genai-cache.toml", "pyproject.toml", "config.toml"})
"""Names that every project may have, and that tell nobody's place."""
_DATE = re.compile(r" on \d{4}-\d\d-\d\d\b")


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of which some parts may be unknown: what is known of it, and how many parts are not.

    Attributes
    ----------
    known
        Sum of the known parts: tokens, or [USD].
    unknown, parts
        Number of unknown parts, and of all.
    """

    known: Decimal = Decimal(0)
    unknown: int = 0
    parts: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether nothing at all is known of it; a sum of no parts is 0."""
        return 0 < self.parts == self.unknown


@dataclass(frozen=True, slots=True)
class Row:
    """Calls that look alike, counted; tokens and money are their sums."""

    count: int
    outcome: Outcome
    tier: str
    reason: str
    provider: str
    model: str
    input_tokens: Amount
    cached_input_tokens: int
    output_tokens: Amount
    spent: Amount
    saved: Amount


@dataclass(frozen=True, slots=True)
class Summary:
    """One cell, ready to be shown.

    Attributes
    ----------
    store
        Keyed fingerprint of the namespace and the store that answered; empty if no other process can reach it.
    similar
        Number of calls that got the answer to another question, much alike.
    not_stored
        Number of those among the misses whose answer is not in the cache.
    unrecognised
        (host, number of requests to it that may have asked a model in a way that is not known).
    from_files
        (words that name the run file, number of hits from it).
    totals
        All calls as one row; None if there were none.
    calls
        Each call, in an order that does not depend on when it ended; texts are cut, and no date is in them, nor
        which tier of the cache had it.
    rows
        At most `MAX_ROWS`, worst outcome first; `more` calls are not among them.
    foreseen
        What its calls would come to, where they were only looked up.
    troubles, hints
        Sentences. Troubles name no host, user or time.
    """

    options: Options
    store: str
    hits: int
    similar: int
    misses: int
    not_stored: int
    bypassed: int
    errors: int
    refused: int
    open: int
    unrecognised: tuple[tuple[str, int], ...]
    from_files: tuple[tuple[str, int], ...]
    reasons: dict[Outcome, tuple[str, ...]]
    totals: Row | None
    calls: tuple[CallRecord, ...]
    rows: tuple[Row, ...]
    more: int
    troubles: tuple[str, ...]
    hints: tuple[str, ...]
    foreseen: Foreseen | None = field(repr=False, default=None)


def summarise(scope: CellScope) -> Summary:
    """Return what `scope` holds at this moment."""
    calls = tuple(sorted(map(_told, scope.calls), key=_order))
    outcomes = Counter(call.outcome for call in calls)
    rows, more = _rows(calls)
    return Summary(
        options=scope.options,
        store=scope.store,
        hits=outcomes[Outcome.HIT],
        similar=outcomes[Outcome.SIMILAR],
        misses=outcomes[Outcome.MISS] + outcomes[Outcome.STALE] + outcomes[Outcome.REFUSED],
        not_stored=outcomes[Outcome.REFUSED] + sum(call.outcome in _FETCHED and not call.stored for call in calls),
        bypassed=outcomes[Outcome.BYPASS],
        errors=outcomes[Outcome.ERROR],
        refused=outcomes[Outcome.REFUSED],
        open=outcomes[Outcome.OPEN],
        unrecognised=_hosts(calls),
        from_files=tuple(
            sorted(Counter(c.reason for c in calls if c.outcome is Outcome.HIT and c.tier is Tier.FILE).items())
        ),
        reasons=_reasons(calls),
        totals=_row(calls) if calls else None,
        calls=calls,
        rows=rows,
        more=more,
        troubles=(*_alerts(scope), *_troubles(scope.troubles)),
        hints=(*scope.notices, *_budget(scope), *_similar(calls), *_hints(scope)),
        foreseen=scope.foreseen,
    )


def kind_of(call: CallRecord) -> Kind:
    """Return what a call has in common with others of its kind."""
    return (call.outcome, call.provider, call.model, call.tier, call.reason)


def short(text: str, longest: int = MAX_TEXT) -> str:
    """Return the start of a text that others wrote, in one line of what can be shown and saved."""
    if not text.isprintable():  # line ends, controls, half surrogate pairs
        text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _told(call: CallRecord) -> CallRecord:
    """Return `call` as it may be saved: its texts short, and without the day on which an answer expired.

    Nor is it said on which tier the cache found it: what the team's had the first time is on this machine the second.
    """
    reason, model, provider = short(_DATE.sub("", call.reason)), short(call.model), short(call.provider)
    tier = call.tier if call.tier is Tier.FILE else None
    if (reason, model, provider, tier) == (call.reason, call.model, call.provider, call.tier):
        return call
    return replace(call, reason=reason, model=model, provider=provider, tier=tier)


def _order(call: CallRecord) -> tuple[Hashable, ...]:
    numbers = (-1 if number is None else number for number in (call.sample, *_numbers(call)))
    kind = (call.outcome, call.provider, call.model, call.tier or "", call.reason)
    return (_WORST_FIRST.index(call.outcome), *kind, call.entry_id[:16], *numbers, call.answer_id[:16])


def _hosts(calls: Iterable[CallRecord]) -> tuple[tuple[str, int], ...]:
    found = sorted(Counter(call.provider for call in calls if call.outcome is Outcome.UNRECOGNISED).items())
    rest = sum(count for _, count in found[MAX_HOSTS:])
    return (*found[:MAX_HOSTS], *([("other hosts", rest)] if rest else []))


def _rows(calls: tuple[CallRecord, ...]) -> tuple[tuple[Row, ...], int]:
    """Group calls: those that agree in everything shown, or, where nobody would read so many, those of one kind."""
    rows = _grouped(calls, kind_of if len(calls) > MAX_ROWS else _looks)
    return tuple(rows[:MAX_ROWS]), sum(row.count for row in rows[MAX_ROWS:])


def _grouped(calls: Iterable[CallRecord], by: Callable[[CallRecord], tuple[Hashable, ...]]) -> list[Row]:
    groups: defaultdict[tuple[Hashable, ...], list[CallRecord]] = defaultdict(list)
    for call in calls:
        groups[by(call)].append(call)
    ordered = sorted(groups, key=lambda key: (_WORST_FIRST.index(groups[key][0].outcome), *map(_sortable, key)))
    return [_row(groups[key]) for key in ordered]


def _looks(call: CallRecord) -> tuple[Hashable, ...]:
    return (*kind_of(call), *_numbers(call))


def _numbers(call: CallRecord) -> tuple[int | Decimal | None, ...]:
    return (call.input_tokens, call.cached_input_tokens, call.output_tokens, call.spent_usd, call.saved_usd)


def _sortable(value: object) -> tuple[int, Decimal, str]:
    if isinstance(value, (int, Decimal)):
        return (1, Decimal(value), "")
    return (0, Decimal(0), "" if value is None else str(value))


def _row(calls: Sequence[CallRecord]) -> Row:
    first = calls[0]
    asked = [call for call in calls if call.outcome not in SERVED]
    served = [call for call in calls if call.outcome in SERVED or call.saved_usd]  # a batch may be known in part
    return Row(
        count=len(calls),
        outcome=first.outcome,
        tier=first.tier.value if first.tier else "",
        reason=first.reason,
        provider=first.provider,
        model=first.model,
        input_tokens=_sum(call.input_tokens for call in calls if _has_tokens(call)),
        cached_input_tokens=sum(call.cached_input_tokens for call in calls),
        output_tokens=_sum(call.output_tokens for call in calls if _has_tokens(call)),
        spent=_sum(call.spent_usd for call in asked),
        saved=_sum(call.saved_usd for call in served),
    )


def _has_tokens(call: CallRecord) -> bool:
    """Whether there are tokens to know of: a failure that is known to have cost nothing never got that far."""
    is_failure = call.outcome in (Outcome.ERROR, Outcome.UNRECOGNISED)
    return call.input_tokens is not None or call.spent_usd != 0 or not is_failure


def _sum(parts: Iterable[int | Decimal | None]) -> Amount:
    values = list(parts)
    known = [Decimal(value) for value in values if value is not None]
    return Amount(sum(known, Decimal(0)), len(values) - len(known), len(values))


def _reasons(calls: Iterable[CallRecord]) -> dict[Outcome, tuple[str, ...]]:
    found: defaultdict[Outcome, Counter[str]] = defaultdict(Counter)
    for call in calls:
        if call.reason:
            found[call.outcome][call.reason] += 1
    # Sorted before they are ranked, so that equally frequent ones don't stand in the order in which calls ended.
    return {
        outcome: tuple(r for r, _ in Counter(sorted(reasons.elements())).most_common())
        for outcome, reasons in found.items()
    }


def _troubles(troubles: Iterable[Trouble]) -> tuple[str, ...]:
    texts = {without_places(f"{trouble.where}: {trouble.message}") for trouble in troubles}
    lines = sorted(short(text, _LONGEST_TROUBLE) for text in texts)
    if len(lines) > MAX_TROUBLES:
        lines[MAX_TROUBLES:] = [f"and {len(lines) - MAX_TROUBLES} more troubles"]
    return tuple(lines)


def _alerts(scope: CellScope) -> tuple[str, ...]:
    """Return the alerts that are in force."""
    return () if scope.monitor is None else tuple(short(text) for text in scope.monitor.alerts())


def _budget(scope: CellScope) -> tuple[str, ...]:
    """Return the sentence that says what has become of the scope's own budget."""
    found = scope.budgets.state if scope.budgets is not None else None
    return () if found is None else (short(found.in_words()),)


def _similar(calls: Iterable[CallRecord]) -> list[str]:
    """Return a line for each question whose answer went to another: the one place where words of a prompt are shown."""
    counts = Counter((c.reason, c.similar_text) for c in calls if c.outcome is Outcome.SIMILAR and c.similar_text)
    told = [
        f"{reason} to: {short(text)}{f' ({count:,} calls)' if count > 1 else ''}"
        for (reason, text), count in sorted(counts.items())
    ]
    if len(told) > MAX_SIMILAR:
        told[MAX_SIMILAR:] = [f"and {len(told) - MAX_SIMILAR} more similar questions"]
    return told


def _hints(scope: CellScope) -> tuple[str, ...]:
    options, repeated = scope.options, scope.repeated
    if options.mode is Mode.OFF:
        return ()
    hints = [f"keys leave out {rules_in_words(options.ignore)}"] if options.ignore and scope.calls else []
    if repeated and options.samples is Samples.SAME:
        calls = "1 call" if repeated == 1 else f"{repeated} calls"
        hints.append(f"{calls} asked what another had asked and shared its answer; --samples distinct keeps them apart")
    return tuple(hints)


def _hidden(place: re.Match[str]) -> str:
    name = re.split(r"[/\\]", place[0])[-1]
    return f"…/{name}" if name in _OUR_FILES else "…"


def without_places(message: str) -> str:
    """Return `message` without what names this machine or its services: they don't belong in a saved notebook."""
    message = _PLACES.sub(_hidden, tilde(message))
    node = platform.node()
    return re.sub(rf"\b{re.escape(node)}\b", "this machine", message) if node else message
