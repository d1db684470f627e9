"""Numbers and spans by OpenTelemetry's API: what is counted goes to whatever meter and tracer there is.

Names follow its conventions where there are any; our own begin with ``genai_cache``. Nothing of this is imported
before it was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode

from genai_cache_magic.events import SERVED, CallRecord, Outcome
from genai_cache_magic.monitoring.labels import ERROR_TYPE, OUTCOME, TIER, Labels, error_type, trouble_attributes
from genai_cache_magic.monitoring.tiers import CIRCUITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

    from genai_cache_magic.events import Trouble
    from genai_cache_magic.monitoring.tiers import Tiers

SCOPE: Final = "genai_cache_magic"
"""By what name the meter and the tracer go."""

_COUNTED: Final = {
    Outcome.HIT: ("hits", "Calls that were answered from the cache"),
    Outcome.SIMILAR: ("similar", "Calls that got the answer to another question, much alike"),
    Outcome.MISS: ("misses", "Calls that a model answered, since nothing was stored"),
    Outcome.STALE: ("stale", "Calls that a model answered, since what was stored had expired or was invalidated"),
    Outcome.REFUSED: ("refused", "Calls that a model answered with something that must not be stored"),
    Outcome.ERROR: ("errors", "Calls that failed at their origin"),
    Outcome.BYPASS: ("bypassed", "Calls that went past the cache"),
}
_BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Telemetry:
    """The instruments of one process.

    Parameters
    ----------
    meter, tracer
        Where numbers and spans go; None: nowhere.
    metrics
        Which of them are counted (`settings.monitoring.METRICS`).
    tiers
        How the team's tiers are, asked when somebody collects.
    """

    def __init__(self, meter: Meter | None, tracer: Tracer | None, *, metrics: Iterable[str], tiers: Tiers) -> None:
        wanted = frozenset(metrics)
        self._tracer = tracer
        self._tiers = tiers
        self._labels = Labels()
        self._adds: list[Callable[[CallRecord, dict[str, str]], None]] = []
        self._troubles: Any = None
        if meter is not None:
            self._make_calls(meter, wanted)
            self._make_tiers(meter, wanted)

    def count(self, call: CallRecord, *, ended_ns: int, context: Context | None = None) -> None:
        """Count `call`, which ended at a time [ns since the epoch] in a context."""
        labels = self._labels.of(call)
        for add in self._adds:
            add(call, labels)
        if self._tracer is not None:
            self._trace(call, labels, ended_ns, context)

    def count_trouble(self, trouble: Trouble) -> None:
        """Count that something of ours failed."""
        if self._troubles is not None:
            self._troubles.add(1, trouble_attributes(trouble))

    def _make_calls(self, meter: Meter, wanted: frozenset[str]) -> None:
        counters = {
            outcome: meter.create_counter(f"genai_cache.{name}", "{call}", says)
            for outcome, (name, says) in _COUNTED.items()
            if name in wanted
        }

        def add_outcome(call: CallRecord, labels: dict[str, str]) -> None:
            if (counter := counters.get(call.outcome)) is not None:
                tier = {TIER: _tier_of(call)} if call.outcome is Outcome.HIT else {}
                counter.add(1, {**labels, **tier})

        self._adds.append(add_outcome)
        if "latency" in wanted:
            self._adds.append(_latency(meter))
        if "tokens" in wanted:
            self._adds.append(_tokens(meter))
        if "money" in wanted:
            self._adds.append(_money(meter))
        if "troubles" in wanted:
            says = "Times that something of the cache failed, and the call went on without it"
            self._troubles = meter.create_counter("genai_cache.troubles", "{trouble}", says)

    def _make_tiers(self, meter: Meter, wanted: frozenset[str]) -> None:
        if "queue" in wanted:
            says = "What waits to be told to the team"
            meter.create_observable_gauge("genai_cache.queue.length", [self._queue], "{item}", says)
        if "breaker" in wanted:
            says = "Whether the team tier is asked: 0 it is, 1 it is tried again, 2 it is left alone"
            meter.create_observable_gauge("genai_cache.breaker.state", [self._circuit], "{state}", says)

    def _queue(self, _: CallbackOptions) -> Iterator[Observation]:
        states = self._tiers()
        for kind in ("entries", "invalidations"):
            known = [count for state in states if (count := getattr(state, kind)) is not None]
            if known:
                yield Observation(sum(known), {"genai_cache.kind": kind})

    def _circuit(self, _: CallbackOptions) -> Iterator[Observation]:
        states = self._tiers()
        if states:
            yield Observation(max(CIRCUITS[state.circuit] for state in states), {TIER: "L2"})

    def _trace(self, call: CallRecord, labels: dict[str, str], ended_ns: int, context: Context | None) -> None:
        assert self._tracer is not None
        about: dict[str, Any] = {**labels, OUTCOME: call.outcome.value}
        if call.outcome is Outcome.HIT:
            about[TIER] = _tier_of(call)
        if call.outcome is not Outcome.ERROR:
            about |= {
                name: number
                for name, number in (
                    ("gen_ai.usage.input_tokens", call.input_tokens),
                    ("gen_ai.usage.output_tokens", call.output_tokens),
                    ("genai_cache.spent_usd", _known(call.spent_usd)),
                    ("genai_cache.saved_usd", _known(call.saved_usd)),
                )
                if number is not None
            }
        span = self._tracer.start_span(
            f"genai_cache {call.outcome.value}",
            context,
            SpanKind.INTERNAL,
            about,
            start_time=ended_ns - int(max(0.0, call.latency_s) * 1e9),
        )
        if call.outcome is Outcome.ERROR:
            span.set_attribute(ERROR_TYPE, error_type(call))
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)


def _latency(meter: Meter) -> Callable[[CallRecord, dict[str, str]], None]:
    histogram = meter.create_histogram(
        "genai_cache.latency",
        "s",
        "From a call until its answer was complete, by what answered",
        explicit_bucket_boundaries_advisory=_BUCKETS_S,
    )
    asked = (Outcome.MISS, Outcome.STALE, Outcome.REFUSED)

    def add(call: CallRecord, labels: dict[str, str]) -> None:
        if call.outcome is Outcome.HIT:
            histogram.record(call.latency_s, {**labels, TIER: _tier_of(call)})
        elif call.outcome in asked:
            histogram.record(call.latency_s, {**labels, TIER: "model"})

    return add


def _tokens(meter: Meter) -> Callable[[CallRecord, dict[str, str]], None]:
    counter = meter.create_counter("genai_cache.tokens", "{token}", "Tokens that were paid for, or saved by hits")

    def add(call: CallRecord, labels: dict[str, str]) -> None:
        kind = "saved" if call.outcome in SERVED else "paid"
        for direction, count in (("input", call.input_tokens), ("output", call.output_tokens)):
            if count:
                counter.add(count, {**labels, "gen_ai.token.type": direction, "genai_cache.kind": kind})

    return add


def _money(meter: Meter) -> Callable[[CallRecord, dict[str, str]], None]:
    spent = meter.create_counter("genai_cache.spent", "{USD}", "What calls cost, as far as prices are known")
    saved = meter.create_counter("genai_cache.saved", "{USD}", "What hits would have cost, as far as prices are known")
    unknown = meter.create_counter("genai_cache.unpriced", "{call}", "Calls whose price is not known")

    def add(call: CallRecord, labels: dict[str, str]) -> None:
        is_hit = call.outcome in SERVED
        amount = _known(call.saved_usd if is_hit else call.spent_usd)
        if amount is None:
            unknown.add(1, labels)
        elif amount >= 0:  # a credit takes nothing back from a counter; of what is free the series is there
            (saved if is_hit else spent).add(amount, labels)
        if not is_hit and call.saved_usd and call.saved_usd > 0:  # a batch of which a part was known
            saved.add(float(call.saved_usd), labels)

    return add


def _tier_of(call: CallRecord) -> str:
    return "flight" if call.tier is None else call.tier.value


def _known(amount: Any) -> float | None:
    return None if amount is None else float(amount)
