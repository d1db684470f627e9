"""What an answer says: how it ended, what it cost, and whether something was looked up for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genai_cache_magic.providers import lookups
from genai_cache_magic.providers.billing import with_bill

if TYPE_CHECKING:
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.providers.base import Answer


def read(lead: Lead, response: Response) -> Answer:
    """Return what `response` says as the answer to `lead`."""
    answer = with_bill(lead.call.provider.read(response), response)
    sign = lookups.told_by(response, lead.call.request.body)
    return replace(answer, refused=(*answer.refused, lookups.REASON)) if sign else answer
