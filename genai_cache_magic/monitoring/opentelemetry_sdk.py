"""Providers of OpenTelemetry's SDK, ours alone: whatever the application has set up for itself stays as it is."""

from __future__ import annotations

import logging
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from genai_cache_magic.monitoring.exported import Exported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import Enum

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

_NAME: Final = "genai-cache"
_INSTANCE: Final = str(uuid.uuid4())
_LAST_MS: Final = 2_000
"""How long a process that ends sends what is left [ms]."""
_LOGS: Final = ("opentelemetry", "azure.monitor.opentelemetry")
"""Loggers of the libraries that send."""
_NOT_TAKEN: Final = (
    "what is counted is not taken where it is sent, so it is missing there: check {setting}, and whether that can be "
    "reached from here"
)


def pushed(  # noqa: PLR0913 - its parts, by name
    metrics: MetricExporter,
    spans: Callable[[TracerProvider], SpanExporter] | None,
    *,
    interval_s: int,
    setting: str,
    tell: Callable[[str], None],
    about: Mapping[str, str] | None = None,
) -> Exported:
    """Return providers that send numbers every `interval_s` [s], and spans soon; `about` is said of us too.

    That they are not taken is told once, and again after they were; `setting` says where they are sent.
    """
    for name in _LOGS:
        # SECURITY: where nobody has set logging up, Python would print what they warn of, with the whole address, into
        # the output of whatever cell runs.
        logging.getLogger(name).addHandler(logging.NullHandler())
    heard = _Heard(lambda: tell(_NOT_TAKEN.format(setting=setting)))
    metrics.export = heard.of(metrics.export)  # type: ignore[method-assign]
    reader = PeriodicExportingMetricReader(
        metrics, export_interval_millis=interval_s * 1000, export_timeout_millis=_LAST_MS
    )
    meters = meter_provider(reader, about)
    tracers = None
    if spans is not None:
        tracers = TracerProvider(resource=_resource(about), shutdown_on_exit=False)
        sent = spans(tracers)
        sent.export = heard.of(sent.export)  # type: ignore[method-assign]
        tracers.add_span_processor(BatchSpanProcessor(sent))

    def close() -> None:
        heard.is_over = True
        meters.shutdown(timeout_millis=_LAST_MS)
        if tracers is not None:
            tracers.shutdown()

    return Exported(meters, tracers, close=close)


class _Heard:
    """Whether what is sent is taken: says once that something is not, and again after all was."""

    def __init__(self, says: Callable[[], None]) -> None:
        self.is_over = False
        self._says = says
        self._refused: set[int] = set()

    def of(self, export: Callable[..., Enum]) -> Callable[..., Any]:
        """Return `export` such that what comes of it is heard."""

        def exported(*given: Any, **how: Any) -> Enum:
            result = export(*given, **how)
            was_well = not self._refused
            (self._refused.discard if result.name == "SUCCESS" else self._refused.add)(id(export))
            if was_well and self._refused and not self.is_over:
                self._says()
            return result

        return exported


def meter_provider(reader: MetricReader, about: Mapping[str, str] | None = None) -> MeterProvider:
    """Return a provider whose numbers `reader` collects."""
    return MeterProvider([reader], resource=_resource(about), shutdown_on_exit=False)


def _resource(about: Mapping[str, str] | None) -> Resource:
    """Return what is said of this process: the name of the service, and what the usual variables add.

    SECURITY: it is told from others by a number made up at random; some exporters would take the host's name.
    """
    named = {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "") or _NAME, SERVICE_INSTANCE_ID: _INSTANCE}
    return Resource.create({**named, **(about or {})})
