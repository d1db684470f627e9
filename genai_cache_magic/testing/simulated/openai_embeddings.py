"""OpenAI's embeddings: unit vectors made of hashes, near to each other where texts share words."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError
from genai_cache_magic.testing.simulated.text import count_tokens_of
from genai_cache_magic.testing.simulated.wire import WireApi, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIZES = {"text-embedding-3-large": 3072}
_USUAL_SIZE = 1536
_LARGEST_SIZE = 8192
_POSITIONS_PER_WORD = 8
_NOISE = 0.1  # length of the part that tells texts of the same words apart, beside words of length 1
_WORD = re.compile(r"\w+")


def answer(call: Call) -> dict[str, Any]:
    """The list of embeddings, one per input, in order."""
    inputs = _inputs(call.body.get("input"))
    size = _size(call)
    is_base64 = _is_base64(call.body)
    salt = "" if call.serial is None else str(call.serial)
    vectors = [vector_of(f"{call.model}\0{salt}", text, size) for text in inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if is_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    tokens = max(1, count_tokens_of(call.body.get("input")))
    return {
        **({"id": call.answer_id("embd-")} if call.is_mistrals else {}),
        "object": "list",
        "data": [] if call.fault is Fault.EMPTY else data,
        "model": call.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def vector_of(salt: str, text: str, size: int) -> list[float]:
    """A unit vector, shape (`size`,), derived from `text`; texts with common words have a larger product.

    Every word adds the same few hashed coordinates wherever it stands (feature hashing); a small dense part
    comes from the whole text and from `salt`.
    """
    noise = hashlib.shake_256(f"{salt}\0{text}".encode("utf-8", "replace")).digest(2 * size)
    vector = _scaled(struct.unpack(f"<{size}h", noise), _NOISE)
    for word in _WORD.findall(text.casefold()):
        places = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4 * _POSITIONS_PER_WORD).digest()
        for (place,) in struct.iter_unpack("<I", places):
            vector[(place >> 1) % size] += 1 - 2 * (place & 1)
    return [round(number, 9) for number in _scaled(vector, 1.0)]


def _scaled(numbers: Any, length: float) -> list[float]:
    norm = math.sqrt(math.fsum(number * number for number in numbers)) or 1.0
    return [number * length / norm for number in numbers]


def _base64(vector: list[float]) -> str:
    """Little-endian float32, shape (n,), as OpenAI encodes them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _is_base64(body: Mapping[str, Any]) -> bool:
    encoding = body.get("encoding_format", "float")
    if encoding not in {"float", "base64"}:
        raise InvalidCallError("'encoding_format' must be 'float' or 'base64'")
    return bool(encoding == "base64")


def _size(call: Call) -> int:
    size = call.body.get("dimensions", _SIZES.get(call.model, _USUAL_SIZE))
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST_SIZE:
        raise InvalidCallError(f"'dimensions' must be a whole number from 1 to {_LARGEST_SIZE}")
    return size


def _inputs(value: Any) -> list[str]:
    """The inputs as texts; a list of token ids stands for itself."""
    match value:
        case str() if value:
            return [value]
        case [int(), *_]:
            return [str(value)]
        case [*several] if several and all(isinstance(one, str | list) for one in several):
            return [one if isinstance(one, str) else str(one) for one in several]
    raise InvalidCallError("'input' must be a text, a list of texts, or tokens, and not empty")


API = WireApi(answer, None, openai_error_event, openai_error, frozenset({Fault.EMPTY}))
