"""Pinned runs in a team's tier: whoever pins one pins it for all, and whoever replays it gets the same answers.

A pinned run is a page that says so, and its file, packed and cut in parts, which are sealed as entries are: so who has
no key of their epoch any more reads none of them. The parts are there before the page names them.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import ConfigurationError, DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.ledger.known import Pin, PinState
from genai_cache_magic.ledger.pages import Content, Place
from genai_cache_magic.runs.lines import decode_file, decode_line, encode_file, encode_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.entries.codec import Seal
    from genai_cache_magic.ledger.sharing import Draft, Learnt, Sharing
    from genai_cache_magic.runs.lines import RecordedCall
    from genai_cache_magic.runs.run_file import RunFile
    from genai_cache_magic.stores.base import Pages

PINS: Final = "pins"
_PART_BYTES: Final = 512 * 1024
_AT_ONCE: Final = 8
_MOST_PARTS: Final = 512
_LARGEST_FILE_BYTES: Final = 1 << 30
_ROUND_S: Final = 10.0
"""How long a few parts may take [s]: nobody but who asked for just that waits for them."""
_FOR_EVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class TeamPin:
    """What the team knows of the pin of a run: `parts` of a file, or that it was removed."""

    serial: int
    is_pinned: bool
    ident: str = field(repr=False)
    parts: int
    digest: str = field(repr=False)


class TeamPins:
    """The pins of one namespace. Safe to share between threads.

    Parameters
    ----------
    bundles
        The tier's pages for what is large.
    seal
        Seals the parts, as it does entries.
    label
        Returns what stands for a run in the files of this machine: bytes, shape (16,).
    bundle
        Returns the file of a pinned run on this machine, whether it is there or not.
    overdue
        Called when the tier takes too long; returns what to say.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        sharing: Sharing,
        bundles: Pages,
        seal: Seal,
        *,
        label: Callable[[str], bytes],
        bundle: Callable[[str], RunFile],
        overdue: Callable[[], str],
    ) -> None:
        self._sharing = sharing
        self._bundles = bundles
        self._seal = seal
        self._label = label
        self._bundle = bundle
        self._overdue = overdue

    def note(self, name: str, *, is_pinned: bool) -> None:
        """Note that a run was pinned or unpinned here, to be told; raises ``StoreUnavailable``."""
        label = self._label(name)
        state = PinState.MADE if is_pinned else PinState.REMOVED
        pin = Pin(self._sharing.now_ms() * 1000, state, self._sharing.seal.seal_own(label, name))
        self._sharing.known.note_pin(label, pin)

    def is_told(self, name: str) -> bool | None:
        """Return whether the team knows what was last noted of a run; None if it never will: it is too large."""
        pin = self._sharing.known.pins().get(self._label(name))
        return None if pin is None else pin.state in {PinState.TOLD, PinState.DOUBTED}

    def leave(self, name: str) -> None:
        """Let what is here under a name be this machine's alone, as what was imported is."""
        self._sharing.known.note_pin(self._label(name), None)

    def known(self) -> tuple[dict[str, TeamPin], Learnt]:
        """Return what the team knows, by run, and how well that is known here."""
        sharing = self._sharing
        learnt = sharing.learn([sharing.seal.key(PINS)], PINS, with_own=True)
        found = (_pin(content.rows, serial) for content, serial in zip(learnt.contents, learnt.serials, strict=True))
        return dict(one for one in found if one is not None), learnt

    def is_pinned(self, name: str, known: dict[str, TeamPin]) -> bool:
        """Return whether a replay of a run is answered by its pin, as far as the team's are `known`."""
        pin = self._sharing.known.pins().get(self._label(name))
        if pin is not None and pin.state in {PinState.MADE, PinState.REMOVED}:
            return pin.state is PinState.MADE
        if name in known:
            return known[name].is_pinned
        return self._bundle(name).path.exists()

    def file(self, name: str) -> RunFile | None:
        """Return the file of a pinned run, fetched if it is not here; None if the run isn't pinned.

        Raises
        ------
        StoreUnavailable
            It is pinned, and can't be fetched now.
        """
        label, local = self._label(name), self._bundle(name)
        pin = self._sharing.known.pins().get(label)
        is_here = local.path.exists()
        is_own = pin.state in {PinState.MADE, PinState.REMOVED} if pin is not None else is_here  # or it was imported
        if is_own:
            return None if pin is not None and pin.state is PinState.REMOVED else local if is_here else None
        known, learnt = self.known()
        one = known.get(name)
        if one is None:
            return local if is_here else None  # the tier has lost it, or can't be asked: this machine has it yet
        if not one.is_pinned:
            if pin is not None:
                local.path.unlink(missing_ok=True)
                self._sharing.known.note_pin(label, None, instead_of=pin)
            return None
        if pin is None or pin.serial != one.serial or not is_here:
            self._take_over(name, one, local, learnt)
        return local

    def drafts(self) -> Sequence[Draft]:
        """Return nothing: see `tell`."""
        return ()

    def forget(self) -> None:
        """Take no pin as told any more."""
        self._sharing.known.forget_pins()

    def tell(self) -> None:
        """Tell what was pinned or unpinned here; raises ``StoreUnavailable``."""
        waiting = {label: pin for label, pin in self._sharing.known.pins().items() if pin.state is not PinState.TOLD}
        if not waiting:
            return
        known, learnt = self.known()
        if learnt.trouble:
            raise StoreUnavailable(learnt.trouble)
        names = self._sharing.names(self._sharing.seal.key(PINS))
        known = {name: pin for name, pin in known.items() if self._place(name).name in names}  # not what the tier lost
        for label, pin in waiting.items():
            name = self._sharing.seal.open_own(label, pin.title)
            if type(name) is not str:
                self._sharing.known.note_pin(label, None, instead_of=pin)
                continue
            there = known.get(name)
            now = None
            if pin.state is not PinState.REMOVED:
                now = self._told(name, pin, there)
            elif there is not None and there.is_pinned:
                self._take_away(name, there)
            self._sharing.known.note_pin(label, now, instead_of=pin)

    def _told(self, name: str, pin: Pin, there: TeamPin | None) -> Pin | None:
        """Tell a pin, and return what is to be noted of it."""
        if pin.state is PinState.DOUBTED and there is not None:
            return Pin(pin.serial, PinState.TOLD, pin.title)  # it, or what took its place, is there
        file = self._bundle(name)
        try:
            file.load()
        except ConfigurationError:  # it was removed, or can't be read any more: there is nothing to tell
            return None
        content = encode_file((call.name, encode_line(call)) for call in file.calls())
        packed = zlib.compress(content)
        parts = [packed[at : at + _PART_BYTES] for at in range(0, len(packed), _PART_BYTES)]
        if len(parts) > _MOST_PARTS:
            return None  # it stays this machine's
        digest = hashlib.sha256(content).hexdigest()
        ident = self._sharing.seal.key("pinned", name, digest)  # so that what was cut off goes on where it was
        serial = self._post(name, TeamPin(0, True, ident, len(parts), digest), parts)  # noqa: FBT003 - a field
        if there is not None and there.is_pinned and there.ident != ident:
            self._bundles.remove(there.ident, self._names(there))
        return Pin(serial, PinState.TOLD, pin.title)

    def _post(self, name: str, pin: TeamPin, parts: Sequence[bytes]) -> int:
        names = self._names(pin)
        sealed = {key: self._seal.seal(key, b"", b"", part) for key, part in zip(names, parts, strict=True)}
        wanted = names
        while True:
            for start in range(0, len(wanted), _AT_ONCE):
                some = {key: sealed[key] for key in wanted[start : start + _AT_ONCE]}
                self._bundles.put(pin.ident, some, ttl_s=_FOR_EVER)
            serial = self._sharing.post(self._place(name), self._content(name, pin))
            there = self._bundles.revisions([pin.ident])[pin.ident]
            wanted = [key for key in names if key not in there]  # somebody replaced an older pin of these very answers
            if not wanted:
                return serial

    def _take_away(self, name: str, pin: TeamPin) -> None:
        gone = TeamPin(0, False, pin.ident, pin.parts, pin.digest)  # noqa: FBT003 - a field
        self._sharing.post(self._place(name), self._content(name, gone))
        self._bundles.remove(pin.ident, self._names(pin))

    def _take_over(self, name: str, pin: TeamPin, local: RunFile, learnt: Learnt) -> None:
        """Put the team's pin in the place of what is here; raises ``StoreUnavailable``."""
        if learnt.trouble:
            raise StoreUnavailable(f"the pinned answers of run {name!r} can't be fetched: {learnt.trouble}")
        local.replace(self._fetched(name, pin))
        label = self._label(name)
        title = self._sharing.seal.seal_own(label, name)
        self._sharing.known.note_pin(label, Pin(pin.serial, PinState.TOLD, title))

    def _fetched(self, name: str, pin: TeamPin) -> list[RecordedCall]:
        names = self._names(pin)
        parts: list[bytes] = []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            found = within(_ROUND_S, lambda s=some: self._bundles.read(pin.ident, s), overdue=self._overdue)  # type: ignore[misc]
            try:
                parts += [bytes(self._seal.open(key, found[key].blob).body) for key in some]
            except KeyError:
                raise StoreUnavailable(_lacks(name, "a part is missing")) from None
            except (DecryptionError, EntryUndecodable) as error:
                raise StoreUnavailable(_lacks(name, str(error))) from error
        expander = zlib.decompressobj()
        try:
            content = expander.decompress(b"".join(parts), _LARGEST_FILE_BYTES)
            if not expander.eof or hashlib.sha256(content).hexdigest() != pin.digest:
                raise StoreUnavailable(_lacks(name, "they are not what was pinned"))
            return [decode_line(line) for line in decode_file(content).values()]
        except (zlib.error, ConfigurationError) as error:
            raise StoreUnavailable(_lacks(name, str(error))) from error

    def _names(self, pin: TeamPin) -> list[str]:
        return [self._sharing.seal.key("part", pin.ident, str(number)) for number in range(pin.parts)]

    def _place(self, name: str) -> Place:
        return Place(self._sharing.seal.key(PINS), self._sharing.seal.key(PINS, name))

    def _content(self, name: str, pin: TeamPin) -> Content:
        return Content(PINS, self._sharing.writer(), [name, pin.is_pinned, pin.ident, pin.parts, pin.digest])


def _lacks(name: str, why: str) -> str:
    return f"the team's pinned answers of run {name!r} can't be used: {why}; pin it again"


def _pin(rows: Sequence[object], serial: int) -> tuple[str, TeamPin] | None:
    """Return the run of a page and its pin; None for what can be none."""
    if [type(value) for value in rows] != [str, bool, str, int, str]:
        return None
    name, is_pinned, ident, parts, digest = rows
    assert isinstance(ident, str)
    assert isinstance(parts, int)
    if len(ident) != 64 or not set(ident) <= set("0123456789abcdef") or not 0 < parts <= _MOST_PARTS:  # noqa: PLR2004 - hex digits
        return None
    return str(name), TeamPin(serial, bool(is_pinned), ident, parts, str(digest))
