"""What other tools are told of calls: the numbers, that they name nobody, and that no call depends on it."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
import urllib.request
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api import monitored
from genai_cache_magic.api.session import current_session, reset_session
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble
from genai_cache_magic.monitoring import monitor as monitor_module
from genai_cache_magic.monitoring.exported import Exported
from genai_cache_magic.monitoring.labels import (
    MODEL,
    MOST_MODELS,
    OPERATION,
    OTHER,
    PROVIDER,
    Labels,
    error_type,
    plain_model,
    trouble_attributes,
)
from genai_cache_magic.monitoring.monitor import Monitor
from genai_cache_magic.monitoring.tiers import TierState
from genai_cache_magic.settings.monitoring import METRICS
from genai_cache_magic.testing.model_server import Fault

NEEDS = "pip install 'genai-cache-magic[otlp,prometheus]'"
CANARIES = {
    "prompt": "canaryprompt",
    "tag": "canarytag",
    "run": "canaryrun",
    "person": "canaryperson",
    "namespace": "canaryspace",
    "key": "canarykey",
    "model": "canaryorg",
}
SOON_S = 30.0


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache and a session of its own."""


@pytest.fixture
def ask(server):
    """A way to ask in a scope, with something to be seen in every place that a user can name."""
    client = openai.OpenAI(base_url=server.openai_url, api_key=CANARIES["key"], max_retries=0)

    def ask(*texts, model="gpt-4.1-mini"):
        with llm_cache(tags=(CANARIES["tag"],), run=CANARIES["run"], namespace=CANARIES["namespace"]) as cell:
            for text in texts:
                asked = [{"role": "user", "content": f"{CANARIES['prompt']} {text}"}]
                got = client.chat.completions.create(model=model, messages=asked)
                ask.answers.append(got.choices[0].message.content)
        return cell

    ask.answers = []
    yield ask
    client.close()


@pytest.fixture
def configured(monkeypatch, server):
    """Settings of monitoring for this process, and prices for the simulated models."""

    def configure(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"GENAI_CACHE_MONITORING__{name.upper()}", value)
        monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
        monkeypatch.setenv("GENAI_CACHE_PERSON", CANARIES["person"])
        reset_session()

    return configure


@pytest.fixture
def collected(monkeypatch, configured):
    """The numbers and spans that the SDK collects in memory, read anew at each look."""
    pytest.importorskip("opentelemetry.sdk", reason=NEEDS)
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from genai_cache_magic.monitoring.exported import Exported

    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(monitored, "_of_application", lambda _: Exported(meters, tracers))
    configured(exporter="app")

    def read():
        monitor().flush()
        data = reader.get_metrics_data()
        scopes = [] if data is None else [s for r in data.resource_metrics for s in r.scope_metrics]
        return {m.name: list(m.data.data_points) for s in scopes for m in s.metrics}, spans.get_finished_spans()

    yield read
    reset_session()  # before what it counts with
    meters.shutdown()
    tracers.shutdown()


def monitor():
    session = current_session()
    return session.monitor.get(session.settings, lambda _: None)


def sums(points, *names):
    """Return the numbers of some points, by what tells them apart."""
    return {tuple(dict(point.attributes)[name] for name in names): point.value for point in points}


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


class Collector:
    """A collector of OTLP on loopback that keeps every byte."""

    def __init__(self):
        self.received, self.paths, self.came = [], [], threading.Semaphore(0)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                collector.received.append(f"{self.headers}".encode())
                collector.received.append(self.rfile.read(int(self.headers["content-length"])))
                collector.paths.append(self.path)
                said = b'{"itemsReceived": 1, "itemsAccepted": 1, "errors": []}' if "track" in self.path else b""
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
                collector.came.release()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def forbidden(ask, *cells):
    """Return what may be in nothing that is exported."""
    ids = [call.entry_id[:12] for cell in cells for call in cell.calls]
    assert all(ask.answers)
    return [*CANARIES.values(), *ids, *ask.answers, platform.node()]


