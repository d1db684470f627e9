"""What a model call of this context belongs to."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - of attributes, which a tool may look up
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins
    from genai_cache_magic.providers.base import Origins


class Answers(Protocol):
    """The part of a cache that interceptors use."""

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""

    @property
    def origins(self) -> Origins:
        """What is known of origins."""


class Active(NamedTuple):
    """The cache and the scope that a context's model calls go to."""

    cache: Answers
    scope: CellScope


class InForce:
    """What is in force here: what this context was put into, else what the whole process was.

    Attributes
    ----------
    get
        Returns what model calls belong to here and now, or None.
    own
        Returns what this context was put into, or None.
    """

    get: Callable[[], Active | None]
    own: Callable[[], Active | None]

    def __init__(self) -> None:
        context: ContextVar[Active | None] = ContextVar("genai_cache_active", default=None)
        # The methods of the variable itself: every request of every library asks here.
        self.get = self.own = context.get
        self.set = context.set
        self.reset = context.reset

    def put_in_force(self, of_process: Callable[[], Active | None] | None) -> None:
        """Let calls belong to what `of_process` returns wherever a context has nothing of its own; None ends that."""
        own = self.own
        self.get = own if of_process is None else lambda: own() or of_process()


active = InForce()
