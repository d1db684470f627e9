"""What is kept of a model call: the answer that is found for it, and the entry that is made of a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.chains import Chains
from genai_cache_magic.calls.keyed import keyed
from genai_cache_magic.calls.pricing import cost_of
from genai_cache_magic.calls.recalling import Recalled, Recollection
from genai_cache_magic.calls.similar import may_be_learnt, may_be_similar
from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import Entry, EntryId, Header, KeySpace, Metadata, Request, Response
from genai_cache_magic.core.options import Mode
from genai_cache_magic.core.policy import Fetch, Filled, Refuse, Why, admissible
from genai_cache_magic.core.validity import ENTRY_RECORD_LIFE_MS
from genai_cache_magic.entries.filling import Wanted
from genai_cache_magic.entries.given import GivenIds
from genai_cache_magic.errors import EntryUndecodable, StoreUnavailable
from genai_cache_magic.events import Outcome, model_name, trouble
from genai_cache_magic.providers.base import Answer, Divides, End, ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from genai_cache_magic.calls.alike import Similar
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.similar import Likens
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.entries.entries import Entries, Found
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.team.tier import Team

_LEAST_LIFE_MS: Final = 1000
"""An answer that dies sooner is of no use to anyone else [ms]."""

_MOST_IDS: Final = 16
"""So many entry ids of one call are remembered: those of its samples, and of its scopes' salts."""

STORES_NOTHING = "mode read stores nothing"


