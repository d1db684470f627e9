"""What this process asked a moment ago, so that it can be explained: in memory alone, and only so much of it."""

from __future__ import annotations

import functools
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host
from genai_cache_magic.core import key
from genai_cache_magic.core.canonical import component_digests, components_beside_body, dumps
from genai_cache_magic.core.key import entry_id, keyed_digest
from genai_cache_magic.core.model import KeySpace, Metadata
from genai_cache_magic.core.noise import length_of, without_noise

if TYPE_CHECKING:
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import EntryId, Request

MOST_CALLS: Final = 1_000
MOST_CHARS: Final = 8 * 1024**2

_MOST_FRAMES: Final = 64
"""Of what stands beside the body in so many requests the digests are remembered."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A request as its key has it, with what else decides its entry id.

    Attributes
    ----------
    given_out
        JSON pointers to the ids in its body that an origin gave out.
    """

    request: Request = field(repr=False)
    space: KeySpace = field(repr=False)
    cell: str = field(repr=False)
    preview: str = field(repr=False)
    given_out: tuple[str, ...] = field(repr=False, default=())

    @classmethod
    def of(cls, lead: Lead, namespace: str) -> Recalled:
        """Return what `lead` asks."""
        call, scope = lead.call, lead.scope
        space = KeySpace(namespace, scope.options.salt, lead.sample)
        return cls(call.as_keyed, space, scope.cell, call.preview, tuple(one.path for one in call.follows))

    def components(self, id_key: bytes) -> dict[str, str]:
        """Return a keyed digest of each component of the request; raises ``UncacheableRequest``."""
        beside: dict[str, str] | None = None
        with suppress(TypeError):  # a list, by a provider of another package's: can't be told from what it becomes
            beside = _digests(components_beside_body(self.request, self.space), id_key)
        return component_digests(self.request, self.space, lambda data: keyed_digest(data, id_key), beside=beside)

    def without_noise(self, id_key: bytes) -> dict[str, str]:
        """Return the keys that the request would have under shipped rules that find noise in it."""
        return without_noise(self.request, self.space, lambda data: entry_id(data, id_key), self.given_out)

    def metadata(self, id_key: bytes) -> Metadata:
        """Return what an entry for it would say; raises ``UncacheableRequest``."""
        return Metadata(
            surface=self.request.surface,
            model=self.request.model,
            cell=self.cell,
            preview=self.preview,
            components=self.components(id_key),
            without_noise=self.without_noise(id_key),
        )


class Recollection:
    """The requests that went to models last, by their entry ids. Safe to share between threads."""

    def __init__(self, most_chars: int = MOST_CHARS) -> None:
        self._most_chars = most_chars
        self._lock = host.process_lock()
        self._known: OrderedDict[EntryId, tuple[Recalled, int]] = OrderedDict()  # guarded by _lock, like the next
        self._chars = 0

    def __repr__(self) -> str:
        return f"<{len(self._known)} requests>"

    def note(self, asked: EntryId, what: Recalled) -> None:
        """Remember a request, and forget what was asked longest ago if that is too much."""
        chars = length_of(what.request.body)
        with self._lock:
            if asked in self._known:
                self._chars -= self._known.pop(asked)[1]
            self._known[asked] = what, chars
            self._chars += chars
            while self._known and (len(self._known) > MOST_CALLS or self._chars > self._most_chars):
                self._chars -= self._known.popitem(last=False)[1][1]

    def get(self, asked: EntryId) -> Recalled | None:
        """Return a request, None if it is not known any more."""
        with self._lock:
            found = self._known.get(asked)
        return None if found is None else found[0]


def let_go() -> None:
    """Forget what was keyed of requests, and the keys, as `core.key.let_go` does."""
    _digests.cache_clear()
    key.let_go()


@functools.lru_cache(maxsize=_MOST_FRAMES)
def _digests(components: tuple[tuple[str, Any], ...], id_key: bytes) -> dict[str, str]:
    """Return the digests of what is beside a body, which nobody may change; raises ``UncacheableRequest``."""
    return {name: keyed_digest(dumps((name, value)), id_key) for name, value in components}
