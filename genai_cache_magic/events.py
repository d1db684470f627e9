"""What happened: frozen records, and the hook that receives them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import repeat
from operator import call
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal


MODEL_CHARS: Final = 200
"""As many as an option takes (`core/options.py`): longer than any name of a model, those of a cloud's resources too."""


class Outcome(StrEnum):
    """How one model call was answered."""

    HIT = "hit"
    SIMILAR = "similar"
    MISS = "miss"
    STALE = "stale"
    BYPASS = "bypass"
    REFUSED = "refused"
    ERROR = "error"
    OPEN = "open"
    UNRECOGNISED = "unrecognised"


SERVED: Final = frozenset({Outcome.HIT, Outcome.SIMILAR})
"""What no model was asked for: it cost nothing, and saved what it would have cost."""


class Tier(StrEnum):
    """Where a hit came from."""

    L1 = "L1"
    L2 = "L2"
    FILE = "file"


def model_name(told: str) -> str:
    """Return the name of a model as it is told and listed: of one that is longer than any, the start and a mark.

    An answer may name it with half a surrogate pair, which no table, entry or file takes: a mark stands for that.
    """
    whole = told if told.isascii() else told.encode("utf-8", "replace").decode()
    return whole if len(whole) <= MODEL_CHARS else f"{whole[: MODEL_CHARS - 1]}…"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One model call as its cell saw it.

    Attributes
    ----------
    outcome
        ``hit``; ``similar`` (answered with what another question got, which is much alike: no hit);
        ``miss`` (the model was asked and its answer may be stored); ``stale`` (a miss, since
        what was stored had expired or was invalidated); ``bypass`` (the cache took no part);
        ``refused`` (asked, but the answer must not be stored); ``error``; ``open`` (asked, and
        its answer is not at its end: another record will take this one's place, and the price is unknown until then);
        ``unrecognised`` (a request to the host that `provider` names, which may have asked a model in a way that is
        not known).
    stored
        Whether this call's answer is now in the cache.
    reason
        Why, for everything but a plain hit or miss; words, never content.
    spent_usd, saved_usd
        [USD]; None is unknown, which is not zero.
    latency_s
        From the call until its answer was complete [s].
    entry_id
        64 hex characters; for controls in this process, never shown whole.
    similarity, similar_to, similar_text
        Of a similar call: how alike the two questions are, the entry id of the other's answer, and how the other one
        begins. SECURITY: the last one holds words of a prompt; it is told under the cell, and to no other process.
    differs
        Of a call that mode ``replay`` refused: the parts of its request that the nearest stored one has otherwise.
    """

    outcome: Outcome
    tier: Tier | None = None
    stored: bool = False
    reason: str = ""
    provider: str = ""
    model: str = ""
    input_tokens: int | None = None
    cached_input_tokens: int = 0
    output_tokens: int | None = None
    spent_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    latency_s: float = 0.0
    sample: int = 0
    entry_id: str = ""
    differs: tuple[str, ...] = ()
    similarity: float = 0.0
    similar_to: str = field(repr=False, default="")
    similar_text: str = field(repr=False, default="")

    def __post_init__(self) -> None:
        """Keep a name that no model has from every table, sum and file that tells of calls."""
        if len(self.model) > MODEL_CHARS or not self.model.isascii():
            object.__setattr__(self, "model", model_name(self.model))

    @property
    def answer_id(self) -> str:
        """The id under which its answer lies, if it does: that to a similar question lies under the other one's."""
        return self.similar_to or self.entry_id

    def __repr__(self) -> str:
        """Leave out the entry id, which must not reach a saved notebook."""
        why = f" ({self.reason})" if self.reason else ""
        return f"<CallRecord {self.outcome.value}{why} {self.provider} {self.model}>"


_put_latency: Final = vars(CallRecord)["latency_s"].__set__
_PUTS: Final = tuple(vars(CallRecord)[one.name].__set__ for one in fields(CallRecord) if one.name != "latency_s")


def record_of(values: tuple[object, ...], latency_s: float) -> CallRecord:
    """Return the record of `values`, which are all that it holds, in that order, but for the time that it took [s].

    For hits, of which each is told: making one by its class takes half as long again.
    """
    record = object.__new__(CallRecord)
    any(map(call, _PUTS, repeat(record), values))  # all of them: what puts something somewhere returns nothing
    _put_latency(record, latency_s)
    return record


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of ours failed and the user's call went on without it.

    Attributes
    ----------
    where
        Part of the package, such as ``L1`` or ``intercept``.
    error
        Class name of the error.
    message
        One sentence with the fix; no prompt, answer or secret.
    """

    where: str
    error: str
    message: str


def trouble(where: str, error: Exception) -> Trouble:
    """Return the event that says what failed on our side."""
    return Trouble(where, type(error).__name__, str(error))


Event: TypeAlias = CallRecord | Trouble


class EventHook(Protocol):
    """Receives events, in the thread where they happen. It must not block and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""
