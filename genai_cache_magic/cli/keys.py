"""``genai-cache keys``: the keys that seal a namespace, and who guards them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from genai_cache_magic.cli.opening import Namespace, warn
from genai_cache_magic.cli.showing import print_table
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable
from genai_cache_magic.host import tilde

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.api.keysets import Keyset, KeysetStatus
    from genai_cache_magic.crypto.wrappers.local_key import LocalKey
    from genai_cache_magic.settings.model import Settings

keys_app = typer.Typer(rich_markup_mode=None)

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@keys_app.callback(invoke_without_command=True)
def _keys(context: typer.Context) -> None:
    """Make, change, trust and carry over the keys that seal the cache."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@keys_app.command()
def init(*, namespace: Namespace = None) -> None:
    """Make the keys of a namespace, or adopt those that are there, and say which rights are missing."""
    with _keyset(namespace, make_key=True) as (keyset, settings):
        begun = keyset.begin()
        for name in begun.made_keys:
            typer.echo(f"made key {name} in {settings.key_vault_url}")
        if begun.status is not None:
            typer.echo("made the keyset" if begun.is_made else "adopted the keyset that is there")
            _show(begun.status)
        for refusal in begun.refusals:
            typer.echo(f"not allowed: {refusal}", err=True)
        _tell_plain(settings)
        if begun.status is None:
            raise KeyUnavailable("the keyset can't be used by this identity: the lines above say what is missing")


@keys_app.command()
def status(*, namespace: Namespace = None) -> None:
    """Show which key seals a namespace, its epochs, and whom this machine trusts."""
    with _keyset(namespace) as (keyset, _):
        _show(keyset.status())


@keys_app.command()
def rotate(*, namespace: Namespace = None) -> None:
    """Seal new answers with a new key. None is rewritten, and what is there opens as before."""
    with _keyset(namespace) as (keyset, _):
        found = keyset.rotate()
    typer.echo(
        f"epoch {found.epoch} seals from now on; an open kernel takes it up when it is restarted, or at its next "
        "cell once it has met an answer that is sealed with it"
    )


@keys_app.command()
def rewrap(*, namespace: Namespace = None, yes: Yes = False) -> None:
    """Wrap the same keys anew, after the vault's key got a new version, or encryption another kind of key."""
    with _keyset(namespace) as (keyset, _):
        signer = keyset.new_signer()
        if signer is not None:
            typer.echo(f"the vault's signing key has a new version: {signer.fingerprint}  version {signer.version}")
            if not yes and not _at_terminal():
                raise ConfigurationError(
                    "keys rewrap would sign with a version that this machine doesn't trust: add --yes"
                )
            if not yes:
                _confirm("Is it yours? Sign with it from now on? Each teammate confirms it by `keys trust`")
        found = keyset.rewrap(signer)
    typer.echo(f"wrapped by {found.key_id}")


@keys_app.command()
def revoke(
    epoch: Annotated[int, typer.Argument(min=1, help="As `keys status` shows it.")],
    *,
    namespace: Namespace = None,
    yes: Yes = False,
) -> None:
    """Give up the key of an epoch: every answer that it sealed is lost, for everyone."""
    if not yes:
        if not _at_terminal():
            raise ConfigurationError(f"keys revoke loses every answer of epoch {epoch} for everyone: add --yes")
        _confirm(f"Lose every answer of epoch {epoch}, for everyone?")
    with _keyset(namespace) as (keyset, _):
        found = keyset.revoke(epoch)
    typer.echo(f"epoch {epoch} is revoked; epoch {found.epoch} seals. What is open now knows the old key until it ends")


@keys_app.command()
def trust(*, namespace: Namespace = None, yes: Yes = False) -> None:
    """Trust the key that signs the keyset now, after your administrator has changed it."""
    with _keyset(namespace) as (keyset, _):
        trusted, offered = keyset.signers()
        if trusted is not None and trusted.version == offered.version and trusted.fingerprint == offered.fingerprint:
            typer.echo(f"trusted already: {offered.fingerprint}  version {offered.version}")
            return
        if trusted is not None:
            typer.echo(f"trusted so far: {trusted.fingerprint}  version {trusted.version}")
        typer.echo(f"signs now:      {offered.fingerprint}  version {offered.version}")
        if not yes and not _at_terminal():
            raise ConfigurationError(
                "keys trust would trust a key of which nobody here has said that it is your team's: compare its "
                "fingerprint, and add --yes"
            )
        if not yes:
            _confirm("Has your administrator told you this fingerprint? Trust it?")
        keyset.trust(offered)
        typer.echo("trusted")


