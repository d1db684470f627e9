"""The index of a vector cache is kept for the next process, sealed, and made anew where it does not fit."""

from __future__ import annotations

import pytest
from vector_texts import DIMENSION, embed, few_are_a_graph, near, noted_events, texts_of, vector, vector_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_vector_cache
from genai_cache_magic.vectors import index


def test_the_index_is_kept_for_the_next_process(isolated, few, monkeypatch):
    """A graph is loaded instead of built, and only what is new since is read."""
    read = []
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add_many({f"text {n}": n for n in range(100)})
        assert texts_of(cache.nearest(near("text 9"))) == ["text 9"]
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add("new", 1)
        cache.delete("text 3")
        original = cache._entries.read
        monkeypatch.setattr(cache._entries, "read", lambda ids: original([*map(_noted(read), ids)]))
        assert cache.build() == 100
        assert len(read) == 1
        assert texts_of(cache.nearest(near("text 9"))) == ["text 9"]
        assert texts_of(cache.nearest(near("new"))) == ["new"]
        assert cache.nearest(near("text 3")) == []


def _noted(read):
    def note(entry_id):
        read.append(entry_id)
        return entry_id

    return note


def test_a_graph_of_another_kind_is_made_anew(isolated, few, monkeypatch):
    """What was kept of vectors in another way, by another release say, is not taken for what is needed now."""
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add_many({f"text {n}": n for n in range(60)})
        cache.build()
    monkeypatch.setattr(index, "_LONG", 1 if few == "Graph" else 768)
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        assert cache.build() == 60
        assert type(cache._index._collection._index).__name__ == ("Signs" if few == "Graph" else "Graph")
        assert texts_of(cache.nearest(near("text 9"))) == ["text 9"]


def test_signs_that_were_not_turned_are_made_anew_once(isolated, few, monkeypatch):
    """Those of the release before: the others would not be found among them."""
    monkeypatch.setattr(index, "_LONG", 1)
    with monkeypatch.context() as patch:
        patch.setattr(index.Turn, "__call__", lambda _, vectors: vectors)
        patch.setattr(index, "kept_as", lambda *_: "signs from the mean and i8")
        with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
            cache.add_many({f"text {n}": n for n in range(60)})
            cache.build()
    for count in (60, 0):
        read = []
        with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
            original = cache._entries.read
            monkeypatch.setattr(cache._entries, "read", lambda ids, do=original, to=read: do([*map(_noted(to), ids)]))
            assert cache.build() == 60
            assert len(read) == count
            assert texts_of(cache.nearest(near("text 9"))) == ["text 9"]


@pytest.mark.parametrize("damage", ["cut", "flip", "version", "empty", "foreign"])
def test_an_index_that_does_not_fit_is_made_anew(isolated, few, damage, monkeypatch):
    """A file that is cut, changed, of another version or another key's answers nothing: all is read again."""
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add_many({f"text {n}": n for n in range(60)})
        cache.build()
    (file,) = [path for path in isolated.rglob("vectors-*") if path.suffix != ".lock"]
    content = file.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "flip": content[:500] + bytes([content[500] ^ 1]) + content[501:],
        "version": content[:4] + b"\x01" + content[5:],
        "empty": b"",
        "foreign": b"\0" * len(content),
    }[damage]
    file.write_bytes(changed)
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        assert cache.build() == 60
        assert texts_of(cache.nearest(near("text 9"))) == ["text 9"]
    assert file.read_bytes() != changed


def test_nothing_readable_lies_in_the_index(isolated, few):
    """Neither texts, nor values, nor vectors stand in the file of a sealed cache."""
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add_many({f"canary text {n}": f"canary value {n}" for n in range(60)})
        cache.build()
        ids = [bytes.fromhex(cache._entries.id_of(f"canary text {n}")) for n in range(60)]
    files = [path for path in isolated.rglob("*") if path.is_file()]
    assert any(path.name.startswith("vectors-") for path in files)
    for path in files:
        content = path.read_bytes()
        assert b"canary" not in content
        for n in range(60):
            assert vector(f"canary text {n}").tobytes() not in content
        if path.name.startswith("vectors-"):
            assert not any(raw in content for raw in ids)
