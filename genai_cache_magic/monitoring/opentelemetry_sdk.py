"""Providers of OpenTelemetry's SDK, ours alone: whatever the application has set up for itself stays as it is."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from genai_cache_magic.monitoring.exported import Exported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

_NAME: Final = "genai-cache"
_INSTANCE: Final = str(uuid.uuid4())
_LAST_MS: Final = 2_000
"""How long a process that ends sends what is left [ms]."""


def pushed(
    metrics: MetricExporter,
    spans: Callable[[TracerProvider], SpanExporter] | None,
    *,
    interval_s: int,
    about: Mapping[str, str] | None = None,
) -> Exported:
    """Return providers that send numbers every `interval_s` [s], and spans soon; `about` is said of us too."""
    reader = PeriodicExportingMetricReader(
        metrics, export_interval_millis=interval_s * 1000, export_timeout_millis=_LAST_MS
    )
    meters = meter_provider(reader, about)
    tracers = None
    if spans is not None:
        tracers = TracerProvider(resource=_resource(about), shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(spans(tracers)))

    def close() -> None:
        meters.shutdown(timeout_millis=_LAST_MS)
        if tracers is not None:
            tracers.shutdown()

    return Exported(meters, tracers, close=close)


def meter_provider(reader: MetricReader, about: Mapping[str, str] | None = None) -> MeterProvider:
    """Return a provider whose numbers `reader` collects."""
    return MeterProvider([reader], resource=_resource(about), shutdown_on_exit=False)


def _resource(about: Mapping[str, str] | None) -> Resource:
    """Return what is said of this process: the name of the service, and what the usual variables add.

    SECURITY: it is told from others by a number made up at random; some exporters would take the host's name.
    """
    named = {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "") or _NAME, SERVICE_INSTANCE_ID: _INSTANCE}
    return Resource.create({**named, **(about or {})})
