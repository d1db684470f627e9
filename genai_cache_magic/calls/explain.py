"""Why a call was no hit: what became of its answer, what differs from the nearest request, and what would help."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.keeping import STORES_NOTHING
from genai_cache_magic.calls.request_diff import diff_of, diff_of_previews, outline_of, outline_of_previews
from genai_cache_magic.core.ignoring import rule_names
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.noise import joining, joining_keys
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.calls.recalling import Recalled, Recollection
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.model import Metadata
    from genai_cache_magic.entries.listing.catalogue import Catalogue
    from genai_cache_magic.entries.listing.results import Listed
    from genai_cache_magic.events import CallRecord

_ABSENT: Final = "not in the cache"
_UNLIKE: Final = "nothing like it was ever asked"
_THERE: Final = "in the cache: the next call like it is a hit"
_SHOWN_DIGITS: Final = 16
_ALIKE: Final = 0.6  # of the beginnings of two prompts
_ASKED: Final = ("body.contents", "body.input", "body.inputs", "body.messages", "body.prompt", "body.system")
_NOISE: Final = {
    "ipykernel": "what a kernel counts",
    "iso-time": "a time",
    "memory-address": "a memory address",
    "temp-path": "a temporary path",
    "uuid": "a uuid",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call was no hit, and which parts of its request differ from the nearest stored one.

    Attributes
    ----------
    outcome
        How it was answered; None where only the entry is known.
    entry, nearest
        The first 16 digits of the entry ids of the call and of the nearest other one; empty where there is none.
    diff
        Short lines that show what differs. SECURITY: they hold words of prompts, and are not to be saved unasked.
    outline
        The same without any word.
    rules
        Those under which the two are one: noise is all that differs.
    number
        Which call of its cell or run it is, from 1; 0 where that is not known.
    """

    outcome: Outcome | None
    reason: str
    model: str
    differs: tuple[str, ...] = field(default=())
    entry: str = field(repr=False, default="")
    nearest: str = field(repr=False, default="")
    diff: tuple[str, ...] = field(default=(), repr=False)
    outline: tuple[str, ...] = field(default=(), repr=False)
    rules: tuple[str, ...] = field(default=(), repr=False)
    number: int = 0

    @property
    def is_hit(self) -> bool:
        """Whether it was answered from the cache."""
        return self.outcome is Outcome.HIT

    @property
    def is_there(self) -> bool:
        """Whether its answer is in the cache, so that the next call like it is a hit."""
        return self.reason == _THERE

    @property
    def advice(self) -> str:
        """What would make calls like this one hits; empty if nothing is known that would."""
        return advice_on(self.rules)

    def as_json(self, *, shows_text: bool = False) -> dict[str, Any]:
        """Return plain values; words of prompts only if `shows_text`."""
        outcome = None if self.outcome is None else self.outcome.value
        told = {**asdict(self), "outcome": outcome, "advice": self.advice}
        return told if shows_text else {name: value for name, value in told.items() if name != "diff"}


