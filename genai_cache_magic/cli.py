"""The command ``genai-cache``: what the magic does, for a terminal and for scripts.

Exit codes: 0 done; 1 a demonstration did not show what it promises; 2 it can't be done, with one line
that says why.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genai_cache_magic.errors import CellInterrupt, ConfigurationError, GenaiCacheError

try:
    from typer import TyperException as CommandLineError
except ImportError:  # older ones raise what `click` does
    from click import ClickException as CommandLineError  # type: ignore[import-not-found,no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.cache import Cache
    from genai_cache_magic.demo import DemoResult, RunResult
    from genai_cache_magic.listing import Invalidation, Listed

LATER = ("doctor", "usage", "runs", "warm", "audit", "access", "backup", "restore")
"""Commands whose capability is not in this version; each says so."""

_ID_DIGITS = 12

app = typer.Typer(
    name="genai-cache",
    help="Look after the cache of model calls: what `%llm_cache` does in a notebook, for a terminal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="The local key that seals what is stored.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")

Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="Whose cache; default: as configured.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; trouble is one line on standard error."""
    try:
        code = app(args=arguments, prog_name="genai-cache", standalone_mode=False)
    except CommandLineError as exc:
        code = _fail(exc.format_message())
    except (GenaiCacheError, CellInterrupt) as exc:
        code = _fail(str(exc))
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


@app.callback()
def _root(*, version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False) -> None:
    pass


def _fail(message: str) -> int:
    typer.echo(f"genai-cache: {' '.join(message.split())}", err=True)
    return 2
