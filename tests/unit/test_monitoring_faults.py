"""No call depends on what is told of it: exporters that fail, hang or are dead, forks, threads that can't start."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from monitored_calls import (  # noqa: F401 - fixtures
    NEEDS,
    SOON_S,
    ask_with_canaries,
    collect_in_memory,
    configure_monitoring,
    monitor,
    own_cache,
)

from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.api.watching import monitored
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.monitoring import monitor as monitor_module
from genai_cache_magic.monitoring.exported import Exported
from genai_cache_magic.monitoring.monitor import Monitor


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
from genai_cache_magic.api.scopes.session import current_session

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
