"""What a replay says of a call that it can't answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.coalesce import LookedUp
from genai_cache_magic.entries.link import Looked
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.providers.base import STATEFUL

if TYPE_CHECKING:
    from genai_cache_magic.calls.steps import Lead

GIVEN_UP: Final = LookedUp(
    Looked(trouble="the call could not wait until the team was asked: give it a longer time-out", is_offline=False)
)
"""What stands for a look-up of the team that a replay did not wait for."""
_SHOWN: Final = 5
"""How many differing components a message names."""


def said_of_parts(lead: Lead) -> str:
    """Return how many of the items that `lead` asks about are known, and which are not; empty where none is."""
    batch = lead.batch
    return f"; {batch.said}, {batch.lacking}" if batch is not None and batch.known else ""


def replay_miss(lead: Lead, differs: tuple[str, ...], trouble: str) -> ReplayMiss:
    """Return the error for `lead`.

    Parameters
    ----------
    differs
        In what the nearest stored call differs.
    trouble
        Why the team could not be asked; empty if it could.
    """
    request, parts = lead.call.request, said_of_parts(lead)
    if trouble:
        more = f"{parts}; the team could not be asked: {trouble}"
    elif STATEFUL in lead.call.refused:
        more = "; the call goes on from what its origin remembers and the cache has never stored"
    else:
        more = parts or (f"; the nearest stored call differs in {', '.join(differs[:_SHOWN])}" if differs else "")
    return ReplayMiss(
        f"{request.model or request.surface}: {lead.because}{more}. "
        "Mode replay never calls the model: run the cell once in mode use, with a key",
    )
