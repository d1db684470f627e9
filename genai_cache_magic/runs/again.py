"""Recorded calls, asked again: which can be, and a desk that lets only those pass that come to what was recorded.

A run file holds the request as its key has it. Where a part of it is a digest, a mark, or was left out, nobody can say
any more what was sent, so it is not asked again. Nor is a request that would go elsewhere: a file can't name a host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic import host
from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.credentials import readable
from genai_cache_magic.core.ignoring import OPEN
from genai_cache_magic.errors import NotSent
from genai_cache_magic.providers.reading import as_object
from genai_cache_magic.runs.differences import nearest
from genai_cache_magic.runs.watching import Asked

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Begins, Step
    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.providers.base import ModelCall, Origins
    from genai_cache_magic.runs.lines import RecordedCall

NO_REQUEST: Final = "of which a digest is recorded, not what was asked"

_PATHS: Final = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "openai.completions": "/v1/completions",
    "openai.embeddings": "/v1/embeddings",
    "anthropic.messages": "/v1/messages",
}
_LONGEST: Final = 120


class Again(NamedTuple):
    """A recorded request, as it is sent again."""

    path: str
    body: JsonObject
    digest: str

    def __repr__(self) -> str:
        """Leave the content out."""
        return f"<Again {self.path} {self.digest[:8]}>"


def again(call: RecordedCall) -> Again | str:
    """Return what is to be sent to ask `call` again, or, in words, why nobody can."""
    form = call.request
    if form is None:
        return NO_REQUEST
    path = _PATHS.get(call.surface)
    if path is None:
        return f"of the wire API {_shown(call.surface)}, which is not asked here"
    body = as_object(form.get("body"))
    # SECURITY: what stands in the place of a credential is none, and nobody's server is to get it as one.
    hidden = "" if readable(body) is body else "credentials or queries of addresses"
    if digests := "images, sounds or files" if form.get("media") else hidden:
        return f"with {digests}, of which digests are recorded"
    if form.get("rules") and OPEN in dumps(body).decode():
        return "with noise, of which --ignore left marks"
    if form.get("ignored"):
        return "of which the configuration left fields out"
    model = form.get("model")
    return Again(path, {**body, "model": model} if model else body, call.name.digest)


class OnlyAsRecorded:
    """The answers of `inner`, for such calls alone as are recorded in `calls`.

    How many others there were, by what tells them from the nearest that is recorded, is added to `left_out`.
    """

    def __init__(self, inner: Answers, calls: Sequence[RecordedCall], left_out: Counter[str]) -> None:
        self._inner = inner
        self._calls = calls
        self._digests = frozenset(call.name.digest for call in calls)
        self._lock = host.process_lock()
        self._left_out = left_out  # guarded by _lock

    @property
    def calls(self) -> Begins:
        """Decides what becomes of each model call."""
        return _OnlyDesk(self._inner.calls, self)

    @property
    def origins(self) -> Origins:
        """What is known of origins."""
        return self._inner.origins

    def check(self, asked: Asked) -> None:
        """Raise ``NotSent`` unless `asked` is recorded."""
        if asked.digest in self._digests and not asked.call.follows:
            return
        why = self._why(asked)
        with self._lock:
            self._left_out[why] += 1
        raise NotSent(f"{asked.call.request.model or asked.call.request.surface}: {why}")

    def _why(self, asked: Asked) -> str:
        if asked.call.follows:
            return "that go on from an earlier answer, by its id"
        near = nearest(asked.form, self._calls)
        differs, recorded = near if near is not None else ((), {})
        if "origin" in differs:
            return (
                f"recorded at {_shown(recorded.get('origin'))}, where your environment asks "
                f"{_shown(asked.form['origin'])}"
            )
        return f"that would be asked with other {', '.join(differs) or 'parts'} than were recorded"


class _OnlyDesk:
    """Begins calls as `inner` does, if they are recorded."""

    def __init__(self, inner: Begins, recorded: OnlyAsRecorded) -> None:
        self._inner = inner
        self._recorded = recorded

    def begin(self, call: ModelCall, scope: CellScope, *, is_async: bool) -> Step:
        """Return the first step of `call`; raises ``NotSent``."""
        asked = Asked.of(call, scope)
        self._recorded.check(asked)
        return self._inner.begin(asked.call, scope, is_async=is_async)


def _shown(text: object) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:_LONGEST])
