"""What the view of a cell, and the panel, ask of the kernel: a server's routes, over the kernel's own session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import Tier
from genai_cache_magic.jupyter.server import answers
from genai_cache_magic.jupyter.server.asked import PREFIX_DIGITS, place_of
from genai_cache_magic.jupyter.server.caches import Caches, OtherCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.jupyter.server.asked import Place

_PANEL = ("stats", "usage", "entries", "invalidate")


class KernelCaches(Caches):
    """The caches of this kernel's session, which nobody else closes or reads anew."""

    def session(self) -> Session:
        """Return the session of this process."""
        return current_session()

    def cache(self, place: Place) -> Cache:
        """Return the cache that is meant; raises `OtherCache`, `Unusable`."""
        try:
            return super().cache(place)
        except OtherCache as exc:
            raise OtherCache(
                "this kernel has another cache than the one that the cell was run with: nothing was changed. "
                "Run the cell again, or give the kernel the settings (directory, key, L2, namespace) of that run"
            ) from exc

    def _found_anew(self, place: Place) -> None:  # noqa: ARG002 - the signature of what it replaces
        """Look no further: a kernel has the settings that it read, whatever others would read now."""
        return


@dataclass(frozen=True, slots=True)
class CellControls:
    """Answers the view of one cell.

    Attributes
    ----------
    ask_fresh
        Lets the next run of the cell ask the models anew.
    """

    scope: CellScope
    ask_fresh: Callable[[], None] = field(repr=False)
    caches: KernelCaches = field(default_factory=KernelCaches, repr=False)

    def __call__(self, path: str, body: dict[str, Any], /) -> dict[str, Any]:
        """Return what is answered; raises ``GenaiCacheError`` with a sentence."""
        by_path = {"invalidate": self._invalidate, "explain": self._explain, "live": self._live, "rerun": self._rerun}
        if path not in by_path:
            raise ConfigurationError(f"{path} is nothing that this view can be asked for")
        return by_path[path](body)

    def _invalidate(self, body: dict[str, Any]) -> dict[str, Any]:
        return answers.invalidate(self.caches, self._placed(body))

    def _explain(self, body: dict[str, Any]) -> dict[str, Any]:
        entry = body.get("entry", "")
        call = next((c for c in self.scope.calls if entry and c.entry_id.startswith(entry)), None)
        if call is None:
            raise ConfigurationError("this call is not known in the kernel any more: run the cell again")
        cache = self.caches.cache(place_of(self._placed({})))
        return answers.told_of(cache.explainer.call(call), shows_text=True)

    def _live(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of the entries, with the latency of this cell's own calls, and where each was found."""
        calls = {call.entry_id[:PREFIX_DIGITS]: call for call in self.scope.calls if call.entry_id}
        if not calls:
            return {"entries": {}, "notes": []}
        lies_under = {entry: call.answer_id[:PREFIX_DIGITS] for entry, call in calls.items()}
        found = answers.live(self.caches, self._placed({**body, "entries": list(lies_under.values())}))
        told: dict[str, Any] = {}
        for entry, call in calls.items():
            facts = dict(found["entries"][lies_under[entry]])
            if call.tier is Tier.FILE:
                facts.clear()  # the cache may well lack what a run file answered
            elif call.tier is not None:
                facts["tier"] = call.tier.value
            told[entry] = {**facts, "latency_s": call.latency_s}
        return {**found, "entries": told}

    def _rerun(self, body: dict[str, Any]) -> dict[str, Any]:
        del body
        self.ask_fresh()
        return {"sentence": "The next run of this cell asks the models anew: run it now."}

    def _placed(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "store": self.scope.store, "namespace": self.scope.options.namespace}


@dataclass(frozen=True, slots=True)
class PanelControls:
    """Answers the panel, and the view of the last cell in it."""

    cell: CellControls | None
    caches: KernelCaches = field(default_factory=KernelCaches, repr=False)

    def __call__(self, path: str, body: dict[str, Any], /) -> dict[str, Any]:
        """Return what a route of the server would; raises ``GenaiCacheError`` with a sentence."""
        if self.cell is not None and body.get("store") is not None:
            return self.cell(path, body)
        if path not in _PANEL:
            raise ConfigurationError(f"{path} is nothing that this panel can be asked for")
        answer: Callable[[Caches, dict[str, Any]], dict[str, Any]] = getattr(answers, path)
        return answer(self.caches, body)
