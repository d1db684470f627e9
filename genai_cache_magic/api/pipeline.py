"""A batch of operations on values, collected first and carried out together.

What they come to is worked out in memory, over one look at all the keys that are read; then all that changes is
written at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from genai_cache_magic.api.values import Value, decoded
from genai_cache_magic.settings.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

Now = dict[str, Value | None]
"""What stands under each key at some point of a batch: None is nothing."""


class Values(Protocol):
    """The part of a cache that a pipeline works on."""

    def value(self, value: Any, *, ttl: str | float | None, tags: Iterable[str]) -> Value:
        """Return `value` as it is stored, checked."""

    def check_key(self, key: str) -> None:
        """Raise ``ConfigurationError`` for what is no key."""

    def read(self, keys: Collection[str]) -> Now:
        """Return what stands under each of `keys`, by one look-up."""

    def write(self, values: Mapping[str, Value], removed: Collection[str]) -> None:
        """Set and remove values, all at once."""


class Pipeline:
    """Collects operations; ``execute`` carries them out in order and returns their results.

    What is wrong with a key, a value, a time to live or a tag is an error where it is queued, before anything is
    carried out. A value is kept as it was when it was queued.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._empty()

    def _empty(self) -> None:
        self._steps: list[Callable[[Now], Any]] = []
        self._read: dict[str, None] = {}  # keys that are read before they are set
        self._set: set[str] = set()
        self._changed: dict[str, None] = {}

    def get(self, key: str, default: Any = None) -> Pipeline:
        """Queue a look-up."""

        def step(now: Now) -> Any:
            value = now[key]
            return default if value is None else decoded(value.response())

        return self._queue(key, step)

    def set(self, key: str, value: Any, *, ttl: str | float | None = None, tags: Iterable[str] = ()) -> Pipeline:
        """Queue a write."""
        kept = self._values.value(value, ttl=ttl, tags=tags)
        self._values.check_key(key)
        self._set.add(key)

        def step(now: Now) -> None:
            now[key] = kept

        return self._queue(key, step, changes=True)

    def expire(self, key: str, ttl: str | float) -> Pipeline:
        """Queue a change of a time to live; its result says whether there was a value."""
        ttl_s = parse_seconds(ttl, name="ttl")

        def step(now: Now) -> bool:
            value = now[key]
            if value is not None:
                now[key] = replace(value, ttl_s=ttl_s)
            return value is not None

        return self._queue(key, step, changes=True)

    def delete(self, key: str) -> Pipeline:
        """Queue a removal; its result says whether there was a value."""

        def step(now: Now) -> bool:
            was_there = now[key] is not None
            now[key] = None
            return was_there

        return self._queue(key, step, changes=True)

    def execute(self) -> list[Any]:
        """Carry out what was queued, in order; the queue is empty afterwards.

        Raises
        ------
        StoreUnavailable
            It could not be written; nothing of it is half-written.
        """
        steps, read, changed = self._steps, self._read, self._changed
        self._empty()  # whatever comes of it
        if not steps:
            return []
        now: Now = dict.fromkeys(changed)
        now |= self._values.read(read)
        before = dict(now)
        results = [step(now) for step in steps]
        values = {key: value for key in changed if (value := now[key]) is not None and value is not before[key]}
        if changed:
            self._values.write(values, [key for key in changed if now[key] is None])
        return results

    def _queue(self, key: str, step: Callable[[Now], Any], *, changes: bool = False) -> Pipeline:
        self._values.check_key(key)
        if key not in self._set:
            self._read[key] = None
        if changes:
            self._changed[key] = None
        self._steps.append(step)
        return self
