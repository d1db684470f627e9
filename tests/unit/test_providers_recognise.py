"""Which HTTP calls are model calls, and the facts that are read from them before they are sent."""

from __future__ import annotations

import copy

import pytest
from unit.model_calls import CHAT, CLAUDE, COMPLETIONS, EMBEDDINGS, HELLO, NOWHERE, RESPONSES, call

from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import OriginRule, Origins
from genai_cache_magic.providers.registry import path_ends, recognise


def surface(*arguments, origins=NOWHERE, **more):
    found = recognise(call(*arguments, **more), origins)
    return found and found.provider.surface


# --- what is a model call


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", CHAT, "openai.chat"),
        ("/v1/chat/completions/", CHAT, "openai.chat"),
        ("/v1/completions", COMPLETIONS, "openai.completions"),
        ("/v1/completions", {"prompt": [[1, 2]]}, "openai.completions"),
        ("/v1/responses", RESPONSES, "openai.responses"),
        ("/v1/responses", {"prompt": {"id": "pmpt_1"}}, "openai.responses"),
        ("/v1/embeddings", EMBEDDINGS, "openai.embeddings"),
        ("/v1/messages", CLAUDE, "anthropic.messages"),
    ],
)
def test_wire_apis_are_recognised_by_path_and_body(path, body, expected):
    """Each wire API is told by the end of its path and the type of its body."""
    assert surface(path, body) == expected


@pytest.mark.parametrize(
    "host", ["api.groq.com", "openrouter.ai", "gateway.example.com", "localhost", "10.0.0.7", "llm.corp.example"]
)
def test_chat_is_recognised_everywhere(host):
    """The path of a chat is telling enough for an origin that nobody has heard of."""
    assert surface("/any/prefix/chat/completions", CHAT, host) == "openai.chat"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/messages", CLAUDE), ("/responses", RESPONSES), ("/embeddings", EMBEDDINGS), ("/completions", COMPLETIONS)],
)
def test_generic_paths_need_a_reason(path, body):
    """Anybody's `/messages` is a model call only at a known, configured or private origin, or from a model SDK."""
    stranger = "app.example.com"
    assert surface(path, body, stranger) is None
    assert surface(path, body, "192.168.1.5") is not None
    assert surface(path, body, "vllm") is not None
    assert surface(path, body, stranger, origins=Origins({f"https://{stranger}": OriginRule()}, "")) is not None
    for headers in (
        {"x-stainless-lang": "python"},
        {"anthropic-version": "2023-06-01"},
        {"user-agent": "AsyncOpenAI/Python 3.1"},
    ):
        assert surface(path, body, stranger, headers) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("/v1/models", CHAT),
        ("/v1/files", CHAT),
        ("/v1/batches", CHAT),
        ("/v1/messages/batches", CLAUDE, "api.anthropic.com"),
        ("/v1/messages/count_tokens", CLAUDE, "api.anthropic.com"),
        ("/v1/threads/t_1/messages", CLAUDE),
        ("/openai/threads/t_1/messages", CLAUDE, "east.openai.azure.com"),
        ("/v1/responses/r_1/cancel", RESPONSES),
        ("/v1/responses/input_tokens", RESPONSES),
        ("/api/chat.postMessage", CHAT, "slack.com"),
        ("/v1.0/me/messages", CLAUDE, "graph.microsoft.com"),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": ["text"]}),
        ("/v1/chat/completions", {"messages": "text"}),
        ("/v1/messages", {"messages": HELLO}, "api.anthropic.com"),
        ("/v1/messages", {"role": "user", "content": "x"}, "localhost"),
        ("/v1/embeddings", {"text": "x"}),
        ("/v1/responses", {"model": "m"}),
        ("/v1/completions", {"prompt": None}),
        ("/", CHAT),
        ("", CHAT),
    ],
    ids=lambda a: a[0],
)
def test_other_calls_are_left_alone(arguments):
    """Listings, files, batches, counting, threads and other people's APIs are no model calls."""
    assert surface(*arguments) is None


def test_method_and_content_type_decide():
    """Only a POST of JSON is a model call."""
    assert surface("/v1/chat/completions", CHAT, method="GET") is None
    assert surface("/v1/chat/completions", CHAT, headers={"content-type": "multipart/form-data"}) is None
    assert surface("/v1/chat/completions", CHAT, headers={"content-type": "Application/JSON; charset=utf-8"})


