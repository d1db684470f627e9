"""Whatever plain models, lists and mappings hold: what a recipe makes of it is alike, and shares nothing with it."""

from __future__ import annotations

from typing import Any

import openai  # noqa: F401 - whose models are compared
import pydantic
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.intercept.stainless import recipes
from genai_cache_magic.intercept.stainless.answers import Answers
from genai_cache_magic.intercept.stainless.sdks import SDKS


class Part(pydantic.BaseModel):
    """A model with fields that may be left out, others that nobody declared, and something of its own."""

    model_config = pydantic.ConfigDict(extra="allow")

    one: Any = None
    other: Any = None
    _own: Any = pydantic.PrivateAttr(default=None)


class Strict(pydantic.BaseModel):
    """A model with neither."""

    one: Any = None


def part(fields, own):
    made = Part.model_construct(_fields_set=None, **fields)
    made._own = own
    return made


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(part, st.dictionaries(st.sampled_from(["one", "other", "more"]), inner), inner)
        | st.builds(lambda one: Strict.model_construct(one=one), inner)
    ),
    max_leaves=12,
)
HOLDERS = VALUES.filter(lambda value: isinstance(value, list | dict | pydantic.BaseModel))


def changeable(value):
    """Yield all that a caller could change."""
    if isinstance(value, pydantic.BaseModel):
        yield value
        for held in (vars(value), value.__pydantic_fields_set__, value.__pydantic_extra__, value.__pydantic_private__):
            yield from changeable(held)
    elif isinstance(value, dict | list | set):
        yield value
        for held in value.values() if isinstance(value, dict) else value:
            yield from changeable(held)


@given(HOLDERS)
def test_what_is_made_of_anything(value):
    """Types, fields, their order, which were set, extra and private ones are the same; nothing is shared."""
    are_alike = Answers(SDKS["openai"]).are_alike
    recipe = recipes.recipe_of(value, pydantic.BaseModel)
    first, second = recipes.made(recipe), recipes.made(recipe)
    assert are_alike(first, value)
    assert are_alike(second, value)
    ids = [id(held) for whole in (value, first, second) for held in changeable(whole)]
    assert len(ids) == len(set(ids))
