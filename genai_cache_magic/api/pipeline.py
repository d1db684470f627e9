"""A batch of operations on values, collected first and carried out together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Values(Protocol):
    """The part of a cache that a pipeline works on."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value under `key`."""

    def set(self, key: str, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> None:
        """Keep a value."""

    def delete(self, key: str) -> bool:
        """Remove a value."""

    def expire(self, key: str, ttl: str | float) -> bool:
        """Change a time to live."""


class Pipeline:
    """Collects operations; ``execute`` carries them out in order and returns their results."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._steps: list[Callable[[], Any]] = []

    def get(self, key: str) -> Pipeline:
        """Queue a look-up."""
        self._steps.append(lambda: self._values.get(key))
        return self

    def set(self, key: str, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> Pipeline:
        """Queue a write; a wrong `ttl` or `tags` is an error here, before anything is carried out."""
        named = checked_tags(tags)
        if ttl is not None:
            parse_seconds(ttl, name="ttl")
        self._steps.append(lambda: self._values.set(key, value, ttl=ttl, tags=named))
        return self

    def expire(self, key: str, ttl: str | float) -> Pipeline:
        """Queue a change of a time to live; a wrong one is an error here."""
        parse_seconds(ttl, name="ttl")
        self._steps.append(lambda: self._values.expire(key, ttl))
        return self

    def delete(self, key: str) -> Pipeline:
        """Queue a removal."""
        self._steps.append(lambda: self._values.delete(key))
        return self

    def execute(self) -> list[Any]:
        """Carry out what was queued, in order; the queue is empty afterwards."""
        steps, self._steps = self._steps, []
        return [step() for step in steps]
