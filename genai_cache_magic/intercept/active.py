"""What a model call of this context belongs to."""

from __future__ import annotations

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


active: ContextVar[Active | None] = ContextVar("genai_cache_active", default=None)
