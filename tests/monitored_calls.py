"""Calls with a canary in all that a user can name, and the numbers and spans that are collected of them."""

from __future__ import annotations

import json

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.api.watching import monitored
from genai_cache_magic.monitoring.exported import Exported

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


@pytest.fixture(name="_own", autouse=True)
def own_cache(isolated):
    """Every test has a cache and a session of its own."""


@pytest.fixture(name="ask")
def ask_with_canaries(server):
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


@pytest.fixture(name="configured")
def configure_monitoring(monkeypatch, server):
    """Settings of monitoring for this process, and prices for the simulated models."""

    def configure(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"GENAI_CACHE_MONITORING__{name.upper()}", value)
        monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
        monkeypatch.setenv("GENAI_CACHE_PERSON", CANARIES["person"])
        reset_session()

    return configure


@pytest.fixture(name="collected")
def collect_in_memory(monkeypatch, configured):
    """The numbers and spans that the SDK collects in memory, read anew at each look."""
    pytest.importorskip("opentelemetry.sdk", reason=NEEDS)
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

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
