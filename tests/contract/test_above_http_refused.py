"""What an SDK refuses, sends in another way, or leaves to somebody's own code is so for a call that has a hit, too."""

from __future__ import annotations

import collections.abc
import functools
from typing import Any, ClassVar

import anthropic
import httpx2
import openai
import pytest
from openai._base_client import BaseClient, SyncAPIClient
from openai._response import APIResponse
from openai.types.chat import ChatCompletion
from sdk_forms import CHAT, azure, carried_by_http, chat, claude, left_unclosed, message, open_ai, shown  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.testing import model_server


def posted(client, body=(), **more):
    return client.post("/chat/completions", cast_to=ChatCompletion, body={**CHAT, **dict(body)}, **more)


def by_another_key(client):
    """Ask by an administrator's key, which the resource of the SDK's does not."""
    client.api_key, client.admin_api_key = "", "simulated"
    posted(client)
    chat(client)


def with_tries(client, tries):
    client.max_retries = tries
    chat(client)


REFUSED = {
    "a key that is missing": lambda c: chat(c.with_options(default_headers={"Authorization": openai.omit}), stop=["x"]),
    "another kind of key": by_another_key,
    "a negative number of tries": lambda c: with_tries(c, -1),
    "no number of tries": lambda c: with_tries(c, None),
    "tries of the call": lambda c: posted(c, options={"max_retries": -1}),
    "a header that is none": lambda c: chat(c, extra_headers={"X-Other": 5}),
    "a parameter that is none": lambda c: chat(c, extra_query={"x": "\ud800"}),
    "another body beside it": lambda c: posted(c, content=b""),
    "an option that is there already": lambda c: posted(c, options={"method": "get"}),
    "what is left out where nothing can be": lambda c: posted(c, {"stop": openai.omit}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_sdk_refuses(isolated, unique_server, name):
    """It is refused in the same words with a stored answer as without a scope, and nothing else is said of it."""
    refused = []
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache():
        chat(client)
        posted(client)
    for mode in ("use", "off"):
        with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache(mode=mode) as cell:
            with pytest.raises(Exception) as raised:
                REFUSED[name](client)
            refused.append((raised.type, str(raised.value)))
            assert cell.troubles == ()
            assert {call.outcome for call in cell.calls} <= {"hit", "bypass"}
    assert refused[0] == refused[1]


@pytest.mark.parametrize("tries", [-1, "1"])
def test_tries_that_another_sdk_refuses(isolated, unique_server, tries):
    """An SDK that looks at them as it asks raises what it raises by itself."""
    with anthropic.Anthropic(**claude(unique_server.url)) as client, llm_cache() as cell:
        message(client)
        client.max_retries = tries
        for _ in range(2):
            with pytest.raises((RuntimeError, TypeError)):
                message(client)
    assert [call.outcome for call in cell.calls] == ["miss"]


def test_which_deployment_is_asked(isolated, unique_server):
    """Azure is asked by the model of the parameters, whatever a caller adds to the body."""
    models = (("b", {}), ("a", {"extra_json": {"model": "b"}}), ("a", {}))
    with openai.AzureOpenAI(**azure(unique_server.url)) as client, llm_cache() as cell:
        ids = [posted(client, {"model": model}, options=added).id for model, added in models * 2]
    assert ids[:3] == ids[3:]
    assert ids[0] != ids[1] == ids[2]
    assert [call.outcome for call in cell.calls] == ["miss", "miss", *["hit"] * 4]


@pytest.mark.parametrize("model", ["", 5, True, None])
def test_a_deployment_that_is_none(isolated, unique_server, model):
    """What goes into the path of a call as it is sent goes into the one that it is looked up by."""
    with openai.AzureOpenAI(**azure(unique_server.url, max_retries=0)) as client, llm_cache() as cell:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError):
                posted(client, {"model": model})
    assert [call.outcome for call in cell.calls] in ([], ["error"] * 2)


def test_what_is_added_and_not_given(isolated, unique_server):
    """What a caller adds as not given leaves a parameter as it is; what it adds as left out takes it away."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        without, given = chat(client).id, chat(client, temperature=0.5).id
        assert chat(client, temperature=0.5, extra_body={"temperature": openai.NOT_GIVEN}).id == given
        assert chat(client, temperature=0.5, extra_body={"temperature": openai.omit}).id == without
    assert [call.outcome for call in cell.calls] == ["miss", "miss", "hit", "hit"]


class Fields:
    """Headers of a kind that is known by which object it is."""

    def __init__(self):
        self.held = {"OpenAI-Beta": "a"}

    def keys(self):
        return self.held.keys()

    def items(self):
        return self.held.items()

    def __getitem__(self, name):
        return self.held[name]


def test_default_headers_that_change_in_place(isolated, unique_server):
    """Whatever a client keeps its headers in, what is in it when a call is made counts."""
    fields = Fields()
    with openai.OpenAI(**open_ai(unique_server.url, default_headers=fields)) as client, llm_cache() as cell:
        given = []
        for value in "abab":
            fields.held["OpenAI-Beta"] = value
            given.append(chat(client).id)
    assert given[:2] == given[2:]
    assert given[0] != given[1]
    assert [call.outcome for call in cell.calls] == ["miss", "miss", "hit", "hit"]


def test_names_that_are_equal_and_sent_apart(isolated, unique_server):
    """Names of parameters that Python calls equal are different calls where they are sent so."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        for _ in range(2):
            for name in (1, True, "1"):  # the last is sent as the first
                chat(client, extra_query={name: "x"})
    assert [call.outcome for call in cell.calls] == ["miss", "miss", *["hit"] * 4]


class Held(collections.abc.Mapping):
    """A mapping that says nothing of what it holds."""

    def __init__(self, held):
        self.held = held

    def __getitem__(self, name):
        return self.held[name]

    def __iter__(self):
        return iter(self.held)

    def __len__(self):
        return len(self.held)


def test_a_parameter_that_is_not_told_from_another(isolated, unique_server):
    """What a parameter holds when a call is made counts, whatever it is and has held before."""
    parameter = Held({})
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        for value in "abab":
            parameter.held["y"] = value
            chat(client, extra_query={"x": parameter})
    assert [call.outcome for call in cell.calls] == ["miss", "miss", "hit", "hit"]


class ByProperty(openai.OpenAI):
    """A client whose headers are made each time that they are asked for."""

    beta = "a"

    @property
    def _custom_headers(self):
        return {"OpenAI-Beta": self.beta}

    @_custom_headers.setter
    def _custom_headers(self, headers):
        pass


class BehindAll(openai.OpenAI):
    """The same, of a client that has a way of its own to hold what it holds."""

    beta = "a"

    def __getattribute__(self, name):
        return {"OpenAI-Beta": type(self).beta} if name == "_custom_headers" else super().__getattribute__(name)


@pytest.mark.parametrize("kind", [ByProperty, BehindAll])
def test_a_class_that_answers_for_its_objects(isolated, unique_server, monkeypatch, kind):
    """What a class of the user's says in the place of what its objects hold is what is sent, and looked up."""
    with kind(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        given = []
        for value in "abab":
            monkeypatch.setattr(kind, "beta", value)
            given.append(chat(client).id)
    assert given[:2] == given[2:]
    assert [call.outcome for call in cell.calls] == ["miss", "miss", "hit", "hit"]


class Keyed(openai.OpenAI):
    """A client that is asked for a key of each request."""

    asked = 0

    def _idempotency_key(self):
        type(self).asked += 1
        return super()._idempotency_key()


class Fetching(openai.AzureOpenAI):
    """A client that fetches its token for each request."""

    asked = 0

    def _get_azure_ad_token(self):
        type(self).asked += 1
        return "simulated"


class Patient(openai.OpenAI):
    """A client with a way of its own to wait between tries, and a word of its own."""

    def _calculate_retry_timeout(self, *args, **options):
        return 0.0

    def ask(self):
        return chat(self)


@pytest.mark.parametrize(("kind", "of"), [(Keyed, open_ai), (Fetching, azure)])
def test_a_way_of_its_own(isolated, unique_server, kind, of):
    """A method of a class of the user's runs as often as calls are made, as by HTTP."""
    options = of(unique_server.url)
    with kind(**options) as client, llm_cache() as cell:
        kind.asked = 0
        for _ in range(5):
            chat(client)
    assert (kind.asked, cell.hits, cell.misses) == (5, 4, 1)


def test_a_class_that_changes_nothing_of_a_hit(isolated, unique_server, by_http):
    """A class of the user's with a way of its own for what no hit passes by is served above HTTP."""
    with Patient(**open_ai(unique_server.url)) as client, llm_cache():
        for _ in range(3):
            client.ask()
    assert len(by_http) == 1


def wrapped(monkeypatch, kind, name):
    """Put somebody's code around a method, and note when it runs."""
    ran, original = [], getattr(kind, name)

    @functools.wraps(original)
    def noted(*args, **options):
        ran.append(name)
        return original(*args, **options)

    monkeypatch.setattr(kind, name, noted)
    return ran


AROUND = {
    "what a client's own goes on to": (openai.OpenAI, open_ai, SyncAPIClient, "_prepare_options"),
    "what that of Azure goes on to": (openai.AzureOpenAI, azure, BaseClient, "_build_request"),
    "what is put between those": (openai.AzureOpenAI, azure, openai.OpenAI, "_build_request"),
    "what makes a model of an answer": (openai.OpenAI, open_ai, APIResponse, "parse"),
}


@pytest.mark.parametrize("name", AROUND)
def test_who_instruments_what_is_passed_by_on_the_way(isolated, unique_server, by_http, monkeypatch, name):
    """Somebody's code around any of it runs at each call from then on, and hits go above HTTP again without it."""
    kind, of, place, method = AROUND[name]
    with kind(**of(unique_server.url)) as client, llm_cache() as cell:
        for _ in range(4):
            chat(client)
        with monkeypatch.context() as patch:
            ran = wrapped(patch, place, method)
            for _ in range(3):
                chat(client)
        assert (len(ran), len(by_http)) == (3, 4)
        chat(client)
    assert (len(by_http), cell.hits, cell.misses, cell.troubles) == (4, 7, 1, ())


def test_who_instruments_the_events_of_a_stream(isolated, unique_server, monkeypatch):
    """Somebody's code around them runs of each stream, however often it was asked for."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache():
        whole = [list(chat(client, stream=True)) for _ in range(4)]
        ran = wrapped(monkeypatch, openai.Stream, "_iter_events")
        whole += [list(chat(client, stream=True)) for _ in range(2)]
    assert len(ran) == 2
    assert [shown(events) for events in whole] == [shown(whole[0])] * 6


class Counted(openai.BaseModel):
    """A model that counts how often one is made."""

    id: str
    made: ClassVar[list[Any]] = []

    @classmethod
    def construct(cls, *args, **values):
        cls.made.append(cls)
        return super().construct(*args, **values)


def test_a_model_of_the_callers_own(isolated, unique_server):
    """An answer is made into a class of the user's by that class, each time."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        ids = {client.post("/chat/completions", cast_to=Counted, body=CHAT).id for _ in range(5)}
    assert (len(ids), len(Counted.made), cell.hits) == (1, 5, 4)


def test_a_header_that_is_there_twice(isolated, unique_server, monkeypatch):
    """The id of a request is what the HTTP client makes of all that was sent of it."""
    finished = model_server.SimulatedModelServer._finished

    def twice(self, request, reply):
        made = finished(self, request, reply)
        object.__setattr__(made, "headers", (*made.headers, ("X-Request-ID", "another")))
        return made

    monkeypatch.setattr(model_server.SimulatedModelServer, "_finished", twice)
    with openai.OpenAI(**open_ai(unique_server.url), http_client=httpx2.Client()) as client, llm_cache() as cell:
        ids = [chat(client)._request_id for _ in range(4)]
    assert ids == [ids[0]] * 4
    assert ids[0].endswith(", another")
    assert (cell.hits, cell.misses) == (3, 1)
