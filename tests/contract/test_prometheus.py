"""The dashboard for Grafana against a real Prometheus that reads a real session: every panel has something to show."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import openai
import pytest
from services import started

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.events import Trouble
from genai_cache_magic.testing.model_server import Fault
from genai_cache_magic.testing.prometheus_server import PrometheusServer

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.service,
]

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "genai-cache.json"
SOON_S = 90.0
IN_GRAFANA = {"$__rate_interval": "30s", "$__range": "60s", "$model": ".*"}
"""What Grafana puts in -> what stands for it here."""

LABELS = {"le", "gen_ai_request_model", "gen_ai_token_type", "genai_cache_tier", "genai_cache_kind", "genai_cache_part"}


def expressions():
    """Return every query of the dashboard, by its panel and place."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def in_prometheus(expression):
    for name, value in IN_GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


@pytest.fixture
def session(isolated, monkeypatch, server, redis_server, team):
    """A session with a team, whose numbers a Prometheus may read, and prices for the simulated models."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="pip install 'genai-cache-magic[prometheus]'")
    monkeypatch.setenv("GENAI_CACHE_MONITORING__EXPORTER", "prometheus")
    monkeypatch.setenv("GENAI_CACHE_MONITORING__LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
    reset_session()
    return current_session()


class Work:
    """A notebook that goes on: rounds of calls that come to everything that a call can come to."""

    def __init__(self, session, server):
        self._session, self._server, self._round = session, server, 0
        self._client = openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0)

    def go_on(self):
        self._round += 1
        with llm_cache(tags=("old",)):
            self._ask("asked again")
            self._ask(f"new {self._round}")
            self._ask(f"of unknown price {self._round}", model="nobody-knows")
        self._session.cache(self._session.settings.namespace).invalidate_tag("old")
        for fault in (Fault.TRUNCATED, Fault.SERVER_ERROR):
            self._server.fail_next(fault)
            with llm_cache() as cell:
                try:
                    self._ask(f"{fault} {self._round}")
                except openai.InternalServerError:
                    assert fault is Fault.SERVER_ERROR
            cell.emit(Trouble("L2", "StoreUnavailable", "a trouble of this test"))
        with llm_cache(mode="off"):
            self._ask("past the cache")
        with llm_cache():
            self._ask("a hit")

    def close(self):
        self._client.close()

    def _ask(self, text, model="gpt-4.1-mini"):
        self._client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


@pytest.fixture
def work(session, server):
    found = Work(session, server)
    yield found
    found.close()


def test_every_panel_shows_something(session, work):
    """Each query of the dashboard returns numbers from what Prometheus read of a session that goes on."""
    work.go_on()
    monitor = session.monitor.get(session.settings, lambda _: None)
    monitor.flush()
    missing = {title: in_prometheus(expression) for title, expression in expressions().items()}
    assert len(missing) >= 12
    with started(lambda: PrometheusServer([monitor.place])) as prometheus:
        give_up_at = time.monotonic() + SOON_S
        while missing and time.monotonic() < give_up_at:
            work.go_on()
            monitor.flush()
            missing = {title: e for title, e in missing.items() if not numbers(prometheus.query(e))}
            time.sleep(0.2)  # a scrape is no event that can be awaited
        assert missing == {}
        (rate,) = numbers(prometheus.query(in_prometheus(expressions()["Hit rate A"])))
        assert 0 < rate < 1


def numbers(series):
    """Return the values that are numbers: of what nothing was divided by nothing there are none."""
    values = [float(one["value"][1]) for one in series]
    return [value for value in values if math.isfinite(value)]


def test_the_dashboard_is_one_that_grafana_imports():
    """It asks which Prometheus is meant, its panels have ids and places of their own, and each says what it shows."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["__inputs"][0]["name"] == "DS_PROMETHEUS"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${DS_PROMETHEUS}"}


@pytest.mark.parametrize("title", expressions())
def test_a_panel_asks_for_numbers_that_there_are(title):
    """No query names an instrument, or what tells numbers apart, that the cache does not have."""
    expression = expressions()[title]
    named = set(re.findall(r"genai_cache_(?!tier|kind|part)\w+", expression))
    known = {
        "hits",
        "misses",
        "stale",
        "refused",
        "errors",
        "bypassed",
        "tokens",
        "spent",
        "saved",
        "unpriced",
        "troubles",
    }
    there = {f"genai_cache_{name}_total" for name in known}
    there |= {"genai_cache_latency_seconds_bucket", "genai_cache_queue_length", "genai_cache_breaker_state"}
    assert named <= there
    by = {name.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(",")}
    assert by <= LABELS | {"error_type"}
