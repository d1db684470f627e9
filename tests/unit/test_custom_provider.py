"""Wire APIs of other packages: found by entry point, imported late, and harmless when they fail."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.providers import custom
from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.registry import path_ends, recognise

httpx = pytest.importorskip("httpx", reason="pip install httpx")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "custom-provider.md"
PAGE = DOCS.read_text(encoding="utf-8")
EXAMPLE = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
URL = "https://api.acme.example/v1/ask"
ASK = {"model": "acme-1", "question": "Why?", "request_id": "1"}
ANSWER = {"answer": "Because.", "ended": "done", "tokens_in": 3, "tokens_out": 5}


def forget_what_is_installed():
    """Let the entry points be read again, as a new process does."""
    custom.installed.cache_clear()
    path_ends.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages for one test: entry points as given, modules from their sources."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(entry_points, **modules):
        info = site / "acme-1.0.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
        listed = "\n".join(f"{name} = {value}" for name, value in entry_points)
        info.joinpath("entry_points.txt").write_text(f"[{custom.GROUP}]\n{listed}\n", encoding="utf-8")
        for name, source in modules.items():
            site.joinpath(f"{name}.py").write_text(source, encoding="utf-8")
        forget_what_is_installed()

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("acme"):
            del sys.modules[name]
    forget_what_is_installed()


@pytest.fixture
def acme(isolated):
    """A client of a server that counts what it is asked."""
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json=ANSWER)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        yield client, asked


def call(path="/v1/ask", body=b'{"question":"Why?","model":"m"}', content_type="application/json"):
    return HttpCall("POST", "https", "api.acme.example", None, path, "", {"content-type": content_type}, body)


def test_the_example_of_the_docs_works(install, acme):
    """Fifty lines and an entry point make a new API's calls cached, with its tokens and its key."""
    name, value = re.search(r'^"(.+)" = "(.+)"$', PAGE, re.MULTILINE).groups()
    install([(name, value)], acme_cache=EXAMPLE)
    client, asked = acme
    with llm_cache() as cell:
        answers = [client.post(URL, json={**ASK, "request_id": str(n)}).json() for n in range(2)]
        client.post(URL, json={**ASK, "question": "How?"})
    assert answers == [ANSWER, ANSWER]
    assert len(asked) == 2
    assert [(c.outcome, c.provider, c.model) for c in cell.calls[:2]] == [
        (o, "acme.ask", "acme-1") for o in ("miss", "hit")
    ]
    assert (cell.calls[0].input_tokens, cell.calls[0].output_tokens) == (3, 5)
    assert len(EXAMPLE.splitlines()) < 60


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({**ANSWER, "ended": "length"}, "truncated"),
        ({**ANSWER, "ended": ["new"]}, "unreadable"),
        ({**ANSWER, "answer": ""}, "empty"),
        ([1], "unreadable"),
    ],
)
def test_the_example_stores_only_whole_answers(install, isolated, answer, reason):
    """The example of the docs refuses what must not be served again."""
    install([("v1/ask", "acme_cache")], acme_cache=EXAMPLE)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    with llm_cache() as cell, httpx.Client(transport=transport) as client:
        assert client.post(URL, json=ASK).json() == answer
    assert [(c.outcome, c.reason) for c in cell.calls] == [("refused", reason)]


def test_nothing_is_imported_before_its_path_is_asked(install):
    """Other calls, model calls too, import no other package."""
    install([("v1/ask", "acme_cache")], acme_cache=EXAMPLE)
    assert recognise(call("/v1/other"), Origins({}, "")) is None
    chat = b'{"model":"m","messages":[{"role":"user","content":"a"}]}'
    assert recognise(call("/v1/chat/completions", chat), Origins({}, "")) is not None
    assert recognise(call("/ask"), Origins({}, "")) is None
    assert recognise(call(content_type="text/plain"), Origins({}, "")) is None
    assert "acme_cache" not in sys.modules
    assert recognise(call(), Origins({}, "")).provider.surface == "acme.ask"
    assert "acme_cache" in sys.modules


def test_what_is_installed_is_read_once(install, monkeypatch):
    """The packages' metadata are read at the first call and never again."""
    install([])
    reads = []
    original = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: reads.append("read") or original())
    for _ in range(3):
        assert recognise(call(), Origins({}, "")) is None
    assert reads == ["read"]


