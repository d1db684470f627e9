"""Sends numbers and spans to a collector by OTLP over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from genai_cache_magic.monitoring.opentelemetry_sdk import pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.monitoring.exported import Exported
    from genai_cache_magic.settings.monitoring import MonitoringSettings

_TIMEOUT_S = 2.0


def open_exporter(settings: MonitoringSettings, tell: Callable[[str], None]) -> Exported:
    """Return the exporter to `endpoint`, or to where the usual variables (``OTEL_EXPORTER_OTLP_...``) say."""
    base = settings.endpoint.rstrip("/")
    of_metrics, of_spans = (f"{base}/v1/metrics", f"{base}/v1/traces") if base else (None, None)
    metrics = OTLPMetricExporter(endpoint=of_metrics, timeout=_TIMEOUT_S)

    def spans(_: object) -> OTLPSpanExporter:
        return OTLPSpanExporter(endpoint=of_spans, timeout=_TIMEOUT_S)

    return pushed(
        metrics,
        spans if settings.spans else None,
        interval_s=settings.interval,
        setting="monitoring.endpoint" if base else "monitoring.endpoint, or OTEL_EXPORTER_OTLP_ENDPOINT",
        tell=tell,
    )
