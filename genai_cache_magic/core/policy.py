"""The two decisions: whether a stored answer is served, and whether a new one is stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection

    from genai_cache_magic.core.model import Header

STORE_KINDS = ("truncated", "filtered", "refusal", "server-tools", "urls")
"""Kinds of answers that are refused unless a scope asks to store them."""


class Why(StrEnum):
    """Why a stored answer is not served."""

    ABSENT = "not in the cache"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    DAMAGED = "the stored entry could not be opened"
    UNSUITED = "the stored entry lacks what this caller asks for"
    REFRESH = "refresh asked for"
    UNCONFIRMED = "not confirmed by the team for longer than offline_trust"


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer from the cache."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the model: why, and where more is known of it, in words such as ``expired on 2026-11-28``."""

    why: Why
    because: str = ""

    @property
    def text(self) -> str:
        """The reason in words."""
        return self.because or self.why.value


Decision: TypeAlias = Serve | Fetch

_SERVE = Serve()


@dataclass(frozen=True, slots=True)
class Store:
    """The answer may be stored."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The answer must not be stored; `reason` is one or two words for the call record."""

    reason: str


def decide(header: Header, *, is_valid: bool, now_ms: int, ttl_s: int | None) -> Decision:
    """Decide about a stored answer: served iff its age is below its own and the caller's time to live.

    Parameters
    ----------
    now_ms
        Wall clock [ms since the epoch]. A clock before the entry's birth counts as age 0.
    ttl_s
        The caller's explicit time to live [s], None for none.
    """
    if not is_valid:
        return Fetch(Why.INVALIDATED)
    limit_s = header.ttl_s if ttl_s is None else min(header.ttl_s, ttl_s)
    if now_ms - header.created_ms >= limit_s * 1000:
        return Fetch(Why.EXPIRED)
    return _SERVE


class Filled(StrEnum):
    """What became of an answer on its way into a store."""

    STORED = "stored"
    KEPT = "a valid answer was already stored"
    OUTDATED = "invalidated while it was asked for"


def gives_way(held: Header, new: Header, *, is_served: bool) -> bool:
    """Return whether a stored answer makes room for a new one that is valid now.

    What its caller would be served stays, and so does what was asked for later than the new one.
    """
    is_later = held.birth.root == new.birth.root and held.birth.ver > new.birth.ver
    return not is_served and not is_later


def admissible(end: str, refused: Collection[str], wanted: Collection[str]) -> Store | Refuse:
    """Decide whether an answer may be stored.

    Parameters
    ----------
    end
        How the answer ended (``providers.base.End``).
    refused
        Reasons known before the call or told by its answer: ``stateful``, ``server-tools``.
    wanted
        Kinds that the scope asks to store all the same; only those of `STORE_KINDS` have an effect.
    """
    for reason in refused:
        if reason not in wanted or reason not in STORE_KINDS:
            return Refuse(str(reason))
    if end in ("complete", "tool-calls"):
        return Store()
    if end in STORE_KINDS and end in wanted:
        return Store()
    return Refuse(str(end))
