"""One request is one entry, whoever sends it; where SDKs send different requests, `explain` says in what."""

from __future__ import annotations

import re

import pytest
from matrix import sdk_langchain as langchain
from matrix import sdk_openai as openai
from matrix.cells import QUESTION
from matrix.forms import FORMS
from matrix.generations import here, need, pins

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.jupyter import commands

BEDROCK = "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0"
MARK = re.compile(r"\(([0-9a-f]{12})\)")
OPENAI = (
    "chat.completions.create",
    "chat.completions.stream",
    "chat.completions.with_raw_response",
    "ChatOpenAI: invoke, stream",
    "completion, acompletion: openai/gpt-4.1-mini",
    "LM on litellm",
    "post",
    "Client, AsyncClient",
    "ClientSession",
)
AZURE = (
    "Azure, key: chat.completions.create",
    "Azure, Entra token: chat.completions.create",
    "AzureChatOpenAI: invoke, stream",
    "completion, acompletion: azure/gpt-4.1-mini",
)
RESPONSES = ("responses.create", "responses.stream", "responses.with_raw_response")


@pytest.mark.filterwarnings("ignore")  # what other packages deprecate, or leave open, is not ours to fail on
@pytest.mark.parametrize("names", [OPENAI, AZURE, RESPONSES], ids=["openai", "azure", "responses"])
def test_one_request_is_one_entry_whoever_sends_it(lone, unique_server, names):
    """Synchronous, asynchronous, streamed, by an SDK, by what stands on it, and by hand: the model is asked once."""
    forms = [form for form in of_this_generation() if form.way.name in names and not form.has_tools]
    for form in forms:
        need(form.way.package)
    with llm_cache() as cell:
        answers = {form: repr(form.made(unique_server.url)) for form in forms}
    assert unique_server.count == 1, [request.json for request in unique_server.requests]
    assert (cell.misses, cell.hits, cell.bypassed) == (1, len(forms) - 1, 0)
    assert len(forms) > len(names)
    # The simulated model marks each of its answers; a stream cuts the mark in pieces.
    whole = [MARK.search(answer) for form, answer in answers.items() if form.delivery == "plain"]
    assert len({found[1] for found in whole}) == 1


@pytest.mark.filterwarnings("ignore")  # as above
def test_explain_says_in_what_requests_differ(lone, unique_server):
    """LangChain calls the limit of an answer by another name than the one that was used here: that is shown."""
    need("langchain-openai")
    with llm_cache(), openai.client(unique_server.url) as sdk:
        sdk.chat.completions.create(**openai.CHAT, max_tokens=100)
    with llm_cache() as cell:
        langchain.openai(unique_server.url, max_tokens=100).invoke(QUESTION)
    assert cell.misses == 1
    assert explained(cell) == [("body.max_completion_tokens", "body.max_tokens")]
    assert "body.max_completion_tokens" in commands._explain("").bundle()["text/plain"]


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize(
    ("model", "other", "differs"),
    [
        ("anthropic/claude-sonnet-5", "messages.create", {"body.max_tokens", "body.messages"}),
        ("ollama_chat/llama3.2", "chat", {"body.messages", "body.options"}),
        (BEDROCK, "converse, converse_stream", {"body.inferenceConfig"}),
    ],
    ids=["anthropic", "ollama", "bedrock"],
)
def test_explain_says_what_litellm_adds(lone, unique_server, model, other, differs):
    """Where LiteLLM writes a request in its own way, that is another entry, and `explain` names the fields."""
    by_litellm, by_sdk = (first_form(way) for way in (f"completion, acompletion: {model}", other))
    need("litellm")
    need(by_sdk.way.package)
    with llm_cache():
        by_sdk.made(unique_server.url)
    with llm_cache() as cell:
        by_litellm.made(unique_server.url)
    assert (cell.misses, cell.hits) == (1, 0)
    (told,) = explained(cell)
    assert differs <= {name.partition("[")[0] for name in told}  # of messages, the one that differs is named


def of_this_generation():
    return [form for form in FORMS if form.way.package in pins(here())]


def first_form(name):
    return next(form for form in FORMS if form.way.name == name)


def explained(cell):
    return [line.differs for line in current_session().cache(cell.options.namespace).explain(cell)]
