"""A desk that tells how each call was answered, beside what it does: for a run file, and for the record of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.calls.keyed import keyed
from genai_cache_magic.calls.passing import PassingDesk
from genai_cache_magic.calls.steps import Answered, Follow, Lead, Rejected
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.providers.base import ModelCall, Origins


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A call as it was asked, before what its ids stand for was put in.

    Attributes
    ----------
    form, digest
        Its request as a run file knows it.
    """

    call: ModelCall
    scope: CellScope
    form: JsonObject = field(repr=False)
    digest: str

    @classmethod
    def of(cls, call: ModelCall, scope: CellScope) -> Asked:
        """Return `call` with its digest; raises ``UncacheableRequest``."""
        call = keyed(call, scope.options)
        form = portable_form(call.as_keyed, scope.options.salt)
        return cls(call, scope, form, portable_digest(form))


@dataclass(frozen=True, slots=True)
class Witnessed:
    """How a call was answered.

    Attributes
    ----------
    refused
        Why the answer may not be stored, as was known before it came.
    not_stored
        Why the answer does not lie under `entry_id`, in words; empty where it does.
    """

    asked: Asked
    response: Response = field(repr=False)
    outcome: Outcome
    sample: int
    entry_id: str = field(repr=False)
    refused: tuple[str, ...] = ()
    not_stored: str = field(repr=False, default="")


class WatchedAnswers:
    """The answers of `inner`, each told to `witness`."""

    def __init__(self, inner: Answers, witness: Callable[[Witnessed], None]) -> None:
        self._inner = inner
        self._witness = witness

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return WatchingDesk(self._inner.calls, self._witness)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins


class WatchingDesk:
    """Begins calls as `inner` does."""

    def __init__(self, inner: Begins, witness: Callable[[Witnessed], None]) -> None:
        self._inner = inner
        self._witness = witness

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`; raises ``ReplayMiss``."""
        asked = Asked.of(call, scope)
        return watched(self._inner.begin(asked.call, scope, is_async=is_async), asked, self._witness)

    def __getattr__(self, name: str) -> object:
        # What else a desk can do, such as name an entry.
        return getattr(self._inner, name)


def watched(step: Step, asked: Asked, witness: Callable[[Witnessed], None]) -> Step:
    """Return `step`, whose answer will be told to `witness`, if it has not come already."""
    if isinstance(step, Answered):
        outcome = Outcome.SIMILAR if step.is_similar else Outcome.HIT
        witness(
            Witnessed(asked, step.response, outcome, step.sample, step.entry_id, not_stored=step.not_stored),
        )
    elif isinstance(step, Lead):
        step.desk = _WatchedDesk(step.desk, asked, witness)
    elif isinstance(step, Follow):
        step.lead.desk = _WatchedDesk(step.lead.desk, asked, witness)
    return step


@dataclass(slots=True)
class _WatchedDesk(PassingDesk):
    """The desk of a call that goes on, which also tells how it ended."""

    _asked: Asked = field(repr=False)
    _witness: Callable[[Witnessed], None] = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting."""
        follow.lead.desk = self._desk
        step = self._desk.resume(follow, landing)
        return step if isinstance(step, Rejected) else watched(step, self._asked, self._witness)

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer."""
        was_done = lead.is_done
        self._desk.commit(lead, response)
        if not was_done:
            refused = tuple(lead.call.refused)
            outcome = lead.outcome or Outcome.MISS
            seen = Witnessed(self._asked, response, outcome, lead.sample, lead.entry_id, refused, lead.not_stored)
            self._witness(seen)
