"""What each exporter sends: that it names nobody, where it can be read, and what is said where it can't be used."""

from __future__ import annotations

import gzip
import platform
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
import pytest
from monitored_calls import CANARIES, NEEDS, SOON_S, ask_with_canaries, configure_monitoring, monitor, own_cache  # noqa: F401 - fixtures

from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.testing.model_server import Fault


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
