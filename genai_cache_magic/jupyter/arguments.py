"""What was written after the magic, read and judged: the options of a cell, a command and its arguments."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.grammar import COMMANDS, RUNS, actions_of, nearest, parse, written
from genai_cache_magic.jupyter.shown.report import Report, Table

if TYPE_CHECKING:
    from argparse import Namespace

_HELP = frozenset({"--help", "-h", "help"})
_IN_A_TERMINAL = frozenset(
    {
        *(
            "access",
            "alerts",
            "audit",
            "backup",
            "demo",
            "enable",
            "entries",
            "gc",
            "keys",
            "replay",
            "report",
            "restore",
        ),
        "trust",
    }
)
By: TypeAlias = Literal["all", "tag", "entry", "run", "cell", "model", "person", "older_than", "pattern"]


@dataclass(frozen=True, slots=True)
class CellArguments:
    """Options as given: `given` holds only those that were, as text, for `Session.options`."""

    given: dict[str, Any] = field(repr=False)
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What to invalidate, whether to count only, and whether it was confirmed.

    `value` is empty where `by` says it all.
    """

    by: By
    value: str
    dry_run: bool = False
    yes: bool = False


def parse_cell(line: str) -> CellArguments:
    """Read the options of ``%%llm_cache`` or ``%llm_cache on``.

    Raises
    ------
    ConfigurationError
        An option is unknown or lacks its value; values themselves are judged by `Session.options`.
    """
    return _cell_arguments(parse("", line))


def split_command(line: str) -> tuple[str, str]:
    """Return the first word of a line command and the rest; an empty line asks for ``status``.

    Raises
    ------
    ConfigurationError
        It is no command, or none of this version.
    """
    command, rest = [*line.split(maxsplit=1), "", ""][:2]
    command = command or "status"
    if command.startswith("-"):
        raise ConfigurationError(
            f"%llm_cache {command}: options belong to a cell (write %%llm_cache, two percent signs, as its first line) "
            "or to the whole notebook (%llm_cache on)",
        )
    if command in _IN_A_TERMINAL:
        raise ConfigurationError(f"%llm_cache {command} is no command here: in a terminal it is genai-cache {command}")
    if command not in COMMANDS:
        raise ConfigurationError(f"%llm_cache {command} is no command: {nearest(command, COMMANDS)}")
    return command, rest.strip()


def asks_for_help(line: str) -> bool:
    """Return whether `line`, of a cell or a command, asks what can be written there."""
    words = line.split()
    return bool(words) and (words[0] in _HELP or not {"--help", "-h"}.isdisjoint(words))


def usage(command: str) -> Report:
    """Return what can be written after `command`; for none and ``help``, the options of a cell and all commands."""
    is_own = command in COMMANDS and command != "help"
    rows = [(written(action), action.help or "") for action in actions_of(command if is_own else "")]
    if command == "runs":
        rows = [(" ".join((name, *words)), what) for name, (words, what) in RUNS.items()]
    if is_own:
        alone = "" if rows else "; it takes no options"
        return Report(f"%llm_cache {command}: {COMMANDS[command]}{alone}", Table(tuple(rows), ("write", "for")))
    rows += [(f"%llm_cache {name}", what) for name, what in COMMANDS.items()]
    title = "%%llm_cache OPTIONS, as the first line of a cell, gives its calls a cache; %llm_cache COMMAND speaks to it"
    return Report(title, Table(tuple(rows), ("write", "for")))


def parse_nothing(command: str, line: str) -> None:
    """Check that nothing follows `command`.

    Raises
    ------
    ConfigurationError
        Something does.
    """
    if line:
        raise ConfigurationError(f"%llm_cache {command} takes no options: remove {line!r}")


def parse_invalidate(line: str) -> Selection:
    """Read the arguments of ``%llm_cache invalidate``.

    Raises
    ------
    ConfigurationError
        An option is unknown, or not exactly one selector is given.
    """
    found = vars(parse("invalidate", line))
    flags = {name: found.pop(name) for name in ("dry_run", "yes")}
    chosen = [(name, value) for name, value in found.items() if value]
    if len(chosen) != 1:
        wanted = "--tag, --entry, --run, --cell, --model, --person, --older-than or a PATTERN"
        got = " and ".join(name.replace("_", "-") for name, _ in chosen) or "nothing"
        raise ConfigurationError(f"%llm_cache invalidate wants one of {wanted}, and got {got}; all of it is `clear`")
    name, value = chosen[0]
    return Selection(cast("By", name), "" if value is True else value, **flags)


