"""What becomes of a model call next: the steps that `CallDesk` answers with, and that interceptors carry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from genai_cache_magic.coalesce import Flight, Seat
    from genai_cache_magic.core.model import EntryId, Response, Stamp
    from genai_cache_magic.core.policy import Why
    from genai_cache_magic.events import Tier
    from genai_cache_magic.providers.base import ModelCall
    from genai_cache_magic.scope import CellScope


@dataclass(frozen=True, slots=True)
class Answered:
    """Serve this response; the call is recorded."""

    response: Response
    tier: Tier


@dataclass(frozen=True, slots=True)
class Bypass:
    """The call goes to its origin as if we were not here; it is recorded."""


@dataclass(slots=True)
class Lead:
    """Ask the origin with the caller's own client, then ``commit`` or ``abort``, once."""

    call: ModelCall
    scope: CellScope
    entry_id: EntryId
    sample: int
    request_id: EntryId
    why: Why
    started: float
    stamp: Stamp | None = None
    flight: Flight | None = None
    is_done: bool = False
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class Follow:
    """Someone asks the same right now: wait for `future`, then call ``resume``."""

    lead: Lead
    future: Seat


@dataclass(frozen=True, slots=True)
class Rejected:
    """The origin failed for the caller that this one waited for: raise `error`, or answer with it."""

    error: BaseException | Response


Step: TypeAlias = Answered | Bypass | Lead | Follow | Rejected
