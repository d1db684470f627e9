"""Embeddings: whether an answer holds a vector for each text, each at its place and none of them void.

A vector is a list of numbers, base64 of such, a list of vectors (one a token), or an object that holds any of these
(a sparse one). Whether its numbers are numbers is asked of built-ins that run over thousands in microseconds.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.base import End
from genai_cache_magic.providers.formats.media import decode_base64
from genai_cache_magic.providers.reading import as_object

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from genai_cache_magic.core.model import JsonObject, JsonValue

_FLOAT_BYTES: Final = 4


def asked_for(inputs: JsonValue) -> int:
    """Return how many vectors `inputs` asks for: a text, a list of texts or objects, or one or more lists of tokens."""
    is_many = type(inputs) is list and inputs and type(inputs[0]) is not int
    return len(inputs) if is_many and type(inputs) is list else 1


def end_of(vectors: Iterable[JsonValue], asked: int | None = None, *, is_float: bool = True) -> End:
    """Return the ending of an answer made of `vectors`.

    Parameters
    ----------
    asked
        How many there must be; None if that can't be told.
    is_float
        Whether base64 holds single floats; else it holds integers or bits.
    """
    told = list(vectors)
    if not told or not all(told):
        return End.EMPTY
    is_right = asked in {None, len(told)} and all(_is_sound(vector, is_float=is_float) for vector in told)
    return End.COMPLETE if is_right else End.VECTORS


def end_of_items(items: list[JsonValue], asked: int | None, *, is_float: bool = True) -> End:
    """Return the ending of an answer made of objects with an ``embedding``, each at the ``index`` that it states."""
    told: list[JsonObject] = [as_object(item) for item in items]
    end = end_of((item.get("embedding") for item in told), asked, is_float=is_float)
    places = [item["index"] for item in told if "index" in item]
    is_placed = not places or sorted(map(_place, places)) == list(range(len(told)))
    return End.VECTORS if end is End.COMPLETE and not is_placed else end


def end_by_type(lists: dict[str, JsonValue], asked: int | None) -> End:
    """Return the ending of an answer that has a list of vectors for each type of number; null is a type not asked."""
    ends = {
        end_of(vectors if type(vectors) is list else (), asked, is_float=kind in {"float", "base64"})
        for kind, vectors in lists.items()
        if vectors is not None
    }
    return worst(ends)


def worst(ends: Collection[End]) -> End:
    """Return the ending that counts where one answer holds several lists of vectors."""
    return next((end for end in (End.EMPTY, End.VECTORS) if end in ends), End.COMPLETE if ends else End.EMPTY)


def holds_floats(body: JsonObject) -> bool:
    """Tell whether base64 that is asked for by `body` holds floats, as it does unless another type is named."""
    named = (body.get(name) for name in ("output_dtype", "embedding_type", "encoding_format"))
    kinds = [kind for value in named for kind in (value if type(value) is list else [value])]
    return {None, "float", "base64"}.issuperset(kind if type(kind) is str else None for kind in kinds)


def _place(index: JsonValue) -> int:
    return index if type(index) is int else -1


def _is_sound(vector: JsonValue, *, is_float: bool) -> bool:
    """Tell whether `vector` is made of finite numbers that are not all zero."""
    if type(vector) is str:
        return _is_sound_base64(vector, is_float=is_float)
    if type(vector) is dict:
        parts = [part for part in vector.values() if type(part) in {list, str, dict}]
        # A sparse vector may be an object of numbers by token.
        return all(_is_sound(part, is_float=is_float) for part in parts) if parts else _has_sense(vector.values())
    if type(vector) is not list or not vector:
        return False
    if type(vector[0]) in {list, dict, str}:
        return all(_is_sound(inner, is_float=is_float) for inner in vector)
    return _has_sense(vector)


def _is_sound_base64(text: str, *, is_float: bool) -> bool:
    raw = decode_base64(text)
    if not raw or not is_float:
        return bool(raw) and any(raw or b"")
    if len(raw) % _FLOAT_BYTES:
        return False
    numbers = array("f", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return _has_sense(numbers)


def _has_sense(numbers: Iterable[object]) -> bool:
    """Tell whether `numbers` are such, finite, and not all zero."""
    told: list[float] = numbers if type(numbers) is list else list(numbers)  # type: ignore[arg-type]  # what is no number fails to add up
    try:
        return math.isfinite(sum(told)) and any(told)
    except TypeError:
        return False
