"""The live generation document."""

from __future__ import annotations

import os

import pytest

from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.documents import FileDocument, MemoryDocument

MAC = b"k" * 32


def live(document, namespace="n", mac_key=MAC):
    return LiveGenerations(document, namespace=namespace, mac_key=mac_key, random_bytes=os.urandom)


def test_created_once_and_shared():
    """Two readers of one document agree on its root."""
    document = MemoryDocument()
    assert live(document).current() == live(document).current()


def test_a_change_is_seen_by_others_at_once():
    """No reader answers from a copy once the document has changed."""
    document = MemoryDocument()
    one, two = live(document), live(document)
    before = two.current()
    one.change(lambda g: g.invalidating_tags([b"t" * 16]))
    assert two.current().ver == before.ver + 1


def test_concurrent_changes_are_all_kept():
    """A change that lost the race is made again on what won."""
    document = MemoryDocument()
    one, two = live(document), live(document)

    def interfered(generations):
        if not generations.tags:
            two.change(lambda g: g.invalidating_tags([b"a" * 16]))
        return generations.invalidating_tags([b"b" * 16])

    before = one.current()
    changed = one.change(interfered)
    assert set(changed.tags) == {b"a" * 16, b"b" * 16}
    assert changed.ver == before.ver + 2


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b""])
def test_a_damaged_document_is_a_new_root(damage):
    """What can't be verified makes everything a miss, and `ver` goes on rising."""
    document = MemoryDocument()
    reader = live(document)
    before = reader.change(lambda g: g.invalidating_tags([b"t" * 16]))
    reader.current()
    blob = document.load()
    assert document.replace(damage(blob), expected=blob)
    after = reader.current()
    assert after.root != before.root
    assert after.ver > before.ver


def test_a_document_of_another_namespace_or_key_is_not_taken():
    """A document can't be copied from one namespace to another, nor forged without the key."""
    document = MemoryDocument()
    root = live(document).current().root
    assert live(document, namespace="other").current().root != root
    root = live(document, namespace="other").current().root
    assert live(document, namespace="other", mac_key=b"x" * 32).current().root != root


def test_trouble_with_the_file_is_said(tmp_path):
    """Where the document can't be written, nothing is taken for valid."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        live(FileDocument(tmp_path / "file" / "generations")).current()


def test_a_document_that_always_changes_gives_up():
    """A change gives up in the end instead of spinning for ever."""

    class Restless(MemoryDocument):
        def replace(self, new, *, expected):
            del new, expected
            return False

    with pytest.raises(StoreUnavailable):
        live(Restless()).change(lambda g: g.cleared(b"r" * 16))


def test_who_makes_the_first_document_takes_nobodys_look_at_it_for_a_loss():
    """Between the first writing and its return another thread sees the new document: nothing was lost."""
    document = MemoryDocument()
    told = []

    class Looked(MemoryDocument):
        def replace(self, new, *, expected):
            is_written = document.replace(new, expected=expected)
            reader.published()
            return is_written

    looked = Looked()
    looked.version, looked.load = document.version, document.load
    reader = LiveGenerations(looked, namespace="n", mac_key=MAC, random_bytes=os.urandom, on_loss=told.append)
    made = reader.published()
    assert told == []
    assert reader.published() == made
