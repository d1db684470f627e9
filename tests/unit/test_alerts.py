"""Alert rules: what each sees in its window, that each change is said once, and that a webhook is never waited for."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import CallRecord, Outcome, Trouble
from genai_cache_magic.monitoring import webhook as webhook_module
from genai_cache_magic.monitoring.alerts import HOLD_S, LEAST_CALLS
from genai_cache_magic.monitoring.monitor import Monitor
from genai_cache_magic.monitoring.tiers import TierState
from genai_cache_magic.monitoring.watching import LOG, AlertWatch, message_of, webhook_of
from genai_cache_magic.monitoring.webhook import MOST_WAITING, Webhook, deliver
from genai_cache_magic.settings.monitoring import ALERTS, AlertRule
from genai_cache_magic.testing.azure.certificates import LoopbackCertificates

HIT, MISS = CallRecord(Outcome.HIT), CallRecord(Outcome.MISS)
SOON_S = 30.0


class Watched:
    """A watch with one rule, a clock that stands still, and a tier that is as it is told."""

    def __init__(self, name, **more):
        self.now_s, self.tier, self.published = 1000.0, TierState("closed", 0, 0), []
        self.watch = AlertWatch(
            [AlertRule.model_validate({"name": name, **more})],
            tiers=lambda: [self.tier],
            publish=lambda said, good_s: self.published.append((said, good_s)),
            clock=lambda: self.now_s,
        )

    def note(self, event, times=1):
        for _ in range(times):
            self.watch.note(event)
        return self.is_firing

    @property
    def is_firing(self):
        return bool(self.watch.look())

    def after(self, seconds, step=1.0):
        """Return whether it is in force after so long, looked at each second."""
        for _ in range(int(seconds / step)):
            self.now_s += step
            found = self.is_firing
        return found


@pytest.mark.parametrize("outcome", [Outcome.MISS, Outcome.STALE, Outcome.REFUSED])
def test_a_miss_rate_is_judged_over_the_window(outcome):
    """The seed's rule: 0.3 over 5m fires above three misses in ten, and ends when they have left the window."""
    seen = Watched("HighMissRate", threshold=0.3, window="5m")
    seen.note(HIT, 7)
    assert not seen.note(CallRecord(outcome), 3)
    assert seen.note(CallRecord(outcome))
    seen.note(HIT, 20)
    assert not seen.after(HOLD_S + 1)
    assert seen.note(MISS, 20)
    assert seen.after(200)
    assert not seen.after(101)


def test_of_few_calls_no_rate_is_told():
    """The first calls of a day are misses, which is nothing to be told of."""
    seen = Watched("HighMissRate")
    assert not seen.note(MISS, LEAST_CALLS - 1)
    assert seen.note(MISS)


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.BYPASS, Outcome.UNRECOGNISED])
def test_what_asks_no_cache_is_no_miss(outcome):
    """Calls that fail or go past the cache are neither hits nor misses."""
    seen = Watched("HighMissRate")
    assert not seen.note(CallRecord(outcome), 100)


def test_cost_is_judged_per_hour():
    """Six dollars in half an hour are twelve per hour; a price that is not known counts nothing."""
    seen = Watched("HighCost", threshold=10, window="30m")
    assert not seen.note(CallRecord(Outcome.MISS, spent_usd=None), 100)
    assert not seen.note(CallRecord(Outcome.MISS, spent_usd=Decimal(5)))
    assert seen.note(CallRecord(Outcome.MISS, spent_usd=Decimal("0.01")))
    assert not seen.after(1801, step=10)


def test_a_tier_that_is_away_for_most_of_the_window():
    """An outage of a moment is none; one of half a minute is, and its end ends it."""
    seen = Watched("L2Offline", threshold=0.5, window="1m")
    seen.tier = TierState("open", 0, 0)
    assert not seen.after(29)
    assert seen.after(5)
    seen.tier = TierState("closed", 0, 0)
    assert not seen.after(60)


def test_a_laptop_that_slept_saw_no_outage():
    """A tier that was away before and after a sleep was not seen away in between."""
    seen = Watched("L2Offline", threshold=0.5, window="10m")
    seen.tier = TierState("half-open", 0, 0)
    seen.after(3)
    seen.now_s += 9 * 60
    assert not seen.is_firing


