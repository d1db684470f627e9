"""Install and remove every patch: lazily when a library is imported, once, and without a trace."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wrapt

from genai_cache_magic.events import Trouble
from genai_cache_magic.intercept import aiobotocore, aiohttp, botocore, httpx, lm15, requests, threads
from genai_cache_magic.intercept.active import active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

_PATCHES: Final[Mapping[str, Callable[[ModuleType], list[tuple[type, str, Callable[..., Any]]]]]] = {
    name: client.patches
    for client in (httpx, requests, botocore, aiobotocore, aiohttp, lm15)
    for name in client.MODULES
}
"""Module of a client -> what to patch in it, once it is imported."""


_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_TAKES_ANYTHING: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Replaced(NamedTuple):
    """An attribute that we changed."""

    owner: type
    name: str
    original: Callable[..., Any]
    replacement: Callable[..., Any]

    @property
    def current(self) -> Any:
        """What the attribute is now."""
        return self.owner.__dict__.get(self.name)


class Patcher:
    """The patches of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_on = False  # guarded by _lock, like the two below
        self._is_hooked = False
        self._replaced: list[_Replaced] = []

    def install(self) -> None:
        """Patch what is imported, and what is imported later; may be called again."""
        with self._lock:
            if self._is_on:
                return
            self._is_on = True
            self._apply(threads.patches())
            is_first, self._is_hooked = not self._is_hooked, True
        for name in _PATCHES:
            if is_first:
                wrapt.register_post_import_hook(self._imported, name)
            elif (module := sys.modules.get(name)) is not None:
                self._imported(module)

    def uninstall(self) -> None:
        """Put every original back; may be called again.

        Where someone has patched on top of ours since, theirs stays, and ours below it, which does nothing
        outside a scope.
        """
        with self._lock:
            self._is_on = False
            for patch in reversed(self._replaced):
                if patch.current is patch.replacement:
                    setattr(patch.owner, patch.name, patch.original)
            self._replaced = [patch for patch in self._replaced if patch.current is not patch.original]

    def _imported(self, module: ModuleType) -> None:
        try:
            patches = _PATCHES[module.__name__](module)
            _require_known_shape(patches)
        except (AttributeError, ImportError, KeyError, TypeError, ValueError) as exc:
            # Raised from within someone's import statement, it would take the library away from them.
            _tell_unknown(module, exc)
            return
        with self._lock:
            if self._is_on:
                self._apply(patches)

    def _apply(self, patches: Iterable[tuple[type, str, Callable[..., Any]]]) -> None:
        for owner, name, replacement in patches:
            original = owner.__dict__[name]
            if not self._is_in_place(owner, name, original):
                setattr(owner, name, replacement)
                self._replaced.append(_Replaced(owner, name, original, replacement))

    def _is_in_place(self, owner: type, name: str, current: Any) -> bool:
        """Tell whether an earlier patch of ours is still there, perhaps below someone else's."""
        ours = [patch for patch in self._replaced if patch.owner is owner and patch.name == name]
        return any(current is not patch.original for patch in ours)


def _require_known_shape(patches: Iterable[tuple[type, str, Callable[..., Any]]]) -> None:
    """Raise ``TypeError`` if a method is not where it was, or may be called in a way that its replacement can't."""
    for owner, name, replacement in patches:
        if name not in owner.__dict__:
            raise TypeError(f"{owner.__name__} has no {name} of its own")
        if not _can_replace(replacement, owner.__dict__[name]):
            raise TypeError(f"{owner.__name__}.{name} takes other arguments")


def _can_replace(replacement: Callable[..., Any], original: Callable[..., Any]) -> bool:
    """Tell whether `replacement` can be called in every way in which `original` can, and means the same by it."""
    try:
        theirs = inspect.signature(original).parameters.values()
    except ValueError:
        return True  # compiled, and it doesn't say
    ours = inspect.signature(replacement, follow_wrapped=False)
    # What someone has put around the method and takes anything doesn't say what it is called with.
    bind = ours.bind_partial if any(p.kind in _TAKES_ANYTHING for p in theirs) else ours.bind
    by_place = [p for p in theirs if p.kind in _BY_PLACE]
    places = {p.name: place for place, p in enumerate(by_place)}
    only_named = {p.name: None for p in theirs if p.kind is p.KEYWORD_ONLY}
    # `self` comes by its place, and so do the rest that have no name to be called by.
    unnamed = [p.name for place, p in enumerate(by_place) if place == 0 or p.kind is p.POSITIONAL_ONLY]
    required = [p.name for p in by_place if p.default is p.empty]
    try:
        bound = bind(*places.values(), **only_named)
        bind(*unnamed, **{name: None for name in places if name not in unnamed}, **only_named)
        bind(*required, **{p.name: None for p in theirs if p.name in only_named and p.default is p.empty})
    except TypeError:
        return False
    return all(bound.arguments.get(name, place) == place for name, place in places.items())


def _tell_unknown(module: ModuleType, error: Exception) -> None:
    """Say that the calls of `module` are not seen: in the cell that needs them, else as a warning."""
    release = f"{module.__name__} {getattr(module, '__version__', '')}".strip()
    message = f"the calls of this release of {release} can't be seen, so they are not cached ({error})"
    here = active.get()
    if here is not None:
        here.scope.emit(Trouble("intercept", type(error).__name__, message))
        return
    # Whoever turns warnings into errors would lose the library that they import.
    with suppress(RuntimeWarning):
        warnings.warn(f"genai_cache_magic: {message}", RuntimeWarning, stacklevel=2)


patcher = Patcher()
"""One per process: it changes classes that the whole process shares."""
