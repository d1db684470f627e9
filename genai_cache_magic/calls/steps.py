"""What becomes of a model call next: the steps that a desk answers with, and that interceptors carry out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_cache_magic.calls.alike import Question
    from genai_cache_magic.calls.batch import Batch
    from genai_cache_magic.calls.coalesce import Flight, Landing, Seat
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.model import EntryId, Response, Stamp
    from genai_cache_magic.core.policy import Why
    from genai_cache_magic.entries.permits import Permit
    from genai_cache_magic.events import Outcome, Tier
    from genai_cache_magic.providers.base import Answer, ModelCall


class Begins(Protocol):
    """Says of each model call what becomes of it."""

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`; raises ``ReplayMiss``."""


class Desk(Protocol):
    """What the steps of a call that goes on are reported to; its methods are documented at `CallDesk`."""

    @property
    def max_response_bytes(self) -> int:
        """The largest answer that is stored [bytes]."""

    def request_id(self, call: ModelCall, scope: CellScope) -> EntryId:
        """Return the entry id of `call` for its first sample."""

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting."""

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer."""

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Take note of an answer that was too large to record."""

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up."""

    def drop(self, lead: Lead) -> None:
        """Make sure that nobody waits for `lead`."""

    def stop(self, lead: Lead, reason: str) -> None:
        """Give the call up before it was sent."""


class Answered(NamedTuple):
    """Serve this response, which is the `sample`-th to its question; the call is recorded."""

    response: Response
    tier: Tier
    sample: int = 0
    entry_id: str = ""
    is_similar: bool = False
    """It is the answer to another question, much alike."""
    not_stored: str = ""
    """Why it does not lie under `entry_id`, in words."""

    def __repr__(self) -> str:
        return f"<answered from {self.tier.value}>"


@dataclass(frozen=True, slots=True)
class Bypass:
    """The call goes to its origin as if we were not here; it is recorded."""


@dataclass(slots=True)
class Lead:
    """Ask the origin with the caller's own client, then ``commit`` to `desk` or ``abort``, once.

    Where `batch` has a body, that one is sent in the place of the caller's, with the caller's own client and all its
    ways; its answer is read whole, and what `batch` makes of it is committed and given to the caller. `call` is what is
    asked then, and `request_id` its name.
    """

    desk: Desk
    call: ModelCall
    scope: CellScope
    entry_id: EntryId
    sample: int
    request_id: EntryId
    why: Why
    started: float
    is_async: bool = False
    because: str = ""
    life_s: int = 0
    """What is stored already lives so long [s]: what takes its place does not die sooner."""
    stamp: Stamp | None = None
    stamped_ms: int = 0
    flight: Flight | None = None
    permit: Permit | None = field(default=None, repr=False)
    is_missed_here: bool = False
    """Whether L1 had nothing to serve when it was last looked in."""
    is_done: bool = False
    is_recorded: bool = False
    outcome: Outcome | None = None
    """As it was recorded."""
    not_stored: str = field(repr=False, default="")
    """Why its answer does not lie under `entry_id`, in words, once it is recorded."""
    spent_usd: Decimal | None = None
    """What the call has cost [USD], once it is recorded; None is unknown."""
    priced: tuple[Answer, Decimal | None] | None = field(default=None, repr=False)
    """Its answer, once it is read, and what that costs [USD]; None is unknown."""
    ticket: int = 0
    batch: Batch | None = field(default=None, repr=False)
    is_part: bool = False
    """It stands for one item of a call that asks about many."""
    question: Question | None = field(default=None, repr=False)
    """What of it is compared with other questions, once that was looked for."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Someone asks the same right now, or the team is being asked: wait for `future`, then call ``resume``."""

    lead: Lead
    future: Seat


@dataclass(frozen=True, slots=True)
class Rejected:
    """The origin failed for the caller that this one waited for: raise `error`, or answer with it."""

    error: BaseException | Response = field(repr=False)


Step: TypeAlias = Answered | Bypass | Lead | Follow | Rejected


class Unmakes(Protocol):
    """Lets go of what a lead holds."""

    def unmake(self, lead: Lead) -> None:
        """Let go of what `lead` holds: of it comes nothing."""


class Made:
    """Unmakes a lead if the block fails: an interrupt, a replay's miss, or a failure of ours."""

    __slots__ = ("_desk", "_lead")

    def __init__(self, desk: Unmakes, lead: Lead) -> None:
        self._desk = desk
        self._lead = lead

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._desk.unmake(self._lead)