def test_a_queue_that_grows_and_one_that_drains_again():
    """What is queued at once and told at once is no growth; what stays and gets more is."""
    seen = Watched("QueueGrowing", threshold=100, window="10m")
    for waiting in (0, 500, 0, 800, 0):
        seen.tier = TierState("closed", 0, waiting)
        assert not seen.after(90, step=10)
    for waiting in range(0, 900, 20):
        seen.tier = TierState("closed", waiting // 2, waiting // 2)
        found = seen.after(20, step=10)
    assert found
    seen.tier = TierState("closed", None, None)
    assert not seen.after(700, step=10)


def test_answers_that_could_not_be_opened():
    """One is enough; other troubles are none of that."""
    seen = Watched("DecryptionFailures")
    assert not seen.note(Trouble("L2", "StoreUnavailable", "away"), 9)
    assert seen.note(Trouble("L1", "DecryptionError", "not opened"))


def test_a_clock_that_is_set_changes_nothing(monkeypatch):
    """Windows go by a monotonic clock: the time of day is not asked."""
    monkeypatch.setattr(LOG, "disabled", True)
    monkeypatch.setattr("time.time", lambda: pytest.fail("the wall clock was asked"))
    seen = Watched("HighMissRate")
    assert seen.note(MISS, 20)


def test_each_change_is_said_once(caplog):
    """The log has one line when an alert comes and one when it goes, however often is looked; it holds a while."""
    caplog.set_level(logging.INFO, "genai_cache_magic.alerts")
    seen = Watched("HighMissRate", threshold=0.5, window="5m")
    seen.note(MISS, 20)
    assert seen.note(HIT, 100)  # on the brink: not ended at once
    seen.after(299)
    seen.after(60)
    said = "alert HighMissRate: more than 50% of the calls of the last 5m were misses"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", said),
        ("INFO", f"ended: {said}"),
    ]


def test_who_else_looks_is_told_now_and_then():
    """What is in force is published when it changes, and anew before that is too old; nothing of nothing."""
    seen = Watched("HighMissRate", window="1h")
    seen.after(100)
    assert seen.published == []
    seen.note(MISS, 20)
    seen.after(61)
    assert len(seen.published) == 4
    assert all(said and good_s > 30 for said, good_s in seen.published)


