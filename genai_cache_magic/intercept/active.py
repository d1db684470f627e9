"""What a model call of this context belongs to, and who owns the call that is being made."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from genai_cache_magic.lifecycle import CallDesk
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.scope import CellScope


class Answers(Protocol):
    """The part of a cache that interceptors use."""

    @property
    def calls(self) -> CallDesk:
        """Decides what becomes of each model call."""

    @property
    def origins(self) -> Origins:
        """What is known of origins."""


class Active(NamedTuple):
    """The cache and the scope that a context's model calls go to."""

    cache: Answers
    scope: CellScope


active: ContextVar[Active | None] = ContextVar("genai_cache_active", default=None)

owner: ContextVar[object] = ContextVar("genai_cache_owner", default=None)
"""Set while a call is owned: the outermost interceptor decides, those below only carry it out."""

PASS = object()
"""As `owner`: someone above has decided that this call is none of ours."""
