"""The words of the magic: its commands, the options of each, and how a line of them is read.

Errors are `ConfigurationError` and not IPython's `UsageError`, which tools that execute notebooks don't see.
"""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, Any, Protocol, cast

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments

from genai_cache_magic.core.ignoring import NOTHING, OWN, SHIPPED
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ledger import BY

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Sequence

COMMANDS = {
    "status": "what is in force, and what the last cell did",
    "on": "open a scope for every cell that follows, with the options of a cell",
    "off": "end that",
    "config": "every setting, its value and where it was set",
    "stats": "how much the cache holds and how it is used: hit rate, reasons of misses, latencies, what is read most",
    "optimize": "what could be otherwise, with numbers; applies nothing: --since",
    "usage": "what calls cost and what hits saved, by day and model: --since, --until, --by",
    "invalidate": "make answers invalid: --tag, --entry, --run, --cell, --model, --person, --older-than or a PATTERN",
    "clear": "make everything in the namespace invalid",
    "doctor": "what is wrong with configuration, key, cache and team tier, and what to do",
    "panel": "the last cell, today's cost, models, tags and answers, with buttons",
    "runs": "named runs: list, show NAME, diff A B, pin NAME, export NAME FILE [--plaintext], "
    "import FILE [--as NAME] [--from vcr|cachy]",
    "explain": "why calls were no hits, and what would help: of the last cell, CALL (number or entry id), --run NAME",
    "estimate": "how much of a FILE of requests, or of a run, is cached, and what the rest would cost",
    "warm": "ask what of a FILE of requests is not cached: --budget, --run, --tag, --batch, --collect, --dry-run",
    "help": "this; also after a command",
}
RUNS = {
    "list": ((), "the runs of this machine and of its team"),
    "show": (("NAME",), "its calls"),
    "diff": (("A", "B"), "which calls differ, in which part, and which answers changed"),
    "pin": (("NAME",), "keeps its answers as they are now, for --run NAME --mode replay"),
    "export": (("NAME", "FILE"), "writes it into a file, sealed, or with --plaintext as text that anyone can read"),
    "import": (
        ("FILE",),
        "takes a run over from a file, under the file's name or --as NAME; --from vcr | cachy: what these recorded",
    ),
}


IGNORE_HELP = f"{' | '.join(SHIPPED)} | {OWN}PATTERN | $.JSON.PATH | {NOTHING}"


def _option(name: str, **how: Any) -> argument:
    return argument(name, **how)  # type: ignore[no-untyped-call]


