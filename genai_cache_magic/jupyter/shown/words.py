"""Numbers as people read them: calls, tokens and money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.core.options import Mode
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from genai_cache_magic.calls.estimates import Foreseen
    from genai_cache_magic.entries.listing.results import Invalidation
    from genai_cache_magic.jupyter.shown.progress import Progress
    from genai_cache_magic.jupyter.shown.summary import Amount, Row, Summary

WELL, LOOK, FAILED = "\N{CHECK MARK}", "!", "\N{BALLOT X}"
"""What the line begins with: of every font, of no colour, and none of them an emoji."""

_REACH = {
    "published": "for everyone who shares the namespace",
    "queued": "on this machine; the team's tier can't be reached now, and is told as soon as it can",
    "local": "on this machine alone",
}
"""How far an invalidation has spread -> the words for it."""

_MAX_REASONS = 2
_MAX_WORDS = 1500
"""Whatever hosts and reasons are called [characters]."""
_AT_LEAST = "at least "


def in_words(summary: Summary) -> str:
    """Return the one line that stands under the cell: what failed, what it cost, and then how it was answered.

    It begins with one glyph, so that a cell in which something failed is seen among those in which all went well.
    """
    if summary.foreseen is not None:
        return estimate_in_words(summary.foreseen)
    parts = ["no model calls"]
    if summary.totals is not None:
        parts = [*_failures(summary), _money(summary.totals), *_counts(summary), _tokens(summary.totals)]
    if summary.options.mode is not Mode.USE:
        parts.append(f"mode {summary.options.mode.value}")
    return f"{_glyph(summary)} {' · '.join(parts)}".lstrip()[:_MAX_WORDS]


def estimate_in_words(found: Foreseen) -> str:
    """Return the line under a cell that was only looked up."""
    if not found.misses:
        return f"{WELL} estimate: {counted(found.hits, 'hit')}, nothing would be asked"
    asked = f"{counted(found.hits, 'hit')}, {counted(found.misses, 'miss', 'misses')}"
    known = found.misses - found.unknown
    cost = f", about {dollars(found.expected_usd)} ({dollars(found.least_usd)} to {dollars(found.most_usd)})"
    unknown = f", price of {counted(found.unknown, 'call')} unknown" if found.unknown else ""
    ends = ", stopped at the first answer that is needed"
    return f"{LOOK} estimate, at least: {asked}{cost if known else ''}{unknown}{ends}"


def money(amount: Amount) -> str:
    """Return a sum of money; what is unknown is called so and never counts as nothing."""
    if amount.is_unknown:
        return "unknown"
    if amount.unknown:
        calls = "1 call" if amount.unknown == 1 else f"{amount.unknown:,} calls"
        return f"{_AT_LEAST}{dollars(amount.known)} (price of {calls} unknown)"
    return dollars(amount.known)


def tokens(amount: Amount) -> str:
    """Return a number of tokens."""
    if amount.is_unknown:
        return "unknown"
    at_least = _AT_LEAST if amount.unknown else ""
    return f"{at_least}{int(amount.known):,}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return ``1 miss`` or ``2 misses``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def invalidated_in_words(done: Invalidation) -> str:
    """Return how many answers an invalidation concerns, and how far it reaches."""
    counts = f"{done.count:,} of {counted(done.known, 'known answer')}"
    return f"{counts} would be invalid" if done.dry_run else f"{counts} made invalid, {_REACH[done.published]}"


def outcome_in_words(done: Invalidation) -> str:
    """Return the same, where no question follows."""
    return f"{invalidated_in_words(done)}{'; nothing was changed' if done.dry_run else ''}"


def progress_in_words(progress: Progress) -> str:
    """Return how far a running cell is."""
    of = f"{progress.done:,} of about {progress.expected:,}" if progress.expected else f"{progress.done:,}"
    spent = "unknown" if progress.spent is None else dollars(progress.spent)
    parts = [f"{of} done", f"{progress.in_flight:,} in flight", f"spent {spent} so far"]
    if progress.eta_s is not None:
        parts.append(f"about {max(1, round(progress.eta_s)):,} s left")
    return ", ".join(parts)


def _failures(summary: Summary) -> list[str]:
    """Return what the line leads with: calls that failed, and what may cost without being known yet."""
    failed = [f"{counted(summary.errors, 'error')}{_because(summary, Outcome.ERROR)}"] if summary.errors else []
    unrecognised = [
        f"{counted(count, 'request')} to {host} {'was' if count == 1 else 'were'} not recognised"
        for host, count in summary.unrecognised
    ]
    still_open = [f"{counted(summary.open, 'call')} still open, price unknown"] if summary.open else []
    return [*failed, *still_open, *unrecognised]


def _counts(summary: Summary) -> list[str]:
    """Return how calls were answered; nothing if the line has said it all by now."""
    if (summary.open or summary.unrecognised) and not (
        summary.hits or summary.similar or summary.misses or summary.bypassed
    ):
        return []
    misses = counted(summary.misses, "miss", "misses")
    if summary.refused:
        misses += f" ({summary.refused:,} refused{_because(summary, Outcome.REFUSED, ': {}')})"
    parts = [counted(summary.hits, "hit") + _from_files(summary)]
    parts += [f"{summary.similar:,} similar"] if summary.similar else []
    parts.append(misses)
    if summary.bypassed:
        parts.append(f"{summary.bypassed:,} bypassed{_because(summary, Outcome.BYPASS)}")
    return [", ".join(parts)]


def _from_files(summary: Summary) -> str:
    """Return from which run files hits came, and how many where not all did."""
    said = [words if count == summary.hits else f"{count:,} {words}" for words, count in summary.from_files]
    return f" ({', '.join(said)})" if said else ""


def _glyph(summary: Summary) -> str:
    """Return what tells at a glance how it went: a call failed, something is to be read, or all is well."""
    if summary.errors:
        return FAILED
    if summary.troubles or summary.bypassed or summary.refused or summary.open or summary.unrecognised:
        return LOOK
    return "" if summary.totals is None else WELL


def _because(summary: Summary, outcome: Outcome, form: str = " ({})") -> str:
    reasons = summary.reasons.get(outcome, ())
    if not reasons:
        return ""
    return form.format(", ".join([*reasons[:_MAX_REASONS], *["..."] * (len(reasons) > _MAX_REASONS)]))


def _tokens(total: Row) -> str:
    if total.input_tokens.is_unknown and total.output_tokens.is_unknown:
        return "tokens unknown"
    received = tokens(total.output_tokens)
    if total.input_tokens.unknown:
        received = received.removeprefix(_AT_LEAST)  # said once, of both
    sent = tokens(total.input_tokens)
    return f"{sent} {'token' if sent == '1' else 'tokens'} in, {received} out"


def _money(total: Row) -> str:
    return f"spent {money(total.spent)}, saved {money(total.saved)}"
