"""Which of two values of one key was set later, and what becomes of each: decided without asking anybody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.policy import Serve, decide, gives_way

if TYPE_CHECKING:
    from genai_cache_magic.core.model import EntryId, Header, Stamp
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.placing import Placed
    from genai_cache_magic.entries.team.outbox import SetValue

LONGEST_MS: Final = 24 * 3600 * 1000
"""Records of single entries live as long, so what is older can't be judged any more."""
APART_MS: Final = 10_000
"""Times that different machines tell by the tier's clock are in order if they are so far apart."""


class Order(Enum):
    """What a team has under a value's key, beside the value: set before it, after it, or nobody can tell."""

    NOTHING = auto()
    EARLIER = auto()
    LATER = auto()
    UNTOLD = auto()


class Rival(Enum):
    """What a team has under the key of an entry that waits and was set here: nothing that stays, or set when.

    Or it is over with ours, since somebody has ruled on it; perhaps, where he did so by name and nothing valid is
    there: he may be about to store what he has put in the place of something earlier.
    """

    NONE = auto()
    EARLIER = auto()
    LATER = auto()
    PERHAPS_OVER = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Theirs:
    """What a team has under a key: its header, and the digest of all of it; none where the header tells enough."""

    header: Header
    digest: bytes = field(repr=False, default=b"")

    def is_other(self, envelope: bytes) -> bool:
        """Return whether it is not this `envelope`: what was set at another time has no digest here."""
        return self.digest != digest_of(envelope)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a value: whether it is kept, and whether its key is published as invalid.

    Where neither is so, what the team has counts.
    """

    is_kept: bool
    is_published: bool


def order(value: SetValue, birth: Stamp, theirs: Theirs | None, seen: Stamp) -> Order:
    """Return when what the team has, and is valid, was set; `birth` is the value's, `seen` the document's state."""
    if theirs is None:
        return Order.NOTHING
    header = theirs.header
    if theirs.digest == value.replaced:
        return Order.EARLIER
    is_before = bool(value.set_ms) and header.created_ms < value.set_ms - APART_MS
    if header.birth != birth:
        is_below = header.birth.root == birth.root and header.birth.ver < birth.ver
        # Born above the document: an older one was put back since, so that only the times tell.
        is_above = header.birth.root == birth.root and header.birth.ver > seen.ver
        return Order.EARLIER if is_below or (is_above and is_before) else Order.LATER
    if is_before:
        return Order.EARLIER
    if value.set_ms and header.created_ms > value.set_ms + APART_MS:
        return Order.LATER
    return Order.UNTOLD


def rule(  # noqa: PLR0913, PLR0917 - what a value is judged by
    value: SetValue, header: Header, theirs: Theirs | None, seen: Stamp, generations: Generations, now_ms: int
) -> Ruling:
    """Return what becomes of a value with `header` by the team's document, which `generations` is to take the place of.

    `theirs` is what the team has under its key, valid or not; `seen` is the document's state when that was looked at.
    """
    birth, entry_id = header.birth, value.entry_id
    if theirs is not None and not generations.is_valid(entry_id, theirs.header):
        theirs = None
    when = order(value, birth, theirs, seen)
    if when is Order.LATER:
        return Ruling(is_kept=False, is_published=False)
    age_ms = now_ms - header.created_ms
    # A clock may have been ahead when it was set: that makes it no younger than a day, which is what a record lives.
    is_valid = (
        generations.is_valid(entry_id, header)
        and birth.ver >= generations.forgotten
        and age_ms < min(header.ttl_s * 1000, LONGEST_MS)
    )
    if is_valid:
        return Ruling(is_kept=when is not Order.UNTOLD, is_published=True)
    # Where the team has ruled on this key since, nothing is left of what was there before.
    record = generations.entries.get(entry_id)
    least_ver = max(generations.floor, 0 if record is None else record.ver)
    is_ruled = generations.root != birth.root or birth.ver < least_ver
    return Ruling(is_kept=False, is_published=theirs is not None or not is_ruled)


def rival(entry_id: EntryId, ours: Placed, theirs: Theirs | None, generations: Generations, now_ms: int) -> Rival:
    """Return what the team has under the key of an entry that was set here, by a document that tells what is valid.

    A record of this key may be a teammate's who has decided so between what was there and something of his. If it is,
    what the team has was set before ours, perhaps. After a deletion it has nothing, or what was set later.
    """
    is_theirs_valid = theirs is not None and generations.is_valid(entry_id, theirs.header)
    if not generations.is_valid(entry_id, ours.header):
        if not replace(generations, entries={}).is_valid(entry_id, ours.header):
            return Rival.OVER
        if theirs is None or not is_theirs_valid:
            return Rival.PERHAPS_OVER
        return Rival.EARLIER if _is_later(ours, theirs) else Rival.OVER
    if theirs is None or gives_way(
        theirs.header, ours.header, is_served=_is_served(theirs.header, now_ms, is_valid=is_theirs_valid)
    ):
        return Rival.NONE if _is_served(ours.header, now_ms, is_valid=True) else Rival.OVER
    return Rival.EARLIER if _is_later(ours, theirs) else Rival.LATER


def _is_served(header: Header, now_ms: int, *, is_valid: bool) -> bool:
    return isinstance(decide(header, is_valid=is_valid, now_ms=now_ms, ttl_s=None), Serve)


def _is_later(ours: Placed, theirs: Theirs) -> bool:
    """Return whether ours was set later; of two in one millisecond all machines choose the same."""
    created_ms, their_ms = ours.header.created_ms, theirs.header.created_ms
    return (created_ms, digest_of(ours.envelope)) > (their_ms, theirs.digest)


def digest_of(blob: bytes) -> bytes:
    """Return the digest by which values are told apart."""
    return hashlib.sha256(blob).digest()
