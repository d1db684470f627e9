"""What a backup says: a chain of sealed records (`crypto/chain.py`) of three kinds, read and checked as a whole.

    kind  clear part                             sealed part
       1  namespace, its length (2) first;       nothing: a backup begins, and this keyset guards it
          keyset (`crypto/manifest.py`)
       2  nothing                                answers, each: entry id (32), length (4), envelope as it lay
       3  as 1                                   a backup is whole: when [ms since the epoch] (8), answers in the chain
                                                 so far (8), generation document (`core/validity.py`)

Integers are big-endian. Each further backup into the same place adds 1, 2 ..., 3 behind what is there, with the answers
that are not in it yet. The generation document is read after the answers: what was made invalid while they were read
is so in it. Where encryption is off there is no keyset, and what anyone can compute stands in for the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Generations, decode_generations
from genai_cache_magic.crypto.chain import OVERHEAD_BYTES, split_record
from genai_cache_magic.errors import ConfigurationError, DecryptionError, EntryUndecodable
from genai_cache_magic.stores.records import LARGEST_RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from genai_cache_magic.crypto.chain import Chain
    from genai_cache_magic.stores.records import Records

BEGUN: Final = 1
ANSWERS: Final = 2
WHOLE: Final = 3

_ID_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
LARGEST_ANSWER: Final = LARGEST_RECORD - OVERHEAD_BYTES - _ID_BYTES - _LENGTH_BYTES
"""What is larger [bytes] fits into no record; nor is it an answer of ours."""
_AGAIN: Final = "use another copy of it, or begin a new one"


@dataclass(frozen=True, slots=True)
class Whole:
    """What a backup that was finished says of itself; `records` counts those of the chain up to its last."""

    made_ms: int
    answers: int
    generations: Generations = field(repr=False)
    keyset: bytes = field(repr=False)
    records: int

    def same_as(self, generations: Generations, keyset: bytes) -> bool:
        """Return whether it has kept just that."""
        return self.generations == generations and self.keyset == keyset

    def encode(self) -> bytes:
        """Return the sealed part of its record."""
        return self.made_ms.to_bytes(8) + self.answers.to_bytes(8) + self.generations.encode()


@dataclass(frozen=True, slots=True)
class Chained:
    """What a chain holds: which answers, and the last backup that was finished, None if none was."""

    known: frozenset[bytes] = field(repr=False)
    whole: Whole | None = field(repr=False)
    is_whole: bool
    """Whether nothing follows it: neither a backup that was not finished, nor a record that was cut off."""


def fingerprint(entry_id: str, envelope: bytes) -> bytes:
    """Return what tells one stored answer from every other: bytes, shape (16,).

    SECURITY: of all of it. What somebody has changed in the tier does not stand for what this machine has.
    """
    return hashlib.sha256(bytes.fromhex(entry_id) + envelope).digest()[:16]


def encode_clear(namespace: str, keyset: bytes) -> bytes:
    """Return what anyone may read of a backup."""
    name = namespace.encode()
    return len(name).to_bytes(2) + name + keyset


def decode_clear(clear: bytes) -> tuple[str, bytes]:
    """Return (namespace, keyset), of which nobody has said yet that they are true; raises ``EntryUndecodable``."""
    end = 2 + int.from_bytes(clear[:2])
    try:
        return clear[2:end].decode(), clear[end:]
    except UnicodeDecodeError as exc:
        raise EntryUndecodable("stored bytes are not a record of a backup") from exc


def encode_answers(answers: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the sealed part of a record of answers."""
    return b"".join(
        part
        for entry_id, envelope in answers
        for part in (bytes.fromhex(entry_id), len(envelope).to_bytes(_LENGTH_BYTES), envelope)
    )