_OPTIONS = (
    _option("--mode", metavar="MODE", help=" | ".join(Mode)),
    _option("--ttl", metavar="TTL", help="how long answers are good, such as 12h or 30d"),
    _option("--tag", metavar="TAG", action="append", help="a tag for what is stored and served; repeatable"),
    _option("--run", metavar="NAME", help="the experiment run that the calls belong to"),
    _option("--run-file", metavar="FILE", help="a file that answers first; mode record keeps it up to date"),
    _option("--namespace", metavar="NAME", help="whose cache: a team's or a project's"),
    _option("--samples", metavar="KIND", help=f"{' | '.join(Samples)}: do identical calls share an answer"),
    _option("--store", metavar="KIND", action="append", help=f"keep it too: {' | '.join(STORE_KINDS)}; repeatable"),
    _option("--ignore", metavar="RULE", action="append", help=f"noise, for keys: {IGNORE_HELP}; repeatable"),
    _option("--salt", metavar="TEXT", help="part of the key: other text, other answers"),
    _option(
        "--budget", metavar="USD", help="what its calls, or those of its run, may cost in all: beyond, none is made"
    ),
    _option(
        "--budget-unknown", metavar="USD", help="what a call counts as whose price nobody knows; else none is made"
    ),
    _option(
        "--estimate", action="store_const", const=True, help="only look calls up, and say what the others would cost"
    ),
    _option(
        "--semantic", metavar="ALIKE", help="0.85 to 1: answer from a question that is so much alike; never a plain hit"
    ),
    _option("--quiet", action="store_true", help="show nothing under the cell unless there is trouble"),
)
_SELECTORS = (
    _option("--tag", metavar="TAG", help="answers with this tag"),
    _option("--entry", metavar="ID", help="the answer whose id begins so"),
    _option("--run", metavar="NAME", help="answers that this run stored"),
    _option("--cell", action="store_true", help="the answers of the last cell"),
    _option("--model", metavar="MODEL", help="answers of this model"),
    _option("--person", metavar="NAME", help="answers that this person stored"),
    _option("--older-than", metavar="AGE", help="answers older than this, such as 7d"),
    _option("pattern", nargs="?", metavar="PATTERN", help="answers whose name matches, such as 'gpt-4.1*'"),
)
_PERIOD = (
    _option("--since", metavar="DAY", help="the first day: 2026-05-31, today, yesterday, or 7d; default 30d"),
    _option("--until", metavar="DAY", help="the last day; default today"),
    _option("--by", metavar="WHAT", help=f"{', '.join(BY)}, with commas between; default day,model"),
    _option("--team", action="store_true", help="of all machines of the team; the default where there is one"),
    _option("--this-machine", action="store_true", help="of this machine alone"),
)
_EXPLAINED = (
    _option("--text", action="store_true", help="show words of prompts, too: they are saved with the notebook"),
    _option("--run", metavar="NAME", help="the calls of this run"),
    _option("call", nargs="?", metavar="CALL", help="one call: its number, or the start of its entry id"),
)
_CONFIRMATION = (
    _option("--dry-run", action="store_true", help="count, change nothing"),
    _option("--yes", action="store_true", help="don't ask"),
)


class _Described(Protocol):
    parser: ArgumentParser


