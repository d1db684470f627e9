"""Where benchmarks run: a directory of their own, and nothing of the user's configuration."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import BenchmarkError

from genai_cache_magic.api.scopes.cells import llm_cache, open_cell
from genai_cache_magic.api.scopes.session import Session, reset_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context

    from genai_cache_magic import Cache
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.testing.servers import RedisServer

_TOLD_WITHIN_S = 60
_UNWANTED = ("GENAI_CACHE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextmanager
def isolated() -> Iterator[Path]:
    """Run a block in a temporary directory, with a cache, a key and a home of its own, as children do too."""
    before, here = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory(prefix="genai-cache-bench-") as name:
        home = Path(name)
        for variable in [v for v in os.environ if v.upper().startswith(_UNWANTED)]:
            del os.environ[variable]
        os.environ.update(
            HOME=name,
            XDG_CONFIG_HOME=str(home / "config"),
            XDG_CACHE_HOME=str(home / "cache"),
            IPYTHONDIR=str(home / "ipython"),
            GENAI_CACHE_DIR=str(home / "genai-cache"),
            GENAI_CACHE_KEY_FILE=str(home / "keys" / "bench.key"),
        )
        os.chdir(home)
        try:
            yield home
        finally:
            reset_session()
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def scope_beside(salt: str = "") -> Iterator[tuple[Context, CellScope]]:
    """Open a scope in a context of its own, while the caller stays outside of any.

    So one process can make the same call in turns with the cache (``context.run``) and without. Scopes with
    another `salt` share no entries.
    """
    context = copy_context()
    cell = llm_cache(salt=salt)
    scope = context.run(cell.__enter__)
    try:
        yield context, scope
    finally:
        context.run(cell.__exit__, None, None, None)


@contextmanager
def scope_of(**settings: Any) -> Iterator[tuple[Context, CellScope]]:
    """Open a scope in a context of its own, as `scope_beside`, whose session has these settings."""
    session = Session(**settings)
    context = copy_context()
    opened = context.run(open_cell, session, session.options())
    try:
        yield context, opened.scope
    finally:
        context.run(opened.close)
        session.close()


# Machines of a team


@contextmanager
def team_settings(server: RedisServer) -> Iterator[None]:
    """Let sessions of a block share a tier in `server`."""
    before = dict(os.environ)
    os.environ["GENAI_CACHE_L2"] = server.url
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        reset_session()


@contextmanager
def own_directory(name: str) -> Iterator[None]:
    """Let the session of this process be that of another machine."""
    os.environ["GENAI_CACHE_DIR"] = str(Path(name).absolute())
    reset_session()
    yield
    reset_session()


def told(cache: Cache) -> None:
    """Wait until the team of `cache` was told all that waits there."""
    if cache.team is None or not cache.team.tell(within_s=_TOLD_WITHIN_S):
        raise BenchmarkError("the team could not be told in time")
