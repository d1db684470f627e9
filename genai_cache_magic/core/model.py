"""The nouns: a request as it is keyed, a response as it was received, the entry that keeps both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NewType, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

EntryId = NewType("EntryId", str)
"""64 lowercase hex characters, `spec/key.md` §5."""

VALUE: Final = "value"
"""The surface of entries that hold a plain value of the programming interface."""

GIVEN_ID: Final = "given-id"
"""Surface of what is stored of an id that an origin gave out: no answer, and in no listing."""

QUESTION: Final = "question"
"""Surface of what is stored of a question, by which one like it finds its answer: in no listing, too."""

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields, names in lower case, in the order received."""


class Form(StrEnum):
    """The two shapes in which a wire API answers."""

    JSON = "json"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Request:
    """What decides the answer of one model call, and nothing else (`spec/key.md` §1).

    Attributes
    ----------
    surface
        Wire API, such as ``openai.chat``.
    origin
        Normalised base URL of the model's endpoint, or what the configuration puts in its place.
    machine
        Identity of this host for a loopback or private origin, else empty.
    api_version
        Version that the URL names (Azure), else empty.
    model
        Model or deployment.
    body
        Canonical fields of the body: noise removed, media replaced by digests, ids renumbered.
    media
        Paths in `body` that hold a media digest, so that a literal can't pose as one.
    headers
        Semantic headers, sorted.
    form
        The asked form where the provider can't convert, else empty.
    via
        What addresses the endpoint beside its URL, as (kind, value): ``host``, ``proxy``, ``sni``, ``socket``.
    ignored
        Fields that were there, and that configuration left out; sorted.
    rules
        Rules that were in force when noise was taken out of `body` (`core/ignoring.py`), as keys spell them, sorted.
    """

    surface: str
    origin: str
    model: str
    body: JsonObject = field(repr=False)
    machine: str = field(repr=False, default="")
    api_version: str = ""
    media: tuple[str, ...] = ()
    headers: Headers = field(repr=False, default=())
    form: str = ""
    via: Headers = field(repr=False, default=())
    ignored: tuple[str, ...] = ()
    rules: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class KeySpace:
    """What a key depends on beside the request: who shares it and which sample is meant."""

    namespace: str = "default"
    salt: str = field(repr=False, default="")
    sample: int = 0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Response:
    """An answer as received, with the encoding of the wire undone.

    `has_ended` says that its body came to an orderly end. That is known while it is received, and not stored.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    form: Form = Form.JSON
    has_ended: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    `input_tokens` counts all input, the provider-cached and cache-written parts included; None is unknown.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an answer was asked for, in the counter of its namespace's generation document.

    `root` is 16 bytes; `ver` an unsigned 64-bit count.
    """

    root: bytes
    ver: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a listing shows of an entry without reading its body; sealed apart from it.

    `without_noise` says, of a request in which shipped rules would find noise, which key it would have had under them
    (`core/noise.py`): rules, with ``+`` between -> the start of that entry id.
    """

    surface: str = ""
    provider: str = ""
    model: str = ""
    origin: str = ""
    key: str = field(repr=False, default="")
    tags: tuple[str, ...] = ()
    run: str = ""
    cell: str = ""
    person: str = field(repr=False, default="")
    sample: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    latency_s: float = 0.0
    preview: str = field(repr=False, default="")
    asked: str = ""
    components: Mapping[str, str] = field(repr=False, default_factory=dict)
    without_noise: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def label(self) -> str:
        """What it is counted under, and is tagged with as its model: that, or its surface where it has none."""
        return self.model or self.surface


@dataclass(frozen=True, slots=True)
class Account:
    """The part of the metadata that a hit needs: what its record shows, and in which form the answer was asked for."""

    model: str
    usage: Usage
    cost_usd: Decimal | None
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """The part of an entry that decides whether it is valid: authenticated, readable without a key.

    Attributes
    ----------
    birth
        Stamp taken before the origin was called.
    tags
        Keyed tags, 16 bytes each, sorted.
    created_ms
        Wall clock when the answer was complete [ms since the epoch].
    ttl_s
        Time to live [s].
    """

    birth: Stamp
    created_ms: int
    ttl_s: int
    tags: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored answer."""

    header: Header
    metadata: Metadata
    response: Response

    def born(self, birth: Stamp, *, now_ms: int) -> Entry:
        """Return it as one that was born at `birth` and is complete now [ms since the epoch]."""
        return replace(self, header=replace(self.header, birth=birth, created_ms=now_ms))
