"""Lets a Prometheus read the numbers of this process, at an address of its own and from a registry of its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, start_http_server

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.monitoring.exported import Exported
from genai_cache_magic.monitoring.opentelemetry_sdk import meter_provider
from genai_cache_magic.settings.monitoring import listening

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.settings.monitoring import MonitoringSettings


def open_exporter(settings: MonitoringSettings, _: Callable[[str], None]) -> Exported:
    """Return the exporter at the first free port of `listen`; raises ``ConfigurationError`` if none is."""
    address, ports = listening(settings.listen)
    registry = CollectorRegistry(auto_describe=False)
    for port in ports:
        with suppress(OSError):
            server, thread = start_http_server(port, address, registry)
            break
    else:
        raise ConfigurationError(
            f"monitoring.listen={settings.listen!r}: no port is free there, so no Prometheus can read the numbers of "
            "this kernel: write other ports, or more of them"
        )
    meters = meter_provider(PrometheusMetricReader(registry=registry))

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()
        meters.shutdown()

    return Exported(meters, place=f"http://{address}:{server.server_port}/metrics", close=close)
