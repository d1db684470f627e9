"""The keyset of a namespace as its owners work on it: make, rotate, rewrap and revoke keys, trust who signs."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.api.team.custody import first_keyset, key_wrapper, made_home, vault_wrapper
from genai_cache_magic.api.team.line import KEYSET, team_line
from genai_cache_magic.api.team.shared_keyset import Keysets, TeamKeyset
from genai_cache_magic.crypto.aead import KEY_BYTES
from genai_cache_magic.crypto.keyset import open_manifest, open_table, write_manifest
from genai_cache_magic.crypto.manifest import MAX_EPOCHS, split_manifest
from genai_cache_magic.crypto.wrappers.azure_key_vault import AzureKeyVault
from genai_cache_magic.entries.highest import highest_keyset, keep_keyset
from genai_cache_magic.entries.rows import COLUMNS, SCHEMA
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import ConfigurationError, EntryUndecodable, KeyDenied, KeyUnavailable, StoreUnavailable
from genai_cache_magic.host import tilde
from genai_cache_magic.stores.disk.home import Losses
from genai_cache_magic.stores.documents import FileDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.crypto.keyset import KeyTable
    from genai_cache_magic.crypto.manifest import ManifestHead
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.crypto.wrappers.known_keys import KnownKey
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Document
    from genai_cache_magic.stores.disk.home import Home

_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class KeysetStatus:
    """What a keyset says of itself, once it was opened.

    `epochs` are those that entries can be sealed under, `revoked` those that were given up; `place` is where it lies.
    """

    place: str = field(repr=False)
    kind: str
    key_id: str
    fingerprint: str
    signing_key_id: str
    version: int
    highest_seen: int
    epoch: int
    epochs: tuple[int, ...] = field(repr=False)
    revoked: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Begun:
    """What `begin` found: keys of the vault that were made, whether the keyset was, and what is not allowed."""

    status: KeysetStatus | None
    made_keys: tuple[str, ...] = field(repr=False)
    is_made: bool
    refusals: tuple[KeyDenied, ...] = field(repr=False)


class Keyset:
    """The keyset of one namespace, where its team or this machine keeps it. Made by `keyset_of`.

    Every change is a compare-and-swap of a whole new manifest, opened before it is offered. Its methods raise
    ``ConfigurationError`` for what can't be asked, ``KeyUnavailable`` or ``DecryptionError`` where the keys can't be
    used, and ``StoreUnavailable`` where the keyset can't be reached.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        settings: Settings,
        namespace: str,
        wrapper: KeyWrapper,
        *,
        home: Home,
        line: TeamLine | None,
        state: StateFile,
    ) -> None:
        self._settings = settings
        self._namespace = namespace
        self._home = home
        self._line = line
        self._state = state
        self._place = tilde(home.path) if line is None else line.tier.name
        self._copy = FileDocument(home.path / KEYSET)
        self._document: Document = self._copy if line is None else line.document(KEYSET)
        self.wrapper = wrapper

    def begin(self) -> Begun:
        """Make what is missing: the vault's keys, and the keyset. What is there is adopted, never replaced."""
        made_keys: tuple[str, ...] = ()
        refusals: tuple[KeyDenied, ...] = ()
        if isinstance(self.wrapper, AzureKeyVault):
            try:
                made_keys = self.wrapper.ensure_keys()
            except KeyDenied as refusal:
                return Begun(None, (), is_made=False, refusals=(refusal,))
            refusals = self.wrapper.refusals()
        rights = {refusal.right for refusal in refusals}
        is_there = self._document.load() is not None
        is_made = not is_there and not rights and self._offer()
        may_open = not rights & {"get", "unwrapKey"}
        status = self.status() if may_open and (is_there or is_made) else None
        return Begun(status, made_keys, is_made, refusals)

    def status(self) -> KeysetStatus:
        """Return what the keyset says, after opening it."""
        head, table, _ = self._opened()
        return KeysetStatus(
            self._place,
            head.kind,
            head.key_id,
            head.fingerprint,
            head.signing_key_id,
            head.version,
            self._lowest(),
            head.epoch,
            tuple(epoch for epoch, root_key in sorted(table.root_keys.items()) if root_key is not None),
            tuple(epoch for epoch, root_key in sorted(table.root_keys.items()) if root_key is None),
        )

    def rotate(self) -> KeysetStatus:
        """Begin a new epoch under a new namespace key. No entry is rewritten: what is there opens as before."""
        self._change(_with_new_epoch)
        return self.status()

    def rewrap(self, signer: KnownKey | None = None) -> KeysetStatus:
        """Wrap and sign the same keys anew: by the vault's current versions, or by another kind of guard.

        `signer` is the version of the signing key that is to be trusted from now on, if that is a new one.
        """
        if signer is not None:
            self._vault("keys rewrap").accept(signer)
        self._change(lambda table: table)
        if signer is not None:
            self.trust(signer)
        return self.status()

    def new_signer(self) -> KnownKey | None:
        """Return the current version of the vault's signing key if this machine trusts another one."""
        if not isinstance(self.wrapper, AzureKeyVault) or (trusted := self.wrapper.trusted) is None:
            return None
        current = self.wrapper.offered()
        return None if current.version == trusted.version else current

    def revoke(self, epoch: int) -> KeysetStatus:
        """Give up the key of `epoch`, so that what it sealed is lost; after the current one comes another."""

        def revoked(table: KeyTable) -> KeyTable:
            if table.root_keys.get(epoch) is None:
                known = ", ".join(str(known) for known, root_key in sorted(table.root_keys.items()) if root_key)
                raise ConfigurationError(f"epoch {epoch} is not one that can be revoked: there are {known}")
            if epoch == max(table.root_keys):
                table = _with_new_epoch(table)
            return replace(table, root_keys={**table.root_keys, epoch: None})

        self._change(revoked)
        return self.status()

    def adopt(self, blob: bytes, *, is_unused: Callable[[], bool]) -> bool:
        """Let the keyset of a backup count here, where there is none or an older one of the same keys.

        One of other keys gives way if `is_unused` says that it seals nothing. Returns whether it does from now on;
        False means that what is here counts. Raises as the others, and ``ConfigurationError`` if there are other keys.
        """
        for _ in range(_TRIES):
            lowest, copied = self._lowest(), self._copy.load()
            head, table = open_table(blob, self._namespace, self._guard_of(blob), lowest_version=0)
            there = self._document.load()
            if there is not None:
                found, ours, _ = self._opened()
                is_ours = ours.mac_key == table.mac_key
                if not is_ours and not (found.version == 1 and is_unused()):
                    raise ConfigurationError(
                        f"namespace {self._namespace!r} has other keys in {self._place} than the backup, so neither "
                        "opens what the other sealed: restore into a directory, or a tier, in which it is not there yet"
                    )
                if is_ours and found.version >= head.version:
                    return False
            if head.version < lowest:
                open_table(blob, self._namespace, self._guard_of(blob), lowest_version=lowest)  # which says what to do
            if self._document.replace(blob, expected=there):
                self._keep(blob, head.version, over=copied)
                return True
        raise StoreUnavailable(f"the keyset in {self._place} is changed by others all the time: try again")

    def signers(self) -> tuple[KnownKey | None, KnownKey]:
        """Return the signing key that this machine trusts, if any, and the one that the keyset names."""
        wrapper = self._vault("keys trust")
        blob = self._loaded()
        try:
            head = split_manifest(blob).head
        except EntryUndecodable as exc:
            raise KeyUnavailable(f"the keyset in {self._place} can't be read ({exc})") from exc
        offered = wrapper.offered(head.signing_key_id)
        try:
            trusted = wrapper.trusted
        except KeyUnavailable:  # what was remembered is damaged, which is what this mends
            trusted = None
        return trusted, offered

    def trust(self, key: KnownKey) -> None:
        """Trust `key` to sign keysets, and no version before it."""
        self._vault("keys trust").trust(key)

    def public_keys(self) -> str:
        """Return the public part of the keys that guard this namespace, as PEM, each after a line that names it."""
        wrapper = self._vault("keys export-public")
        return "".join(f"{key.name} {key.version}\n{key.pem()}" for key in wrapper.current())

    def _offer(self) -> bool:
        """Offer the first keyset; return whether it was this one that counts from now on."""
        keysets, copied = Keysets(self._namespace, self.wrapper, self._lowest()), self._copy.load()
        before = () if self._line is None else (self._copy, FileDocument(self._home.path.parent / KEYSET))
        is_made = self._document.replace(first_keyset(before, keysets), expected=None)
        blob = self._loaded()
        self._keep(blob, keysets.open(blob).manifest_version, over=copied)
        return is_made

    def _change(self, how: Callable[[KeyTable], KeyTable]) -> None:
        """Replace the keyset by one with the keys that `how` returns, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            head, table, blob = self._opened()
            made = write_manifest(how(table), self._namespace, self.wrapper, version=head.version + 1)
            open_manifest(made, self._namespace, self.wrapper, lowest_version=head.version + 1)
            if self._document.replace(made, expected=blob):
                self._keep(made, head.version + 1, over=blob)
                return
        raise StoreUnavailable(f"the keyset in {self._place} is changed by others all the time: try again")

    def _opened(self) -> tuple[ManifestHead, KeyTable, bytes]:
        # Before it is loaded: what others see and write meanwhile makes it none that was put back.
        lowest, copied = self._lowest(), self._copy.load()
        blob = self._loaded()
        wrapper = self._guard_of(blob)
        if self._line is not None:
            keysets = Keysets(self._namespace, wrapper, lowest)
            team = TeamKeyset(self._line, self._copy, keysets, place=tilde(self._home.path / KEYSET))
            blob = team.put_right(blob, copied)
        head, table = open_table(blob, self._namespace, wrapper, lowest_version=lowest)
        self._keep(blob, head.version, over=copied)
        return head, table, blob

    def _guard_of(self, blob: bytes) -> KeyWrapper:
        """Return what guards the keyset now, which may be of another kind than what should from now on."""
        try:
            kind = split_manifest(blob).head.kind
        except EntryUndecodable:
            return self.wrapper  # which says what is wrong
        if kind == self.wrapper.kind:
            return self.wrapper
        if kind == AzureKeyVault.kind:
            return vault_wrapper(self._settings)
        from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

        return LocalKeyFile.load(self._settings.key_file, cache_directory=self._settings.dir)

    def _loaded(self) -> bytes:
        blob = self._document.load()
        if blob is None:
            raise KeyUnavailable(f"namespace {self._namespace!r} has no keyset yet: run `genai-cache keys init`")
        return blob

    def _keep(self, blob: bytes, version: int, *, over: bytes | None) -> None:
        """Remember what was seen, so that an older one is refused from now on.

        It is copied over `over` alone, what the copy held before `blob` was loaded: where there is no team the copy is
        the keyset itself, and somebody may have changed it since.
        """
        keep_keyset(self._state, self._namespace, version)
        if over != blob:
            self._copy.replace(blob, expected=over)

    def _lowest(self) -> int:
        return highest_keyset(self._state, self._namespace)

    def _vault(self, command: str) -> AzureKeyVault:
        if not isinstance(self.wrapper, AzureKeyVault):
            raise ConfigurationError(f"{command} is about a vault's keys: set GENAI_CACHE_ENCRYPTION=key-vault")
        return self.wrapper


def _with_new_epoch(table: KeyTable) -> KeyTable:
    if len(table.root_keys) >= MAX_EPOCHS:
        raise ConfigurationError(f"a keyset holds {MAX_EPOCHS} epochs, and this one is full: use another namespace")
    return replace(table, root_keys={**table.root_keys, max(table.root_keys) + 1: os.urandom(KEY_BYTES)})


@contextmanager
def keyset_of(settings: Settings, namespace: str, *, make_key: bool = False) -> Iterator[Keyset]:
    """Give the keyset of `namespace`: its team's, if there is a team tier, else this machine's.

    `make_key` says whether a key file, or a key in the keyring, is made if there is none.

    Raises
    ------
    ConfigurationError
        Encryption is off, or a setting can't be used.
    KeyUnavailable
        The key can't be read or made.
    """
    if settings.encryption == "off":
        raise ConfigurationError(
            "encryption is off, so there are no keys: set GENAI_CACHE_ENCRYPTION to local, keyring or key-vault"
        )
    wrapper = key_wrapper(settings, make=make_key)
    line = team_line(settings, namespace)
    with ExitStack() as each:
        if line is not None:
            each.callback(line.tier.close)
        home = made_home(settings, namespace, line, Losses())
        state = StateFile(home.path / "state.db", SCHEMA, columns=COLUMNS, ensure=home.ensure)
        each.callback(state.close)
        yield Keyset(settings, namespace, wrapper, home=home, line=line, state=state)
