"""Calls that were recognised a moment ago: known at once by all that decides what they are, and by nothing less."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.calls import recalling
from genai_cache_magic.core import key
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept import base, recording
from genai_cache_magic.intercept.clients import httpx as http_level
from genai_cache_magic.providers.base import Uploads
from genai_cache_magic.providers.remembered import Remembered

BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def recognised(monkeypatch):
    """What was recognised, in order: nothing for what is remembered."""
    seen = []
    original = base.recognise

    def recognise(call, *args):
        seen.append(call)
        return original(call, *args)

    monkeypatch.setattr(base, "recognise", recognise)
    return seen


def ask(server, module=httpx2, *, headers=(), **body):
    with module.Client(headers={"x-one": "1", **dict(headers)}) as client:
        return client.post(f"{server.openai_url}/chat/completions", json={**BODY, **body})


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_the_same_request_is_known_at_once(isolated, unique_server, recognised, module):
    """A request that was recognised before is not looked into again, and answered as it was."""
    with llm_cache() as cell:
        answers = {ask(unique_server, module).text for _ in range(3)}
    assert len(answers) == 1
    assert len(recognised) == 1
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT, Outcome.HIT]


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_what_is_sent_as_it_was_looked_up_is_known_at_once(isolated, unique_server, monkeypatch, module):
    """Sending what was recognised a moment ago costs no second look; what a hook has changed since is looked into."""
    seen = []

    def look(call, *args):
        seen.append(dict(call.headers).get("x-two"))
        return recognise(call, *args)

    recognise = recording.recognise
    monkeypatch.setattr(recording, "recognise", look)

    def mark(request):
        request.headers["x-two"] = "2"

    with llm_cache() as cell:
        ask(unique_server, module)
        assert seen == []
        with module.Client(event_hooks={"request": [mark]}) as client:
            client.post(f"{unique_server.openai_url}/chat/completions", json={**BODY, "seed": 1})
    assert set(seen) == {"2"}
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS]


def test_a_release_of_which_requests_can_not_be_known_again(isolated, unique_server, monkeypatch):
    """What is built differently inside costs a closer look at each request; its answers are stored all the same."""

    def spelt(*_, **__):
        raise AttributeError("_uri_reference")

    monkeypatch.setattr(http_level, "_spelt", spelt)
    with llm_cache() as cell:
        ask(unique_server)
        ask(unique_server)
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.MISS, ""), (Outcome.HIT, "")]
    assert cell.troubles == ()


def test_what_differs_anywhere_is_looked_into(isolated, unique_server, recognised):
    """Body, headers, address: what is not the same in all of them is another request."""
    with llm_cache() as cell:
        ask(unique_server)
        ask(unique_server, temperature=0.5)
        ask(unique_server, headers={"openai-beta": "x=y"})
        ask(unique_server, headers={"x-two": "2"})
        with httpx2.Client(headers={"x-one": "1"}, params={"api-version": "1"}) as client:
            client.post(f"{unique_server.openai_url}/chat/completions", json=BODY)
    assert len(recognised) == 5
    outcomes = [call.outcome for call in cell.calls]
    assert outcomes == [Outcome.MISS, Outcome.MISS, Outcome.MISS, Outcome.HIT, Outcome.MISS]


def test_one_that_is_remembered_is_numbered_salted_and_kept_apart(isolated, unique_server, recognised):
    """Samples, salts and namespaces of one remembered request have answers of their own."""
    texts = []
    for options in ({"samples": "distinct"}, {"salt": "pepper"}, {"namespace": "elsewhere"}):
        with llm_cache(**options):
            texts += [ask(unique_server).text, ask(unique_server).text]
    assert len(set(texts)) == 4
    assert texts[2] == texts[3]
    assert texts[4] == texts[5]


def test_what_is_uploaded_meanwhile_counts():
    """What stands for an id may be another thing now: nothing of before is taken for the same."""
    uploads = Uploads()
    versions = [uploads.version]
    for digest in ("a", "b", "b"):
        uploads.learn(httpx_call(), "file-1", digest)
        versions.append(uploads.version)
    assert len(set(versions)) == 4


def httpx_call():
    from genai_cache_magic.providers.base import HttpCall

    return HttpCall("POST", "https", "api.openai.com", None, "/v1/files", "", {}, b"")


def test_room_is_bounded():
    """Where room is short all others are forgotten, and what is larger than the room is never kept."""
    remembered = Remembered(3 * 5096)
    for name in ("a", "b", "c"):
        remembered.keep(name, object(), 250)
    assert all(map(remembered.get, ("a", "b", "c")))
    remembered.keep("d", object(), 250)
    assert [remembered.get(name) is None for name in ("a", "b", "c", "d")] == [True, True, True, False]
    remembered.keep("e", object(), 1 << 20)
    assert remembered.get("e") is None


def test_none_is_kept_where_none_is_asked_for(isolated, unique_server, recognised, monkeypatch):
    """With no room for opened answers there is none for requests either."""
    monkeypatch.setenv("GENAI_CACHE_MEMORY", "0")
    with llm_cache() as cell:
        for _ in range(2):
            ask(unique_server)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert len(recognised) == 2


def test_closing_a_cache_lets_go_of_requests(isolated, unique_server):
    """What was asked is not held in memory any more once the cache is closed."""
    with llm_cache():
        ask(unique_server)
    cache = current_session().cache("default")
    assert repr(cache.origins.remembered) == "<1 calls>"
    cache.close()
    assert repr(cache.origins.remembered) == "<0 calls>"


def test_closing_a_cache_lets_go_of_its_keys(isolated, unique_server):
    """Nor is anything that its keys, or names and requests with them, were remembered in."""
    remembered = key._begun, key.keyed_tag, recalling._digests
    with llm_cache(tags=("a",)):
        ask(unique_server)
    assert all(one.cache_info().currsize for one in remembered)
    current_session().cache("default").close()
    assert not any(one.cache_info().currsize for one in remembered)
