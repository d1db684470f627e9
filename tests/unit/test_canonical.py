"""Canonical JSON and keys: what is refused, and how the refusal reads."""

from __future__ import annotations

import enum
import hmac
import itertools
import json
import traceback
from collections import OrderedDict
from dataclasses import replace

import orjson
import pytest

from genai_cache_magic.calls.recalling import Recalled
from genai_cache_magic.core import canonical
from genai_cache_magic.core.canonical import (
    MAX_DEPTH,
    MAX_INT_BITS,
    canonical_bytes,
    check_json,
    component_digests,
    dumps,
    dumps_exactly,
    parse_body,
    spell_float,
)
from genai_cache_magic.core.key import TAG_KINDS, entry_id, keyed_digest, keyed_tag
from genai_cache_magic.core.model import KeySpace, Request
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

KEY = bytes(range(32))


class Colour(enum.StrEnum):
    RED = "red"


class Name(str):
    __slots__ = ()


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


# --- parse_body


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b' {"a" : 1.0}\n', {"a": 1.0}),
        ('{"a":"é😀"}'.encode(), {"a": "é😀"}),
        (b'{"a":"\\u00e9\\ud83d\\ude00"}', {"a": "é😀"}),
        (b'{"a":18446744073709551616}', {"a": 18446744073709551616}),
        (b'{"a":1E5}', {"a": 1e5}),
    ],
)
def test_parse_reads_what_was_written(raw, value):
    """A body is read exactly, in any spelling, and keeps the types of its numbers."""
    parsed = parse_body(raw)
    assert parsed == value
    assert type(parsed["a"]) is type(value["a"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"a":1',
        b'{"a":1}{}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"a":2}}',
        b'{"a":1,"\\u0061":1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_parse_refuses_what_two_readers_could_read_differently(raw):
    """An ambiguous body is refused as uncacheable, whatever is wrong with it."""
    with pytest.raises(UncacheableRequest):
        parse_body(raw)


@pytest.mark.parametrize(
    "raw",
    [b'{"prompt":"hush-hush","a":1,"a":2}', b'{"prompt":"hush-hush"', b'{"prompt":"hush-hush\\ud800"}', b'"hush-hush'],
)
def test_refusal_never_tells_the_prompt(raw):
    """Neither the message nor any exception behind it holds a word of the body."""
    with pytest.raises(UncacheableRequest) as caught:
        parse_body(raw)
    told = "".join(traceback.format_exception(caught.value))
    assert "hush" not in told
    error = caught.value
    while error is not None:
        assert "hush" not in str(vars(error)) + str(error.args) + str(getattr(error, "doc", ""))
        error = error.__cause__ or error.__context__


# --- check_json


def test_check_accepts_plain_json():
    """Every JSON type passes, a tuple as a list."""
    value = {"a": [1, 1.5, "x", True, None, (1, 2)], "b": {"": 2**200}}
    assert check_json(value) is None
    assert dumps(value) == dumps_exactly(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {2}]}, ".a[1]: set"),
        ({"a": {"b": b"x"}}, ".a.b: bytes"),
        ([OrderedDict()], "[0]: OrderedDict"),
        ([Name("x")], "[0]: Name"),
        ([Colour.RED], "[0]: Colour"),
        ([float("nan")], "[0]: a float"),
        ([float("-inf")], "[0]: a float"),
        (["\ud800"], "[0]: a string"),
        ([{1: 2}], "[0]: a key"),
        ([{"\udfff": 2}], "[0]: a key"),
        ([{Name("x"): 2}], "[0]: a key"),
        ([1 << MAX_INT_BITS], "[0]: an integer"),
        (object(), ": object"),
        (nested(MAX_DEPTH + 1), "[0]: nesting"),
    ],
)
def test_check_names_the_path_and_the_type(value, where):
    """What is not JSON is refused with its path and its type, and never by its `repr`."""
    with pytest.raises(UncacheableRequest) as caught:
        check_json(value)
    assert where in str(caught.value)
    assert "0x" not in str(caught.value)


def test_check_ends_on_a_cycle():
    """A value that contains itself is refused like any too deep one."""
    value: list = []
    value.append(value)
    with pytest.raises(UncacheableRequest):
        check_json(value)


# --- dumps


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e-4, "0.0001"),
        (1e-5, "0.00001"),
        (-1.25e-5, "-0.0000125"),
        (1e-6, "1e-6"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (-1.5e300, "-1.5e+300"),
    ],
)
def test_float_has_one_spelling(number, text):
    """A float is spelled as section 3 says, by either encoder."""
    assert spell_float(number) == text
    assert dumps(number) == dumps_exactly(number) == text.encode()


@pytest.mark.parametrize(
    "value",
    [{1: 2}, {"a": {1, 2}}, [Name("x")], ["\ud800"], nested(MAX_DEPTH + 200), [1 << MAX_INT_BITS], b"x"],
    ids=["key", "set", "subclass", "surrogate", "deep", "long", "bytes"],
)
def test_dumps_refuses_what_json_cannot_say(value):
    """Either encoder refuses what has no spelling, rather than invent one."""
    for encode in (dumps, dumps_exactly):
        with pytest.raises(UncacheableRequest):
            encode(value)


def test_exact_encoder_refuses_what_is_not_finite():
    """The reference never writes null for what is not a number."""
    with pytest.raises(UncacheableRequest):
        dumps_exactly([float("inf")])