def test_nothing_exported_names_anybody(configured, server, ask):
    """No prompt, answer, tag, run, person, name space, id, key or host is in any byte that goes to a collector."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason=NEEDS)
    collector = Collector()
    configured(exporter="otlp", endpoint=collector.url, alerts="HighMissRate")
    server.fail_next(Fault.SERVER_ERROR)
    with pytest.raises(openai.InternalServerError):
        ask("fails")
    cells = [ask("a", "b"), ask("a"), ask("c", model=f"ft:gpt-4.1-mini:{CANARIES['model']}::abc123")]
    reset_session()  # sends what is left
    collector.server.shutdown()
    collector.server.server_close()
    assert set(collector.paths) == {"/v1/metrics", "/v1/traces"}
    sent = b"".join(collector.received)
    assert b"genai_cache.hits" in sent
    assert b"ft:gpt-4.1-mini" in sent
    assert [text for text in forbidden(ask, *cells) if text.encode() in sent] == []


def test_azure_monitor_is_sent_the_same(configured, ask, monkeypatch):
    """What goes to Application Insights names nobody; nothing is kept on disk for later."""
    pytest.importorskip("azure.monitor.opentelemetry.exporter", reason="pip install 'genai-cache-magic[azure-monitor]'")
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    collector = Collector()
    key = "00000000-0000-0000-0000-000000000000"
    configured(
        exporter="azure-monitor", connection_string=f"InstrumentationKey={key};IngestionEndpoint={collector.url}/"
    )
    cells = [ask("a"), ask("a")]
    reset_session()
    assert collector.came.acquire(timeout=SOON_S)
    collector.server.shutdown()
    collector.server.server_close()
    sent = b"".join(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in collector.received)
    assert b"genai_cache.hits" in sent
    assert [text for text in forbidden(ask, *cells) if text.encode() in sent] == []


@pytest.mark.parametrize("given", ["", "nothing"])
def test_azure_monitor_without_a_connection_string_says_so(configured, ask, monkeypatch, given):
    """What is missing is named, and the call goes on."""
    pytest.importorskip("azure.monitor.opentelemetry.exporter", reason="pip install 'genai-cache-magic[azure-monitor]'")
    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING", raising=False)
    configured(exporter="azure-monitor", connection_string=given)
    ask("a")
    monitor().flush()
    (told,) = ask("a").troubles
    assert "connection string" in told.message


def test_a_prometheus_reads_the_same(configured, ask):
    """What Prometheus reads names nobody either, at the first port that is free."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason=NEEDS)
    configured(exporter="prometheus", listen="127.0.0.1:0")
    cells = [ask("a"), ask("a")]
    monitor().flush()
    text = urllib.request.urlopen(monitor().place, timeout=SOON_S).read().decode()
    assert "genai_cache_hits_total{" in text
    assert "python_gc" not in text  # a registry of its own
    assert [name for name in forbidden(ask, *cells) if name in text] == []
    place = monitor().place
    reset_session()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(place, timeout=SOON_S)


