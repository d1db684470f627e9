"""``genai-cache keys``: the keys that seal a namespace, and who guards them."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from genai_cache_magic.cli.opening import Namespace, warn
from genai_cache_magic.cli.overview import Commands
from genai_cache_magic.cli.showing import AsJson, confirm, print_table, tell
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable
from genai_cache_magic.host import tilde

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.api.team.keysets import Begun, Keyset, KeysetStatus
    from genai_cache_magic.crypto.wrappers.known_keys import KnownKey
    from genai_cache_magic.crypto.wrappers.local_key import LocalKey
    from genai_cache_magic.settings.model import Settings

keys_app = typer.Typer(cls=Commands, rich_markup_mode=None)

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
Replace = Annotated[bool, typer.Option("--replace", help="In the place of another key, which is kept beside it.")]


@keys_app.callback(invoke_without_command=True)
def _keys(context: typer.Context) -> None:
    """Make, change, trust and carry over the keys that seal the cache."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@keys_app.command()
def init(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Make the keys of a namespace, or adopt those that are there, and say which rights are missing."""
    with _keyset(namespace, make_key=True) as (keyset, settings):
        begun = keyset.begin()
        if as_json:
            status = None if begun.status is None else asdict(begun.status)
            about = {"made_keys": begun.made_keys, "is_made": begun.is_made, "status": status}
            typer.echo(json.dumps({**about, "refusals": [str(refusal) for refusal in begun.refusals]}))
        else:
            _show_begun(begun, settings)
        for refusal in begun.refusals:
            typer.echo(f"not allowed: {refusal}", err=True)
        _tell_plain(settings)
        if begun.status is None:
            raise KeyUnavailable("the keyset can't be used by this identity: the lines above say what is missing")


def _show_begun(begun: Begun, settings: Settings) -> None:
    for name in begun.made_keys:
        typer.echo(f"made key {name} in {settings.key_vault_url}")
    if begun.status is not None:
        typer.echo("made the keyset" if begun.is_made else "adopted the keyset that is there")
        _show(begun.status)


@keys_app.command()
def status(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Show which key seals a namespace, its epochs, and whom this machine trusts."""
    with _keyset(namespace) as (keyset, _):
        found = keyset.status()
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _show(found)


@keys_app.command()
def rotate(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Seal new answers with a new key. None is rewritten, and what is there opens as before."""
    with _keyset(namespace) as (keyset, _):
        found = keyset.rotate()
    tell(
        {"epoch": found.epoch},
        f"epoch {found.epoch} seals from now on; an open kernel takes it up when it is restarted, or at its next "
        "cell once it has met an answer that is sealed with it",
        as_json=as_json,
    )


@keys_app.command()
def rewrap(*, namespace: Namespace = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Wrap the same keys anew, after the vault's key got a new version, or encryption another kind of key."""
    with _keyset(namespace) as (keyset, _):
        signer = keyset.new_signer()
        if signer is not None:
            said = f"the vault's signing key has a new version: {signer.fingerprint}  version {signer.version}"
            typer.echo(said, err=as_json)
            if not yes and not _at_terminal():
                raise ConfigurationError(
                    "keys rewrap would sign with a version that this machine doesn't trust: add --yes"
                )
            if not yes:
                confirm(
                    "Is it yours? Sign with it from now on? Each teammate confirms it by `keys trust`", as_json=as_json
                )
        found = keyset.rewrap(signer)
    tell({"key_id": found.key_id}, f"wrapped by {found.key_id}", as_json=as_json)


@keys_app.command()
def revoke(
    epoch: Annotated[int, typer.Argument(min=1, metavar="EPOCH", help="As `keys status` shows it.")],
    *,
    namespace: Namespace = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give up the key of an epoch: every answer that it sealed is lost, for everyone."""
    if not yes:
        if not _at_terminal():
            raise ConfigurationError(f"keys revoke loses every answer of epoch {epoch} for everyone: add --yes")
        confirm(f"Lose every answer of epoch {epoch}, for everyone?", as_json=as_json)
    with _keyset(namespace) as (keyset, _):
        found = keyset.revoke(epoch)
    says = (
        f"epoch {epoch} is revoked; epoch {found.epoch} seals. What is open now knows the old key until it ends, and "
        "what was lost is counted until `genai-cache gc` removes it"
    )
    tell({"revoked": epoch, "epoch": found.epoch}, says, as_json=as_json)


@keys_app.command()
def trust(*, namespace: Namespace = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Trust the key that signs the keyset now, after your administrator has changed it."""
    with _keyset(namespace) as (keyset, _):
        trusted, offered = keyset.signers()
        if trusted is not None and trusted.version == offered.version and trusted.fingerprint == offered.fingerprint:
            says = f"trusted already: {offered.fingerprint}  version {offered.version}"
            tell({**_about(offered), "changed": False}, says, as_json=as_json)
            return
        if trusted is not None:
            typer.echo(f"trusted so far: {trusted.fingerprint}  version {trusted.version}", err=as_json)
        typer.echo(f"signs now:      {offered.fingerprint}  version {offered.version}", err=as_json)
        if not yes and not _at_terminal():
            raise ConfigurationError(
                "keys trust would trust a key of which nobody here has said that it is your team's: compare its "
                "fingerprint, and add --yes"
            )
        if not yes:
            confirm("Has your administrator told you this fingerprint? Trust it?", as_json=as_json)
        keyset.trust(offered)
        tell({**_about(offered), "changed": True}, "trusted", as_json=as_json)


def _about(signer: KnownKey) -> dict[str, str]:
    return {"fingerprint": signer.fingerprint, "version": signer.version}


@keys_app.command("export-public")
def export_public(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Print the public part of the vault's keys, for others to compare. It opens nothing."""
    with _keyset(namespace) as (keyset, _):
        text = keyset.public_keys()
    typer.echo(json.dumps({"public_keys": text}) if as_json else text, nl=as_json)


@keys_app.command()
def show(*, as_json: AsJson = False) -> None:
    """Show where the local key lies and its fingerprint, by which two machines compare keys."""
    key, place = _local_key()
    tell({"fingerprint": key.fingerprint, "place": place}, f"{key.fingerprint}  {place}", as_json=as_json)


@keys_app.command()
def export(*, as_json: AsJson = False) -> None:
    """Print the local key itself. Whoever has it can open every answer that it sealed."""
    text = _local_key()[0].export_text()
    typer.echo(json.dumps({"key": text}) if as_json else text)


@keys_app.command("import")
def import_(*, replace: Replace = False, as_json: AsJson = False) -> None:
    """Read a key that `keys export` printed from standard input; another key is never overwritten.

    Kernels that are open go on with what they have until they are restarted.
    """
    settings = _settings()
    _require_local(settings)
    # SECURITY: never an argument, which would stand in the shell's history and in the list of processes.
    text = typer.prompt("Key", hide_input=True, err=as_json) if _at_terminal() else sys.stdin.read()
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        key: LocalKey = OsKeyring.import_text(settings.key_name, text, directory=settings.dir, replaces=replace)
    else:
        from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

        key = LocalKeyFile.import_text(settings.key_file, text, cache_directory=settings.dir, replaces=replace)
    place = _place(settings)
    tell({"fingerprint": key.fingerprint, "place": place}, f"{key.fingerprint}  {place}", as_json=as_json)


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
    from genai_cache_magic.api.scopes.session import Session

    session = Session()
    warn(session)
    return session.settings


@contextmanager
def _keyset(namespace: str | None, *, make_key: bool = False) -> Iterator[tuple[Keyset, Settings]]:
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.api.team.keysets import keyset_of

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


def _at_terminal() -> bool:
    return sys.stdin.isatty()
