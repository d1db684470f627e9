"""The keyset of a team as one machine comes by it: which counts, the one in the tier or the copy that lies here.

What stands in the tier counts, unless this machine has one that is authentic and newer: a tier that lost everything
may be given an older one by whoever had not seen the newer, or somebody puts a copy back. Nobody who knows better uses
the older one, and it gives way to the newer by compare-and-swap. Why each case ends as it does: ``design/0015``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from genai_cache_magic.api.team.line import KEYSET
from genai_cache_magic.entries.link import DEADLINE_S, within
from genai_cache_magic.errors import (
    DecryptionError,
    KeysetOutdated,
    KeysetUnusable,
    KeyUnavailable,
    StoreDenied,
    StoreUnavailable,
)
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.crypto.keyring import Keyring
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Document

_TRIES: Final = 8
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Keysets:
    """Opens keysets of one namespace by the key that this machine has.

    `lowest` is the highest version that was ever seen here.
    """

    namespace: str
    wrapper: KeyWrapper = field(repr=False)
    lowest: int

    def open(self, blob: bytes) -> Keyring:
        """Return the keys of a keyset; raises as ``open_manifest``."""
        from genai_cache_magic.crypto.keyset import open_manifest

        return open_manifest(blob, self.namespace, self.wrapper, lowest_version=self.lowest)

    def version(self, blob: bytes) -> int:
        """Return the version of a keyset that is authentic, however old; raises as ``verified_manifest``."""
        from genai_cache_magic.crypto.keyset import verified_manifest

        return verified_manifest(blob, self.namespace, self.wrapper).head.version

    def version_of_copy(self, blob: bytes | None) -> int:
        """Return the version of what lies on this machine; 0 if there is nothing, or it can't be told to be ours."""
        with suppress(DecryptionError, KeyUnavailable):
            return 0 if blob is None else self.version(blob)
        return 0


class TeamKeyset:
    """The keyset in a team's tier, and the copy of it that this machine keeps.

    Parameters
    ----------
    line
        The way to the tier.
    copy
        What was last seen of it.
    keysets
        Opens both.
    place
        Where the copy lies, fit to be shown.
    tell
        Hears that a newer keyset was put back.
    """

    def __init__(
        self,
        line: TeamLine,
        copy: Document,
        keysets: Keysets,
        *,
        place: str,
        tell: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._line = line
        self._shared = line.document(KEYSET)
        self._copy = copy
        self._keysets = keysets
        self._place = place
        self._tell = tell

    def fetch(self, make: Callable[[], bytes]) -> None:
        """Bring into the copy the keyset of the team; where it has none, what `make` returns is offered.

        What can't be this team's, or is older than what was seen here, is neither kept nor used.

        Raises
        ------
        StoreUnavailable
            The team can't be asked, and this machine has never seen its keyset; or it could not be put right now.
        KeyUnavailable, DecryptionError
            What stands there can't be this team's, or is older or another than ours, and as `make`.
        """
        known = self._copy.load()
        try:
            blob = self._within(self._shared.load)
            if blob is None:
                blob = self._offered(make())  # which takes as long as whoever guards the key
        except StoreUnavailable:
            if known is None:
                raise
            return
        if known != blob:
            blob = self.put_right(blob, known)
            # SECURITY: a forged one must not take the place of the last good one, which serves offline.
            self._keysets.open(blob)
            self._copy.replace(blob, expected=known)

    def offer_again(self) -> None:
        """Give a tier that lost what it had the keyset back, also where somebody has offered an older one.

        Raises ``StoreUnavailable`` while it can't be asked.
        """
        known = self._copy.load()
        if known is None or self._shared.replace(known, expected=None):
            return
        with suppress(DecryptionError, KeyUnavailable):  # whoever opens a cache next is told
            self._newest(self._there(), known)

    def _offered(self, made: bytes) -> bytes:
        def offer() -> bytes:
            self._shared.replace(made, expected=None)  # whoever is first wins
            return self._there()

        return self._within(offer)

    def put_right(self, blob: bytes, known: bytes | None) -> bytes:
        """Return what stands in the tier once no older keyset does than the one that is `known` here.

        `blob` is what was found there. Raises as `fetch`.
        """
        if known is None or not self._keysets.version_of_copy(known):
            return blob  # nothing here says that there was a newer one but its number, and whoever opens it heeds that
        return self._within(lambda: self._newest(blob, known))

    def _newest(self, blob: bytes, known: bytes) -> bytes:
        ours = self._keysets.version_of_copy(known)
        for _ in range(_TRIES):
            # SECURITY: what is not authentic may be a newer one that this machine can't judge yet: it stays.
            theirs = self._keysets.version(blob)
            if theirs > ours or blob == known:
                return blob
            if theirs == ours:
                self._refuse_fork(ours)
                return blob
            if self._is_put_back(known, blob, theirs):
                self._tell(
                    Trouble(
                        "L2",
                        KeysetOutdated.__name__,
                        f"the keyset in {self._line.tier.name} was older than this machine's: version {theirs} gave "
                        f"way to version {ours}; other machines take it when a cache is opened there",
                    )
                )
                return known
            blob = self._there()
        raise StoreUnavailable(f"the keyset in {self._line.tier.name} is changed by others all the time: try again")

    def _is_put_back(self, known: bytes, blob: bytes, theirs: int) -> bool:
        try:
            return self._shared.replace(known, expected=blob)
        except StoreDenied as exc:
            raise KeysetOutdated(
                f"the keyset in {self._line.tier.name} was rolled back to version {theirs}, and this machine may not "
                f"put its newer one there: let a teammate who may write open a cache ({exc})"
            ) from exc

    def _refuse_fork(self, version: int) -> None:
        """Refuse another keyset of the same version: nobody can tell which of the two revoked what.

        Of two first ones, neither of which has revoked anything, the one in the tier counts.
        """
        if version > 1:
            raise DecryptionError(
                f"the keyset in {self._line.tier.name} and this machine's are two of version {version}, changed apart: "
                f"to take the tier's, remove {self._place} here, and revoke anew what this one had revoked"
            )

    def _there(self) -> bytes:
        blob = self._shared.load()
        if blob is None:
            raise KeysetUnusable(f"the keyset in {self._line.tier.name} vanished while it was read: try again")
        return blob

    def _within(self, work: Callable[[], _T]) -> _T:
        return within(DEADLINE_S, work, overdue=self._line.overdue)