def decode_answers(plain: bytes) -> Iterator[tuple[EntryId, bytes]]:
    """Yield each answer of a record; raises ``EntryUndecodable``."""
    at = 0
    while at < len(plain):
        begin = at + _ID_BYTES + _LENGTH_BYTES
        end = begin + int.from_bytes(plain[at + _ID_BYTES : begin])
        if end > len(plain) or end == begin:
            raise EntryUndecodable("a record of a backup ends in the midst of an answer")
        yield EntryId(plain[at : at + _ID_BYTES].hex()), plain[begin:end]
        at = end


def read_chain(records: Records, chain: Chain) -> Chained:
    """Read a whole chain, and check every record of it; `chain` goes on behind it.

    Raises
    ------
    ConfigurationError
        It is no backup, of a newer version, or damaged.
    DecryptionError
        It was sealed with other keys or for another namespace, or was changed.
    StoreUnavailable
        It can't be read now.
    """
    known: set[bytes] = set()
    whole: Whole | None = None
    kind = 0
    for record in records.read():
        kind, clear, plain = opened(records, chain, record)
        if kind == ANSWERS:
            known.update(fingerprint(one, envelope) for one, envelope in decode_answers(plain))
        elif kind == WHOLE:
            whole = _whole(clear, plain, chain.number)
            if whole.answers != len(known):
                raise ConfigurationError(f"{records.name} does not hold what it says: {_AGAIN}")
    return Chained(frozenset(known), whole, kind == WHOLE and not records.is_cut_off)


def opened(records: Records, chain: Chain, record: bytes) -> tuple[int, bytes, bytes]:
    """Return (kind, clear part, sealed part) of the next record; raises as `read_chain`."""
    number = chain.number
    try:
        kind, clear, plain = chain.open(record)
    except DecryptionError as exc:
        said = f"record {number} was changed, or is not where it belongs"
        if not number:
            said = "it was sealed with other keys than this namespace has here, or was changed"
        raise DecryptionError(f"{records.name} can't be used: {said}: {_AGAIN}") from exc
    except EntryUndecodable as exc:
        raise ConfigurationError(f"{records.name} can't be used: record {number} is damaged: {_AGAIN}") from exc
    if kind not in {BEGUN, ANSWERS, WHOLE} or (not number and kind != BEGUN):
        raise ConfigurationError(f"{records.name} was written by a newer version: update genai-cache-magic")
    return kind, clear, plain


def keysets_in(records: Records, namespace: str) -> list[bytes]:
    """Return the keysets that a chain names, none of them authenticated, the newest first.

    Raises as `read_chain`, and ``ConfigurationError`` if there is nothing, or what is there is another namespace's.
    """
    found = []
    for record in records.read():
        try:
            kind, clear = split_record(record)
            named, keyset = decode_clear(clear) if kind in {BEGUN, WHOLE} else (namespace, b"")
        except EntryUndecodable as exc:
            raise ConfigurationError(f"{records.name} can't be used: {exc}: {_AGAIN}") from exc
        if named != namespace:
            raise ConfigurationError(
                f"{records.name} is a backup of namespace {named[:64]!a}, and not of {namespace!r}: "
                "name that namespace, or another place"
            )
        if kind in {BEGUN, WHOLE}:
            found.append(keyset)
    return list(dict.fromkeys(reversed(found)))


def answers_of(
    records: Records, chain: Chain, at_most: int, tell: Callable[[int], None]
) -> Iterator[list[tuple[EntryId, bytes]]]:
    """Yield the answers of each record among the first `at_most`; `tell` hears how many there were. As `read_chain`."""
    count = 0
    for record in records.read():
        if chain.number >= at_most:
            return
        kind, _, plain = opened(records, chain, record)
        if kind == ANSWERS:
            answers = list(decode_answers(plain))
            yield answers
            count += len(answers)
            tell(count)


def _whole(clear: bytes, plain: bytes, records: int) -> Whole:
    _, keyset = decode_clear(clear)
    made_ms, answers = int.from_bytes(plain[:8]), int.from_bytes(plain[8:16])
    return Whole(made_ms, answers, decode_generations(plain[16:]), keyset, records)
