"""A store that fails on purpose: it wraps any ``Store`` and adds the faults of a bad day."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.base import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from genai_cache_magic.stores.base import Store, SupportsFill, SupportsGetMany


@dataclass(frozen=True, slots=True)
class Chaos:
    """Which faults, and how often; the default is none.

    Parameters
    ----------
    unavailable
        Probability that a call raises ``StoreUnavailable`` instead of being passed on.
    unavailable_after
        Probability that a call raises ``StoreUnavailable`` after it was passed on: the answer got lost.
    delay_s
        Pause before each call [s].
    lost
        Probability that a put says nothing and keeps nothing.
    corrupt
        Probability that a get returns the value with one byte changed.
    """

    unavailable: float = 0.0
    unavailable_after: float = 0.0
    delay_s: float = 0.0
    lost: float = 0.0
    corrupt: float = 0.0


class ChaosStore:
    """A ``Store`` that passes calls on to `inner` with the faults that `chaos` says.

    Parameters
    ----------
    inner
        The store that does the work.
    chaos
        The faults; assign another to the attribute at any time.
    rng
        Decides; seeded, so that a failure can be repeated.
    sleep
        How to pause [s].
    """

    def __init__(
        self,
        inner: Store,
        chaos: Chaos | None = None,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self.chaos = chaos or Chaos()
        self.calls = 0
        self._rng = rng or random.Random(0)  # noqa: S311 - repeatable on purpose
        self._sleep = sleep

    def get(self, key: str) -> bytes | None:
        """Return what `inner` does, or a value with a changed byte."""
        self._before()
        blob = self.inner.get(key)
        self._after()
        return self._corrupted(blob) if blob is not None else None

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Pass the value on, or lose it."""
        self._before()
        if not self._happens(self.chaos.lost):
            self.inner.put(key, blob, ttl_s=ttl_s)
        self._after()

    def delete(self, key: str) -> bool:
        """Pass the deletion on."""
        self._before()
        was_there = self.inner.delete(key)
        self._after()
        return was_there

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield what `inner` does; each key is a call that may fail."""
        self._before()
        for key in self.inner.scan(prefix):
            self._after()
            yield key

    def close(self) -> None:
        """Close `inner`; never fails."""
        self.inner.close()

    def _before(self) -> None:
        self.calls += 1
        chaos = self.chaos
        if chaos.delay_s:
            self._sleep(chaos.delay_s)
        if self._happens(chaos.unavailable):
            raise StoreUnavailable("chaos: the call was refused")

    def _after(self) -> None:
        if self._happens(self.chaos.unavailable_after):
            raise StoreUnavailable("chaos: the answer was lost")

    def _corrupted(self, blob: bytes) -> bytes:
        if not blob or not self._happens(self.chaos.corrupt):
            return blob
        place = self._rng.randrange(len(blob))
        return blob[:place] + bytes([blob[place] ^ self._rng.randrange(1, 256)]) + blob[place + 1 :]

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability


class ChaosBatchStore(ChaosStore):
    """A ``ChaosStore`` over a store that ``SupportsGetMany``: one batch is one call, and may fail as one."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return what `inner` does, each value perhaps with a changed byte."""
        batch: SupportsGetMany = self.inner  # type: ignore[assignment]  # the class says so
        self._before()
        found = batch.get_many(keys)
        self._after()
        return {key: self._corrupted(blob) for key, blob in found.items()}


class ChaosFillStore(ChaosBatchStore):
    """A ``ChaosBatchStore`` over a store that also ``SupportsFill``."""

    def held(self, key: str) -> Held | None:
        """Return what `inner` does, perhaps with a changed byte."""
        fills: SupportsFill = self.inner  # type: ignore[assignment]  # the class says so
        self._before()
        held = fills.held(key)
        self._after()
        return held and Held(self._corrupted(held.blob), held.revision)

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Pass the value on, or lose it and say that it was put."""
        fills: SupportsFill = self.inner  # type: ignore[assignment]  # the class says so
        self._before()
        is_put = self._happens(self.chaos.lost) or fills.put_if(key, blob, ttl_s=ttl_s, held=held)
        self._after()
        return is_put
