"""A call of which a part alone is sent, since the rest of its answer is known: what all interceptors do for that.

The part is sent by the caller's own client, with all its ways, and its answer is read whole. What fails on the way is
the caller's own error: its call was going to be made like this. What fails on our side sends the whole call, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from genai_cache_magic.intercept.base import Guarded, ask_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.turns import Turn

T = TypeVar("T")

_SUCCESS: Final = 2

CODINGS: Final = ("content-length", "transfer-encoding", "content-encoding")
"""Headers that say how a body came over the wire."""


class Portion:
    """One such call.

    Parameters
    ----------
    turn
        Has a `lead`.
    """

    def __init__(self, here: Active, turn: Turn) -> None:
        self._here = here
        self._turn = turn
        self._batch = turn.lead.batch if turn.lead is not None else None
        self._call = None if self._batch is None else self._batch.call

    def request(self, make: Callable[[bytes], T]) -> T | None:
        """Return the client's own request for the part, which `make` makes of its body; None if that can't be done."""
        body = None if self._batch is None else self._batch.body
        with Guarded(self._here):
            if body is not None:
                made = make(body)
                self._turn.request = made
                return made
        return None

    def answer(self, received: T, status: int, make: Callable[[Response], T]) -> T | None:
        """Return what the caller gets: what `make` makes of the whole answer, or the origin's refusal as it is.

        None if neither is there: then the whole call is to be made.
        """
        answer = None if self._batch is None else self._batch.answer
        if answer is None:
            return received if status // 100 != _SUCCESS else None
        with Guarded(self._here):
            return make(answer)
        return None

    def ask_whole(self) -> None:
        """Note that the whole call is made now, as its caller made it; raises ``BudgetExceeded``."""
        turn, recording = self._turn, self._turn.recording
        if recording is not None and turn.lead is not None:
            with Guarded(self._here):
                turn.lead.desk.drop(turn.lead)
        if self._call is not None:
            ask_whole(self._here, self._call)


def without_lengths(headers: Any, names: tuple[str, ...] = ("content-length", "transfer-encoding")) -> list[Any]:
    """Return fields of a request without those that tell the length of its body."""
    return [(name, value) for name, value in headers if _lower(name) not in names]


def _lower(name: Any) -> str:
    return (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()
