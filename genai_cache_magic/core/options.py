"""What a scope may be asked for: its mode, how it samples, and the rest of its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """What the cache may do for a call."""

    USE = "use"
    REFRESH = "refresh"
    READ = "read"
    REPLAY = "replay"
    OFF = "off"


class Samples(StrEnum):
    """Whether identical calls of one scope share an answer or are numbered."""

    SAME = "same"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Options:
    """What a scope asks for.

    Attributes
    ----------
    ttl_s
        Explicit time to live [s]; None is the configured default for storing and no limit for serving.
    store
        Kinds of answers to keep that are refused by default: ``truncated``, ``filtered``, ``refusal``,
        ``server-tools``, ``urls``.
    """

    mode: Mode = Mode.USE
    ttl_s: int | None = None
    tags: tuple[str, ...] = ()
    run: str = ""
    namespace: str = "default"
    samples: Samples = Samples.SAME
    store: frozenset[str] = frozenset()
    salt: str = field(repr=False, default="")
