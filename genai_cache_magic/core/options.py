"""What a scope may be asked for: its mode, how it samples, and the rest of its options."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from decimal import Decimal

MAX_TAGS = 16
LEAST_SEMANTIC = 0.85
"""Below it the guard was seen to let another answer pass, of questions that it had never seen (`docs/vectors.md`)."""


class Mode(StrEnum):
    """What the cache may do for a call."""

    USE = "use"
    REFRESH = "refresh"
    READ = "read"
    RECORD = "record"
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
    ignore
        Rules that take noise out of keys, sorted (`core/ignoring.py`).
    budget_usd
        What the calls of the scope, or of its run, may cost in all [USD]; None for no limit.
    budget_unknown_usd
        What a call counts as whose price is not known [USD]; None: under a budget it is not made.
    semantic
        How alike two questions have to be that share an answer, `LEAST_SEMANTIC` to 1; None: only equal calls do.
    run_file
        Absolute path of the file that answers first, and that mode ``record`` keeps up to date; empty for none.
    estimate
        Whether calls are only looked up, to say what they would cost.
    """

    mode: Mode = Mode.USE
    ttl_s: int | None = None
    tags: tuple[str, ...] = ()
    run: str = ""
    namespace: str = "default"
    samples: Samples = Samples.SAME
    store: frozenset[str] = frozenset()
    salt: str = field(repr=False, default="")
    run_file: str = field(repr=False, default="")
    ignore: tuple[str, ...] = field(repr=False, default=())
    budget_usd: Decimal | None = None
    budget_unknown_usd: Decimal | None = None
    semantic: float | None = None
    estimate: bool = False

    @property
    def sends(self) -> bool:
        """Whether a call may go to a model at all."""
        return self.mode is not Mode.REPLAY and not self.estimate

    def dry(self) -> Options:
        """Return these options for an estimate, which records nothing."""
        return replace(self, estimate=True, mode=Mode.USE if self.mode is Mode.RECORD else self.mode)

    def in_mode(self, mode: Mode) -> Options:
        """Return these options with another mode."""
        return replace(self, mode=mode)


def checked_name(name: str, *, of: str) -> str:
    """Return the `name` of a tag, a key, a run: text that can be written, as a name of a file may be none.

    Raises
    ------
    ConfigurationError
        It holds half a surrogate pair. Of a long one the message shows the ends: it may well be a prompt.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{of} {reprlib.repr(name)} holds half a surrogate pair: UTF-8 has to hold it"
        ) from None
    return name


def checked_tags(tags: object) -> tuple[str, ...]:
    """Return `tags` without repetitions.

    Raises
    ------
    ConfigurationError
        More than 16, an empty one, or one that is not text.
    """
    if not isinstance(tags, Iterable) or isinstance(tags, str):
        what = "one text" if isinstance(tags, str) else "no list of texts"
        raise ConfigurationError(f"tags={reprlib.repr(tags)} is {what}: write tags=({reprlib.repr(str(tags))},)")
    given = tuple(tags)
    for tag in given:
        if type(tag) is not str or not tag.strip() or len(tag) > 200:  # noqa: PLR2004 - stated in the message
            raise ConfigurationError(f"tag {reprlib.repr(tag)} is not a text of 1 to 200 characters")
        checked_name(tag, of="tag")
    named = tuple(dict.fromkeys(given))
    if len(named) > MAX_TAGS:
        raise ConfigurationError(f"{len(named)} tags are given: at most {MAX_TAGS} are allowed")
    return named


def checked_semantic(value: object) -> float | None:
    """Return how alike two questions have to be, None for ``none`` and ``off``: only equal ones share an answer.

    Raises
    ------
    ConfigurationError
        It is no number from 0.85 to 1.
    """
    if value is None or value in {"none", "off"}:
        return None
    try:
        least = None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # whatever is none, raises
    except (TypeError, ValueError, OverflowError):
        least = None
    if least is None or not LEAST_SEMANTIC <= least <= 1:
        raise ConfigurationError(
            f"semantic={value!r}: write how alike two questions have to be, a number from {LEAST_SEMANTIC} to 1 such "
            "as 0.95, or 'none'; below that, answers to other questions were let through"
        )
    return least
