"""YAML of strangers, read event by event: plain values alone, so deep, so many, and no alias that multiplies them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from genai_cache_magic.errors import ConfigurationError

MAX_VALUES: Final = 2_000_000
_MAX_DEPTH: Final = 64
_TAG: Final = "tag:yaml.org,2002:"
_TEXTS: Final = frozenset({f"{_TAG}{kind}" for kind in ("str", "python/str", "python/unicode", "timestamp", "value")})
_SCALARS: Final = frozenset({f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "binary")})
_COLLECTIONS: Final = frozenset({None, "!", f"{_TAG}map", f"{_TAG}seq", f"{_TAG}python/tuple"})
_OBJECTS: Final = "it holds objects of a programming language, which are not made here"
_INSTALL: Final = "it is read by PyYAML: pip install pyyaml"


@dataclass(slots=True)
class _Open:
    """A list or a mapping that has begun; `values` of a mapping are keys and values in turn."""

    is_mapping: bool
    anchor: str | None = field(repr=False)
    values: list[Any] = field(repr=False, default_factory=list)
    size: int = 1

    def whole(self) -> Any:
        if not self.is_mapping:
            return self.values
        pairs = zip(self.values[::2], self.values[1::2], strict=True)
        return {key: value for key, value in pairs if isinstance(key, str)}


def read_yaml(text: str) -> Any:
    """Return the first document in `text`: texts, bytes, numbers, None, lists and mappings of texts to these.

    Raises
    ------
    ConfigurationError
        It is no YAML, holds objects of a language, or would unfold to more than `MAX_VALUES` values; or PyYAML is
        missing.
    """
    try:
        import yaml  # type: ignore[import-untyped]  # its types are another package
    except ImportError as exc:
        raise ConfigurationError(_INSTALL) from exc
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events, and not documents: those are made by recursion, and of classes that a tag may name.
        return _Builder(yaml).built(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigurationError(f"it is no YAML that can be read{where}") from None
    except (LookupError, ValueError, OverflowError, RecursionError):
        raise ConfigurationError("it holds a value that can't be read") from None


class _Builder:
    """Builds one document from its events, and counts."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._scalars = _Scalars(yaml)
        self._stack = [_Open(is_mapping=False, anchor=None)]
        self._known: dict[str, tuple[Any, int]] = {}
        self._total = 0

    def built(self, events: Any) -> Any:
        yaml = self._yaml
        for event in events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._begin(event)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                ended = self._stack.pop()
                self._take(ended.whole(), ended.size, ended.anchor)
            elif isinstance(event, yaml.ScalarEvent):
                self._take(self._scalars.value(event), 1, event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._repeat(event.anchor)
        document = self._stack[0].values
        return document[0] if document else None

    def _begin(self, event: Any) -> None:
        if event.tag not in _COLLECTIONS:
            raise ConfigurationError(_OBJECTS)
        self._stack.append(_Open(isinstance(event, self._yaml.MappingStartEvent), event.anchor))
        if len(self._stack) > _MAX_DEPTH:
            raise ConfigurationError(f"it is nested more than {_MAX_DEPTH} deep")

    def _repeat(self, anchor: str) -> None:
        if anchor not in self._known:
            raise ConfigurationError("it refers to what is not there, or to itself")
        value, size = self._known[anchor]
        self._total += size  # SECURITY: counted each time, or a few lines would unfold to gigabytes
        self._take(value, size, None)

    def _take(self, value: Any, size: int, anchor: str | None) -> None:
        self._total += 1
        if self._total > MAX_VALUES:
            raise ConfigurationError(f"it holds more than {MAX_VALUES:,} values")
        if anchor:
            self._known[anchor] = value, size
        self._stack[-1].values.append(value)
        self._stack[-1].size += size


class _Scalars:
    """What a plain or quoted word means, as YAML's safe schema has it."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._resolver = yaml.resolver.Resolver()
        self._constructor = yaml.constructor.SafeConstructor()

    def value(self, event: Any) -> Any:
        node_class = self._yaml.ScalarNode
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(node_class, event.value, event.implicit)
        if tag in _SCALARS:
            return self._constructor.construct_object(node_class(tag, event.value), deep=True)
        if tag in _TEXTS or tag == f"{_TAG}merge":
            return event.value
        raise ConfigurationError(_OBJECTS)
