"""Who asks is in the key, but where the origin's own documentation says that it decides nothing; settings decide."""

from __future__ import annotations

import pytest
from unit.model_calls import CHAT, CLAUDE, EMBEDDINGS, HELLO, RESPONSES, call

from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.providers.base import Origins
from genai_cache_magic.providers.noise import DOCUMENTED
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.settings.reading import load_settings

WHO = ("user", "metadata", "safety_identifier")
PATHS = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/embeddings": EMBEDDINGS}
GATEWAYS = (
    "openrouter.ai",
    "gateway.ai.cloudflare.com",
    "api.portkey.ai",
    "oai.helicone.ai",
    "my.azure-api.net",
    "api.groq.com",
    "api.openai.com.evil.example",
    "notapi.openai.com",
    "localhost",
    "10.0.0.7",
    "gateway.corp.example",
)
SDK = {"x-stainless-lang": "python"}


def key(path, body, host, **settings):
    origins = Origins({}, "laptop", **{name: frozenset(value) for name, value in settings.items()})
    return canonical_bytes(recognise(call(path, body, host, SDK), origins).request, KeySpace())


def matters(path, body, host, name, **settings):
    asked = [body, {**body, name: "ann"}, {**body, name: "bob"}]
    return len({key(path, one, host, **settings) for one in asked}) == 3


@pytest.mark.parametrize("name", WHO)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", GATEWAYS)
def test_who_asks_a_gateway_is_in_the_key(host, path, name):
    """Whoever stands between may route, or remember, by who asks."""
    assert matters(path, PATHS[path], host, name)


@pytest.mark.parametrize("name", WHO)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com", "mine.openai.azure.com"])
def test_who_asks_is_out_where_that_is_documented(host, path, name):
    """Two colleagues who name themselves share what OpenAI answered to one of them."""
    assert not matters(path, PATHS[path], host, name)


@pytest.mark.parametrize(
    ("path", "body", "host", "name", "elsewhere"),
    [
        ("/v1/messages", CLAUDE, "api.anthropic.com", "metadata", "anthropic.helicone.ai"),
        (
            "/v1beta/models/m:generateContent",
            {"contents": [{"parts": [{"text": "a"}]}]},
            "generativelanguage.googleapis.com",
            "labels",
            "gateway.example.com",
        ),
        (
            "/model/m/converse",
            {"messages": HELLO},
            "bedrock-runtime.us-east-1.amazonaws.com",
            "requestMetadata",
            "gateway.corp.internal",
        ),
    ],
)
def test_notes_of_other_vendors(path, body, host, name, elsewhere):
    """Each vendor's own notes are out at its own origin, and in the key of whoever speaks its words."""
    assert not matters(path, body, host, name)
    assert matters(path, body, elsewhere, name)


def test_every_row_says_fields_and_a_place():
    """No row of the table is for everywhere."""
    assert all(row.fields and bool(row.domain) != bool(row.vendor) for row in DOCUMENTED)


@pytest.mark.parametrize("name", [*WHO, "prompt_cache_key"])
def test_field_is_put_back_into_the_key(name):
    """`key_include` has the last word: a memory behind OpenAI's own address answers by who asks."""
    assert matters("/v1/chat/completions", CHAT, "api.openai.com", name, key_include=[name])


def test_field_is_left_out_of_the_key():
    """`key_exclude` leaves a field out everywhere, but who leaves it out shares with nobody who doesn't."""
    path, host = "/v1/chat/completions", "gateway.corp.example"
    ann, bob = ({**CHAT, "user": name, "unheard_of": name} for name in ("ann", "bob"))
    left_out = {"key_exclude": ["user", "unheard_of"]}
    assert key(path, ann, host, **left_out) == key(path, bob, host, **left_out)
    assert key(path, ann, host, **left_out) != key(path, CHAT, host)
    assert key(path, CHAT, host, **left_out) == key(path, CHAT, host)


def test_settings_say_which_fields(isolated, monkeypatch):
    """Both lists are read like any other setting; what is asked can't be left out."""
    monkeypatch.setenv("GENAI_CACHE_KEY_INCLUDE", '["user"]')
    origins = origins_of(load_settings(key_exclude=["trace"]))
    assert (origins.key_include, origins.key_exclude) == ({"user"}, {"trace"})
    with pytest.raises(ConfigurationError, match=r"key_exclude.*messages"):
        load_settings(key_exclude=["messages"])
