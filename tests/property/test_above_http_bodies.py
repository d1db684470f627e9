"""Bodies that are not rendered before they are sent: the SDK's own rendering would have left them as they are."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
from array import array
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict, Union, get_args, get_origin
from uuid import UUID

import openai._utils._transform as theirs
import openai.types
import openai.types.audio
import openai.types.chat
import openai.types.responses
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._types import NOT_GIVEN, omit
from typing_extensions import is_typeddict

from genai_cache_magic.intercept.stainless import bodies
from genai_cache_magic.intercept.stainless.sdks import SDKS

TRANSFORM = getattr(theirs.transform, "__wrapped__", theirs.transform)
ASYNC_TRANSFORM = getattr(theirs.async_transform, "__wrapped__", theirs.async_transform)
ABSENT = frozenset({type(NOT_GIVEN), type(omit)})

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=4)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


def params() -> list[Any]:
    """Every type of parameters in the SDK's packages that are asked for most, unions and all."""
    found: dict[str, Any] = {}
    for package in (openai.types, openai.types.chat, openai.types.responses, openai.types.audio):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name.endswith("_params"):
                held = vars(importlib.import_module(module.name))
                found |= {f"{module.name}.{name}": kind for name, kind in held.items() if "Params" in name}
    return [found[name] for name in sorted(found)]


def values(kind: Any, depth: int = 5) -> st.SearchStrategy[Any]:
    """Plain JSON as `kind` describes it, and now and then as it doesn't."""
    return st.deferred(lambda: st.one_of(*[_values(kind, depth)] * 5, PLAIN) if depth else PLAIN)


def _values(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin in {Required, NotRequired, Annotated}:
        return values(args[0], depth)
    if origin in {Union, UnionType}:
        return st.sampled_from(args).flatmap(lambda arg: values(arg, depth - 1))
    if origin is Literal:
        return st.sampled_from(args)
    if is_typeddict(kind):
        hints = theirs.get_type_hints(kind, include_extras=True)
        return st.fixed_dictionaries(
            {}, optional={**{name: values(hint, depth - 1) for name, hint in hints.items()}, "unknown": PLAIN}
        )
    if args and origin in {list, Iterable, Sequence, dict, Mapping}:
        inner = values(args[-1], depth - 1)
        is_mapping = origin in {dict, Mapping}
        return st.dictionaries(st.text(max_size=3), inner, max_size=2) if is_mapping else st.lists(inner, max_size=2)
    return {str: st.text(max_size=4), float: NUMBERS, int: st.integers(0, 9), bool: st.booleans()}.get(kind, PLAIN)


PARAMS = params()


def is_in_table(kind: Any) -> bool:
    first = next(iter(get_args(kind)), kind)
    return first.__module__ in SDKS["openai"].params


@pytest.fixture(scope="module")
def renderings():
    return bodies.Renderings(theirs)


def test_the_bodies_that_wait(renderings):
    """The bodies of the calls that are asked most wait; where a field is renamed or a format changed, they don't."""
    assert all(renderings.leaves(kind) for kind in filter(is_in_table, PARAMS))
    assert sum(map(is_in_table, PARAMS)) >= 7
    assert not renderings.leaves(Named)
    assert not renderings.leaves(Union[dict[str, list[Named]], int])  # noqa: UP007 - as the SDK writes them


class Named(TypedDict, total=False):
    """Parameters of which one has another name on the wire."""

    one: Annotated[str, theirs.PropertyInfo(alias="first")]


@settings(max_examples=150)
@given(st.data())
def test_left_as_they_are(renderings, data):
    """What is plain is left as it is by the SDK's own rendering, sync and async, but for what is not given."""
    kind = data.draw(st.sampled_from([kind for kind in PARAMS if renderings.leaves(kind)]))
    given = data.draw(values(kind).filter(lambda value: type(value) is dict))
    absent = data.draw(st.sampled_from([{}, {"absent": omit, "other": NOT_GIVEN}]))
    plain = bodies.merged({**given, **absent}, None, ABSENT)
    assert plain is not None
    assert bodies.is_plain(plain)
    assert repr(TRANSFORM({**given, **absent}, kind)) == repr(plain)
    assert repr(asyncio.run(ASYNC_TRANSFORM({**given, **absent}, kind))) == repr(plain)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        {1: 2},
        {"a": {2}},
        ["a", b"b"],
        [object()],
        {"a": [omit]},
        {"a": type("S", (str,), {})()},
        {type("S", (str,), {})(): "a"},
        type("D", (dict,), {})(a="b"),
        # What orjson would write
        HTTPStatus.OK,
        StrEnum("Colour", ["RED"]).RED,
        Enum("Shape", ["ROUND"]).ROUND,
        UUID(int=1),
        orjson.Fragment(b"1"),
        # What marshal would
        b"a",
        bytearray(b"a"),
        memoryview(b"a"),
        array("i", [1]),
        1j,
        ...,
        frozenset({1}),
        compile("1", "", "eval"),
    ],
)
def test_what_is_not_plain(value):
    """What JSON has no word for, or what derives from what it has, never waits, among whatever it is."""
    assert bodies.spelled({"field": value}) is None
    assert bodies.spelled({"a": None, "field": [{"field": value}]}) is None
    assert not bodies.is_plain({"field": value})
    assert not bodies.is_plain([{"field": "a"}, {"field": value}])
    assert not bodies.is_plain([{"field": "a"}, value])
    assert not bodies.is_plain([{"field": [{"field": value}]}])


@given(st.dictionaries(st.text(max_size=3), PLAIN | st.tuples(PLAIN), max_size=3))
def test_what_is_plain_is_spelled(body):
    """As JSON that reads as what it is made of, numbers and what is nothing included."""
    raw = bodies.spelled(body)
    assert raw is not None
    assert json.dumps(json.loads(raw)) == json.dumps(body)


@pytest.mark.parametrize("value", [1 << 64, "\ud800", {"\udfff": 1}])
def test_what_is_plain_and_not_spelled(value):
    """What other readers would take for something else is left to the SDK."""
    assert bodies.is_plain(value)
    assert bodies.spelled({"field": [value]}) is None


def test_how_deep_what_is_plain_may_be():
    """No deeper than JSON is read everywhere; and what holds itself is at its end at once."""
    for depth in (199, 200, 201):
        value = {}
        for _ in range(depth):
            value = [value]
        assert bodies.is_plain(value) is (depth < 200)
    itself = []
    itself += [itself, itself]
    assert not bodies.is_plain(itself)
    assert bodies.spelled({"field": itself}) is None
