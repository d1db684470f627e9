"""What other tools are told of calls: the numbers and the spans, of this machine and of the team's tier."""

from __future__ import annotations

import time
from decimal import Decimal

import openai
import pytest
from monitored_calls import ask_with_canaries, collect_in_memory, configure_monitoring, own_cache, sums  # noqa: F401 - fixtures

from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble
from genai_cache_magic.monitoring.labels import (
    MODEL,
    OPERATION,
    PROVIDER,
)
from genai_cache_magic.monitoring.tiers import TierState
from genai_cache_magic.settings.monitoring import METRICS
from genai_cache_magic.testing.model_server import Fault


def test_calls_are_counted(collected, ask):
    """Hits, misses, tokens, money and latencies, each by the model and the tier."""
    first, again = ask("a", "b"), ask("a", "b")
    metrics, spans = collected()
    about = (OPERATION, PROVIDER, MODEL)
    model = ("chat", "openai", "gpt-4.1-mini")
    assert sums(metrics["genai_cache.misses"], *about) == {model: 2}
    assert sums(metrics["genai_cache.hits"], *about, "genai_cache.tier") == {(*model, "L1"): 2}
    tokens = sums(metrics["genai_cache.tokens"], "genai_cache.kind", "gen_ai.token.type")
    assert tokens["paid", "input"] == sum(call.input_tokens for call in first.calls)
    assert tokens["saved", "output"] == sum(call.output_tokens for call in again.calls)
    assert sums(metrics["genai_cache.spent"], *about)[model] == pytest.approx(float(first.spent_usd))
    assert sums(metrics["genai_cache.saved"], *about)[model] == pytest.approx(float(again.saved_usd))
    assert first.spent_usd > 0
    counts = {dict(point.attributes)["genai_cache.tier"]: point.count for point in metrics["genai_cache.latency"]}
    assert counts == {"model": 2, "L1": 2}
    assert [span.name for span in spans] == ["genai_cache miss"] * 2 + ["genai_cache hit"] * 2
    assert all(span.start_time < span.end_time for span in spans)
    assert spans[0].attributes["gen_ai.usage.input_tokens"] == first.calls[0].input_tokens


def test_spans_belong_to_what_called(collected, ask):
    """A call within a span of the application is its child, in whatever thread it is passed on."""
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider(shutdown_on_exit=False).get_tracer("app").start_as_current_span("work") as work:
        ask("a")
    _, (span,) = collected()
    assert span.parent.span_id == work.get_span_context().span_id


def test_a_failure_is_an_error_with_its_kind(collected, server, ask):
    """A call that failed is counted as such, and its span says which status it was."""
    server.fail_next(Fault.TOO_MANY_REQUESTS)
    with pytest.raises(openai.RateLimitError):
        ask("a")
    metrics, (span,) = collected()
    assert sum(point.value for point in metrics["genai_cache.errors"]) == 1
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "429")


def test_only_what_was_chosen_is_counted(configured, collected, ask):
    """`metrics` of the seed: hits, misses and latency, and nothing beside them."""
    configured(metrics="hits,misses,latency")
    ask("a")
    ask("a")
    metrics, _ = collected()
    assert set(metrics) == {"genai_cache.hits", "genai_cache.misses", "genai_cache.latency"}


def test_the_team_tier_is_shown(collected):
    """How much waits, and whether the tier is asked; what can't be read is left out."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from genai_cache_magic.monitoring.opentelemetry import Telemetry

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    states = [TierState("half-open", 2, 7), TierState("open")]
    telemetry = Telemetry(provider.get_meter("x"), None, metrics=METRICS, tiers=lambda: states)
    telemetry.count_trouble(Trouble("L2", "StoreUnavailable", "host.example.com is away"))
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: metric.data.data_points for metric in scope.metrics}
    assert sums(found["genai_cache.queue.length"], "genai_cache.kind") == {("entries",): 7, ("invalidations",): 2}
    assert [point.value for point in found["genai_cache.breaker.state"]] == [2]
    assert sums(found["genai_cache.troubles"], "genai_cache.part", "error.type") == {("L2", "StoreUnavailable"): 1}
    provider.shutdown()


def test_what_was_done_elsewhere_is_counted_once():
    """A scope in another process tells its own process, which counts; it counts nothing itself."""
    from genai_cache_magic.calls.reports import Reports
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options

    noted = []

    class Watch:
        def note(self, event):
            noted.append(event)

        def alerts(self):
            return ()

    own = CellScope(Options())
    own.monitor = Watch()
    own.reports.prepare()
    other = CellScope(Options())
    other.monitor = Watch()
    other.reports = Reports(own.reports.directory)
    other.reports._owner = -1
    other.emit(CallRecord(Outcome.HIT, tier=Tier.L1))
    assert noted == []
    assert own.hits == 1
    assert [event.outcome for event in noted] == [Outcome.HIT]


def test_a_price_that_is_not_known_is_counted_as_such(collected, ask):
    """Money that nobody knows is no zero: the calls are counted that it is missing of."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from genai_cache_magic.monitoring.opentelemetry import Telemetry

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    telemetry = Telemetry(provider.get_meter("x"), None, metrics=["money"], tiers=tuple)
    telemetry.count(CallRecord(Outcome.MISS, spent_usd=None), ended_ns=time.time_ns())
    partly = CallRecord(Outcome.MISS, spent_usd=Decimal("0.5"), saved_usd=Decimal("0.25"))
    telemetry.count(partly, ended_ns=time.time_ns())
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: [point.value for point in metric.data.data_points] for metric in scope.metrics}
    assert found == {"genai_cache.unpriced": [1], "genai_cache.spent": [0.5], "genai_cache.saved": [0.25]}
    provider.shutdown()