def test_dumps_does_not_depend_on_the_release_of_orjson(monkeypatch):
    """Where orjson spells numbers in another way, the exact encoder takes over and nothing changes."""
    value = {"b": 1e16, "a": [1e-5, "é", None]}
    usual = dumps(value)
    monkeypatch.setattr(canonical, "_ORJSON_AGREES", False)
    monkeypatch.setattr(orjson, "dumps", lambda *_args, **_kwargs: b"other")
    assert dumps(value) == usual == '{"a":[0.00001,"é",null],"b":1e+16}'.encode()


def test_this_release_of_orjson_agrees():
    """The fast path is taken with the orjson that is installed here."""
    assert canonical._ORJSON_AGREES is True


# --- canonical_bytes and component_digests

REQUEST = Request(
    surface="openai.chat",
    origin="https://api.openai.com/v1",
    model="m",
    body={"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "seed": 1, "stop": ["x"]},
    headers=(("openai-beta", "x"),),
    form="json",
    via=(("host", "a.corp"),),
    ignored=("user",),
)


def test_every_field_is_in_the_canonical_bytes():
    """No field of request or key space is left out, and each has its own name."""
    text = json.loads(canonical_bytes(REQUEST, KeySpace("ns", "salt", 3)))
    assert text == {
        "schema": "genai-cache/key/2",
        "surface": "openai.chat",
        "origin": "https://api.openai.com/v1",
        "machine": "",
        "api_version": "",
        "model": "m",
        "body": REQUEST.body,
        "media": [],
        "headers": [["openai-beta", "x"]],
        "form": "json",
        "via": [["host", "a.corp"]],
        "ignored": ["user"],
        "sample": 3,
        "namespace": "ns",
        "salt": "salt",
    }


def test_components_name_every_part_of_the_key():
    """Each part of the key has a digest under a name that a reader understands, lists item by item."""
    digests = component_digests(REQUEST, KeySpace(), lambda data: keyed_digest(data, KEY))
    assert {"origin", "model", "sample", "header.openai-beta", "body.seed", "body.stop", "body.messages"} < set(digests)
    assert "body.messages[1]" in digests
    assert "body.stop[0]" not in digests
    assert all(len(digest) == 16 for digest in digests.values())


def test_components_differ_where_requests_differ():
    """A changed message changes its own digest and its list's, and no other."""
    changed = {**REQUEST.body, "messages": [REQUEST.body["messages"][0], {"role": "user", "content": "c"}]}
    other = replace(REQUEST, body=changed)
    first, second = (component_digests(r, KeySpace(), lambda d: keyed_digest(d, KEY)) for r in (REQUEST, other))
    assert {name for name in first if first[name] != second[name]} == {"body.messages", "body.messages[1]"}


def test_equal_values_of_different_names_have_different_digests():
    """A digest is bound to its name, so equality across names shows nobody anything."""
    request = Request(surface="x", origin="x", model="x", body={"a": "x", "b": "x"})
    digests = component_digests(request, KeySpace(), lambda data: keyed_digest(data, KEY))
    names = ["surface", "origin", "model", "body.a", "body.b"]
    assert len({digests[name] for name in names}) == len(names)


def test_what_is_remembered_of_components_is_told_apart():
    """What stands beside the body is digested once for neighbouring calls, and anew where anything of it differs."""
    spaces = KeySpace("ns", "salt", 3), KeySpace("ns", "salt", 4)
    requests = REQUEST, replace(REQUEST, model="other"), replace(REQUEST, headers=(), via=(), rules=("a rule",))
    for request, space, key in itertools.product(requests, spaces, (KEY, KEY[::-1])):
        expected = component_digests(request, space, lambda data, key=key: keyed_digest(data, key))
        for _ in range(2):
            assert Recalled(request, space, "", "").components(key) == expected


def test_components_of_a_request_that_another_package_has_made():
    """Lists where ours have tuples can't be remembered, and are digested as they always were."""
    listed = replace(REQUEST, media=["/a"], via=[["proxy", "p"]], headers=[["a", "1"]])
    assert Recalled(listed, KeySpace(), "", "").components(KEY) == component_digests(
        replace(REQUEST, media=("/a",), via=(("proxy", "p"),), headers=(("a", "1"),)),
        KeySpace(),
        lambda data: keyed_digest(data, KEY),
    )


# --- keys and tags


@pytest.mark.parametrize("key_bytes", [0, 1, 32, 63, 64, 65, 200])
def test_digests_are_hmac_sha256(key_bytes):
    """What is keyed by hand is what the standard library makes of it, whatever the lengths (RFC 2104)."""
    key = bytes(range(key_bytes))
    for component in (b"", b"a", bytes(64), bytes(5000)):
        full = hmac.digest(key, b"genai-cache/component/1\0" + component, "sha256")
        assert keyed_digest(component, key) == full[:8].hex()


def test_entry_id_needs_the_key():
    """The same request has unrelated ids under two keys, 64 hex characters each."""
    data = canonical_bytes(REQUEST, KeySpace())
    ids = {entry_id(data, KEY), entry_id(data, KEY[::-1])}
    assert len(ids) == 2
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in ids)


def test_tags_of_two_kinds_never_meet():
    """The same name under every kind is another tag, 16 bytes each."""
    tags = {keyed_tag(kind, "x", KEY) for kind in TAG_KINDS}
    assert len(tags) == len(TAG_KINDS) == 6
    assert {len(tag) for tag in tags} == {16}


def test_tag_of_a_name_from_the_operating_system():
    """A name that is no valid text still has a tag of its own."""
    assert keyed_tag("person", "a\udcff", KEY) != keyed_tag("person", "a\udcfe", KEY)


def test_unknown_kind_of_tag_is_refused():
    """A kind outside the vocabulary could run into a name, so it is an error that lists the vocabulary."""
    with pytest.raises(ConfigurationError, match="cell, model, person, run, user"):
        keyed_tag("user\0x", "y", KEY)