def test_body_of_a_stranger_is_never_parsed():
    """A call that is none for its path or origin is let go before anything reads its body."""
    assert surface("/v1/files", b"{{{") is None
    assert surface("/messages", b"{{{", "app.example.com") is None


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"messages":[{"role":"user","content":"x"}],"a":1,"a":1}', None])
def test_model_call_without_a_certain_key_is_refused(body):
    """A model call whose body can't be keyed is a visible bypass."""
    with pytest.raises(UncacheableRequest):
        recognise(call("/v1/chat/completions", body), NOWHERE)


def test_recognising_is_pure():
    """The same call gives the same request twice, and its headers are not touched."""
    headers = {"anthropic-beta": "b, a"}
    made = call("/v1/messages", CLAUDE, "api.anthropic.com", headers)
    before = copy.deepcopy(made)
    assert recognise(made, NOWHERE) == recognise(made, NOWHERE)
    assert made == before


# --- who is asked


def test_vendor_comes_from_the_origin_or_its_rule():
    """Prices are looked up by the vendor that serves the origin."""

    def vendor(host, origins=NOWHERE):
        return recognise(call("/v1/chat/completions", CHAT, host), origins).provider.vendor

    assert vendor("api.openai.com") == "openai"
    assert vendor("eu.api.openai.com") == "openai"
    assert vendor("api.groq.com") == "groq"
    assert vendor("x.openai.azure.com") == "azure"
    assert vendor("api.openai.com.evil.example") == ""
    assert (
        vendor("gw.example.com", Origins({"https://gw.example.com/": OriginRule(provider="mistral")}, "")) == "mistral"
    )


def test_azure_deployment_is_the_model():
    """The deployment in the path counts, with or without a model in the body."""
    path, host = "/openai/deployments/prod/chat/completions", "east.openai.azure.com"
    with_model = recognise(call(path, CHAT, host, query="api-version=2024-10-21"), NOWHERE).request
    without = recognise(call(path, {"messages": HELLO}, host, query="api-version=2024-10-21"), NOWHERE).request
    assert with_model == without
    assert (without.model, without.api_version) == ("prod", "2024-10-21")
    assert recognise(call(path, CHAT, host, query="api-version=2025-01-01"), NOWHERE).request != without


def test_deployment_elsewhere_does_not_hide_the_model():
    """A path that only looks like Azure's may mean the model in the body, so both count."""
    path = "/deployments/gate/chat/completions"
    one, other = (recognise(call(path, {**CHAT, "model": m}, "gw.example.com"), NOWHERE).request for m in "ab")
    assert one != other
    assert recognise(call("/chat/completions", {**CHAT, "model": "gate"}, "gw.example.com"), NOWHERE).request != (
        recognise(call(path, {"messages": HELLO}, "gw.example.com"), NOWHERE).request
    )


def test_azure_v1_names_the_model_in_the_body():
    """Azure's newer paths are like OpenAI's own."""
    found = recognise(call("/openai/v1/responses", RESPONSES, "east.openai.azure.com"), NOWHERE).request
    assert (found.model, found.origin) == ("m", "https://east.openai.azure.com/openai/v1")


# --- what the caller wants


def test_form_and_usage_are_wanted_not_keyed():
    """A stream with usage and one without differ in what is wanted, not in the request."""
    plain, stream, counted = (
        recognise(call("/v1/chat/completions", {**CHAT, **extra}), NOWHERE)
        for extra in ({}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}})
    )
    assert (plain.wants.form, plain.wants.usage) == (Form.JSON, True)
    assert (stream.wants.form, stream.wants.usage) == (Form.STREAM, False)
    assert (counted.wants.form, counted.wants.usage) == (Form.STREAM, True)
    assert plain.request == stream.request == counted.request
    assert plain.request.form == ""


