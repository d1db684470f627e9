"""Origins: one spelling each, whose they are, and which belong to one machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins
from genai_cache_magic.providers.origins import is_private, locate, normalise_origin, serves_models


def call(host="gw.example.com", *, scheme="https", port=None, query="", path="/v1/chat/completions"):
    return HttpCall("POST", scheme, host, port, path, query, {}, b"{}")


def place(made=None, rules=None, base="/v1"):
    return locate(made or call(), base, Origins(rules or {}, "laptop"))


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://gw.example.com", "https://gw.example.com"),
        (" HTTPS://GW.Example.com./v1/ ", "https://gw.example.com/v1"),
        ("https://user:pw@gw.example.com:443/v1?x=1#y", "https://gw.example.com/v1"),
        ("http://localhost:80/", "http://localhost"),
        ("http://localhost:8080//", "http://localhost:8080"),
        ("http://[0:0::1]:8000/V1", "http://[::1]:8000/V1"),
    ],
)
def test_origin_has_one_spelling(url, normal):
    """Case, default port, user, query and final slashes of a configured origin don't matter."""
    assert normalise_origin(url) == normal
    assert normalise_origin(normal) == normal


@pytest.mark.parametrize(
    "url", ["", "gw.example.com", "ftp://gw.example.com", "https://", "https://a:port/", "https://[x"]
)
def test_what_is_no_origin_is_refused(url):
    """A wrong origin is named with the way to write one."""
    with pytest.raises(ConfigurationError, match="https://gateway"):
        normalise_origin(url)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "vllm",
        "box.local",
        "llm.corp.internal",
        "nas.lan",
        "x.home.arpa",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.9",
        "169.254.1.1",
        "100.64.0.1",
        "100.127.9.9",
        "::1",
        "[::1]",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
    ],
)
def test_private_hosts(host):
    """Loopback, private, shared and link-local addresses and local names are one network's own."""
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "gw.example.com",
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "192.169.0.1",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "local.example.com",
        "internal.example.com",
        "mylocal.example.org",
    ],
)
def test_public_hosts(host):
    """Public names and addresses mean the same to everyone."""
    assert not is_private(host)


@pytest.mark.parametrize(
    ("made", "base", "origin"),
    [
        (call(), "/v1", "https://gw.example.com/v1"),
        (call("gw.example.com."), "/v1/", "https://gw.example.com/v1"),
        (call(port=443), "", "https://gw.example.com"),
        (call(port=8443), "", "https://gw.example.com:8443"),
        (call("::1", scheme="http", port=8000), "/v1", "http://[::1]:8000/v1"),
        (call("[::1]", scheme="http", port=8000), "/v1", "http://[::1]:8000/v1"),
        (call("bad::host::x"), "", "https://bad::host::x"),
        (call(query="api-version=1&b=2&a=1&key=secret&API_KEY=secret"), "", "https://gw.example.com?a=1&b=2"),
        (call(query="api-version=1"), "", "https://gw.example.com"),
    ],
)
def test_origin_of_a_call(made, base, origin):
    """A call's origin is its normalised base URL with what the query adds, credentials excepted."""
    assert place(made, base=base).origin == origin


def test_api_version_is_read_from_the_query():
    """Azure's API version stands apart from the origin."""
    assert place(call(query="x=1&api-version=2024-10-21")).api_version == "2024-10-21"
    assert place(call(query="x=1")).api_version == ""


def test_longest_prefix_wins_at_a_segment():
    """Of several rules the most specific one counts, and a prefix ends where a path segment ends."""
    rules = {
        "https://gw.example.com": OriginRule(alias="all"),
        "https://GW.example.com/llm/": OriginRule(alias="llm", provider="mistral"),
        "https://gw.example.com/ll": OriginRule(alias="never"),
        "not an origin": OriginRule(alias="never"),
    }
    assert place(rules=rules, base="/llm/v1").origin == "alias:llm/v1"
    assert place(rules=rules, base="/llm/v1").vendor == "mistral"
    assert place(rules=rules, base="/other").origin == "alias:all/other"
    assert place(call("gw.example.com.evil.example"), rules).origin.startswith("https://gw.example.com.evil")


