"""Sends numbers and spans to Azure Monitor (Application Insights)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter, AzureMonitorTraceExporter

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.monitoring.opentelemetry_sdk import pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import TracerProvider

    from genai_cache_magic.monitoring.exported import Exported
    from genai_cache_magic.settings.monitoring import MonitoringSettings

_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"


def open_exporter(settings: MonitoringSettings, tell: Callable[[str], None]) -> Exported:
    """Return the exporter of a connection string; raises ``ConfigurationError`` if there is none, or it is none."""
    given = settings.connection_string.get_secret_value() or os.environ.get(_VARIABLE, "")
    if not given:
        raise ConfigurationError(
            "monitoring.exporter=azure-monitor needs a connection string: set monitoring.connection_string, or "
            f"{_VARIABLE}"
        )
    # Nothing is kept on disk for later: it would lie in a directory that is none of ours.
    how = {"connection_string": given, "disable_offline_storage": True}

    def spans(tracers: TracerProvider) -> AzureMonitorTraceExporter:
        return AzureMonitorTraceExporter(tracer_provider=tracers, **how)

    try:
        metrics = AzureMonitorMetricExporter(**how)
    except ValueError as exc:
        # SECURITY: its own message may show the string.
        raise ConfigurationError(
            "the connection string of Azure Monitor is none: copy it from the resource, InstrumentationKey=..."
        ) from exc
    # SECURITY: without a name of ours it would send the host's.
    return pushed(
        metrics,
        spans if settings.spans else None,
        interval_s=settings.interval,
        setting="monitoring.connection_string" if settings.connection_string.get_secret_value() else _VARIABLE,
        tell=tell,
        about={"device.id": "genai-cache"},
    )
