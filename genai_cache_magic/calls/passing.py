"""A desk that does what another does: what stands before it says what is different."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Desk, Follow, Lead, Step
    from genai_cache_magic.core.model import EntryId, Response
    from genai_cache_magic.providers.base import ModelCall


@dataclass(slots=True)
class PassingDesk:
    """The desk of a call that goes on, and does what that does."""

    _desk: Desk = field(repr=False)

    @property
    def max_response_bytes(self) -> int:
        """The largest answer that is stored [bytes]."""
        return self._desk.max_response_bytes

    def request_id(self, call: ModelCall, scope: CellScope) -> EntryId:
        """Return the entry id of `call` for its first sample."""
        return self._desk.request_id(call, scope)

    def resume(self, follow: Follow, landing: Landing | None) -> Step:
        """Decide again after waiting."""
        return self._desk.resume(follow, landing)

    def commit(self, lead: Lead, response: Response) -> None:
        """Take the origin's complete answer."""
        self._desk.commit(lead, response)

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Take note of an answer that was too large to record."""
        self._desk.commit_too_large(lead, status)

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Give the call up."""
        self._desk.abort(lead, error, is_origins=is_origins)

    def drop(self, lead: Lead) -> None:
        """Make sure that nobody waits for `lead`."""
        self._desk.drop(lead)

    def stop(self, lead: Lead, reason: str) -> None:
        """Give the call up before it was sent."""
        self._desk.stop(lead, reason)
