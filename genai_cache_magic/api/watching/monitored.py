"""Wiring of what is told to other tools: from the settings to a monitor, and how the tiers of a session are."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from genai_cache_magic.api.team.installed import ensure_installed
from genai_cache_magic.api.watching.alert_board import AlertBoard
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.monitoring.monitor import WHERE, Monitor
from genai_cache_magic.monitoring.tiers import CIRCUITS, TierState
from genai_cache_magic.monitoring.watching import AlertWatch, webhook_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event
    from genai_cache_magic.monitoring.exported import Exported
    from genai_cache_magic.monitoring.opentelemetry import Telemetry
    from genai_cache_magic.monitoring.tiers import Tiers
    from genai_cache_magic.settings.monitoring import MonitoringSettings

_API: Final = ("opentelemetry.metrics", "otel")
_EXPORTERS: Final = {
    "otlp": ("opentelemetry.exporter.otlp.proto.http", "otlp"),
    "prometheus": ("opentelemetry.exporter.prometheus", "prometheus"),
    "azure-monitor": ("azure.monitor.opentelemetry.exporter", "azure-monitor"),
}
"""Exporter -> the package that it needs, and our extra that brings it."""

_OF_TIERS: Final = frozenset({"L2Offline", "QueueGrowing"})


def make_monitor(
    settings: MonitoringSettings,
    caches: Callable[[], Iterable[Cache]],
    *,
    has_team: bool,
    tell: Callable[[Event], None],
) -> Monitor | None:
    """Return what the scopes of a session tell of their calls; None if nothing is to be told.

    Parameters
    ----------
    caches
        Those that are open.
    has_team
        Whether they are meant to have a team.
    tell
        Hears of what does not work.

    Raises
    ------
    ConfigurationError
        A package is missing; the message names the extra.
    """
    if not settings.is_on:
        return None
    tiers = partial(tier_states, caches, has_team=has_team)
    watch = None
    if settings.alerts:
        asks_tiers = any(rule.name in _OF_TIERS for rule in settings.alerts)
        watch = AlertWatch(
            settings.alerts,
            tiers=tiers if asks_tiers else tuple,
            webhook=webhook_of(settings.webhook.get_secret_value(), tell),
            publish=AlertBoard(lambda: [cache.parts.file for cache in caches()]).publish,
        )
    opens = None
    if settings.exporter != "none":
        ensure_exporter(settings)
        opens = partial(_opened, settings, tiers, lambda sentence: tell(Trouble(WHERE, "ExporterFailed", sentence)))
    return Monitor(opens, watch, has_spans=settings.spans and settings.exporter != "prometheus", tell=tell)


def ensure_exporter(settings: MonitoringSettings) -> None:
    """Raise ``ConfigurationError``, which names the extra, if the exporter that is set lacks a package."""
    if settings.exporter != "none":
        package, extra = _EXPORTERS.get(settings.exporter, _API)
        ensure_installed(f"monitoring.exporter={settings.exporter}", extra, package)


def tier_states(caches: Callable[[], Iterable[Cache]], *, has_team: bool) -> tuple[TierState, ...]:
    """Return how the team's tiers are, as far as this process knows."""
    return tuple(_state(cache) for cache in caches()) if has_team else ()


def _state(cache: Cache) -> TierState:
    team = cache.team
    if team is None:  # it could not be asked when the cache was opened, and has not been joined since
        return TierState("open")
    state = team.circuit.value
    circuit = state if state in CIRCUITS else "open"
    try:
        invalidations, entries = team.waiting()
    except StoreUnavailable:
        return TierState(circuit)
    return TierState(circuit, invalidations, entries)


def _opened(settings: MonitoringSettings, tiers: Tiers, tell: Callable[[str], None]) -> tuple[Exported, Telemetry]:
    """Open the exporter, and make the instruments: here alone is OpenTelemetry imported."""
    from genai_cache_magic.monitoring.opentelemetry import SCOPE, Telemetry

    exported = _of_application(settings) if settings.exporter == "app" else _own(settings, tell)
    meter = None if exported.meters is None else exported.meters.get_meter(SCOPE)
    tracer = None if exported.tracers is None else exported.tracers.get_tracer(SCOPE)
    return exported, Telemetry(meter, tracer, metrics=settings.metrics, tiers=tiers)


def _own(settings: MonitoringSettings, tell: Callable[[str], None]) -> Exported:
    module = import_module(f"genai_cache_magic.monitoring.{settings.exporter.replace('-', '_')}")
    exported: Exported = module.open_exporter(settings, tell)
    return exported


def _of_application(settings: MonitoringSettings) -> Exported:
    """Return what the application has set up for itself, or will: its proxies go on to that."""
    from opentelemetry import metrics, trace

    from genai_cache_magic.monitoring.exported import Exported

    return Exported(metrics.get_meter_provider(), trace.get_tracer_provider() if settings.spans else None)
