"""What a run file holds of what nobody may read in it: digests of credentials, no clock, no place; or all is sealed."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from run_files import FILE, ask, go_elsewhere, origin_url, recorded  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.core.model import Request
from genai_cache_magic.core.portable import portable_form
from genai_cache_magic.errors import ConfigurationError, ReplayMiss

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_file_holds_no_clock_no_place_and_no_secret(url, isolated, monkeypatch):
    """What git is given is what was asked and answered, one call a line, sorted."""
    monkeypatch.setenv("GENAI_CACHE_MACHINE", "secret-machine")
    with (
        openai.OpenAI(base_url=url, api_key="secret-key", default_headers={"x-trace": "secret-trace"}) as client,
        llm_cache(mode="record", run_file=FILE, salt="secret-salt", run="r"),
    ):
        for text in ("a", "b"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    text = Path(FILE).read_text()
    head, *lines = text.splitlines()
    assert json.loads(head) == {"format": "genai-cache run", "version": 1}
    assert len(lines) == 2
    assert lines == sorted(lines, key=lambda line: json.loads(line)["digest"])
    assert "secret" not in text
    assert str(isolated) not in text
    headers = json.loads(lines[0])["answer"]["headers"]
    assert {name for name, _ in headers} == {"content-type"}


def test_credentials_that_a_request_holds_are_digests(url, elsewhere):
    """In its body, for servers of tools, in addresses, in headers of gateways: calls of two stay two, none is read."""

    def ask_with(secret):
        with openai.OpenAI(
            base_url=url,
            api_key="k",
            max_retries=0,
            default_query={"auth": f"{secret}-auth"},
            default_headers={"x-portkey-config": f'{{"api_key": "{secret}-config"}}', "x-portkey-virtual-key": secret},
        ) as client:
            more = {
                "api_key": f"{secret}-body",
                "config": {"clientSecret": f"{secret}-camel", "items": [{"access_token": f"{secret}-nested"}]},
                "server": {"authorization": f"{secret}-mcp", "headers": {"X-Own": f"{secret}-header"}},
                "server_url": f"https://user:{secret}-user@mcp.example/p?t={secret}-query",
            }
            messages = [{"role": "user", "content": "what is an api_key?"}]
            return client.chat.completions.create(model="m", messages=messages, extra_body=more).id

    with llm_cache(mode="record", run_file=FILE):
        one, other = ask_with("secret"), ask_with("secreter")
    assert one != other
    text = Path(FILE).read_text()
    assert "secret" not in text.replace("clientSecret", "")
    assert "what is an api_key?" in text
    assert "https://sha256=" in text
    elsewhere()
    with llm_cache(mode="replay", run_file=FILE):
        assert [ask_with("secreter"), ask_with("secret")] == [other, one]
        with pytest.raises(ReplayMiss, match=r"differs in body\.api_key"):
            ask_with("wrong")


@pytest.mark.parametrize(
    "body",
    [
        {"data_sources": [{"parameters": {"authentication": {"type": "api_key", "key": "hidden"}}}]},
        {"data_sources": [{"parameters": {"authentication": {"connection_string": "hidden"}}}]},
        {"tools": [{"environment": {"network_policy": {"domain_secrets": [{"name": "n", "value": "hidden"}]}}}]},
        {"tools": [{"retrieval": {"externalApi": {"apiAuth": {"apiKeyConfig": {"apiKeyString": "hidden"}}}}}]},
        {"tools": [{"type": "mcp", "headers": {"X-Own": ["hidden", "hidden too"]}}]},
    ],
)
def test_credentials_under_the_names_of_vendors_are_digests(body):
    """As Azure, OpenAI and Google document them, where the word itself is an ordinary one."""
    shown = json.dumps(portable_form(Request("s", "https://h.example/v1", "m", body))["body"])
    assert "hidden" not in shown
    assert "sha256=" in shown
    plain = {"filters": {"type": "eq", "key": "region", "value": "us"}, "authentication": {"type": "api_key"}}
    assert portable_form(Request("s", "https://h.example/v1", "m", plain))["body"] is plain


def test_a_schema_that_names_a_credential_is_left_as_it_is():
    """What is no text under such a name is none; nor is any text elsewhere, however deep a request is."""
    deep = [{"properties": {"api_key": {"type": "string"}, "token": {}}, "required": ["password"]}]
    deep[0]["properties"]["headers"] = {"type": "object", "description": "of the request", "properties": {"X": {}}}
    deep[0]["$defs"] = {"Headers": {"title": "Headers"}}
    for _ in range(180):
        deep = [deep]
    body = {
        "messages": [{"role": "user", "content": "token: abc"}],
        "tools": deep,
        "max_tokens": 5,
        "url": "no address",
    }
    assert portable_form(Request("s", "https://h.example/v1", "m", body))["body"] is body


def test_a_sealed_file_is_its_team_s(url, elsewhere, unique_server):
    """By its name a file is sealed: nothing in it can be read, the namespace's key opens it, and no other."""
    file = "runs/sweep.sealed"
    first, _ = recorded(url, "a very secret question", file=file)
    content = Path(file).read_bytes()
    assert b"secret" not in content
    assert b"simulated" not in content
    recorded(url, "a very secret question", file=file)
    assert Path(file).read_bytes() == content
    recorded(url, "another", file=file)
    assert Path(file).read_bytes().startswith(b"\x89GCR")
    with llm_cache(mode="replay", run_file=file):
        assert [ask(url, "a very secret question").id] == first
    elsewhere()
    with (
        pytest.raises(ConfigurationError, match=r"with another key, .* as plain text"),
        llm_cache(run_file=file),
    ):
        pass


def test_a_sealed_file_needs_a_key(url, monkeypatch):
    """Where encryption is off everybody would have the key."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    reset_session()
    with llm_cache(mode="record", run_file="runs/sweep.sealed") as cell:
        ask(url, "a")
    assert "encryption is off" in cell.troubles[0].message
    assert not Path("runs/sweep.sealed").exists()
