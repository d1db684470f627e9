"""The smallest value that satisfies a JSON schema, so that structured answers can be parsed."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import InvalidCallError
from genai_cache_magic.testing.simulated.text import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEEP = 4  # below this depth only what is required is produced, so that recursive schemas end
_DEEPEST = 40
_SPREAD = 10  # numbers differ between requests by 0 to 9 steps
# What a keyword of the wrong type leads to; checking each of them beforehand would be a validator of its own.
_MALFORMED = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, re.error)
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "duration": "PT1M",
    "email": "simulated@example.com",
    "hostname": "simulated.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "03:04:05Z",
    "uri": "https://simulated.example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PATTERN_GUESSES = ("", "a", "A", "0", "abc", "ABC", "123", "a1", "2026-01-02", "A-1", "+15550100", "#00ff00")


def instance_of(schema: Mapping[str, Any], seed: bytes) -> Any:
    """A minimal value that is valid against `schema`; strings and numbers in it depend on `seed`.

    Understood are the keywords that OpenAI's and Anthropic's structured output allow, references within the
    schema, and ``allOf``.

    Raises
    ------
    InvalidCallError
        The schema is malformed, never ends, refers to what it doesn't hold, or has a ``pattern`` beyond guessing.
    """
    try:
        return _Maker(schema, seed).make(schema, "$", 0)
    except _MALFORMED as error:
        raise InvalidCallError("the schema is malformed") from error


@dataclass(frozen=True, slots=True)
class _Maker:
    root: Mapping[str, Any]
    seed: bytes

    def make(self, schema: Any, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise InvalidCallError("the schema has no finite instance")
        if not isinstance(schema, dict):
            return f"{MARK} {self._digest(path)[:4].hex()}"
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._digest(path)[0] % len(schema["enum"])]
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self._one_of(schema, union, path, depth)
        return self._typed(schema, path, depth)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """`schema` with its reference and its ``allOf`` folded in; its own keywords win."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                rest = {name: value for name, value in schema.items() if name != "$ref"}
                schema = _folded(self._target(schema["$ref"]), rest)
            elif schema.get("allOf"):
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                for part in schema["allOf"]:
                    rest = _folded(self._resolved(part), rest)
                schema = rest
            else:
                return schema
        raise InvalidCallError("the schema's references go in a circle")

    def _target(self, reference: Any) -> dict[str, Any]:
        target: Any = self.root
        for step in str(reference).removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise InvalidCallError("the schema refers to a definition that it doesn't hold")
        return target

    def _one_of(self, schema: dict[str, Any], union: str, path: str, depth: int) -> Any:
        options = schema[union]
        is_null = [isinstance(option, dict) and option.get("type") == "null" for option in options]
        wanted = depth >= _DEEP and any(is_null)
        chosen = next((o for o, null in zip(options, is_null, strict=True) if null is wanted), options[0])
        rest = {name: value for name, value in schema.items() if name != union}
        return self.make(_folded(chosen, rest) if isinstance(chosen, dict) else chosen, path, depth + 1)

    def _typed(self, schema: dict[str, Any], path: str, depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = "null" if depth >= _DEEP and "null" in kind else next((k for k in kind if k != "null"), "null")
        match kind:
            case "object":
                required = schema.get("required", ())
                properties = schema.get("properties", {})
                return {name: self.make(properties.get(name), f"{path}.{name}", depth + 1) for name in required}
            case "array":
                return self._array(schema, path, depth)
            case "integer" | "number":
                return self._number(schema, path, is_whole=kind == "integer")
            case "boolean":
                return self._digest(path)[0] % 2 == 0
            case "null":
                return None
        return self._string(schema, path)

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        least = schema.get("minItems", 0)
        usual = 0 if depth >= _DEEP or schema.get("maxItems") == 0 else 1
        size = max(least, len(first), usual)
        shapes = [first[i] if i < len(first) else schema.get("items") for i in range(size)]
        return [self.make(shape, f"{path}[{i}]", depth + 1) for i, shape in enumerate(shapes)]

    def _number(self, schema: dict[str, Any], path: str, *, is_whole: bool) -> float:
        step = Fraction(str(schema.get("multipleOf", 1 if is_whole else 0.125)))
        first, last = _step_range(schema, step)
        if first is None:
            first = 0 if last is None else min(0, last)
        width = _SPREAD if last is None else last - first + 1
        if width < 1:
            if is_whole or "multipleOf" in schema:
                raise InvalidCallError("a number in the schema has no valid value")
            return float(sum(schema[name] for name in _BOUNDS if name in schema)) / 2
        number = (first + self._digest(path)[0] % min(_SPREAD, width)) * step
        return int(number) if is_whole else float(number)

    def _string(self, schema: dict[str, Any], path: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = f"{MARK} {self._digest(path)[:4].hex()}"
        text = text.ljust(least, ".")
        text = text if len(text) <= most else self._digest(path).hex().ljust(least, "0")[: int(most)]
        pattern = schema.get("pattern")
        if pattern is None:
            return text
        for guess in (text, *_PATTERN_GUESSES):
            if least <= len(guess) <= most and re.search(pattern, guess):
                return guess
        raise InvalidCallError("no simple text matches a 'pattern' in the schema; leave the pattern out")

    def _digest(self, path: str) -> bytes:
        return hashlib.sha256(self.seed + path.encode("utf-8", "replace")).digest()


def _step_range(schema: dict[str, Any], step: Fraction) -> tuple[int | None, int | None]:
    """First and last multiple of `step` within the bounds of `schema`; None where there is no bound.

    Fractions of the decimal spelling, since binary floats would make 3 x 0.1 more than 0.3.
    """
    low, above, high, below = (Fraction(str(schema[name])) / step if name in schema else None for name in _BOUNDS)
    firsts = [math.ceil(low)] if low is not None else []
    firsts += [math.floor(above) + 1] if above is not None else []
    lasts = [math.floor(high)] if high is not None else []
    lasts += [math.ceil(below) - 1] if below is not None else []
    return max(firsts, default=None), min(lasts, default=None)


def _folded(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both schemas in one: properties and required names unite, of other keywords `over` has the say."""
    both = {**under, **over}
    if "properties" in under and "properties" in over:
        both["properties"] = {**under["properties"], **over["properties"]}
    if "required" in under and "required" in over:
        both["required"] = [*under["required"], *(n for n in over["required"] if n not in under["required"])]
    return both