def parse_clear(line: str) -> Selection:
    """Read the arguments of ``%llm_cache clear``.

    Raises
    ------
    ConfigurationError
        An option is unknown.
    """
    return Selection("all", "", **vars(parse("clear", line)))


def parse_usage(line: str) -> dict[str, Any]:
    """Read the arguments of ``%llm_cache usage``, for `Cache.usage`.

    Raises
    ------
    ConfigurationError
        An option is unknown, lacks its value or contradicts another; days are judged by `Cache.usage`.
    """
    found = {name: value for name, value in vars(parse("usage", line)).items() if value is not None}
    team, alone = found.pop("team"), found.pop("this_machine")
    if team and alone:
        raise ConfigurationError("llm_cache usage: --team and --this-machine contradict each other: remove one")
    return {**found, "team": True if team else False if alone else None}


def parse_explain(line: str) -> tuple[str, str, bool]:
    """Read the arguments of ``%llm_cache explain``: which call, of which run (either may be empty), and with words.

    Raises
    ------
    ConfigurationError
        An option is unknown or lacks its value.
    """
    found = parse("explain", line)
    return found.call or "", found.run or "", found.text


def parse_insight(command: str, line: str) -> Namespace:
    """Read the arguments of ``%llm_cache stats`` or ``optimize``: the first day that counts, and what else there is."""
    return parse(command, line)


def parse_requests(command: str, line: str) -> dict[str, Any]:
    """Read the arguments of ``%llm_cache estimate`` and ``warm``; raises ``ConfigurationError``."""
    found = vars(parse(command, line))
    return {"tags" if name == "tag" else name: value for name, value in found.items() if value}


def parse_runs(line: str) -> list[str]:
    """Read the arguments of ``%llm_cache runs``; none is ``list``, and a run is imported under its file's name.

    Raises
    ------
    ConfigurationError
        There is no such word after it, or what that wants is missing.
    """
    try:
        command, *rest = shlex.split(line) or ["list"]
    except ValueError as exc:
        raise ConfigurationError(f"%llm_cache runs {line}: close the quote") from exc
    if command == "replay" or (command == "pin" and "--remove" in rest):
        raise ConfigurationError(
            f"%llm_cache runs {line} is no command here: in a terminal it is genai-cache runs {line}"
        )
    if command not in RUNS:
        raise ConfigurationError(f"%llm_cache runs {command} is no command: {nearest(command, RUNS)}")
    flags = [word for word in rest if word == "--plaintext"] if command == "export" else []
    named = [word for word in rest if word not in flags]
    if command == "import":
        return [command, *_import_words(named)]
    wanted = RUNS[command][0]
    if len(named) != len(wanted) or any(word.startswith("-") for word in named):
        raise ConfigurationError(f"write %llm_cache runs {' '.join((command, *RUNS[command][0]))}")
    return [command, *named, *flags]


def _import_words(words: list[str]) -> list[str]:
    """Return file, name, whose recording it is and its log; what is not said is empty, and the name the file's."""
    options = {"--as": "", "--from": "", "--log": ""}
    plain: list[str] = []
    rest = iter(words)
    for word in rest:
        name, sign, value = word.partition("=")
        if name in options:
            options[name] = value if sign else next(rest, "")
            if not options[name] or options[name].startswith("--"):
                raise ConfigurationError(f"%llm_cache runs import: {name} wants its value")
        else:
            plain.append(word)
    if len(plain) not in {1, 2} or any(word.startswith("-") for word in plain) or (plain[1:] and options["--as"]):
        raise ConfigurationError("write %llm_cache runs import FILE [--as NAME] [--from vcr | cachy] [--log FILE]")
    file, *named = plain
    return [file, *(named or [options["--as"] or PurePath(file).stem]), options["--from"], options["--log"]]


def _cell_arguments(found: Namespace) -> CellArguments:
    values = {name: value for name, value in vars(found).items() if value is not None}
    quiet = values.pop("quiet")
    renamed = {"tag": "tags"}
    return CellArguments({renamed.get(name, name): _plain(value) for name, value in values.items()}, quiet)


def _plain(value: str | list[str]) -> str | tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value