@keys_app.command("export-public")
def export_public(*, namespace: Namespace = None) -> None:
    """Print the public part of the vault's keys, for others to compare. It opens nothing."""
    with _keyset(namespace) as (keyset, _):
        typer.echo(keyset.public_keys(), nl=False)


@keys_app.command()
def show() -> None:
    """Show where the local key lies and its fingerprint, by which two machines compare keys."""
    key, place = _local_key()
    typer.echo(f"{key.fingerprint}  {place}")


@keys_app.command()
def export() -> None:
    """Print the local key itself. Whoever has it can open every answer that it sealed."""
    typer.echo(_local_key()[0].export_text())


@keys_app.command("import")
def import_() -> None:
    """Read a key that `keys export` printed from standard input; another key is never overwritten."""
    settings = _settings()
    _require_local(settings)
    # SECURITY: never an argument, which would stand in the shell's history and in the list of processes.
    text = typer.prompt("Key", hide_input=True) if _at_terminal() else sys.stdin.read()
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        key: LocalKey = OsKeyring.import_text(settings.key_name, text, directory=settings.dir)
    else:
        from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

        key = LocalKeyFile.import_text(settings.key_file, text, cache_directory=settings.dir)
    typer.echo(f"{key.fingerprint}  {_place(settings)}")


def _local_key() -> tuple[LocalKey, str]:
    settings = _settings()
    _require_local(settings)
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        return OsKeyring.load(settings.key_name), _place(settings)
    from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

    return LocalKeyFile.load(settings.key_file, cache_directory=settings.dir), _place(settings)


def _place(settings: Settings) -> str:
    return f"keyring: {settings.key_name}" if settings.encryption == "keyring" else str(settings.key_file)


def _require_local(settings: Settings) -> None:
    if settings.encryption == "key-vault":
        raise ConfigurationError(
            "the key lies in a vault and never leaves it: give a teammate the role Key Vault Crypto Service Encryption "
            "User there; `genai-cache keys init` says how"
        )


def _settings() -> Settings:
    from genai_cache_magic.api.session import Session

    session = Session()
    warn(session)
    return session.settings


@contextmanager
def _keyset(namespace: str | None, *, make_key: bool = False) -> Iterator[tuple[Keyset, Settings]]:
    from genai_cache_magic.api.keysets import keyset_of
    from genai_cache_magic.api.session import Session

    session = Session()
    name = session.options(namespace=namespace).namespace
    warn(session)
    with keyset_of(session.settings, name, make_key=make_key) as keyset:
        yield keyset, session.settings


def _show(found: KeysetStatus) -> None:
    rows = [
        ("kept in", found.place),
        ("guarded by", found.kind),
        ("key", found.key_id),
        ("fingerprint", found.fingerprint),
        ("signed by", found.signing_key_id),
        ("version", f"{found.version}, the highest seen here {found.highest_seen}"),
        ("seals with epoch", str(found.epoch)),
        ("opens epochs", ", ".join(map(str, found.epochs))),
    ]
    rows += [("revoked epochs", ", ".join(map(str, found.revoked)))] if found.revoked else []
    print_table(("keyset", ""), rows)


def _tell_plain(settings: Settings) -> None:
    """Say what lies unsealed beside a sealed cache. Nothing is taken over: whose questions they are is not known."""
    plain = [path for path in settings.dir.glob("v1/*/plain") if path.is_dir()]
    if plain:
        places = ", ".join(tilde(path) for path in plain)
        typer.echo(
            f"plain text lies in {places}, from when encryption was off. It is not used and can't be sealed now: "
            "no question was kept that a name could be made from. Remove it with "
            "`GENAI_CACHE_ENCRYPTION=off genai-cache clear`, or run those cells again",
            err=True,
        )


def _confirm(question: str) -> None:
    """Return if the answer is yes, else end the command."""
    if not typer.confirm(question):
        typer.echo("nothing was changed")
        raise typer.Exit


def _at_terminal() -> bool:
    return sys.stdin.isatty()
