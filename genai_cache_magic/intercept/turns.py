"""From what the desk decided of a call to what its client carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.active import Turn
from genai_cache_magic.intercept.base import Guarded, refuse_in_replay
from genai_cache_magic.intercept.recording import Recording
from genai_cache_magic.steps import Answered, Lead, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.recording import Decode
    from genai_cache_magic.steps import Step


def turn_for(
    here: Active,
    request: Any,
    step: Step | None,
    *,
    play: Callable[[Response | BaseException], Any],
    decode: Decode | None = None,
) -> Turn:
    """Return the turn that carries `step` out.

    Parameters
    ----------
    request
        The client's own request.
    play
        Makes what takes the place of the network, of a stored answer or of what another caller got: the client's own
        kind of response, or an error of its own to raise, a new one, since the other's has a traceback.
    decode
        As for `Recording`.

    Raises
    ------
    ReplayMiss
        We failed to replay, in a mode in which the model is never called.
    """
    if isinstance(step, Lead):
        return Turn(request, recording=Recording(here, step, decode))
    if isinstance(step, Answered | Rejected):
        with Guarded(here):
            return Turn(request, outcome=play(replay.marked(step) if isinstance(step, Answered) else step.error))
        refuse_in_replay(here)
    return Turn(request)
