"""What each route answers, as JSON: blocking, and without a word of HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from genai_cache_magic import __version__
from genai_cache_magic.api.watching.alert_board import in_force
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Tier
from genai_cache_magic.jupyter.server.asked import (
    PREFIX_DIGITS,
    entries_of,
    page_of,
    place_of,
    prefix_of,
    selection_of,
)
from genai_cache_magic.jupyter.server.caches import NotHere, Unusable
from genai_cache_magic.jupyter.shown.words import counted, invalidated_in_words
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.ops.findings import worst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.calls.explain import Explanation
    from genai_cache_magic.core.model import EntryId, Response
    from genai_cache_magic.entries.listing.results import Invalidation, Listed
    from genai_cache_magic.jupyter.server.asked import Selection
    from genai_cache_magic.jupyter.server.caches import Caches

API = 1
MAX_BODY_CHARACTERS = 200_000
_NOT_ALLOWED = (
    "how they differ is told to those who may read what was asked, which the authorizer of this server does not let you"
)
_NEVER = "nothing of this call is stored here, so there is nothing to compare it with"
_UNLIKE = "nothing like it is stored"
_GONE = "this answer is not in the cache any more: it expired, was invalidated or removed"
_LISTED_TAGS = {"user": "tags", "run": "runs", "person": "persons"}
_MAX_TAGS = 500

Given = dict[str, Any]


def health(caches: Caches, given: Given) -> dict[str, Any]:
    """Return whether the cache can be used, and the team's tier reached; trouble is part of the answer."""
    answer: dict[str, Any] = {"version": __version__, "api": API, "namespace": "", "store": "", "notes": []}
    try:
        cache = caches.cache(place_of(given))
    except Unusable as exc:
        return {**answer, "l1": _state("broken", str(exc)), "l2": _state("unknown", "")}
    stands_alone = bool(caches.session().settings.l2) and cache.team is None
    l1 = _state("ok", "")
    try:
        cache.catalogue.rows.present()
    except StoreUnavailable as exc:
        l1 = _state("broken", str(exc))
    l2 = _l2_health(cache, stands_alone=stands_alone)
    told = [sentence for sentence in caches.told(cache.namespace) if sentence != l2["sentence"]]
    notes = [*in_force(cache.parts.file), *told]
    if stands_alone:
        l2["sentence"] = next((note for note in notes if note.startswith("L2 ")), l2["sentence"])
    return {**answer, **_whose(cache), "l1": l1, "l2": l2, "notes": notes}


def stats(caches: Caches, given: Given) -> dict[str, Any]:
    """Return how much the cache holds, by model, tag, run and person."""
    cache = caches.cache(place_of(given))
    found = cache.stats()
    tags = cache.catalogue.tags()
    return {
        **_whose(cache),
        "entries": found.entries,
        "size_bytes": found.size_bytes,
        "oldest": _time(found.oldest),
        "newest": _time(found.newest),
        "models": [{"name": name, "count": count} for name, count in found.by_model.items()],
        **{
            name: [{"name": tag, "count": n} for tag, n in list(tags.get(kind, {}).items())[:_MAX_TAGS]]  # type: ignore[call-overload]
            for kind, name in _LISTED_TAGS.items()
        },
    }


def usage(caches: Caches, given: Given) -> dict[str, Any]:
    """Return what calls came to between two days: spent, saved, hits, misses, tokens."""
    cache = caches.cache(place_of(given))
    found = cache.usage(given.get("since"), given.get("until"), by=given.get("by", ("day", "model")), team=False)
    return {**_whose(cache), **found.as_json()}


def entries(caches: Caches, given: Given) -> dict[str, Any]:
    """Return a page of what is stored, the newest first."""
    cache = caches.cache(place_of(given))
    page = page_of(given)
    total, found = cache.catalogue.page(page.listing, offset=page.offset, limit=page.limit)
    items = [_item(listed) for listed in found]
    return {**_whose(cache), "total": total, "offset": page.offset, "limit": page.limit, "entries": items}


