"""What the cells of one shell are shown by, and what is remembered of a cell from one run to the next."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.options import Mode
from genai_cache_magic.jupyter.frontends import shows_widgets_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options

_ORDINAL = re.compile(r"(?<=^[0-9a-f]{16})-\d+$")
"""What tells apart the runs of a cell that the front end gave no id."""


class Clearing:
    """Hears whether the outputs of the running cell are cleared, by code of the thread that asked for it.

    Parameters
    ----------
    publisher
        A kernel's; that of a terminal clears nothing, and is left alone.
    """

    def __init__(self, publisher: Any) -> None:
        self.has_been = False
        self._publisher = publisher if hasattr(publisher, "register_hook") else None
        if self._publisher is not None:
            self._publisher.register_hook(self)

    def __call__(self, message: Any) -> Any:
        """Let a message pass, and take note of it."""
        if message is not None and message["header"].get("msg_type") == "clear_output":
            self.has_been = True
        return message

    def end(self) -> None:
        """Listen no longer."""
        if self._publisher is not None:
            self._publisher.unregister_hook(self)
            self._publisher = None


class CellViews:
    """The views of a shell's cells. Each field is changed as a whole, so needs no lock."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._counts: dict[str, int] = {}
        self._fresh: set[str] = set()
        self._told_in: str | None = None  # the cell under which it stands how to get widgets

    def expected(self, cell: str) -> int:
        """Return how many calls `cell` made when it ran before; 0 if it did not."""
        return self._counts.get(_stable(cell), 0)

    def has_run(self, cell: str, calls: int) -> None:
        """Remember how many calls `cell` made."""
        self._counts[_stable(cell)] = calls

    def ask_fresh(self, cell: str) -> None:
        """Let the next run of `cell` ask the models anew."""
        self._fresh.add(_stable(cell))

    def asked(self, cell: str, options: Options) -> Options:
        """Return the options with which `cell` is to run now."""
        if _stable(cell) not in self._fresh:
            return options
        self._fresh.discard(_stable(cell))
        return replace(options, mode=Mode.REFRESH) if options.mode is Mode.USE else options

    def maker(self, status: str, cell: str) -> Callable[[CellScope, dict[str, Any]], Any] | None:
        """Return what makes a widget for `cell`; None where none is wanted or none can be made."""
        if not self._wants_widget(status):
            return None
        from genai_cache_magic.jupyter import anywidget

        if not anywidget.is_installed():
            return None
        from genai_cache_magic.jupyter.controls import CellControls

        fresh = partial(self.ask_fresh, cell)
        return lambda scope, report: anywidget.cell_status(report, CellControls(scope, fresh))

    def hints(self, status: str, cell: str) -> tuple[str, ...]:
        """Return how to get the widget that is wanted and can't be made: under one cell, however often that runs."""
        if self._told_in not in (None, _stable(cell)) or not self._wants_widget(status):
            return ()
        from genai_cache_magic.jupyter import anywidget

        if anywidget.is_installed():
            return ()
        self._told_in = _stable(cell)
        return (f"buttons and live figures under the cell need a widget: {anywidget.HOW_TO_INSTALL}",)

    def clearing(self) -> Clearing:
        """Return what hears whether the outputs of this cell are cleared."""
        return Clearing(self._shell.display_pub)

    def is_captured(self) -> bool:
        """Return whether what is displayed now is kept back, as under ``%%capture``."""
        from IPython.core.displaypub import CapturingDisplayPublisher

        return isinstance(self._shell.display_pub, CapturingDisplayPublisher)

    def _wants_widget(self, status: str) -> bool:
        if not hasattr(self._shell, "kernel"):
            return False
        return status == "widget" or (status == "auto" and shows_widgets_only(self._shell))


def _stable(cell: str) -> str:
    return _ORDINAL.sub("", cell)
