"""Where an alert is seen: under the cell, in the sidebar, in the command; and for how long."""

from __future__ import annotations

import json

import openai
import pytest
from commands import run_command  # noqa: F401 - a fixture

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.api.watching.alert_board import NAME, AlertBoard, in_force
from genai_cache_magic.jupyter.server import answers
from genai_cache_magic.jupyter.server.caches import Caches
from genai_cache_magic.jupyter.shown.badge import as_html, as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.stores.documents import MemoryDocument

SAYS = "alert HighMissRate: more than 30% of the calls of the last 5m were misses"


@pytest.fixture(autouse=True)
def _own(isolated, monkeypatch):
    """Every test has a cache of its own, and a rule."""
    monkeypatch.setenv("GENAI_CACHE_MONITORING__ALERTS", "HighMissRate")
    reset_session()


@pytest.fixture
def missed(server):
    """A cell all of whose calls were misses."""
    with (
        openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client,
        llm_cache() as cell,
    ):
        for number in range(12):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"{number}"}])
    return cell


def test_the_badge_says_it_in_words(missed):
    """Under the cell that brought it on there is the sentence, in text and in HTML, and the line asks to be read."""
    summary = summarise(missed)
    assert summary.troubles == (SAYS,)
    assert as_text(summary).splitlines()[0].startswith("llm_cache: !")
    assert SAYS in as_text(summary)
    assert SAYS in as_html(summary)


def test_the_sidebar_says_it(missed):
    """The server, another process, has it among its notes, first."""
    summarise(missed)
    caches = Caches()
    try:
        assert answers.health(caches, {})["notes"][0] == SAYS
    finally:
        caches.close()


def test_the_command_lists_it(request, run):
    """`alerts list` ends with 1 while one is in force, and with 0 before."""
    assert run("alerts", "list")[0] == 0
    summarise(request.getfixturevalue("missed"))
    code, out, _ = run("alerts", "list")
    assert code == 1
    assert out.splitlines()[1].split() == ["HighMissRate", "0.3", "5m", "in", "force"]
    assert SAYS in out
    code, out, _ = run("alerts", "list", "--json")
    said = {"name": "HighMissRate", "threshold": 0.3, "window_s": 300, "firing": True, "says": SAYS}
    assert (code, json.loads(out)) == (1, {"alerts": [said], "others": []})


def test_no_rules_are_said(run, monkeypatch):
    """Without rules `list` says where to write them, and `test` that there is nothing to test."""
    monkeypatch.delenv("GENAI_CACHE_MONITORING__ALERTS")
    assert run("alerts", "list")[:2] == (
        0,
        "no alerts are set: monitoring.alerts in the settings, see docs/monitoring.md\n",
    )
    code, out, err = run("alerts", "test")
    assert (code, out) == (2, "")
    assert "monitoring.alerts" in err


def test_a_test_without_a_webhook_names_the_setting(run):
    """`alerts test` says what to set."""
    code, _, err = run("alerts", "test")
    assert code == 2
    assert "GENAI_CACHE_MONITORING__WEBHOOK" in err
    assert err.count("\n") == 1


def test_a_webhook_that_refuses_is_exit_code_1(run, monkeypatch, server):
    """The reason is said, and nothing of the address."""
    monkeypatch.setenv("GENAI_CACHE_MONITORING__WEBHOOK", f"{server.url}/SECRET")
    code, out, err = run("alerts", "test")
    assert code == 1
    assert out == "HighMissRate: the webhook refused it (status 404)\n"
    code, out, err = run("alerts", "test", "--json")
    assert (code, json.loads(out)["alerts"][0]["taken"]) == (1, False)
    assert "SECRET" not in out + err


def test_a_test_tells_the_webhook(run, monkeypatch):
    """Each rule is sent once, as what it is: a test."""
    sent = []
    monkeypatch.setattr(
        "genai_cache_magic.api.watching.alerting.deliver", lambda url, body: sent.append((url, json.loads(body)))
    )
    monkeypatch.setenv("GENAI_CACHE_MONITORING__WEBHOOK", "https://hooks.example.com/x")
    assert run("alerts", "test") == (0, "HighMissRate: the webhook took it\n", "")
    ((url, message),) = sent
    assert url == "https://hooks.example.com/x"
    assert (message["state"], message["text"]) == ("test", f"genai-cache test: {SAYS}")


class Boards:
    """Two processes that say what is in force, and the file between them."""

    def __init__(self):
        self.now_s, self.document = 1_000_000.0, MemoryDocument()
        self.one, self.other = (
            AlertBoard(lambda: [lambda _: self.document, None], clock=lambda: self.now_s) for _ in range(2)
        )

    @property
    def said(self):
        return in_force(lambda _: self.document, now_s=self.now_s)


def test_processes_say_it_side_by_side():
    """Each its own, once; what has ended is gone at once, and of a process that is gone after a while."""
    boards = Boards()
    boards.one.publish((), 60)
    assert boards.document.load() is None
    boards.one.publish(("a", "b"), 60)
    boards.other.publish(("b", "c"), 60)
    assert boards.said == ("a", "b", "c")
    boards.one.publish((), 60)
    assert boards.said == ("b", "c")
    boards.now_s += 61
    assert boards.said == ()


@pytest.mark.parametrize(
    "blob",
    [b"", b"{", b"[]", b'{"x": 1}', b'{"x": {"until": "y", "says": []}}', b'{"x": {"until": 1e300, "says": ["z"]}}'],
)
def test_whatever_others_wrote_is_no_trouble(blob):
    """A damaged file, or one that would say something for ever, says nothing, and is written anew."""
    boards = Boards()
    assert boards.document.replace(blob, expected=None)
    assert boards.said == ()
    boards.one.publish(("a",), 60)
    assert boards.said == ("a",)


def test_a_cache_in_memory_has_no_board():
    """Nobody else can look there."""
    with create_cache("memory") as cache:
        assert in_force(cache.parts.file) == ()


def test_the_board_lies_beside_the_answers(missed, isolated):
    """In the private directory of the name space, with sentences of ours and nothing else."""
    summarise(missed)
    cache = current_session().cache("default")
    (found,) = json.loads(cache.parts.file(NAME).load()).values()
    assert found["says"] == [SAYS]