def test_no_free_port_is_said_and_breaks_nothing(configured, ask):
    """A second kernel at one port goes on, and says what to write."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason=NEEDS)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        configured(exporter="prometheus", listen=f"127.0.0.1:{taken.server_port}")
        first = ask("a")
        monitor().flush()
        cell = ask("a")
    assert cell.hits == 1
    told = [*first.troubles, *cell.troubles]
    assert [trouble.where for trouble in told] == ["monitoring"]
    assert f"'127.0.0.1:{taken.server_port}': no port is free there" in told[0].message


@pytest.mark.parametrize(
    ("exporter", "extra"),
    [("app", "otel"), ("otlp", "otlp"), ("prometheus", "prometheus"), ("azure-monitor", "azure-monitor")],
)
def test_a_missing_package_names_the_extra(configured, monkeypatch, ask, exporter, extra):
    """Without an exporter's package the calls go on, and a sentence has the command that installs it."""
    import importlib.util

    real = importlib.util.find_spec

    def find_spec(name, *more):
        return None if name.startswith(("opentelemetry", "azure.monitor")) else real(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    configured(exporter=exporter)
    cell = ask("a")
    assert (cell.misses, ask("a").troubles) == (1, ())
    (told,) = cell.troubles
    assert f"pip install 'genai-cache-magic[{extra}]'" in told.message


@pytest.mark.parametrize("where", ["open", "count"])
def test_an_exporter_that_fails_breaks_no_call(collected, monkeypatch, ask, where):
    """Whatever somebody else's library raises: the call is answered, it is said once, and nothing is tried again."""
    from genai_cache_magic.monitoring.opentelemetry import Telemetry

    fails, times = _raises, []

    def fail(*_, **__):
        times.append(1)
        fails()

    if where == "open":
        monkeypatch.setattr(monitored, "_of_application", fail)
    else:
        monkeypatch.setattr(Telemetry, "count", fail)
    cells = [ask("a")]
    monitor().flush()
    cells.append(ask("a", "a"))
    monitor().flush()
    cells.append(ask("a"))
    assert [cell.hits for cell in cells] == [0, 2, 1]
    told = [trouble for cell in cells for trouble in cell.troubles]
    assert len(times) == len(told) == 1
    assert "LookupError" in told[0].message


def _raises():
    raise LookupError("whatever a library says")


def test_a_dead_collector_costs_no_call_and_little_at_the_end(configured, ask):
    """Nobody listens: calls are answered as ever, and the end of the process waits for seconds at most."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason=NEEDS)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as gone:
        port = gone.server_port
    configured(exporter="otlp", endpoint=f"http://127.0.0.1:{port}")
    assert ask("a").misses == 1
    assert ask("a").hits == 1
    reset_session()
    assert not any(thread.name == "genai-cache-monitoring" for thread in threading.enumerate())


def test_a_dead_collector_is_said_once_and_prints_nothing(isolated, server):
    """Under a cell stands what to check; nothing is printed, least of all an address that may hold a token."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason=NEEDS)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as gone:
        endpoint = f"http://127.0.0.1:{gone.server_port}/t0ken"
    how = {"GENAI_CACHE_MONITORING__EXPORTER": "otlp", "GENAI_CACHE_MONITORING__ENDPOINT": endpoint}
    how |= {"GENAI_CACHE_MONITORING__SPANS": "false", "GENAI_CACHE_ORIGINS": json.dumps({server.openai_url: "openai"})}
    done = subprocess.run(
        [sys.executable, "-c", DEAD, server.openai_url],
        env={**os.environ, **how},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["()", "['monitoring'] True False", "()"]


DEAD = """
import httpx, sys
url, body = sys.argv[1] + "/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}
from genai_cache_magic import llm_cache
from genai_cache_magic.api.session import current_session

def ask():
    with llm_cache() as cell:
        httpx.post(url, json=body)
    return cell

def send(cell):
    cell.monitor.flush()
    cell.monitor._exporter[0].meters.force_flush()
    return cell.troubles

print(send(ask()))
told = send(ask())
print([one.where for one in told], "monitoring.endpoint" in told[0].message, "t0ken" in str(told))
print(ask().troubles)
"""


def test_an_exporter_that_hangs_does_not_hold_up_the_end(monkeypatch):
    """Whatever the application's own exporter waits for: the end of the process waits for a moment, and goes on."""
    monkeypatch.setattr(monitor_module, "_END_S", 0.05)
    has_begun, may_end, ended = threading.Event(), threading.Event(), []

    class Hanging:
        def count(self, *_, **__):
            has_begun.set()
            may_end.wait(SOON_S)
            ended.append("counted")

    made = Monitor(lambda: (Exported(None, close=lambda: ended.append("closed")), Hanging()), None)
    made.note(CallRecord(Outcome.HIT))
    assert has_begun.wait(SOON_S)
    thread = made._thread
    made.close()
    assert ended == []
    may_end.set()
    thread.join(SOON_S)
    assert ended == ["counted", "closed"]


OFF = """
import httpx, sys
from genai_cache_magic import llm_cache
url, body = sys.argv[1] + "/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}
with llm_cache() as cell:
    httpx.post(url, json=body), httpx.post(url, json=body)
assert (cell.hits, cell.misses) == (1, 1), cell.calls
found = {name.split(".")[0] for name in sys.modules} & {"opentelemetry", "prometheus_client"}
ours = sorted(name for name in sys.modules if name.startswith("genai_cache_magic.monitoring"))
assert not found and not ours, (found, ours)
"""


def test_nothing_is_imported_before_it_is_asked_for(server, isolated):
    """`import genai_cache_magic`, a miss and a hit bring no OpenTelemetry, and nothing of ours that would."""
    done = subprocess.run(
        [sys.executable, "-c", OFF, server.openai_url], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_off_there_is_nothing_to_tell(ask):
    """Without settings a scope has no monitor at all, so a hit costs what it did."""
    assert ask("a").monitor is None


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


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet@20240620"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("publishers/google/models/gemini-2.0", "gemini-2.0"),
        ("ft:gpt-4o-mini:acme:secret:abc", "ft:gpt-4o-mini"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/x", OTHER),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef", OTHER),
        ("models/gemini-2.0", "gemini-2.0"),
        ("projects/acme-7/locations/eu/publishers/google/models/gemini-2.0", "gemini-2.0"),
        ("/home/anna/models/own.gguf", OTHER),
        ("C:\\Users\\anna\\m", OTHER),
        ("anna@example.com", OTHER),
        ("tuned-123e4567-e89b-12d3-a456-426614174000", OTHER),
        ("0123456789abcdef", OTHER),
        ("a/b/c", OTHER),
        ("https://host/x", OTHER),
        ("my prompt is here", OTHER),
        ("m" * 200, OTHER),
        ("模型", OTHER),
        ("", OTHER),
    ],
)
def test_the_name_of_a_model_is_all_that_is_told(model, told):
    """Who tuned it, whose account it is in, where it lies: nothing of that leaves this machine."""
    assert plain_model(model) == told


def test_a_host_is_never_a_provider():
    """A request that was not recognised has the host in the provider's place; what is not known is not told."""
    labels = Labels()
    assert labels.of(CallRecord(Outcome.UNRECOGNISED, provider="llm.internal.example"))[PROVIDER] == OTHER
    assert labels.of(CallRecord(Outcome.MISS, provider="canary.secret"))[PROVIDER] == OTHER
    assert labels.of(CallRecord(Outcome.MISS, provider="openai.chat", model="m")) == {
        OPERATION: "chat",
        PROVIDER: "openai",
        MODEL: "m",
    }


def test_so_many_models_and_no_more():
    """Names made in a loop make no endless series."""
    labels = Labels()
    names = {labels.of(CallRecord(Outcome.MISS, model=f"m-{n}"))[MODEL] for n in range(5 * MOST_MODELS)}
    assert len(names) == MOST_MODELS + 1


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("status 429: canary", "429"),
        ("APITimeoutError", "APITimeoutError"),
        ("closed before its end", OTHER),
        ("", OTHER),
    ],
)
def test_an_error_has_a_kind_and_no_words(reason, kind):
    """A status or a class; never what it said."""
    assert error_type(CallRecord(Outcome.ERROR, reason=reason)) == kind
    assert trouble_attributes(Trouble("a path/to", "not a class", "m")) == {
        "genai_cache.part": OTHER,
        "error.type": OTHER,
    }


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


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_for_itself_and_ends(configured, ask):
    """Its exporter and its alerts begin anew, and its end waits for no thread that only the parent has."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason=NEEDS)
    configured(exporter="prometheus", listen="127.0.0.1:0", alerts="HighMissRate")
    ask(*"abcdefghijkl")
    monitor().flush()
    assert monitor().alerts()
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def work():
        ask("a")
        monitor().flush()
        text = urllib.request.urlopen(monitor().place, timeout=SOON_S).read().decode()
        sender.send(("genai_cache_hits_total{" in text, "genai_cache_misses_total{" in text, monitor().alerts()))
        reset_session()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(SOON_S)
    is_over = child.exitcode
    child.kill()
    assert is_over == 0
    assert receiver.recv() == (True, False, ())
    assert "genai_cache_misses_total{" in urllib.request.urlopen(monitor().place, timeout=SOON_S).read().decode()


def test_a_thread_that_can_not_be_started_breaks_nothing(monkeypatch):
    """Where there is no room for a thread, calls are noted and passed on later."""
    made = Monitor(_raises, None)
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
    made.note(CallRecord(Outcome.HIT))
    monkeypatch.undo()
    made.flush()
    assert made.alerts() == ()
    made.close()