def test_form_is_keyed_where_nothing_converts_it():
    """Text completions and embeddings have no codec, so an entry is for callers of one form."""
    asked = {"model": "m", "prompt": "Once"}
    forms = [
        recognise(call("/v1/completions", {**asked, **extra}), NOWHERE).request.form
        for extra in ({}, {"stream": True}, {"stream": None})
    ]
    assert forms == ["json", "stream", "json"]
    assert {type(form) for form in forms} == {str}
    assert recognise(call("/v1/embeddings", {"model": "m", "input": "x"}), NOWHERE).request.form == "json"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize("odd", [1, 0, "true", "", []])
def test_stream_that_is_no_boolean_is_a_bypass(path, odd):
    """In which form a server answers `stream: 1`, and the caller reads it, can't be known."""
    body = {**CHAT, "max_tokens": 9, "input": "x", "prompt": "x", "stream": odd}
    with pytest.raises(UncacheableRequest):
        recognise(call(path, body), NOWHERE)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "/openai/deployments/d/embeddings",
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m%3AstreamGenerateContent",
        "/v1beta/models/m%3abatchEmbedContents",
        "/model/arn%3Aaws%3Abedrock/converse-stream",
    ],
)
def test_the_cheap_look_rules_out_no_model_call(path):
    """The ends that interceptors ask for first let every path pass that is recognised, however it is written."""
    assert path.endswith(path_ends())


@pytest.mark.parametrize("path", ["/v1/file", "/v1/items", "", "/v1/models/m:countTokens", "/api/chat.postMessage"])
def test_the_cheap_look_rules_out_others(path):
    """What is no model call is told by its path alone."""
    assert not path.endswith(path_ends())


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/chat/completions", CHAT, None),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 7}, 7),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 7, "max_completion_tokens": 9}, 9),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 7, "n": 3}, 21),
        ("/v1/chat/completions", {**CHAT, "max_tokens": True}, None),
        ("/v1/completions", {**COMPLETIONS, "max_tokens": 7, "best_of": 2}, 14),
        ("/v1/completions", {**COMPLETIONS, "prompt": ["a", "b"], "max_tokens": 7}, 14),
        ("/v1/completions", {**COMPLETIONS, "prompt": [1, 2], "max_tokens": 7}, 7),
        ("/v1/responses", {**RESPONSES, "max_output_tokens": 7}, 7),
        ("/v1/messages", CLAUDE, 5),
        ("/v1/embeddings", EMBEDDINGS, 0),
    ],
)
def test_upper_bound_of_the_output(path, body, limit):
    """A budget can reserve what the request allows at most, over all its choices."""
    assert recognise(call(path, body), NOWHERE).max_output_tokens == limit


@pytest.mark.parametrize(
    ("path", "body", "preview"),
    [
        ("/v1/chat/completions", {"messages": [*HELLO, {"role": "assistant", "content": "no"}]}, "Say hello"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": " a\n\n b\t c "}]}, "a b c"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url"}]}]},
            "What?",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 500}]}, "x" * 80),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}, ""),
        ("/v1/responses", RESPONSES, "Say hello"),
        ("/v1/responses", {"model": "m", "input": HELLO}, "Say hello"),
        ("/v1/embeddings", {"input": ["a", "b"]}, "b"),
        ("/v1/embeddings", {"input": [[1, 2]]}, ""),
        ("/v1/completions", COMPLETIONS, "Once"),
        ("/v1/messages", CLAUDE, "Say hello"),
    ],
)
def test_preview_is_the_last_user_text(path, body, preview):
    """Listings show the start of what was asked last, on one line."""
    assert recognise(call(path, body), NOWHERE).preview == preview


# --- what is known before the call


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, ()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {}}]}, ()),
        ({"tools": [{"function": {"name": "f"}}]}, ()),
        ({"tools": [{"google_search": {}}]}, ("server-tools",)),
        ({"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}, ("server-tools",)),
        ({"tools": [{"type": ["odd"]}]}, ("server-tools",)),
        ({"web_search_options": {}}, ("server-tools",)),
        ({"web_search_options": None}, ()),
        ({"model": "gpt-4o-search-preview"}, ("server-tools",)),
        ({"model": "x/y:online"}, ("server-tools",)),
        ({"model": "perplexity/sonar"}, ("server-tools",)),
        ({"model": "perplexity/sonar", "disable_search": True}, ()),
        ({"plugins": [{"id": "web"}]}, ("server-tools",)),
        ({"plugins": []}, ()),
        ({"search_parameters": {"mode": "auto"}}, ("server-tools",)),
        ({"search_parameters": {"mode": "off"}}, ()),
        ({"data_sources": [{"type": "azure_search"}]}, ("server-tools",)),
    ],
)
def test_chat_that_searches_is_told_before_the_call(body, refused):
    """An answer from live data is known as such before it is asked for."""
    assert recognise(call("/v1/chat/completions", {**CHAT, **body}), NOWHERE).refused == refused