def with_cell_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a magic the options of a cell: they appear in its help."""
    return _with_arguments("llm_cache", _OPTIONS)(function)


def _with_arguments(name: str, arguments: Iterable[argument]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(list(arguments)):  # IPython reads decorators from the outermost inwards
            function = option(function)
        described: Callable[..., Any] = magic_arguments(name)(function)  # type: ignore[no-untyped-call]
        _parser(described).allow_abbrev = False  # a later option must not change what an abbreviation means
        return described

    return decorate


def _parser(described: Callable[..., Any]) -> ArgumentParser:
    return cast("_Described", described).parser


@with_cell_options
def _cell() -> None:
    """Give the calls of one cell a cache."""


@_with_arguments("llm_cache invalidate", _SELECTORS + _CONFIRMATION)
def _invalidate() -> None:
    """Make answers invalid, here and for everyone who shares the namespace."""


@_with_arguments("llm_cache clear", _CONFIRMATION)
def _clear() -> None:
    """Make every answer of the namespace invalid."""


@_with_arguments("llm_cache usage", _PERIOD)
def _usage() -> None:
    """Show what calls cost and what hits saved."""


@_with_arguments("llm_cache optimize", _PERIOD[:1])
def _optimize() -> None:
    """Say what could be otherwise, with numbers; nothing is applied."""


@_with_arguments("llm_cache explain", _EXPLAINED)
def _explained() -> None:
    """Say why calls were no hits, what differs from the nearest stored one, and what would help."""


@_with_arguments(
    "llm_cache stats",
    (*_PERIOD[:1], _option("--holdings", action="store_true", help="count what is kept of each model, tag and run")),
)
def _stats() -> None:
    """Show how much the cache holds and how it is used."""


_ASKED = "JSON lines: bodies, or OpenAI's batch file; a run file; or a run"
_FILE = _option("what", metavar="FILE|RUN", help=_ASKED)
_ENDPOINT = _option("--endpoint", metavar="PATH", help="the path of bodies that stand alone, such as /v1/responses")
_FILE_OR_BATCH = _option("what", nargs="?", metavar="FILE|RUN", help=f"{_ASKED}; --collect: a batch's id")
_BATCH = (
    _option("--batch", action="store_true", help="by the provider's batch API: half the price, within a day"),
    _option("--collect", action="store_true", help="store what submitted batches brought"),
)
_KEYED = ("--ignore", "--salt")
_WARMED = ("--budget", "--budget-unknown", "--run", "--tag", "--ttl", *_KEYED)


@_with_arguments("llm_cache estimate", (_FILE, _ENDPOINT, *(o for o in _OPTIONS if o.args[0] in _KEYED)))
def _estimate() -> None:
    """Say what is cached, and what the rest would cost."""


@_with_arguments(
    "llm_cache warm",
    (_FILE_OR_BATCH, _ENDPOINT, *_BATCH, *(o for o in _OPTIONS if o.args[0] in _WARMED), _CONFIRMATION[0]),
)
def _warm() -> None:
    """Ask beforehand what is not cached."""


_BY_COMMAND = {
    "estimate": _estimate,
    "warm": _warm,
    "stats": _stats,
    "optimize": _optimize,
    "": _cell,
    "on": _cell,
    "explain": _explained,
    "invalidate": _invalidate,
    "clear": _clear,
    "usage": _usage,
}


def parse(command: str, line: str) -> Namespace:
    """Read what follows `command` (empty: the magic of a cell).

    Raises
    ------
    ConfigurationError
        A quote is open, an option is unknown or lacks its value.
    """
    parser = _parser(_BY_COMMAND[command])
    name = parser.prog
    try:
        words = shlex.split(line)
    except ValueError as exc:
        raise ConfigurationError(
            f'{name} {line}: close the quote (write "it\'s" for a text with an apostrophe)'
        ) from exc
    try:
        found, unknown = parser.parse_known_args(_with_values(words, parser))
    except UsageError as exc:
        raise ConfigurationError(f"{name}: {exc}") from exc
    if unknown:
        raise ConfigurationError(f"{name}: {_explain(unknown[0], parser)}")
    return found


def _with_values(words: list[str], parser: ArgumentParser) -> list[str]:
    """Return `words` with each value tied to its option: one that begins with a dash is judged like any other."""
    wanting = {name: action for action in _actions(parser) if action.nargs != 0 for name in action.option_strings}
    tied: list[str] = []
    rest = iter(words)
    for word in rest:
        if word not in wanting:
            tied.append(word)
            continue
        value = next(rest, "--")
        if value.startswith("--"):
            raise ConfigurationError(f"{parser.prog}: {written(wanting[word])} wants its value: {wanting[word].help}")
        tied.append(f"{word}={value}")
    return tied


def _explain(word: str, parser: ArgumentParser) -> str:
    options = [name for action in _actions(parser) for name in action.option_strings]
    if word.startswith("-"):
        return f"there is no option {word.partition('=')[0]}, {nearest(word.partition('=')[0], options)}"
    if word in COMMANDS:
        return f"{word} is a command of its own: write it in a line, %llm_cache {word}"
    return f"{word!r} belongs to no option: quote a value that has blanks in it, or remove it"


def actions_of(command: str) -> Sequence[Action]:
    """Return what may follow `command` (empty: the magic of a cell), in the order in which help tells of it."""
    described = _BY_COMMAND.get(command)
    return [] if described is None else _actions(_parser(described))


def _actions(parser: ArgumentParser) -> Sequence[Action]:
    return parser._actions  # noqa: SLF001 - argparse offers no other list of its options


def option_strings(command: str = "") -> dict[str, bool]:
    """Return the options that `command` (empty: a cell) takes, and whether each wants a value."""
    return {name: action.nargs != 0 for action in actions_of(command) for name in action.option_strings}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean ...?``, or all that is known where nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"


def written(action: Action) -> str:
    """Return an option or a place as it is to be written, such as ``--ttl TTL``."""
    name = action.option_strings[0] if action.option_strings else ""
    return " ".join(filter(None, (name, str(action.metavar) if action.nargs != 0 else "")))
