"""Requests as canonical bytes: one spelling per request, two requests never one spelling.

`spec/key.md` §1 to §4 is normative; the vectors beside it hold for every release.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from genai_cache_magic.errors import UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genai_cache_magic.core.model import JsonObject, KeySpace, Request

SCHEMA: Final = "genai-cache/key/2"
"""First word of every key. A change of what this file spells is a new schema, never an edit."""

MAX_DEPTH: Final = 200
"""Levels of nesting that are certain to be keyed; what lies deeper may be sent uncached."""

MAX_INT_BITS: Final = 8192
"""Size of an integer that is keyed [bits]: below the interpreter's own limit on printing integers."""

# Orjson answers for everything but long integers, as long as it spells numbers as §3 does. Its releases
# have differed in exponents (`1e16`, `1e+16`), and a team shares keys across releases, so it is asked.
_PROBES: Final = (1e15, 1e16, 1.5e300, 1.7976931348623157e308, 1e-4, 1e-5, 1.5e-7, 5e-324, -0.0, 1 / 3)
_SORTED: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)

_MIN_EXPONENT: Final = -5  # 0.00001 is the smallest number written without an exponent


def parse_body(raw: bytes) -> JsonObject:
    """Return the JSON object in `raw` exactly as it was written.

    Parameters
    ----------
    raw
        A request's body, UTF-8.

    Raises
    ------
    UncacheableRequest
        `raw` is not one unambiguous JSON object (duplicate keys, NaN, numbers that no double holds, half
        surrogate pairs, nesting beyond `MAX_DEPTH`). The call goes on uncached.
    """
    value = _parse_if_own_spelling(raw)
    if value is None:
        value = _parse_exactly(raw)
    if type(value) is not dict:
        raise UncacheableRequest("the request body is not one JSON object, so the call was sent uncached")
    return value


def check_json(value: object, *, refusal: str = "the request can't be keyed", wanted: str = "plain JSON types") -> None:
    """Check that `value`, from a Python caller, is JSON and nothing that merely prints like it.

    Allowed are exactly ``dict`` with ``str`` keys, ``list``, ``tuple`` (as a list), ``str``, ``int``, finite
    ``float``, ``bool`` and ``None``; subclasses are not, since two of them may encode alike.

    Parameters
    ----------
    value
        What is looked at.
    refusal, wanted
        What the error says can't be done with it, and what is to be passed instead.

    Raises
    ------
    UncacheableRequest
        Names the path and the type of the first offender, never its value.
    """
    fault = _fault(value, 0)
    if fault is not None:
        raise UncacheableRequest(f"{refusal}: value{fault}; pass {wanted}")


def dumps(value: object) -> bytes:
    """Return the canonical spelling of `value` (`spec/key.md` §3).

    Parameters
    ----------
    value
        From `parse_body`, or passed by `check_json`.

    Raises
    ------
    UncacheableRequest
        `value` holds something that JSON can't say.
    """
    if _ORJSON_AGREES:
        try:
            return orjson.dumps(value, option=_SORTED)
        except orjson.JSONEncodeError:
            pass  # an integer beyond 64 bits, most likely
    return dumps_exactly(value)


def dumps_exactly(value: object) -> bytes:
    """Return what `dumps` returns, for integers of any size; the reference that orjson is held against."""
    parts: list[str] = []
    _write(value, parts.append, MAX_DEPTH)
    text = "".join(parts)
    if _has_half_pairs(text):
        _refuse("a string with half a surrogate pair")
    return text.encode()


def canonical_bytes(request: Request, space: KeySpace) -> bytes:
    """Return the one spelling of `request` within `space` (`spec/key.md` §4).

    Injective: a JSON object with a fixed set of names, and one more where rules are in force.

    Raises
    ------
    UncacheableRequest
        A field holds something that JSON can't say.
    """
    return dumps(
        {
            "schema": SCHEMA,
            "surface": request.surface,
            "origin": request.origin,
            "machine": request.machine,
            "api_version": request.api_version,
            "model": request.model,
            "body": request.body,
            "media": request.media,
            "headers": request.headers,
            "form": request.form,
            "via": request.via,
            "ignored": request.ignored,
            "sample": space.sample,
            "namespace": space.namespace,
            "salt": space.salt,
            **({"rules": request.rules} if request.rules else {}),
        }
    )


