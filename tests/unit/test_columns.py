"""Columns that are large are opened where there is room for them, or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.errors import DecryptionError

TEXT, PLACE = b"a piece of an index", b"place"


@pytest.fixture(params=["new", "old"])
def seal(request):
    """A seal as it is, and over a library that can't open into memory that is there."""
    made = ColumnSeal(bytes(32))
    if request.param == "old":
        made._cipher = SimpleNamespace(encrypt=made._cipher.encrypt, decrypt=made._cipher.decrypt)
    return made


def test_a_column_is_opened_where_there_is_room(seal):
    """Just there, and as it was sealed."""
    room = bytearray(b"-" * (len(TEXT) + 2))
    seal.open_into(memoryview(room)[1:-1], memoryview(seal.seal(TEXT, place=PLACE)), place=PLACE)
    assert bytes(room) == b"-" + TEXT + b"-"


@pytest.mark.parametrize("damage", ["changed", "cut", "longer", "empty", "elsewhere", "no room"])
def test_what_is_not_as_it_was_sealed_is_refused(seal, damage):
    """Changed, of another length, or sealed for another place."""
    sealed = bytearray(seal.seal(TEXT, place=PLACE))
    changed = {"changed": sealed[:20] + b"\0\0" + sealed[22:], "cut": sealed[:-1], "longer": sealed + b"\0"}
    changed["empty"] = bytearray()
    place = b"another" if damage == "elsewhere" else PLACE
    room = memoryview(bytearray(len(TEXT) - (damage == "no room")))
    with pytest.raises(DecryptionError):
        seal.open_into(room, memoryview(bytes(changed.get(damage, sealed))), place=place)
