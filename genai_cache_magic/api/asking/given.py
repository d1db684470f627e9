"""Answers that are there already, of a batch: each call is given one and never sent, at the price of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.passing import PassingDesk
from genai_cache_magic.calls.steps import Answered, Bypass, Follow, Lead
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.errors import NotSent
from genai_cache_magic.events import Tier
from genai_cache_magic.providers.batches import fixed

if TYPE_CHECKING:
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.providers.base import Answer, ModelCall, Origins, Provider

_JSON: Final = (("content-type", "application/json"),)
_TIER: Final = "service_tier"


class GivenAnswers:
    """The answers of `inner`; what it hasn't gets the body that was put here last, stored as if it had just come.

    For one thread.
    """

    def __init__(self, inner: Answers) -> None:
        self._inner = inner
        self._body = b""

    def put(self, body: bytes) -> None:
        """Let the next call be answered by `body`."""
        self._body = body

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return _GivingDesk(self._inner.calls, self)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins

    def give(self, step: Step) -> Step:
        """Return `step`, answered if it would go to a model; raises ``NotSent`` where it can't be kept."""
        if isinstance(step, Follow):
            step.lead.desk = _WaitingDesk(step.lead.desk, self)
            return step
        if isinstance(step, Bypass):
            raise NotSent("its answer goes past the cache")
        if not isinstance(step, Lead):
            return step
        response = Response(200, _JSON, self._body, Form.JSON, has_ended=True)
        step.call = replace(step.call, provider=_AtBatchPrice(step.call.provider))
        step.desk.commit(step, response)
        return Answered(response, Tier.L1, step.sample, step.entry_id)


class _GivingDesk:
    """Begins calls as `inner` does, and sends none."""

    def __init__(self, inner: Begins, given: GivenAnswers) -> None:
        self._inner = inner
        self._given = given

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`, whose answer is one to all that it asks about; raises ``NotSent``."""
        return self._given.give(self._inner.begin(fixed(call), scope, is_async=is_async))


@dataclass(slots=True)
class _WaitingDesk(PassingDesk):
    """The desk of a call that waits for another one, or for the team."""

    _given: GivenAnswers = field(repr=False)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting; raises ``NotSent``."""
        follow.lead.desk = self._desk
        return self._given.give(self._desk.resume(follow, landing))


class _AtBatchPrice:
    """A wire API whose answers came by a batch, whatever they say of their tier."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def read(self, response: Response) -> Answer:
        """Return what `response` says, on the terms of a batch."""
        answer = self._provider.read(response)
        terms = {name: value for name, value in answer.bill.terms.items() if name != _TIER}
        return replace(answer, bill=replace(answer.bill, terms={**terms, "processing": "batch"}))