def test_machine_is_part_of_private_origins_alone():
    """A private origin belongs to its machine, unless an alias makes it the team's."""
    local = call("localhost", scheme="http", port=8000)
    assert place(local).machine == "laptop"
    assert place(local, {"http://localhost:8000": OriginRule(provider="openai")}).machine == "laptop"
    assert place(local, {"http://localhost:8000": OriginRule(alias="team")}).machine == ""
    assert place(call()).machine == place(call("api.openai.com")).machine == ""


def test_alias_keeps_what_follows_it():
    """An alias replaces its prefix, so two routes behind one gateway stay two."""
    rules = {"https://gw.example.com": OriginRule(alias="gw", models={"a": "b"})}
    assert place(rules=rules, base="/one").origin != place(rules=rules, base="/two").origin
    assert place(rules=rules).models == {"a": "b"}


@pytest.mark.parametrize(
    "alias",
    [
        "https://api.openai.com",
        "https://api.openai.com/v1",
        "alias:https://api.openai.com",
        "alias:x",
        "x/v1",
        "x@00",
        "?",
    ],
)
def test_an_alias_is_the_origin_of_no_url_and_of_no_other_alias(alias):
    """Whoever writes a rule can't give the calls to one origin the keys of another."""
    aliased = place(rules={"https://gw.example.com": OriginRule(alias=alias)}, base="/v1").origin
    others = [
        place(call("api.openai.com"), base="/v1").origin,
        place(call("api.openai.com"), base="").origin,
        place(rules={"https://gw.example.com": OriginRule(alias="x")}, base="/v1").origin,
        place(rules={"https://gw.example.com": OriginRule(alias="x", circle="00")}, base="/v1").origin,
        place(rules={"https://gw.example.com/v1": OriginRule(alias="x/v1")}, base="/v1").origin,
        place(rules={"https://gw.example.com": OriginRule(models={"a": "b"})}, base="/v1").origin,
    ]
    assert aliased not in others
    assert len(set(others)) == len(others)
    assert not aliased.startswith("http")


def test_a_model_that_the_configuration_names_is_not_the_model_of_that_name():
    """With a table of models the origin is another, so that a cheap model can't answer for a dear one elsewhere."""
    rules = {"https://api.openai.com": OriginRule(models={"gpt-4.1": "gpt-4.1-nano"})}
    mapped = place(call("api.openai.com"), rules)
    assert mapped.origin != place(call("api.openai.com")).origin
    assert mapped.vendor == "openai"
    local = place(call("localhost", scheme="http", port=8000), {"http://localhost:8000": OriginRule(models={"a": "b"})})
    assert local.machine == "laptop"


def test_where_models_are_expected():
    """Known, configured and private origins serve models; others have to say so."""
    known = Origins({"https://gw.example.com/v1": OriginRule()}, "")
    assert serves_models(call(), known)
    assert not serves_models(call(path="/v2/messages"), known)
    assert not serves_models(call(), Origins({}, ""))
    assert serves_models(call("eu.api.openai.com"), Origins({}, ""))
    assert serves_models(call("10.0.0.1"), Origins({}, ""))


@pytest.mark.parametrize(
    ("scheme", "host", "kept"),
    [
        ("https", "api.openai.com", False),
        ("https", "gw.example.com", False),
        ("https", "llm.corp.internal", True),
        ("https", "127.0.0.1", True),
        ("http", "api.openai.com", True),
        ("http", "gw.example.com", True),
    ],
)
def test_proxy_is_in_the_key_where_it_may_route(scheme, host, kept):
    """A proxy that passes on what it can't read is no part of the address; one that reads, or finds hosts, is."""
    asked = replace(call(host, scheme=scheme), route=(("proxy", "http://proxy.example.com:3128"),))
    assert (place(asked).via == asked.route) is kept


@pytest.mark.parametrize("route", [("socket", "/run/a.sock"), ("proxy", "http://127.0.0.1:3128")])
def test_what_leads_within_the_machine_is_the_machines(route):
    """Two people's sockets, and their proxies on loopback, lead to two services; an alias says otherwise."""
    asked = replace(call(scheme="http"), route=(route,))
    assert place(asked).machine == "laptop"
    assert place(asked, {"http://gw.example.com": OriginRule(alias="team")}).machine == ""
