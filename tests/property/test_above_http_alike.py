"""Whatever one client is asked for, and however it changes in between: above HTTP it is as by HTTP.

The same steps are taken twice, each time with a cache of its own: as they are, and with nothing foretold.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from contextlib import ExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from sdk_forms import MESSAGES, Verdict, azure, carried_by_http, left_unclosed, open_ai, shown, told  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.intercept.stainless.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = itertools.count()


class Colour(StrEnum):
    """A text that is none of Python's own."""

    RED = "red"


class Named(str):
    """Another one."""

    __slots__ = ()


NUMBERS: list[Any] = [0, 0.0, -0.0, 1, True, 1.0, 2**53, 2**64, float("nan"), 1e16]
TEXTS: list[Any] = ["", "red", Colour.RED, Named("red"), "\ud800", "é", "e\u0301"]
HOLDERS: list[Any] = [[1], (1,), [True], {"a": 1, "b": 2}, {"b": 2, "a": 1}, OrderedDict(a=1), {1: 2}, [openai.omit]]
ABSENT: list[Any] = [None, openai.NOT_GIVEN, openai.omit]
ANYTHING = st.sampled_from([*NUMBERS, *TEXTS, *HOLDERS, *ABSENT])

ADDED = st.dictionaries(st.sampled_from(["model", "temperature", "seed", "x"]), ANYTHING | st.just("m2"), max_size=2)
HEADERS = st.dictionaries(
    st.sampled_from(["OpenAI-Beta", "openai-beta", "X-Other", "Authorization", "X-Stainless-Raw-Response"]),
    st.sampled_from(["a", "b", "true", b"a", 1, *ABSENT]),
    max_size=2,
)
PARAMETERS = st.dictionaries(st.sampled_from(["q", 1, True, "api-version"]), ANYTHING, max_size=2)
TIMEOUTS = st.sampled_from([5, 5.0, None, httpx2.Timeout(9, read=7), openai.NOT_GIVEN])
OPTIONS = st.fixed_dictionaries(
    {}, optional={"extra_body": ADDED, "extra_headers": HEADERS, "extra_query": PARAMETERS, "timeout": TIMEOUTS}
)
ASKED = st.fixed_dictionaries(
    {"model": st.sampled_from(["m1", "m1", "m2", "", 5])}, optional={"temperature": ANYTHING, "stop": ANYTHING}
)


def as_told(answer: Any) -> Any:
    """All that can be told of an answer, of whatever form, but for what is of its moment."""
    if hasattr(answer, "http_response"):
        known = {name: part for name, part in told(answer).items() if name not in {"headers", "id"}}
        return known, as_told(answer.parse())
    if hasattr(answer, "__next__"):
        return [shown(event) for event in answer]
    if isinstance(answer, openai.BaseModel) and hasattr(answer, "_request_id"):
        assert answer._request_id
        answer._request_id = "known"
    return shown(answer)


def posted(client: Any, asked: dict[str, Any], options: dict[str, Any]) -> Any:
    names = {"extra_body": "extra_json", "extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}
    given = {names[name]: option for name, option in options.items()}
    body = {"messages": MESSAGES, **asked}
    return client.post("/chat/completions", cast_to=ChatCompletion, body=body, options=given)


FORMS: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], Any]] = {
    "whole": lambda c, asked, options: c.chat.completions.create(messages=MESSAGES, **asked, **options),
    "streamed": lambda c, asked, options: c.chat.completions.create(messages=MESSAGES, stream=True, **asked, **options),
    "raw": lambda c, asked, options: c.chat.completions.with_raw_response.create(messages=MESSAGES, **asked, **options),
    "parsed": lambda c, asked, options: c.chat.completions.parse(
        messages=MESSAGES, response_format=Verdict, **asked, **options
    ),
    "posted": posted,
}


def is_hooked(client: Any) -> None:
    client._client.event_hooks = {"request": [lambda _: None]}


CHANGES: dict[str, Callable[[Any], object]] = {
    "another base": lambda c: setattr(c, "base_url", f"{str(c.base_url).rstrip('/')}/v1"),
    "no key": lambda c: setattr(c, "api_key", ""),
    "a key": lambda c: setattr(c, "api_key", "another"),
    "a header": lambda c: c._custom_headers.update({"OpenAI-Beta": "a"}),
    "a header that is none": lambda c: c._custom_headers.update({"X-Other": 1}),
    "no headers": lambda c: c._custom_headers.clear(),
    "a parameter": lambda c: c._custom_query.update(q=1),
    "another one": lambda c: c._custom_query.update(q=True),
    "no tries": lambda c: setattr(c, "max_retries", -1),
    "some tries": lambda c: setattr(c, "max_retries", 0),
    "a hook": is_hooked,
    "no hook": lambda c: setattr(c._client, "event_hooks", {}),
    "a mark": lambda c: setattr(c, "mark", 1),
    "no mark": lambda c: vars(c).pop("mark", None),
    "a header of the HTTP client": lambda c: c._client.headers.update({"OpenAI-Beta": "h"}),
    "a cookie": lambda c: c._client.cookies.set("a", "b"),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*FORMS]), ASKED, OPTIONS, st.integers(1, 4)) | st.sampled_from([*CHANGES]),
    min_size=1,
    max_size=6,
)


def taken(server: Any, steps: list[Any], of: Any, *, is_above: bool) -> Any:
    """What becomes of `steps`: answers or errors, what is recorded and what the server gets."""
    server.reset()
    kind, options_of = of
    seen: list[Any] = []
    with ExitStack() as stack:
        if not is_above:
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(Shapes, "is_foretold", lambda *_: False)
        cell = stack.enter_context(llm_cache(salt=str(next(TIMES))))
        client = stack.enter_context(
            kind(**options_of(server.url, default_headers={}, default_query={}, max_retries=0))
        )
        client._custom_headers, client._custom_query = {}, {}
        for step in steps:
            if isinstance(step, str):
                CHANGES[step](client)
                continue
            form, asked, options, times = step
            for _ in range(times):
                try:
                    seen.append(as_told(FORMS[form](client, asked, options)))
                except Exception as exc:  # noqa: BLE001 - of whatever kind, it is compared
                    seen.append((type(exc), str(exc)))
        calls = [(call.outcome, call.stored, call.reason, call.model) for call in cell.calls]
        sent = [(request.target, request.body) for request in server.requests]
    return seen, calls, sent, cell.troubles


@pytest.mark.parametrize("of", [(openai.OpenAI, open_ai), (openai.AzureOpenAI, azure)], ids=["OpenAI", "Azure"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_above_http_as_by_http(isolated, of, server, steps):
    """The same answers, errors, records and requests, and nothing that went wrong on our side."""
    above, by_http = (taken(server, steps, of, is_above=is_above) for is_above in (True, False))
    assert above == by_http
