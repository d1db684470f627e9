"""The cache that a command works on, opened for it, and what is to be said around that."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.scopes.session import Session

Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="Whose cache; default: the configured one.")]
OfTeam = Annotated[
    bool | None,
    typer.Option(
        "--team/--this-machine",
        help="All machines of the team, or this one; default: the team, where there is one.",
        show_default=False,
    ),
]


@contextmanager
def opened(namespace: str | None) -> Iterator[Cache]:
    """Open the cache of `namespace`, None for the configured one, for the body; what was lost is said at the end."""
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.events import Trouble

    session = Session()
    name = session.options(namespace=namespace).namespace
    try:
        warn(session)
        yield session.cache(name)
    finally:
        session.close()
        for event in session.untold(name):
            if isinstance(event, Trouble):
                typer.echo(event.message, err=True)


def warn(session: Session) -> None:
    """Say what is ignored of the files found here: another directory or key may be meant than somebody expects."""
    for sentence in session.ignored:
        typer.echo(f"genai-cache: {sentence}", err=True)
