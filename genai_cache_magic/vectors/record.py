"""One text with its vector and its value, as an entry holds them.

The body is the text, the value as `Value` encodes it, and the vector as little-endian float32, one after the other; the
headers say how long the first and the last are. A vector is kept as it was given, never as JSON.
"""

from __future__ import annotations

import math
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.model import Response
from genai_cache_magic.errors import ConfigurationError, EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Iterable

FLOAT_BYTES = 4
_KIND, _TEXT, _DIMENSION = "kind", "text-bytes", "dimension"


@dataclass(frozen=True, slots=True)
class Record:
    """A text, its value (`kind` and `body` as in ``api.values``), and its vector: float32, ``4 * dimension`` bytes."""

    text: str = field(repr=False)
    kind: str
    body: bytes = field(repr=False)
    vector: bytes = field(repr=False)

    def response(self) -> Response:
        """Return what an entry holds of it."""
        text = self.text.encode("utf-8", "surrogatepass")
        dimension = len(self.vector) // FLOAT_BYTES
        headers = ((_KIND, self.kind), (_TEXT, str(len(text))), (_DIMENSION, str(dimension)))
        return Response(0, headers, b"".join((text, self.body, self.vector)))


def read_record(response: Response) -> Record:
    """Return what `Record.response` was made of; raises ``EntryUndecodable`` for anything else."""
    headers = dict(response.headers)
    try:
        text_end = int(headers[_TEXT])
        vector_at = len(response.body) - FLOAT_BYTES * int(headers[_DIMENSION])
        kind = headers[_KIND]
    except (KeyError, ValueError) as exc:
        raise EntryUndecodable("an entry of the vector cache lacks a header") from exc
    if not 0 <= text_end <= vector_at < len(response.body):
        raise EntryUndecodable("an entry of the vector cache is cut short")
    body = response.body
    try:
        text = body[:text_end].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise EntryUndecodable("the text of an entry of the vector cache is none") from exc
    return Record(text, kind, body[text_end:vector_at], body[vector_at:])


def packed(vector: Any, *, dimension: int, needs_direction: bool) -> bytes:
    """Return a vector as it is stored: float32, little-endian, ``4 * dimension`` bytes.

    Parameters
    ----------
    vector
        Numbers, shape (dimension,): a list, an array.
    needs_direction
        Zeros have none: refused where similarity is an angle.

    Raises
    ------
    ConfigurationError
        It is no such vector; the message says what is wrong.
    """
    if hasattr(vector, "mask") and hasattr(vector, "filled"):
        vector = _unmasked(vector)
    is_array = getattr(vector, "dtype", None) == "float32" and getattr(vector, "ndim", 0) == 1
    floats = vector if is_array and hasattr(vector, "tobytes") else _floats(vector)
    if len(floats) != dimension:
        raise ConfigurationError(f"the vector has {len(floats)} dimensions, and this vector cache {dimension}")
    # What is not finite makes the sum so; float32 numbers are too few and too small to make it infinite themselves.
    # An array is asked itself: no object for each number; and of numpy, infinities that are added up warn.
    if not math.isfinite(sum(floats) if isinstance(floats, array) else abs(floats).max()):
        raise ConfigurationError("the vector holds NaN, or a number that float32 can't hold")
    if needs_direction and not any(floats):
        raise ConfigurationError("the vector holds zeros alone, which have no direction to compare: similarity='dot'?")
    if sys.byteorder == "big":
        floats = array("f", floats.tobytes())
        floats.byteswap()
    return bytes(floats.tobytes())


def _unmasked(vector: Any) -> Any:
    """Return the numbers of a masked array of numpy, none of which may be hidden: it would be taken for 1e20."""
    if getattr(vector, "count", lambda: 0)() != getattr(vector, "size", -1):
        raise ConfigurationError("the vector is masked: some of its numbers are hidden")
    return vector.data


def _floats(vector: Iterable[Any]) -> array[float]:
    flat = getattr(vector, "tolist", lambda: vector)()
    if not isinstance(flat, (list, tuple)):
        raise ConfigurationError(f"a vector is a list of numbers or an array, not {type(vector).__name__}")
    try:
        return array("f", flat)
    except (TypeError, OverflowError) as exc:
        raise ConfigurationError(f"a vector is one row of numbers: {exc}") from exc