def entry(caches: Caches, given: Given) -> dict[str, Any]:
    """Return what is known of one entry, without opening it."""
    cache = caches.cache(place_of(given))
    return {**_whose(cache), "entry": _item(_listed(cache, given))}


def body(caches: Caches, given: Given) -> dict[str, Any]:
    """Return an answer as text, and the beginning of what was asked. SECURITY: both are untrusted, never markup."""
    cache = caches.cache(place_of(given))
    listed = _listed(cache, given)
    response = cache.stored(listed.entry_id)
    if response is None:
        raise NotHere(_GONE)
    text = _text(response)
    return {
        "id": listed.entry_id[:PREFIX_DIGITS],
        "asked": listed.metadata.preview,
        "text": text[:MAX_BODY_CHARACTERS],
        "is_truncated": len(text) > MAX_BODY_CHARACTERS,
        "size_bytes": len(response.body),
    }


def live(caches: Caches, given: Given) -> dict[str, Any]:
    """Return what no saved notebook holds of the entries that it names: age, latency, tier, whether they are valid."""
    cache = caches.cache(place_of(given))
    names = entries_of(given)
    found = cache.catalogue.resolved(names)
    now = datetime.now(UTC).timestamp()
    facts: dict[str, Any] = {name: {"state": "absent"} for name in names}
    for name, entry_id in found.items():
        listed = cache.catalogue.listed(entry_id)
        if listed is not None:
            age_s = max(0.0, now - listed.header.created_ms / 1000)
            tier = Tier.L1 if listed.is_here else Tier.L2
            latency_s = listed.metadata.latency_s
            facts[name] = {"state": "valid", "age_s": age_s, "latency_s": latency_s, "tier": tier.value}
    return {"entries": facts, "notes": []}


def explain(caches: Caches, given: Given, *, shows_text: bool = False) -> dict[str, Any]:
    """Return in which parts a call's request differs from the nearest stored one, how, and what became of its answer.

    SECURITY: how is told to those alone who may read prompts (`shows_text`).
    """
    cache = caches.cache(place_of(given))
    found = cache.explainer.entry(prefix_of(given.get("entry")))
    if found is None:
        raise NotHere(_NEVER)
    told = told_of(found, shows_text=shows_text)
    # Why it was none then stands in the report; here stands what became of it since.
    since = found.reason if not found.is_there else "" if found.differs else _UNLIKE
    notes = [*([since] if since else []), *told["notes"]]
    return {**told, "reason": "", "notes": notes}


def told_of(found: Explanation, *, shows_text: bool) -> dict[str, Any]:
    """Return an explanation as a view shows it; it is never saved."""
    diff = list(found.diff if shows_text else found.outline)
    hidden = [_NOT_ALLOWED] if found.diff and not shows_text else []
    advice = [found.advice] if found.advice else []
    return {"reason": found.reason, "differs": list(found.differs), "diff": diff, "notes": [*hidden, *advice]}


def invalidate(caches: Caches, given: Given) -> dict[str, Any]:
    """Make entries invalid, or count them first, which is what a request without `dry_run` gets."""
    cache = caches.cache(place_of(given))
    selection = selection_of(given)
    if selection.by == "entries":
        done, missing = _invalidate_entries(cache, selection)
    else:
        done, missing = _invalidate(cache, selection), 0
    return {
        **_whose(cache),
        "count": done.count,
        "known": done.known,
        "dry_run": done.dry_run,
        "published": done.published,
        "sentence": _sentence(done, missing),
    }


def config(caches: Caches, given: Given) -> dict[str, Any]:
    """Return every setting with its source, secrets masked, as `%llm_cache config` shows it."""
    del given
    found = caches.session().describe()
    settings = [{"name": line.name, "value": line.value, "source": line.source} for line in found.lines]
    return {"settings": settings, "notes": list(found.notes)}