def test_azure_on_your_data_is_live_retrieval():
    """The first version of Azure's retrieval is told by its path."""
    path = "/openai/deployments/prod/extensions/chat/completions"
    assert recognise(call(path, CHAT, "east.openai.azure.com"), NOWHERE).refused == ("server-tools",)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, ()),
        ({"store": True}, ()),
        ({"previous_response_id": "r"}, ("stateful",)),
        ({"previous_response_id": None}, ()),
        ({"conversation": {"id": "c"}}, ("stateful",)),
        ({"background": True}, ("stateful",)),
        ({"background": False}, ()),
        ({"input": [{"type": "item_reference", "id": "m"}]}, ("stateful",)),
        ({"input": [{"id": "m"}]}, ("stateful",)),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}, {"type": "apply_patch"}]}, ()),
        ({"tools": [{"type": "shell", "environment": {"type": "local"}}]}, ()),
        ({"tools": [{"type": "shell"}]}, ("server-tools",)),
        ({"tools": [{"type": "namespace", "tools": [{"type": "function"}]}]}, ()),
        ({"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, ("server-tools",)),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, ("server-tools",)),
        *(
            ({"tools": [{"type": kind}]}, ("server-tools",))
            for kind in (
                "web_search", "web_search_preview", "file_search", "code_interpreter", "mcp", "image_generation",
                "computer_use_preview", "a_tool_of_next_year",
            )
        ),
        ({"background": True, "tools": [{"type": "mcp"}]}, ("stateful", "server-tools")),
    ],
)  # fmt: skip
def test_responses_facts(body, refused):
    """State that the server keeps, and tools that it runs, are known before the call."""
    assert recognise(call("/v1/responses", {**RESPONSES, **body}), NOWHERE).refused == refused


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, ()),
        ({"tools": [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g"}]}, ()),
        ({"tools": [{"type": "bash_20250124"}, {"type": "text_editor_20250728"}, {"type": "computer_20250124"}]}, ()),
        ({"tools": [{"type": "memory_20250818"}, {"type": "tool_search_tool_regex_20251119"}]}, ()),
        ({"tools": [{"type": "web_search_20250305"}]}, ("server-tools",)),
        ({"tools": [{"type": "web_fetch_20250910"}]}, ("server-tools",)),
        ({"tools": [{"type": "code_execution_20250825"}]}, ("server-tools",)),
        ({"tools": [{"type": "mcp_toolset"}]}, ("server-tools",)),
        ({"mcp_servers": [{"type": "url"}]}, ("server-tools",)),
        ({"mcp_servers": []}, ()),
        ({"container": "c_1"}, ("stateful",)),
        ({"thread": {"id": "t"}}, ("stateful",)),
    ],
)
def test_anthropic_facts(body, refused):
    """State that the server keeps, and tools that it runs, are known before the call."""
    assert recognise(call("/v1/messages", {**CLAUDE, **body}), NOWHERE).refused == refused


def test_caller_of_a_tool_is_renumbered_with_it():
    """A tool called by a server tool names it by an id that is numbered the same way."""

    def blocks(one):
        server = {"type": "server_tool_use", "id": one, "name": "code_execution", "input": {}}
        use = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "x", "tool_id": one}}
        body = {**CLAUDE, "messages": [*HELLO, {"role": "assistant", "content": [server, use]}]}
        return recognise(call("/v1/messages", body), NOWHERE).request

    assert blocks("a") == blocks("b")


def test_preview_skips_what_has_no_text():
    """A last user message without text, or of a foreign shape, leaves the preview to an earlier one."""
    messages = [*HELLO, {"role": "user", "content": {"odd": 1}}, {"role": "user", "content": [7, {"text": 7}]}]
    assert recognise(call("/v1/chat/completions", {"messages": messages}), NOWHERE).preview == "Say hello"
