"""Install and remove every patch: lazily when a library is imported, once, and without a trace."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import wrapt

from genai_cache_magic.intercept import httpx, threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_MARK = "__genai_cache__"


class Patcher:
    """The patches of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_on = False  # guarded by _lock, like the two below
        self._is_hooked = False
        self._replaced: list[tuple[type, str, Callable[..., Any], Callable[..., Any]]] = []

    def install(self) -> None:
        """Patch what is imported, and what is imported later; may be called again."""
        with self._lock:
            if self._is_on:
                return
            self._is_on = True
            self._apply(threads.patches())
            is_first, self._is_hooked = not self._is_hooked, True
        if is_first:
            for name in httpx.MODULES:
                wrapt.register_post_import_hook(self._imported, name)
        else:
            self._catch_up()

    def uninstall(self) -> None:
        """Put every original back that no one has patched over since; may be called again."""
        with self._lock:
            self._is_on = False
            while self._replaced:
                owner, name, original, replacement = self._replaced.pop()
                if owner.__dict__.get(name) is replacement:
                    setattr(owner, name, original)

    def _catch_up(self) -> None:
        import sys

        for name in httpx.MODULES:
            if (module := sys.modules.get(name)) is not None:
                self._imported(module)

    def _imported(self, module: ModuleType) -> None:
        with self._lock:
            if self._is_on:
                self._apply(httpx.patches(module))

    def _apply(self, patches: list[tuple[type, str, Callable[..., Any]]]) -> None:
        for owner, name, replacement in patches:
            original = owner.__dict__[name]
            if not hasattr(original, _MARK):
                setattr(replacement, _MARK, True)
                setattr(owner, name, replacement)
                self._replaced.append((owner, name, original, replacement))


patcher = Patcher()
"""One per process: it changes classes that the whole process shares."""
