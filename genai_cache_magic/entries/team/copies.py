"""Which of the copies that an edge hands out are what the shared tier itself holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.errors import DecryptionError, EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.entries.placing import Places
    from genai_cache_magic.stores.base import Copy


@dataclass(frozen=True, slots=True)
class Sifted:
    """Copies by what they are worth.

    Attributes
    ----------
    current
        By key, what may be served as if the tier had been asked.
    outdated
        What was sealed for these keys, and is not valid any more, or can't be known to be.
    forged
        What nobody of this name space has sealed for these keys.
    """

    current: Mapping[str, bytes] = field(repr=False)
    outdated: tuple[Copy, ...] = field(repr=False)
    forged: tuple[Copy, ...] = field(repr=False)


def sift(places: Places, copies: Mapping[str, Copy]) -> Sifted:
    """Judge `copies` by what is valid at this moment, which `places` know; raises ``StoreUnavailable`` if nobody does.

    SECURITY: this is what stands between an edge and who asks: whatever passes is sealed for this very entry, and valid
    by the document that the tier itself has just shown.
    """
    current: dict[str, bytes] = {}
    outdated: list[Copy] = []
    forged: list[Copy] = []
    for key, copy in copies.items():
        try:
            is_current = places.is_current(EntryId(key), copy.blob)
        except (DecryptionError, EntryUndecodable):
            forged.append(copy)
            continue
        if is_current:
            current[key] = copy.blob
        else:
            outdated.append(copy)
    return Sifted(current, tuple(outdated), tuple(forged))
