"""The magic itself: it reads its line and passes the work on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.arguments import asks_for_help, split_command, usage
from genai_cache_magic.jupyter.expansion import expanded
from genai_cache_magic.jupyter.grammar import COMMANDS, with_cell_options
from genai_cache_magic.jupyter.transform import AWAIT_UNDER, BEGIN, NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from genai_cache_magic.jupyter.cell import CellScopes
    from genai_cache_magic.jupyter.panel import Panel
    from genai_cache_magic.jupyter.shown.report import Report

_INSTEAD = {
    "capture": "remove the %%capture line and put the code into `with IPython.utils.capture.capture_output() as out:`",
    "time": "remove the %%time line and take time.perf_counter() before and after",
}


@magics_class
class CacheMagics(Magics):
    """``%%llm_cache`` and ``%llm_cache``."""

    def __init__(self, shell: InteractiveShell, scopes: CellScopes) -> None:
        super().__init__(shell)
        self._scopes = scopes
        self._shell = shell

    @with_cell_options
    @no_var_expand
    @line_cell_magic
    def llm_cache(self, line: str, cell: str | None = None) -> None:
        """Answer the model calls of a cell from the cache, and say under it what happened.

        %%llm_cache [options] as the first line of a cell gives its calls a cache; %llm_cache COMMAND speaks
        to the cache itself.
        """
        if cell is not None:
            self._scopes.run(self._options(line), cell)
            return
        word, _, rest = line.strip().partition(" ")
        if word == BEGIN:
            self._scopes.begin(self._options(rest))
        elif word == AWAIT_UNDER:
            refuse_hidden_await(rest)
        else:
            self._command(line)

    def _command(self, line: str) -> None:
        if asks_for_help(line):
            self._show(usage(line.split(maxsplit=1)[0]))
            return
        command, rest = split_command(line)
        from genai_cache_magic.jupyter.commands import Commands

        self._show(Commands(self._scopes, question(self._shell)).run(command, expanded(rest, self._shell)))

    def _options(self, line: str) -> str:
        """Return the options of a cell with their variables put in; show what can be written if that is asked for."""
        if not asks_for_help(line):
            return expanded(line, self._shell)
        self._show(usage(""))
        return ""

    def _show(self, report: Report | Panel) -> None:
        self._shell.display_pub.publish(report.bundle(), {})


def _add_commands(magic: Callable[..., Any]) -> None:
    listed = "\n".join(f"  %{NAME} {name:<11} {what}" for name, what in COMMANDS.items())
    magic.__doc__ = f"{magic.__doc__}\ncommands:\n{listed}\n"


_add_commands(CacheMagics.llm_cache)


def refuse_hidden_await(magic: str) -> None:
    """Stop a cell whose ``await`` stands under a magic that can't run it, before IPython half runs it.

    Raises
    ------
    ConfigurationError
        Always, but for ``%%capture`` where no event loop is running (a terminal): there it works.
    """
    if magic == "capture" and not _in_event_loop():
        return
    instead = _INSTEAD.get(magic, f"remove the %%{magic} line")
    raise ConfigurationError(f"`await` can't run under %%{magic}: keep %%{NAME} as the first line, {instead}")


def question(shell: InteractiveShell) -> Callable[[str], bool] | None:
    """Return a way to ask for a yes, or None where nobody sits at a terminal to give it."""
    terminal = sys.modules.get("IPython.terminal.interactiveshell")  # not imported: `shell` is none of it
    if terminal is None or not (isinstance(shell, terminal.TerminalInteractiveShell) and sys.stdin.isatty()):
        return None

    def ask(text: str) -> bool:
        return bool(shell.ask_yes_no(f"{text} [y/N]", default="n"))

    return ask


def _in_event_loop() -> bool:
    import asyncio  # a shell without it has no loop, and loads faster

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
