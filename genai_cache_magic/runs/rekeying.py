"""Recorded calls as they are found under rules about noise, with which they were not recorded."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from genai_cache_magic.calls.keyed import MOST_S
from genai_cache_magic.core.ignoring import ignoring
from genai_cache_magic.core.model import Request
from genai_cache_magic.core.portable import portable_digest
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest
from genai_cache_magic.providers.reading import as_object
from genai_cache_magic.runs.lines import CallName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.runs.lines import RecordedCall


def under_rules(calls: Iterable[RecordedCall], rules: tuple[str, ...]) -> list[RecordedCall]:
    """Return `calls` so that who asks under `rules` finds them; requests that become equal are further samples of one.

    A call that was recorded under rules, or of which only a digest is known, stays as it is: what was asked can't be
    made of it.

    Raises
    ------
    ConfigurationError
        A rule takes too long on a request.
    """
    found: list[RecordedCall] = []
    samples: Counter[str] = Counter()
    for call in calls:
        form = call.request
        if not rules or form is None or form.get("rules"):
            found.append(call)
            continue
        keyed = _without_noise(form, rules)
        digest = portable_digest(keyed)
        found.append(replace(call, name=CallName(digest, samples[digest]), request=keyed))
        samples[digest] += 1
    return found


def _without_noise(form: JsonObject, rules: tuple[str, ...]) -> JsonObject:
    media = form.get("media")
    request = Request(
        str(form.get("surface")),
        str(form.get("origin")),
        str(form.get("model")),
        as_object(form.get("body")),
        media=tuple(map(str, media)) if isinstance(media, list) else (),
    )
    ends = time.thread_time() + MOST_S
    try:
        keyed = ignoring(request, rules, is_late=lambda: time.thread_time() > ends)
    except UncacheableRequest as exc:
        raise ConfigurationError("a rule of --ignore takes too long on a request of this file: leave it out") from exc
    return {**form, "body": keyed.body, "rules": list(keyed.rules)}