def test_nothing_is_printed_where_no_log_is_set_up(capfd):
    """A warning of ours does not end up in the output of whatever cell runs."""
    script = (
        "from genai_cache_magic.monitoring.watching import LOG; LOG.warning('x'); import logging;"
        "print(logging.getLogger('genai_cache_magic.alerts').level)"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("name", ALERTS)
def test_every_kind_has_a_sentence_without_measured_numbers(name):
    """What is said depends on the rule alone, so that two equal runs of a notebook say the same."""
    rule = AlertRule.model_validate(name)
    assert rule.sentence.startswith(f"alert {name}: ")
    assert message_of(rule, "firing", 0.5)["text"] == f"genai-cache {rule.sentence}"


class Hook:
    """A webhook on loopback that answers with a status."""

    def __init__(self, status=204):
        self.status, self.bodies, self.came = status, [], threading.Semaphore(0)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                hook.bodies.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
                self.send_response(hook.status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()
                hook.came.release()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/SECRET?token=SECRET"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def secure(self, context):
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook():
    found = Hook()
    yield found
    found.close()


def test_a_webhook_is_told_of_each_change(hook):
    """It gets numbers and our words, and nothing else, once as the alert comes and once as it goes."""
    seen = Watched("HighMissRate", threshold=0.5, window="5m")
    seen.watch._webhook = Webhook(hook.url)
    seen.note(MISS, 20)
    assert hook.came.acquire(timeout=SOON_S)
    seen.after(301)
    assert hook.came.acquire(timeout=SOON_S)
    assert [(path, body["state"]) for path, body in hook.bodies] == [
        ("/services/SECRET?token=SECRET", "firing"),
        ("/services/SECRET?token=SECRET", "ended"),
    ]
    assert set(hook.bodies[0][1]) == {"source", "alert", "state", "threshold", "window_s", "value", "text"}


def test_what_the_last_calls_of_a_script_came_to_is_told(hook, monkeypatch):
    """A process that ends before anybody has looked: the webhook hears of the alert, and is waited for."""
    monkeypatch.setattr("genai_cache_magic.monitoring.monitor._END_S", SOON_S)
    watch = AlertWatch([AlertRule.model_validate("HighMissRate")], webhook=Webhook(hook.url))
    made = Monitor(None, watch)
    for _ in range(LEAST_CALLS):
        made.note(MISS)
    made.close()
    assert [body["state"] for _, body in hook.bodies] == ["firing"]


def test_a_webhook_that_is_down_is_said_once(hook, caplog):
    """However many alerts it misses, and again only after it worked in between; its address is never said."""
    told, gone = [], threading.Semaphore(0)
    webhook = webhook_of(hook.url, told.append)
    failed, worked = webhook._failed, webhook._worked
    webhook._failed = lambda reason: (failed(reason), gone.release())
    webhook._worked = lambda: (worked(), gone.release())
    for status in (500, 302, 404, 200, 503):
        hook.status = status
        webhook.post({})
        assert gone.acquire(timeout=SOON_S)
    assert [one.message.partition(",")[0] for one in told] == [
        "the webhook refused it (status 500)",
        "the webhook refused it (status 503)",
    ]
    assert len(caplog.records) == 2
    assert "SECRET" not in f"{told}{caplog.text}{webhook!r}"
    assert len(hook.bodies) == 5  # a redirect is not followed


@pytest.mark.parametrize("kind", ["refused", "silent", "drip"])
def test_a_webhook_that_does_not_answer_holds_nobody_up(kind):
    """Refused, silent, or a byte now and then: it is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        stop = threading.Event()

        def drip():
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not stop.wait(0.05):
                        connection.sendall(b"x: y\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=drip, daemon=True)
        if kind == "drip":
            thread.start()
        elif kind == "refused":
            listener.close()
        with pytest.raises(StoreUnavailable):
            deliver(url, b"{}", timeout_s=0.5)
        stop.set()
        if kind == "drip":
            thread.join(SOON_S)
            assert not thread.is_alive()


def test_a_webhook_whose_connection_took_too_long_is_told_nothing(monkeypatch):
    """What is cut off while a connection is made can't be cut: once it is made there is no more waiting."""
    is_cut, connect, cut = threading.Event(), http.client.HTTPConnection.connect, webhook_module._cut

    def too_late(connection, is_late):
        cut(connection, is_late)
        is_cut.set()

    monkeypatch.setattr(webhook_module, "_cut", too_late)
    monkeypatch.setattr(http.client.HTTPConnection, "connect", lambda self: is_cut.wait(SOON_S) and connect(self))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(StoreUnavailable, match="did not answer within"):
            deliver(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", timeout_s=0.1)
        with listener.accept()[0] as connection:
            assert connection.recv(100) == b""


REFUSED = {
    "expired": ({"days": (-3, -1)}, "its certificate has expired"),
    "not yet": ({"days": (1, 3)}, "its certificate is not valid yet: is this machine's clock right?"),
    "another name": ({"name": "cache.example.com", "addresses": ()}, "its certificate is for another address"),
    "unknown": (None, "nobody who is trusted here vouches for its certificate"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_with_a_certificate_is_said(hook, monkeypatch, kind):
    """Expired, too early, another's or nobody's: each by its name, without the address; and nothing is sent."""
    given, says = REFUSED[kind]
    with contextlib.closing(LoopbackCertificates(**(given or {}))) as certificates:
        if given is not None:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
        hook.secure(certificates.server_context)
        with pytest.raises(StoreUnavailable) as caught:
            deliver(hook.url, b"{}", timeout_s=SOON_S)
    assert str(caught.value) == f"the webhook is told nothing: {says}"
    assert hook.bodies == []


def test_a_webhook_that_speaks_no_tls_is_said(hook):
    """It is told apart from one whose certificate is refused."""
    with pytest.raises(StoreUnavailable, match=r"TLS is not agreed on \(.+\): does it speak https there"):
        deliver(hook.url.replace("http:", "https:"), b"{}", timeout_s=SOON_S)
    assert hook.bodies == []


def test_posting_waits_for_nothing_and_keeps_a_few():
    """With a webhook that hangs, thousands of messages are taken at once, and the newest few are kept."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        webhook = Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=30)
        before = set(threading.enumerate())
        for number in range(5000):
            webhook.post({"number": number})
        assert len(webhook._waiting) <= MOST_WAITING
        assert json.loads(webhook._waiting[-1]) == {"number": 4999}
        started = {thread for thread in threading.enumerate() if thread.name == "genai-cache-webhook"} - before
        assert started == {webhook._thread}
        listener.accept()[0].close()


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://u:p@example.com/", "ftp://127.0.0.1/", "https://", "https://h/a b", "file:///x"],
)
def test_only_https_or_this_machine_is_told(url):
    """An alert goes nowhere in the clear but to this machine."""
    with pytest.raises(ConfigurationError):
        Webhook(url)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/x", "http://127.0.0.1:9/x", "http://[::1]:9/", "http://localhost/"]
)
def test_what_may_be_told(url):
    """Any host by https, this machine by http."""
    assert Webhook(url)._url == url
