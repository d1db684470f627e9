"""Install and remove every patch: lazily when a library is imported, once, and without a trace."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wrapt

from genai_cache_magic import host
from genai_cache_magic.events import Trouble
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.clients import aiobotocore, aiohttp, botocore, httpx, lm15, requests, unowned
from genai_cache_magic.intercept.points import Callback, Group, home_of, require_fit
from genai_cache_magic.intercept.stainless import client as stainless
from genai_cache_magic.intercept.stainless.bodies import deferrals
from genai_cache_magic.intercept.workers import comms, gevent, pools, processes, queues, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from genai_cache_magic.intercept.points import Point

_PATCHES: Final[Mapping[str, Callable[[ModuleType], list[Group]]]] = {
    name: library.patches
    for library in (
        threads,
        httpx,
        requests,
        botocore,
        aiobotocore,
        aiohttp,
        lm15,
        stainless,
        unowned,
        gevent,
        pools,
        processes,
        comms,
        queues,
    )
    for name in library.MODULES
}
"""Module of a library -> what to patch in it, once it is imported."""

_WRONG: Final = (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
"""What a library that is built differently may raise where it is looked at."""


class _Replaced(NamedTuple):
    """An attribute that we changed."""

    owner: Any
    name: str
    original: Callable[..., Any]
    replacement: Callable[..., Any]

    @property
    def current(self) -> Any:
        """What the attribute is now."""
        return vars(self.owner).get(self.name)

    def put_back(self) -> None:
        """Make the attribute what it was, unless someone has changed it since."""
        if self.current is self.replacement:
            setattr(self.owner, self.name, self.original)


class Patcher:
    """The patches of this process."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._is_on = False  # guarded by _lock, like all below
        self._is_whole = False
        self._unpatched: set[str] = set()
        self._hooked: set[str] = set()
        self._replaced: list[_Replaced] = []
        self._callbacks: list[Callback] = []

    def install(self) -> None:
        """Patch what is imported, and what is imported later; may be called again.

        What could not be patched is tried again each time, and told each time.
        """
        with self._lock:
            if self._is_whole:
                return
            self._is_on = True
            deferrals.begin()
        for name in _PATCHES:
            self._watch(name)
        with self._lock:
            self._is_whole = self._is_on and not self._unpatched

    def _watch(self, name: str) -> None:
        if name not in self._hooked:
            # Two hooks, of two threads at once, do no harm; none would.
            wrapt.register_post_import_hook(self._imported, name)
            self._hooked.add(name)
        elif (module := sys.modules.get(name)) is not None:
            self._imported(module)

    def uninstall(self) -> None:
        """Put every original back; may be called again.

        Where someone has patched on top of ours since, theirs stays, and ours below it, which does nothing
        outside a scope.
        """
        with self._lock:
            self._is_on = self._is_whole = False
            deferrals.end()
            for patch in reversed(self._replaced):
                patch.put_back()
            self._replaced = [patch for patch in self._replaced if patch.current is not patch.original]
            while self._callbacks:
                self._callbacks.pop().remove()

    def _imported(self, module: ModuleType) -> None:
        with self._lock:
            is_on = self._is_on
        if not is_on:
            return
        name, failures = module.__name__, list[Exception]()
        try:
            # Not under the lock: it may import, and whoever imports meanwhile comes by here.
            groups = _PATCHES[name](module)
        except _WRONG as exc:
            groups, failures = [], [exc]
        with self._lock:
            for group in groups if self._is_on else ():
                try:
                    self._apply(group, name.partition(".")[0])
                except _WRONG as exc:
                    failures.append(exc)
            self._unpatched = self._unpatched | {name} if failures else self._unpatched - {name}
            self._is_whole = self._is_whole and not failures
        # Raised from within someone's import statement, they would take the library away from them.
        if failures:
            _tell_unseen(module, failures)

    def _apply(self, group: Group, library: str) -> None:
        """Do all of `group`, or nothing of it; raises one of `_WRONG`."""
        wanted = [self._replacement(point, library) for point in group if not isinstance(point, Callback)]
        done: list[_Replaced] = []
        try:
            for patch in filter(None, wanted):
                setattr(patch.owner, patch.name, patch.replacement)
                done.append(patch)
        except BaseException:
            for patch in reversed(done):
                patch.put_back()
            raise
        self._replaced += done
        for callback in group:
            if isinstance(callback, Callback):
                callback.add()
                self._callbacks.append(callback)

    def _replacement(self, point: Point, library: str) -> _Replaced | None:
        """Return what to replace for `point`, None if that is done already."""
        home = home_of(point, library)
        current = vars(home)[point.name]
        if self._is_in_place(home, point.name, current):
            return None
        # As the class hands it out: what others have put around it may tell by that what `self` is.
        replacement = point.wrap(getattr(home, point.name))
        require_fit(point, home, replacement)
        return _Replaced(home, point.name, current, replacement)

    def _is_in_place(self, owner: Any, name: str, current: Any) -> bool:
        """Tell whether an earlier patch of ours is still there, perhaps below someone else's."""
        ours = [patch for patch in self._replaced if patch.owner is owner and patch.name == name]
        return any(current is not patch.original for patch in ours)


def _tell_unseen(module: ModuleType, errors: list[Exception]) -> None:
    """Say that calls of `module` are not seen: in the cell that needs them, else as a warning."""
    release = f"{module.__name__} {getattr(module, '__version__', '')}".strip()
    why = "; ".join(dict.fromkeys(map(str, errors)))
    message = f"calls by {release} can't be seen as it is here, so they are not cached ({why})"
    here = active.get()
    if here is not None:
        here.scope.emit(Trouble("intercept", type(errors[0]).__name__, message))
        return
    # Whoever turns warnings into errors would lose the library that they import.
    with suppress(RuntimeWarning):
        warnings.warn(f"genai_cache_magic: {message}", RuntimeWarning, stacklevel=2)


patcher = Patcher()
"""One per process: it changes classes that the whole process shares."""
