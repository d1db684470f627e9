"""Install and remove every patch: lazily when a library is imported, once, and without a trace."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wrapt

from genai_cache_magic.intercept import aiohttp, botocore, httpx, requests, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

_PATCHES: Final[Mapping[str, Callable[[ModuleType], list[tuple[type, str, Callable[..., Any]]]]]] = {
    name: client.patches for client in (httpx, requests, botocore, aiohttp) for name in client.MODULES
}
"""Module of a client -> what to patch in it, once it is imported."""


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
        except (AttributeError, ImportError, KeyError) as exc:
            # Raised from within someone's import statement, it would take the library away from them.
            warnings.warn(
                f"genai_cache_magic can't see the calls of this release of {module.__name__}, so they are not "
                f"cached ({exc})",
                RuntimeWarning,
                stacklevel=2,
            )
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


patcher = Patcher()
"""One per process: it changes classes that the whole process shares."""