def test_a_package_that_another_one_hides_brings_nothing(install, tmp_path, monkeypatch):
    """Of two packages of a name the one counts that is imported, also if only the other one brings something."""
    install([("v1/acme/ask", "acme_cache:acme")])
    assert set(custom.installed()) == {"ask"}
    info = tmp_path / "before" / "acme-2.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 2.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(info.parent))
    forget_what_is_installed()
    assert custom.installed() == {}


NAMED = """
from genai_cache_magic.core.model import Form, Request
from genai_cache_magic.providers.base import ModelCall, Wants

class Recogniser:
    def __init__(self, name): self.name = name
    def recognise(self, call, body, origins):
        return ModelCall(None, Request(self.name, "", "", body), Wants(Form.JSON)) if body else None

long, short, never = Recogniser("long"), Recogniser("short"), Recogniser("never")
"""


def test_the_longest_path_is_asked_first_and_built_in_apis_before_all(install):
    """Several packages may share the end of a path; what we know ourselves stays ours unless it is none of ours."""
    names = [("ask", "acme_named:short"), ("/v1/ask/", "acme_named:long"), ("chat/completions", "acme_named:never")]
    install(names, acme_named=NAMED)
    assert recognise(call(), Origins({}, "")).request.surface == "long"
    assert recognise(call("/v2/ask"), Origins({}, "")).request.surface == "short"
    assert recognise(call("/v2/task"), Origins({}, "")) is None
    chat = b'{"model":"m","messages":[{"role":"user","content":"a"}]}'
    assert recognise(call("/chat/completions", chat), Origins({}, "")).request.surface == "openai.chat"
    assert recognise(call("/chat/completions"), Origins({}, "")).request.surface == "never"


RAISES = "def recognise(call, body, origins):\n    raise ZeroDivisionError('broken')"
RETURNS = "def recognise(call, body, origins):\n    return 7"
READS = EXAMPLE.replace("        answer = load_answer(response)", "        raise ZeroDivisionError('broken')")
RENDERS = EXAMPLE.replace(
    "return response if response.form is wants.form else None", "raise ZeroDivisionError('broken')"
)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_module", "ConfigurationError"),
        ("x = 1", "ConfigurationError"),
        ("syntax error", "SyntaxError"),
        (RAISES, "ZeroDivisionError"),
        (RETURNS, "ConfigurationError"),
        (READS, "ZeroDivisionError"),
    ],
    ids=["import", "no function", "syntax", "recognise", "return", "read"],
)
def test_a_provider_that_fails_never_breaks_a_call(install, acme, source, error):
    """The caller gets the model's answer each time; the trouble is told, and other providers go on."""
    install([("v1/ask", "acme_broken"), ("v2/ask", "acme_cache")], acme_broken=source, acme_cache=EXAMPLE)
    client, asked = acme
    with llm_cache() as cell:
        assert [client.post(URL, json=ASK).json() for _ in range(2)] == [ANSWER, ANSWER]
        assert [client.post(URL.replace("v1", "v2"), json=ASK).json() for _ in range(2)] == [ANSWER, ANSWER]
    assert asked == ["/v1/ask", "/v1/ask", "/v2/ask"]
    assert {trouble.error for trouble in cell.troubles} == {error}
    assert [c.outcome for c in cell.calls[-2:]] == ["miss", "hit"]
    assert not {"hit"} & {c.outcome for c in cell.calls[:-2]}


def test_a_provider_that_can_not_render_is_not_asked_to(install, acme):
    """Who asks in the very form of the first call gets what was received, whatever the provider can make of it."""
    install([("v1/ask", "acme_broken")], acme_broken=RENDERS)
    client, asked = acme
    with llm_cache() as cell:
        assert [client.post(URL, json=ASK).json() for _ in range(2)] == [ANSWER, ANSWER]
    assert (cell.hits, cell.misses, cell.troubles) == (1, 1, ())
    assert asked == ["/v1/ask"]


@pytest.mark.parametrize(("value", "told"), [("acme_absent", "reinstall"), ("acme_named:absent", "reinstall")])
def test_what_can_not_be_loaded_is_named(install, value, told):
    """The message names the entry point and what to do."""
    install([("v1/ask", value)], acme_named=NAMED)
    with pytest.raises(ConfigurationError, match=f"'v1/ask' = '{value}'.*{told}"):
        recognise(call(), Origins({}, ""))
