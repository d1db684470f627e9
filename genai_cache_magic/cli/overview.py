"""The lists of commands that `--help` shows: in whole sentences, and of all commands by what one is about to do."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "First steps": ("demo", "doctor", "config", "enable", "trust"),
        "Answers": ("stats", "entries", "explain", "invalidate", "clear", "optimize", "gc"),
        "Money": ("usage", "report", "estimate", "warm"),
        "Experiments": ("runs",),
        "Keys and a team": ("keys", "access", "audit", "alerts", "backup", "restore"),
    }
)
"""Heading -> commands, in the order in which they are shown."""

_WHOLE: Final = 400
"""Longer than any sentence about a command [characters]: it is wrapped, not cut."""


class Commands(TyperGroup):
    """A group of commands."""

    sections: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the library's signature
        """Write the sections; what stands in none comes last, so that nothing is left out."""
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        rest = tuple(name for name in shown if not any(name in names for names in self.sections.values()))
        for heading, names in {**self.sections, "Commands": rest}.items():
            if names:
                with formatter.section(heading):
                    formatter.write_dl([(name, shown[name].get_short_help_str(_WHOLE)) for name in names])


class Overview(Commands):
    """The group of all commands."""

    sections = SECTIONS
