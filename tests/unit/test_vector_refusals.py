"""What a vector cache can't work with is refused in words: vectors, arguments, settings, functions that embed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from vector_texts import DIMENSION, embed, noted_events, texts_of, vector, vector_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_vector_cache
from genai_cache_magic.api import vector_index
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([1.0] * 3, "3 dimensions, and this vector cache 16"),
        ([float("nan")] * DIMENSION, "NaN"),
        ([float("inf")] * DIMENSION, "NaN, or a number"),
        ([1e300] * DIMENSION, "float32"),
        ([0.0] * DIMENSION, "zeros"),
        ([[1.0] * DIMENSION], "one row of numbers"),
        (["1"] * DIMENSION, "one row of numbers"),
        (7, "a list of numbers"),
    ],
)
def test_a_wrong_vector_is_refused_in_words(cache, given, says):
    """Neither stored nor looked for: the message says what is wrong with it."""
    with pytest.raises(ConfigurationError, match=says):
        cache.add("a", 1, vector=given)
    with pytest.raises(ConfigurationError, match=says):
        cache.nearest(given)
    assert len(cache) == 0


def test_wrong_arguments_are_refused_in_words(cache):
    """A threshold out of range, a count below none, what is no text, a value that JSON does not know."""
    cache.add("a", 1)
    for wrong in (1.5, -2, "0.9", None, float("nan"), True):
        with pytest.raises(ConfigurationError, match="similarity="):
            cache.nearest("a", similarity=wrong)
    for wrong in (-1, 1.0, True):
        with pytest.raises(ConfigurationError, match="max="):
            cache.nearest("a", max=wrong)
    with pytest.raises(ConfigurationError, match="a text is a str"):
        cache.add(b"a", 1)
    with pytest.raises(UncacheableRequest, match="the value can't be kept"):
        cache.add("b", {1, 2})
    for pairs in ("bc", ["bc"], [("b", 1, 2)], 7):  # two letters are no text and its value
        with pytest.raises(ConfigurationError, match="add_many takes a dict, or pairs"):
            cache.add_many(pairs)
    with pytest.raises(ConfigurationError, match=r"write nearest_many\(\[\.\.\.\]\), or nearest"):
        cache.nearest_many("a")
    with pytest.raises(ConfigurationError, match="where is a function"):
        cache.nearest("a", where=7)
    with pytest.raises(ConfigurationError, match="2 vectors of 1 texts"):
        cache.add_many([("b", 1)], vectors=[vector("b")] * 2)
    assert cache.nearest("a", max=0) == []
    assert len(cache) == 1


def test_wrong_settings_are_refused_in_words(isolated):
    """Measure, dimension and prefix are checked before anything is made."""
    for wrong in ({"similarity": "manhattan"}, {"dimension": 0}, {"dimension": 1.5}, {"prefix": 3}, {"model": None}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            create_vector_cache("memory", **wrong)


def test_without_a_vector_the_message_says_how_to_get_one(isolated):
    """Nobody who gave neither vector nor ``embed`` is left guessing; the same text is found all the same."""
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add("a", 1, vector=vector("a"))
        assert texts_of(cache.nearest("a")) == ["a"]
        with pytest.raises(ConfigurationError, match=r"vector=\.\.\.,.*embed="):
            cache.nearest("b")


def test_what_embed_can_not_return_is_refused_in_words(isolated):
    """What is to be awaited, and a function that forgot to return, are said to be what they are."""

    async def coroutine(texts):
        return embed(texts)

    def future(_):
        loop = asyncio.new_event_loop()
        with contextlib.closing(loop):
            return loop.create_future()

    awaited = "embed is a coroutine function"
    for wrong, says in ((coroutine, awaited), (future, awaited), (lambda _: None, "but NoneType")):
        with create_vector_cache("memory", dimension=DIMENSION, embed=wrong) as cache:
            with pytest.raises(ConfigurationError, match=says):
                cache.add("a", 1)
            with pytest.raises(ConfigurationError, match=says):
                cache.nearest("a")


def test_where_answers_at_once(cache):
    """What a coroutine function returns is true of everything: nothing is returned for that."""

    async def where(near):
        return near.value == 2

    cache.add("a", 1)
    for asked in ("a", vector("a")):
        with pytest.raises(ConfigurationError, match="where is a coroutine function"):
            cache.nearest(asked, where=where)


def test_a_masked_vector_is_refused(cache):
    """Of numbers that are hidden nobody knows the value; a mask that hides none is no matter."""
    for kind in ("f4", "f8"):
        whole = np.ma.masked_array(np.asarray(vector("a"), kind))
        cache.add("a", 1, vector=whole)
        assert texts_of(cache.nearest(whole)) == ["a"]
        hidden = np.ma.masked_array(whole.data, mask=[True] + [False] * (DIMENSION - 1))
        with pytest.raises(ConfigurationError, match="hidden"):
            cache.add("b", 1, vector=hidden)
        with pytest.raises(ConfigurationError, match="hidden"):
            cache.nearest(hidden)


def test_numbers_of_numpy_are_numbers(cache):
    """A bar that was computed, and a count that was."""
    cache.add("a", 1)
    for bar in (np.float64(0.5), np.float32(0.5), np.int64(1)):
        assert texts_of(cache.nearest("a", similarity=bar, max=np.int64(2))) == ["a"]
    yes = np.bool_(1)
    for wrong in ({"similarity": yes}, {"max": yes}, {"max": np.float64(1)}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            cache.nearest("a", **wrong)


def test_who_changes_the_list_in_embed_changes_no_text(isolated):
    """A value is kept and found under the text that was given, whatever the function does to what it was given."""

    def embed_lines(texts):
        texts[:] = [text.replace("\n", " ") for text in texts]
        return embed(texts)

    with create_vector_cache("memory", dimension=DIMENSION, embed=embed_lines) as cache:
        cache.add_many([("a\nb", 1), ("c\nd", 2)])
        (first,), (second,) = cache.nearest_many(["a\nb", "e\nf"], similarity=-1.0)
        assert (first.text, first.value, first.similarity) == ("a\nb", 1, 1.0)
        assert second.text in {"a\nb", "c\nd"}
        assert cache.delete("c\nd")


def test_without_numpy_the_same_text_is_found(isolated, monkeypatch):
    """Where vectors can't be compared, exact look-ups work, and the message names the extra."""
    monkeypatch.setattr(vector_index, "_has", lambda package: False)
    with create_vector_cache("memory", dimension=DIMENSION, embed=embed) as cache:
        cache.add("a", 1)
        assert texts_of(cache.nearest("a")) == ["a"]
        with pytest.raises(ConfigurationError, match=r"genai-cache-magic\[vector\]"):
            cache.nearest("b")


def test_what_a_local_model_can_not_be_is_refused_in_words(isolated):
    """Another dimension, or no function at all."""
    with pytest.raises(ConfigurationError, match="384 dimensions"):
        create_vector_cache("memory", embed="local", dimension=1536)
    with pytest.raises(ConfigurationError, match="embed="):
        create_vector_cache("memory", embed="remote")
