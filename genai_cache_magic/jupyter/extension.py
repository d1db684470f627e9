"""``%load_ext genai_cache_magic``: hang everything into a shell, and take all of it out again."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.jupyter import asking
from genai_cache_magic.jupyter.cell import CellScopes
from genai_cache_magic.jupyter.completion import matcher
from genai_cache_magic.jupyter.magic import CacheMagics
from genai_cache_magic.jupyter.transform import NAME, CellTransform
from genai_cache_magic.settings.files import check_syntax

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from IPython.core.interactiveshell import InteractiveShell

_PACKAGE = __name__.partition(".")[0]
_ATTRIBUTE = "_genai_cache_extension"
_KEPT = "_genai_cache_kept"
"""What ``%reload_ext`` hands over to the extension that it loads anew, in plain values."""
_EVENTS = ("pre_execute", "pre_run_cell", "post_execute", "post_run_cell")
"""Of the shell, and the methods of `CellScopes` that hear of them."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was hung into a shell. It is kept on the shell, so that each shell has its own."""

    scopes: CellScopes
    transform: CellTransform
    matcher: Callable[..., Any]
    callbacks: dict[str, Callable[..., None]] = field(repr=False)
    spare: Callable[..., None] = field(repr=False)
    replays: bool


def load(shell: InteractiveShell) -> None:
    """Add the magic to `shell`; nothing if it is there.

    Neither a cache nor a connection is opened, and no setting is read but for its syntax.

    Raises
    ------
    ConfigurationError
        A configuration file is not TOML.
    """
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    check_syntax()
    scopes = CellScopes(shell)
    replays = os.environ.get("GENAI_CACHE_MODE") == "replay"
    callbacks: dict[str, Callable[..., None]] = {event: getattr(scopes, event) for event in _EVENTS}

    def spare(_result: object = None) -> None:
        spare_from_autoreload(shell)

    loaded = Loaded(scopes, CellTransform(), matcher(scopes.known), callbacks, spare, replays)
    if replays:
        from genai_cache_magic.api.scopes.process import process

        process.put_in_force(has_cells=True)
        scopes.cover_all()
    shell.register_magics(CacheMagics(shell, scopes))
    shell.input_transformers_cleanup.append(loaded.transform)
    for event, callback in loaded.callbacks.items():
        shell.events.register(event, callback)
    shell.events.register("post_run_cell", loaded.spare)
    loaded.spare()
    shell.Completer.custom_matchers.append(loaded.matcher)
    asking.listen(shell)
    setattr(shell, _ATTRIBUTE, loaded)
    kept = getattr(shell, _KEPT, None)
    if kept is not None:
        setattr(shell, _KEPT, None)
        scopes.turn_on_again(*kept)


def unload(shell: InteractiveShell) -> None:
    """Take out of `shell` what `load` put in, close the session and undo every patch; nothing if it is not there."""
    loaded: Loaded | None = getattr(shell, _ATTRIBUTE, None)
    if loaded is None:
        return
    delattr(shell, _ATTRIBUTE)
    if _is_reloading():
        setattr(shell, _KEPT, loaded.scopes.kept)
    loaded.scopes.close()
    _remove(shell.input_transformers_cleanup, loaded.transform)
    for event, callback in loaded.callbacks.items():
        _remove(shell.events.callbacks[event], callback)
    _remove(shell.events.callbacks["post_run_cell"], loaded.spare)
    _remove(shell.Completer.custom_matchers, loaded.matcher)
    asking.end(shell)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
    shell.magics_manager.registry.pop(CacheMagics.__name__, None)
    if loaded.replays:
        from genai_cache_magic.api.scopes.process import process

        process.end()
    _close_session()


def spare_from_autoreload(shell: InteractiveShell) -> None:
    """Keep ``%autoreload`` away from this package: patches, open caches and the running cell hang on its objects.

    Run one by one again, its files would have two of everything that a process has one of.
    """
    magics = getattr(shell.find_line_magic("autoreload"), "__self__", None)  # type: ignore[no-untyped-call]
    skipped: dict[str, bool] | None = getattr(getattr(magics, "_reloader", None), "skip_modules", None)
    if skipped is not None:
        skipped.update(dict.fromkeys((name for name in sys.modules if name.startswith(_PACKAGE)), True))


def _is_reloading() -> bool:
    """Whether IPython takes the extension out to put it in again; it does not say so."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - CPython's documented way to walk a stack
    while frame is not None:
        if frame.f_code.co_name == "reload_extension":
            return True
        frame = frame.f_back
    return False


def _remove(things: list[Any], thing: object) -> None:
    """Take `thing` itself out of `things`, if nobody else did: what was edited and reloaded is equal to nothing."""
    things[:] = [one for one in things if one is not thing]


def _close_session() -> None:
    """Undo the patches and close the session, if this process ever made them."""
    if "genai_cache_magic.api.scopes.cells" in sys.modules:
        from genai_cache_magic.api.scopes.cells import uninstall

        uninstall()
    if "genai_cache_magic.api.scopes.session" in sys.modules:
        from genai_cache_magic.api.scopes.session import reset_session

        reset_session()