@dataclass(frozen=True, slots=True)
class Limits:
    """Default time to live [s] and the largest answer that is stored [bytes]."""

    ttl_s: int = 30 * 86_400
    max_response_bytes: int = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an answer: stored or why not, and whether those who wait may have it."""

    outcome: Outcome
    reason: str = ""
    is_stored: bool = False
    is_shareable: bool = False
    is_outdated: bool = False


class Keeper:
    """Finds, judges and stores the answers of one namespace's calls. Safe to share between threads."""

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        entries: Entries,
        keys: Keys,
        limits: Limits,
        *,
        clock: Callable[[], float],
        recollection: Recollection | None = None,
        likens: Likens | None = None,
        team: Team | None = None,
    ) -> None:
        self.limits = limits
        self._likens = likens
        self._team = team
        self._recollection = Recollection() if recollection is None else recollection
        self._entries = entries
        self._keys = keys
        self._clock = clock
        self._chains = Chains(GivenIds(entries, keys))

    def resolved(self, call: ModelCall, scope: CellScope) -> ModelCall:
        """Return `call` with what the ids that its origin gave out stand for, and without noise in its key.

        Raises ``UncacheableRequest`` where the rules about noise take too long.
        """
        return keyed(self._chains.resolved(call, scope.emit), scope.options)

    def request_id(self, call: ModelCall, scope: CellScope, sample: int = 0) -> EntryId:
        """Return the entry id of `call` for a sample index."""
        keys, salt = self._keys, scope.options.salt
        made_of = (keys.namespace, keys.id_key, salt, sample)
        if (known := call.ids.get(made_of)) is None:
            if len(call.ids) >= _MOST_IDS:
                call.ids.clear()
            space = KeySpace(keys.namespace, salt, sample)
            known = call.ids[made_of] = entry_id(canonical_bytes(call.as_keyed, space), keys.id_key)
        return known

    def known_id(self, call: ModelCall, salt: str) -> EntryId | None:
        """Return the entry id of `call` for its first sample if it was made before, else None."""
        keys = self._keys
        return call.ids.get((keys.namespace, keys.id_key, salt, 0))

    def find(self, lead: Lead, *, is_last: bool = True) -> Found | Fetch:
        """Return the stored answer in the form that its caller wants, or why there is none: see `find_call`."""
        found = self._entries.find_call(
            lead.entry_id,
            ttl_s=lead.scope.options.ttl_s,
            scope_tags=self.scope_tags(lead),
            tell=lead.scope.emit,
            is_last=is_last,
        )
        lead.is_missed_here = isinstance(found, Fetch)
        return found if isinstance(found, Fetch) else self._suited(lead, found)

    def look_for_similar(self, lead: Lead, deliver: Callable[[Similar | None], None]) -> bool:
        """Look for the answer to a similar question, if `lead` may get one, and `deliver` it; return whether."""
        if self._likens is None or not may_be_similar(lead) or self.is_refused(lead):
            return False
        self._likens.look(lead, lambda entry_id: self._find_other(lead, entry_id), deliver)
        return True

    def _find_other(self, lead: Lead, entry_id: EntryId) -> Found | None:
        """Return what is stored under another id, here or with the team, judged as if `lead` had asked for it."""
        ttl_s, scope_tags, tell = lead.scope.options.ttl_s, self.scope_tags(lead), lead.scope.emit
        found = self._entries.find_call(entry_id, ttl_s=ttl_s, scope_tags=scope_tags, tell=tell)
        if isinstance(found, Fetch) and self._team is not None:
            envelope = self._team.looked_up([entry_id])[entry_id].envelope
            if envelope is not None:
                found = self._entries.take_in(entry_id, envelope, ttl_s=ttl_s, scope_tags=scope_tags, tell=tell)
        suited = found if isinstance(found, Fetch) else self._suited(lead, found)
        return None if isinstance(suited, Fetch) else suited

    def note_question(self, lead: Lead, header: Header) -> None:
        """Let others find the answer to `lead` by what it asks, if its scope compares questions."""
        if self._likens is not None and may_be_learnt(lead):
            self._likens.learn(lead, lead.entry_id, header)

    def take_in(self, lead: Lead, envelope: bytes) -> Found | Fetch:
        """Return, as `find`, what the team has stored, and store it here too."""
        found = self._entries.take_in(
            lead.entry_id,
            envelope,
            ttl_s=lead.scope.options.ttl_s,
            scope_tags=self.scope_tags(lead),
            tell=lead.scope.emit,
        )
        return found if isinstance(found, Fetch) else self._suited(lead, found)

    def life_s(self, lead: Lead, envelope: bytes | None = None) -> int:
        """Return how long what is stored for `lead`, here or in `envelope`, may live in all [s]; 0 if it may not."""
        return max(self._entries.life_s(lead.entry_id, blob) for blob in {None, envelope})

    def scope_tags(self, lead: Lead) -> list[bytes]:
        """Return the keyed tags that the scope of `lead` names."""
        return self.keyed_tags(lead.scope.options.tags)

    def keyed_tags(self, tags: Iterable[str]) -> list[bytes]:
        """Return the keyed ones of tags that a scope names."""
        return [self._keys.tag("user", tag) for tag in tags] if tags else []

    def _suited(self, lead: Lead, found: Found) -> Found | Fetch:
        try:
            if lead.batch is not None and not self._are_valid(lead.batch.ids, found.sealed.header):
                return Fetch(Why.INVALIDATED)
            is_same = found.sealed.account().asked == lead.call.wants.asked
        except EntryUndecodable as exc:
            lead.scope.emit(trouble("L1", exc))
            return Fetch(Why.DAMAGED)
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
            return Fetch(Why.ABSENT)
        # Who asks in the very same form gets what was received, and others what can be made of it.
        rendered = found.response if is_same else lead.call.provider.render(found.response, lead.call.wants)
        if rendered is found.response:
            return found
        return Fetch(Why.UNSUITED) if rendered is None else replace(found, response=rendered)

    def _are_valid(self, entry_ids: Iterable[EntryId], header: Header) -> bool:
        """Tell whether what has this `header` would be valid under each of these ids, too."""
        generations = self._entries.generations.current()
        return all(generations.is_valid(one, header) for one in dict.fromkeys(entry_ids))

    def part_ids(self, call: ModelCall, division: Divides, scope: CellScope) -> tuple[EntryId, ...]:
        """Return the entry id of each item of `call`; raises ``UncacheableRequest``."""
        keys, salt = self._keys, scope.options.salt
        made_of = (keys.namespace, keys.id_key, salt, *sorted(call.as_keyed.rules), *scope.options.ignore)
        if (known := call.part_ids.get(made_of)) is None:
            space = KeySpace(keys.namespace, salt, 0)
            if scope.options.ignore:
                parts = [keyed(division.call_of(call, [place]), scope.options) for place in range(len(division.items))]
                requests: Iterable[Request] = [part.as_keyed for part in parts]
            else:
                requests = division.requests(call)
            known = tuple(entry_id(canonical_bytes(request, space), keys.id_key) for request in requests)
            call.part_ids.clear()
            call.part_ids[made_of] = known
        return known

    def invalidate_all(self, lead: Lead, entry_ids: Collection[EntryId]) -> None:
        """Publish that `entry_ids`, which are of `lead`, are out of date; trouble is told to its scope."""
        try:
            # Published before the origin is asked, or this very answer would be born invalid.
            self._entries.publish(entry_ids)
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))

    def stamp(self, lead: Lead) -> Lead:
        """Give `lead` the birth stamp of the answer that it is about to ask for."""
        try:
            lead.stamp, lead.stamped_ms = self._entries.stamp(), self._entries.now_ms()
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
        return lead

    def is_refused(self, lead: Lead) -> bool:
        """Tell whether the answer to `lead` must not be stored, whatever it will be."""
        decision = admissible(End.COMPLETE, lead.call.refused, lead.scope.options.store)
        return isinstance(decision, Refuse)

    def keep(self, lead: Lead, response: Response, answer: Answer) -> Verdict:
        """Store the answer to `lead` if it is admissible, and say what became of it."""
        left = self.left_out(lead, response, answer, self.limits.max_response_bytes)
        return self._store(lead, response, answer) if left is None else left

    def left_out(self, lead: Lead, response: Response, answer: Answer, limit_bytes: int) -> Verdict | None:
        """Return why the answer to `lead`, which may take `limit_bytes`, is not to be stored; None if it is."""
        options = lead.scope.options
        decision = admissible(answer.end, (*lead.call.refused, *answer.refused), options.store)
        if isinstance(decision, Refuse):
            return Verdict(Outcome.REFUSED, decision.reason)
        if options.mode is Mode.READ:
            self._recall(lead)
            return Verdict(Outcome.MISS, STORES_NOTHING)
        if len(response.body) > limit_bytes:
            return Verdict(Outcome.REFUSED, "too large", is_shareable=True)
        if answer.dies_s is not None and answer.dies_s * 1000 - self._entries.now_ms() < _LEAST_LIFE_MS:
            return Verdict(Outcome.REFUSED, "what it holds dies at once", is_shareable=True)
        return self._too_late(lead)

    def _too_late(self, lead: Lead) -> Verdict | None:
        if lead.stamp is None:
            return Verdict(Outcome.REFUSED, "cache unavailable", is_shareable=True)
        if self._entries.now_ms() - lead.stamped_ms >= ENTRY_RECORD_LIFE_MS:
            # What invalidated it meanwhile may be forgotten again: kernels sleep in the middle of a call.
            return Verdict(Outcome.MISS, "asked for more than a day ago", is_outdated=True)
        return None

    def _store(self, lead: Lead, response: Response, answer: Answer) -> Verdict:
        wanted = Wanted(
            lead.scope.options.ttl_s,
            self.scope_tags(lead),
            lambda stored: lead.call.provider.render(stored, lead.call.wants) is None,
            is_new=lead.why is Why.ABSENT and lead.is_missed_here,
        )
        try:
            entry = self.entry(lead, response, answer)
            filled = self._entries.fill(lead.entry_id, entry, wanted)
        except EntryUndecodable:
            return Verdict(Outcome.REFUSED, "can't be stored faithfully")
        except StoreUnavailable as exc:
            lead.scope.emit(trouble("L1", exc))
            return Verdict(Outcome.REFUSED, "cache unavailable", is_shareable=True)
        if filled is not Filled.OUTDATED:
            self._chains.learn(lead.call, lead.entry_id, response, entry.header, lead.scope.emit)
        if filled is Filled.STORED:
            self.note_question(lead, entry.header)
            return Verdict(Outcome.MISS, is_stored=True, is_shareable=True)
        # Who began to wait after the invalidation must not get what was asked before it.
        is_outdated = filled is Filled.OUTDATED
        return Verdict(Outcome.MISS, filled.value, is_shareable=not is_outdated, is_outdated=is_outdated)

    def entry(self, lead: Lead, response: Response, answer: Answer) -> Entry:
        """Return what is stored of the answer to `lead`, which has a stamp."""
        call, scope, options = lead.call, lead.scope, lead.scope.options
        model = model_name(answer.model or call.request.model)
        label = model or call.request.surface
        named: dict[TagKind, str] = {"run": options.run, "cell": scope.cell, "model": label, "person": scope.person}
        tags = [self._keys.tag("user", tag) for tag in options.tags]
        tags += [self._keys.tag(kind, name) for kind, name in named.items() if name]
        ttl_s = max(options.ttl_s or self.limits.ttl_s, lead.life_s)
        if answer.dies_s is not None:
            ttl_s = min(ttl_s, int(answer.dies_s - self._entries.now_ms() / 1000))
        header = self._entries.header(lead.stamp, ttl_s=ttl_s, tags=tags)  # type: ignore[arg-type]  # see `left_out`
        recalled = self._recall(lead)
        metadata = Metadata(
            surface=call.request.surface,
            provider=call.provider.vendor,
            model=model,
            origin=call.request.origin,
            tags=options.tags,
            run=options.run,
            cell=scope.cell,
            person=scope.person,
            sample=lead.sample,
            usage=answer.usage,
            cost_usd=cost_of(lead, answer, now_ms=self._entries.now_ms()),
            latency_s=round(self._clock() - lead.started, 6),
            preview=call.preview,
            asked=call.wants.asked,
            components=recalled.components(self._keys.id_key),
            without_noise=recalled.without_noise(self._keys.id_key),
        )
        return Entry(header, metadata, response)

    def described(self, lead: Lead) -> Metadata:
        """Return what an entry for `lead` would say of its request, and remember that, to explain it."""
        return self._recall(lead).metadata(self._keys.id_key)

    def _recall(self, lead: Lead) -> Recalled:
        recalled = Recalled.of(lead, self._keys.namespace)
        if not lead.is_part:  # or the texts of one batch would drive all else out
            self._recollection.note(lead.entry_id, recalled)
        return recalled