def component_digests(
    request: Request, space: KeySpace, digest: Callable[[bytes], str], *, beside: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a digest per component of the key, for `explain` to say which of them differs.

    Beside every field of the body as ``body.<name>``, the items of its lists of objects are digested one by
    one, such as ``body.messages[3]``. An item's digest does not depend on its place.

    Parameters
    ----------
    digest
        Keyed digest of one component's bytes. SECURITY: an unkeyed one would let readers test guesses.
    beside
        The digests of `components_beside_body`, where they are known.
    """
    if beside is None:
        beside = {name: digest(dumps((name, value))) for name, value in components_beside_body(request, space)}
    digests = {
        name: digest(dumps((name, value))) for name, value in ((f"body.{n}", v) for n, v in request.body.items())
    }
    for name, value in request.body.items():
        if type(value) is list and value and all(type(item) is dict for item in value):
            kind = f"body.{name}[]"
            digests |= {f"body.{name}[{i}]": digest(dumps((kind, item))) for i, item in enumerate(value)}
    return {**beside, **digests}


def components_beside_body(request: Request, space: KeySpace) -> tuple[tuple[str, Any], ...]:
    """Return what `component_digests` makes digests of beside the body, by name: what neighbouring calls share."""
    components: dict[str, Any] = {
        "surface": request.surface,
        "origin": request.origin,
        "machine": request.machine,
        "api_version": request.api_version,
        "model": request.model,
        "media": request.media,
        "form": request.form,
        "via": request.via,
        "ignored": request.ignored,
        "sample": space.sample,
        "namespace": space.namespace,
        "salt": space.salt,
        **({"rules": request.rules} if request.rules else {}),
    }
    for name, line in request.headers:
        # Of a header in several lines, all count.
        before = components.get(f"header.{name}")
        components[f"header.{name}"] = line if before is None else (before, line)
    return tuple(components.items())


def _parse_if_own_spelling(raw: bytes) -> Any:
    """Return the value that `raw` spells if orjson would spell it so again, else None.

    Text that comes back byte for byte had no key twice and no integer folded into a float. SDKs send
    compact JSON, so this one comparison stands in for the slow parse nearly always.
    """
    try:
        value = orjson.loads(raw)
        return value if orjson.dumps(value) == raw else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _parse_exactly(raw: bytes) -> Any:
    """Parse `raw` with the standard library, refusing what two readers could read differently.

    Returns None for what is not JSON. SECURITY: the decoder's errors hold the whole body, so none of them
    may become the cause or context of an exception that leaves this file.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique_pairs, parse_float=_finite_float, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        return None
    if "\\u" in text:  # in UTF-8, only an escape can leave half a surrogate pair
        check_json(value)
    return value


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _refuse("a duplicate key")
    return value


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _refuse("a number that no double holds")
    return number


def _refuse_constant(_name: str) -> NoReturn:
    _refuse("NaN or an infinity")


def _refuse(what: str) -> NoReturn:
    raise UncacheableRequest(f"the request holds {what}, so the call was sent uncached")


def _fault(value: object, depth: int) -> str | None:
    """Return where and why `value` is not JSON, such as ``.tools[2]: a set``; None if it is."""
    kind = type(value)
    if kind is str:
        return ": a string with half a surrogate pair" if _has_half_pairs(value) else None  # type: ignore[arg-type]  # a string
    if kind is bool or value is None:
        return None
    if kind is int:
        return None if value.bit_length() <= MAX_INT_BITS else ": an integer that is too long"  # type: ignore[attr-defined]  # an int
    if kind is float:
        return None if math.isfinite(value) else ": a float that is not finite"  # type: ignore[arg-type]  # a float
    if kind is dict or kind is list or kind is tuple:
        return _container_fault(value, depth)
    return f": {kind.__name__} is not a JSON type"


def _has_half_pairs(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _container_fault(value: Any, depth: int) -> str | None:
    if depth >= MAX_DEPTH:
        return ": nesting that is too deep"
    if type(value) is not dict:
        for index, item in enumerate(value):
            fault = _fault(item, depth + 1)
            if fault is not None:
                return f"[{index}]{fault}"
        return None
    for key, item in value.items():
        if type(key) is not str or _has_half_pairs(key):
            return ": a key that is not a string of whole characters"
        fault = _fault(item, depth + 1)
        if fault is not None:
            return f".{key}{fault}"
    return None


def _write(value: Any, out: Callable[[str], None], depth: int) -> None:
    """Spell `value` into `out`; `depth` is how many levels are left."""
    kind = type(value)
    if kind is str:
        out(json.dumps(value, ensure_ascii=False))
    elif kind is int:
        out(_spell_integer(value))
    elif kind is float:
        out(spell_float(value))
    elif value is None or kind is bool:
        out("null" if value is None else "true" if value else "false")
    elif depth <= 0:
        _refuse("nesting that is too deep")
    elif kind is dict:
        _write_object(value, out, depth - 1)
    elif kind is list or kind is tuple:
        _write_array(value, out, depth - 1)
    else:
        _refuse("a value of a type that JSON has not")


def _write_object(value: Mapping[str, Any], out: Callable[[str], None], depth: int) -> None:
    if not all(type(key) is str for key in value):
        _refuse("a key that is not a string")
    opening = "{"
    for key in sorted(value):  # by code point, which is also the order of the UTF-8 bytes
        out(opening)
        out(json.dumps(key, ensure_ascii=False))
        out(":")
        _write(value[key], out, depth)
        opening = ","
    out("}" if value else "{}")


def _write_array(value: list[Any] | tuple[Any, ...], out: Callable[[str], None], depth: int) -> None:
    opening = "["
    for item in value:
        out(opening)
        _write(item, out, depth)
        opening = ","
    out("]" if value else "[]")


def _spell_integer(value: int) -> str:
    if value.bit_length() > MAX_INT_BITS:
        _refuse("an integer that is too long")
    return str(value)


def spell_float(value: float) -> str:
    """Return the canonical spelling of a finite float (`spec/key.md` §3).

    The shortest digits that read back as `value`, always with a point or an exponent: ``1.0``, ``-0.0``,
    ``0.00001``, ``1.5e-7``, ``1e+16``.
    """
    if not math.isfinite(value):
        _refuse("NaN or an infinity")
    text = repr(value)
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    power = int(exponent)
    if power == _MIN_EXPONENT:
        sign = "-" if mantissa[0] == "-" else ""
        return f"{sign}0.0000{mantissa.lstrip('-').replace('.', '')}"
    return f"{mantissa}e{power:+d}" if power > 0 else f"{mantissa}e{power}"


_ORJSON_AGREES: Final = orjson.dumps(_PROBES) == dumps_exactly(_PROBES)
