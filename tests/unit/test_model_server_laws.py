"""Laws of the simulated answers, over requests and schemas that nobody thought of."""

import json
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai_cache_magic.testing.model_server import Fault
from genai_cache_magic.testing.simulated.call import Call, InvalidCallError, seed_of
from genai_cache_magic.testing.simulated.replying import reply_to
from genai_cache_magic.testing.simulated.routing import answer_aside, wire_api_of
from genai_cache_magic.testing.simulated.schema import instance_of
from genai_cache_magic.testing.simulated.text import tokens_of

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MESSAGES = [{"role": "user", "content": "hi"}]
CALLS = MappingProxyType(
    {
        "/v1/chat/completions": {"messages": MESSAGES},
        "/v1/responses": {"input": "hi"},
        "/v1/completions": {"prompt": "hi"},
        "/v1/embeddings": {"input": "hi", "dimensions": 8},
        "/v1/messages": {"max_tokens": 64, "messages": MESSAGES},
    }
)

WORDS = st.sampled_from(["function", "json_schema", "json_object", "enabled", "tool", "required", "hi", "type", "name"])
KEYS = st.sampled_from(
    ["type", "name", "function", "parameters", "input_schema", "json_schema", "schema", "format", "text", "content"]
)
KEYWORDS = st.sampled_from(
    ["type", "properties", "required", "items", "prefixItems", "enum", "anyOf", "allOf", "$ref", "minItems"]
) | st.sampled_from(["minimum", "maximum", "multipleOf", "minLength", "maxLength", "pattern", "format"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["messages", "input", "prompt", "n", "stream", "stream_options", "logprobs", "top_logprobs", "dimensions"]
) | st.sampled_from(
    ["tools", "tool_choice", "parallel_tool_calls", "response_format", "text", "system", "thinking", "output_config"]
)
REQUESTS = st.dictionaries(FIELDS, JSON_VALUES, max_size=4)


@pytest.mark.parametrize("path", CALLS)
@LAW
@given(changes=REQUESTS, fault=st.none() | st.sampled_from(Fault))
def test_any_body_gets_an_answer_or_a_400(path, changes, fault):
    """Whatever JSON a request holds, the wire API answers or refuses; it never fails otherwise."""
    body = {**CALLS[path], **changes}
    api, _ = wire_api_of("POST", path)
    call = Call(body, "m", seed_of(path, {}, body), fault=fault)
    try:
        reply = reply_to(api, call)
    except InvalidCallError:
        return
    assert reply.body or reply.frames


@LAW
@given(REQUESTS)
def test_any_token_count_gets_an_answer_or_a_400(body):
    """The same holds beside the model calls."""
    reply = answer_aside("POST", "/v1/messages/count_tokens", body, "")
    assert reply.status in {200, 400}
    assert isinstance(json.loads(reply.body), dict)


@LAW
@given(st.dictionaries(KEYWORDS, JSON_VALUES | st.sampled_from(["object", "array", "integer", "number", "string"])))
def test_any_schema_has_an_instance_or_is_refused(schema):
    """A keyword of the wrong type is the caller's mistake, and comes back as such."""
    try:
        instance = instance_of(schema, bytes(32))
    except InvalidCallError:
        return
    assert json.dumps(instance)


@LAW
@given(st.text())
def test_tokens_join_to_the_text(text):
    """Streaming loses no character."""
    assert "".join(tokens_of(text)) == text


SCALARS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[0-9]+$"},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 3, "maximum": 4},
        {"type": "integer", "maximum": -7},
        {"type": "integer", "exclusiveMaximum": -7},
        {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 7},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01},
        {"type": "number", "multipleOf": 0.5, "minimum": 1.2},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["a", 1, None]},
        {"const": {"a": 1}},
        {"type": ["null", "integer"]},
        {"$ref": "#/$defs/node"},
        {"allOf": [{"$ref": "#/$defs/node"}], "description": "one"},
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 2))
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda fields: {"type": "object", "properties": fields, "required": list(fields)}
        )
    ),
    max_leaves=6,
)
NODE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["name", "next", "children"],
}


@LAW
@given(SCHEMAS, st.binary(min_size=32, max_size=32))
def test_an_instance_is_valid_against_its_schema(schema, seed):
    """Structured answers satisfy what was asked, recursive definitions included."""
    jsonschema = pytest.importorskip("jsonschema")
    whole = {"type": "object", "properties": {"it": schema}, "required": ["it"], "$defs": {"node": NODE}}
    assert jsonschema.Draft202012Validator(whole).is_valid(instance_of(whole, seed))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "string", "pattern": "^some-[a-z]{9}-thing$"},
        {"type": "integer", "minimum": 2, "maximum": 1},
    ],
)
def test_a_schema_without_an_instance_is_refused(schema):
    """Better a 400 than an answer that breaks its promise."""
    with pytest.raises(InvalidCallError):
        instance_of(schema, bytes(32))