def doctor(caches: Caches, given: Given) -> dict[str, Any]:
    """Return what `genai-cache doctor` finds: of configuration, key, L1 and L2 a sentence each, with what to do."""
    found = examine(caches.unread(), place_of(given).namespace or None)
    return {"ok": worst(found) is Severity.OK, "findings": [finding.as_json() for finding in found]}


def _whose(cache: Cache) -> dict[str, Any]:
    return {"namespace": cache.namespace, "store": cache.fingerprint}


def _state(state: str, sentence: str) -> dict[str, str]:
    return {"state": state, "sentence": sentence}


def _l2_health(cache: Cache, *, stands_alone: bool) -> dict[str, str]:
    if cache.team is None:
        apart = "a team tier is configured, and not used: answers stay on this machine"
        return _state("unreachable", apart) if stands_alone else _state("none", "")
    trouble = cache.team.trouble()
    if trouble:
        return _state("unreachable", trouble)
    return _state("behind", "invalidations wait to be told to the team") if cache.team.is_behind else _state("ok", "")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _item(listed: Listed) -> dict[str, Any]:
    """Return what a listing shows of an entry. Its prompt is part of its body, which has a permission of its own."""
    of, header = listed.metadata, listed.header
    stored = header.created_ms // 1000
    return {
        "id": listed.entry_id[:PREFIX_DIGITS],
        "name": of.key or of.label,
        "model": of.model,
        "provider": of.provider,
        "surface": of.surface,
        "stored": _time(datetime.fromtimestamp(stored, UTC)),
        "expires": _expiry(stored + header.ttl_s),
        "input_tokens": of.usage.input_tokens,
        "cached_input_tokens": of.usage.cached_input_tokens,
        "output_tokens": of.usage.output_tokens,
        "cost_usd": None if of.cost_usd is None else f"{of.cost_usd:f}",
        "latency_s": of.latency_s,
        "sample": of.sample,
        "tags": list(of.tags),
        "run": of.run,
        "person": of.person,
    }


def _expiry(seconds: int) -> str | None:
    try:
        return _time(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return None  # later than calendars go


def _listed(cache: Cache, given: Given) -> Listed:
    prefix = prefix_of(given.get("entry"))
    entry_id = cache.catalogue.resolved([prefix]).get(prefix)
    listed = None if entry_id is None else cache.catalogue.listed(entry_id)
    if listed is None:
        raise NotHere(_GONE)
    return listed


def _text(response: Response) -> str:
    if b"\0" in response.body:
        return f"({counted(len(response.body), 'byte')} that are no text)"
    return response.body.decode("utf-8", "replace")


def _invalidate_entries(cache: Cache, selection: Selection) -> tuple[Invalidation, int]:
    """Make the named entries invalid; return also how many of them are not there any more."""
    found: Mapping[str, EntryId] = cache.catalogue.resolved(selection.entries)
    ids = set(found.values())
    missing = len(selection.entries) - len(found)
    if selection.cell:
        return cache.catalogue.invalidate_cell(selection.cell, ids, dry_run=selection.dry_run), missing
    return cache.catalogue.invalidate_ids(ids, dry_run=selection.dry_run), missing


def _invalidate(cache: Cache, selection: Selection) -> Invalidation:
    value, dry_run = selection.value, selection.dry_run
    if selection.kind is not None:
        return cache.invalidate_tag(value, kind=selection.kind, dry_run=dry_run)
    if selection.by == "older_than":
        return cache.invalidate_older_than(value, dry_run=dry_run)
    return cache.invalidate(value, dry_run=dry_run)


def _sentence(done: Invalidation, missing: int) -> str:
    gone = f"; {counted(missing, 'answer is', 'answers are')} not in the cache any more" if missing else ""
    return f"{invalidated_in_words(done)}{gone}"