class Explainer:
    """Explains the calls of one namespace.

    Parameters
    ----------
    recollection
        What this process asked; it has the texts, of which no store keeps more than the beginnings.
    id_key
        What components are keyed with.
    """

    def __init__(self, catalogue: Catalogue, recollection: Recollection, id_key: bytes) -> None:
        self._catalogue = catalogue
        self._recollection = recollection
        self._id_key = id_key

    def scope(self, scope: CellScope) -> tuple[Explanation, ...]:
        """Say of each call of `scope` that was no hit why."""
        return tuple(self.call(call) for call in scope.calls if call.outcome is not Outcome.HIT)

    def call(self, call: CallRecord) -> Explanation:
        """Say why one call was answered as it was.

        What differs from the nearest other entry is said only where the same request was not there.
        """
        if call.outcome is Outcome.HIT:
            why = ", ".join(filter(None, (f"a hit, from {call.tier or 'a call in flight'}", call.reason)))
            return Explanation(call.outcome, why, call.model, entry=call.entry_id[:_SHOWN_DIGITS])
        found = Explanation(call.outcome, _why(call), call.model, call.differs, call.entry_id[:_SHOWN_DIGITS])
        if call.outcome is Outcome.SIMILAR and call.similar_to:
            return self._likened(found, EntryId(call.entry_id), EntryId(call.similar_to))
        is_new = call.outcome is Outcome.MISS and call.reason in {"", STORES_NOTHING}
        is_missed_replay = bool(call.entry_id) and call.reason == f"replay: {_ABSENT}"
        return self._compared(found, EntryId(call.entry_id)) if is_new or is_missed_replay else found

    def _likened(self, found: Explanation, asked_id: EntryId, other_id: EntryId) -> Explanation:
        """Return `found` with both questions: what was asked, and what the answer was given to."""
        asked = self._recollection.get(asked_id)
        other = self._catalogue.known(other_id)
        own = self._described(asked)
        found = replace(
            found, reason=f"{found.reason}: the answer to another question", nearest=other_id[:_SHOWN_DIGITS]
        )
        if own is None or other is None:
            return found
        there = self._recollection.get(other_id)
        found = replace(found, differs=differing(own, other))
        if asked is None or there is None:
            previews = other.preview, own.preview
            return replace(found, diff=diff_of_previews(*previews), outline=outline_of_previews(*previews))
        requests = there.request, asked.request
        return replace(found, diff=diff_of(*requests), outline=outline_of(*requests))

    def entry(self, prefix: str) -> Explanation | None:
        """Say of an entry, named by the start of its id, whether it can be served, and what differs from the nearest.

        None if there never was any, as far as is known here.

        Raises
        ------
        ConfigurationError
            The prefix is none, or fits several.
        """
        ids = self._catalogue.traces(prefix)
        if len(ids) > 1:
            raise ConfigurationError(f"{prefix} fits {len(ids)} calls: give more digits")
        return self._of_entry(ids[0]) if ids else None

    def entries(self, asked: Iterable[tuple[str, str]]) -> tuple[Explanation, ...]:
        """Say the same of the calls of a run: their entry ids, and their models."""
        return tuple(
            self._of_entry(EntryId(entry_id), model)
            if entry_id
            else Explanation(None, "imported from a file: no entry was stored for it here", model)
            for entry_id, model in asked
        )

    def _of_entry(self, entry_id: EntryId, model: str = "") -> Explanation:
        known = self._catalogue.known(entry_id)
        why = self._catalogue.why_gone(entry_id)
        reason = _THERE if why is None else why.text
        called = model or ("" if known is None else known.label)
        return self._compared(Explanation(None, reason, called, entry=entry_id[:_SHOWN_DIGITS]), entry_id)

    def _compared(self, found: Explanation, entry_id: EntryId) -> Explanation:
        """Return `found` with what differs from the nearest entry that was there before."""
        asked = self._recollection.get(entry_id)
        own = self._catalogue.known(entry_id) or self._described(asked)
        if own is None:
            return found
        near = self._catalogue.nearest_entry(own, beside=entry_id)
        if near is None or not _is_alike(own, near.metadata):
            return replace(found, reason=f"{found.reason}; {_UNLIKE}") if found.reason != _THERE else found
        return replace(
            self._difference(found, own, asked, near),
            differs=differing(own, near.metadata),
            nearest=near.entry_id[:_SHOWN_DIGITS],
        )

    def _difference(self, found: Explanation, own: Metadata, asked: Recalled | None, near: Listed) -> Explanation:
        """Return `found` with what differs in words, and with the rules under which nothing would."""
        other = self._recollection.get(near.entry_id)
        rules = joining_keys(own.without_noise, near.metadata.without_noise)
        if asked is None or other is None:
            previews = near.metadata.preview, own.preview
            return replace(found, diff=diff_of_previews(*previews), outline=outline_of_previews(*previews), rules=rules)
        is_same_beside = replace(asked.request, body={}) == replace(other.request, body={})
        if not rules and is_same_beside and asked.space == other.space:
            rules = joining(other.request.body, asked.request.body, rule_names(asked.request.rules))
        requests = other.request, asked.request
        return replace(found, diff=diff_of(*requests), outline=outline_of(*requests), rules=rules)

    def _described(self, asked: Recalled | None) -> Metadata | None:
        try:
            return None if asked is None else asked.metadata(self._id_key)
        except UncacheableRequest:
            return None


def advice_on(rules: tuple[str, ...]) -> str:
    """Return what to do where two requests are one under `rules`; empty for none."""
    if not rules:
        return ""
    noise = " and ".join(_NOISE.get(rule, f"the field {rule}") for rule in rules)
    options = " ".join(f"--ignore {rule}" if rule in _NOISE else f"--ignore '{rule}'" for rule in rules)
    return f"the two differ only in {noise}: {options} would make this a hit, once an answer is stored under it"


def nearest_difference(catalogue: Catalogue, own: Metadata, *, beside: EntryId | None = None) -> tuple[str, ...]:
    """Return the names of the components in which a request differs from the nearest valid entry, `beside` aside."""
    near = catalogue.nearest(own, beside=beside)
    return () if near is None else differing(own, near)


def differing(own: Metadata, near: Metadata) -> tuple[str, ...]:
    """Return the names of the components in which two requests differ; of a list, the items that do."""
    names = {**own.components, **near.components}
    found = sorted(name for name in names if own.components.get(name) != near.components.get(name))
    lists = {name.partition("[")[0] for name in found if name.endswith("]")}
    return tuple(name for name in found if name not in lists)


def _is_alike(own: Metadata, near: Metadata) -> bool:
    """Return whether two requests have to do with each other: by their cell, or by what is asked."""
    if own.cell == near.cell or joining_keys(own.without_noise, near.without_noise):
        return True
    theirs = near.components
    shared = (name for name, digest in own.components.items() if theirs.get(name) == digest)
    if any(name.partition("[")[0] in _ASKED for name in shared):
        return True
    return difflib.SequenceMatcher(None, own.preview, near.preview, autojunk=False).ratio() > _ALIKE


def _why(call: CallRecord) -> str:
    """Return the reason in a record as a sentence that stands by itself, with the way out where there is one."""
    if call.outcome is Outcome.REFUSED:
        kind = next((kind for kind in STORE_KINDS if call.reason.endswith(kind)), "")
        return f"not stored: {call.reason}" + (f"; --store {kind} keeps it" if kind else "")
    if call.reason == STORES_NOTHING:
        return f"{_ABSENT}; {call.reason}"
    return call.reason or _ABSENT
