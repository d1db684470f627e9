"""Where numbers and spans go, once an exporter is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


@dataclass(frozen=True, slots=True)
class Exported:
    """An exporter that is open.

    Attributes
    ----------
    meters, tracers
        What makes meters and tracers; None: that kind is not exported.
    place
        Where others find it, in words; empty if they are sent to.
    close
        Sends what is left, for a moment at most, and ends it.
    """

    meters: MeterProvider | None = field(repr=False)
    tracers: TracerProvider | None = field(default=None, repr=False)
    place: str = field(default="", repr=False)
    close: Callable[[], None] = field(default=lambda: None, repr=False)
