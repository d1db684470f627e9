"""``genai-cache backup`` and ``restore``: a namespace into a file or a container, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from genai_cache_magic.cli.opening import Namespace, warn
from genai_cache_magic.cli.showing import AsJson, local_time, tell
from genai_cache_magic.errors import ConfigurationError

Place = Annotated[str, typer.Argument(metavar="FILE|CONTAINER", help="A path, or the address of an Azure container.")]


def backup(
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="Whose answers.")],
    place: Place,
    *,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Where encryption is off: it may be read by anyone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add what is new of a namespace to a backup, sealed, and read all of it back. After a kill it goes on."""
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.jupyter.shown.words import counted
    from genai_cache_magic.ops.backup import back_up
    from genai_cache_magic.ops.backup_place import records_at

    session = Session()
    warn(session)
    settings, name = session.settings, session.options(namespace=namespace).namespace
    if (settings.encryption == "off") != plaintext:
        raise ConfigurationError(
            "encryption is on, so the backup is sealed: leave --plaintext out"
            if plaintext
            else "encryption is off, so the backup would be plain text: add --plaintext, or set GENAI_CACHE_ENCRYPTION"
        )
    with records_at(place, settings, name) as records:
        done = back_up(settings, name, records)
    says = f"{counted(done.added, 'answer')} added to {done.place}: {done.answers:,} are there, read back and checked"
    tell(done.as_json(), says, as_json=as_json)


def restore(
    place: Place,
    *,
    last_whole: Annotated[
        bool, typer.Option("--last-whole", help="Leave out a last backup that was not finished.")
    ] = False,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Put the answers of a backup that are still valid back, with its keyset; nothing that is there is replaced."""
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.jupyter.shown.words import counted
    from genai_cache_magic.ops.backup_place import records_at
    from genai_cache_magic.ops.restore import restore as put_back

    session = Session()
    warn(session)
    settings, name = session.settings, session.options(namespace=namespace).namespace
    with records_at(place, settings, name) as records:
        done = put_back(settings, name, records, last_whole=last_whole)
    made = datetime.fromtimestamp(done.made_ms / 1000, UTC)
    lines = [f"{counted(done.stored, 'answer')} put back, from the backup of {local_time(made)}"]
    left = (
        (done.kept, "was there", "were there"),
        (done.invalid, *(f"{verb} made invalid, before the backup or since" for verb in ("was", "were"))),
        (done.expired, "has expired", "have expired"),
        (done.unopened, *2 * ("can't be opened: their key was revoked, or they were damaged",)),
    )
    lines += [f"{count:,} {one if count == 1 else more}" for count, one, more in left if count]
    tell(done.as_json(), *lines, as_json=as_json)
