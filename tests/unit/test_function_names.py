"""Functions that come from one place and differ in what they hold do not share results, where that can be told."""

from __future__ import annotations

import enum
import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genai_cache_magic import cached, create_cache
from genai_cache_magic.api.function_names import function_name


@pytest.fixture
def cache(isolated):
    with create_cache("memory", namespace="tests") as cache:
        yield cache


class Language(enum.Enum):
    GERMAN = "de"
    FRENCH = "fr"


def holding(value):
    def ask(item):
        return f"{value}: {item}"

    return ask


def by_default(value):
    def ask(item, value=value):
        return f"{value}: {item}"

    return ask


def named_only(value):
    def ask(item, *, value=value):
        return f"{value}: {item}"

    return ask


def wrapping(function):
    def wrapper(item):
        return function(item)

    return wrapper


def repeating(count):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(item):
            return function(item) * count

        return wrapper

    return decorate


def exclaiming(function):
    @functools.wraps(function)
    def wrapper(item):
        return f"{function(item)}!"

    return wrapper


def plain(item):
    return str(item)


def other(item):
    return f"other {item}"


KINDS = {
    "text": [holding("de"), holding("fr"), holding("")],
    "numbers": [*map(holding, (1, 1.0, True, "1", None, 10**5000, 1j))],
    "bytes": [holding(b"a"), holding("a")],
    "tuples": [holding(("a", "b")), holding(("ab",)), holding((("a",), "b")), holding(frozenset({"a", "b"}))],
    "classes": [holding(Language.GERMAN), holding(Language.FRENCH), holding(Language), holding(enum.Enum)],
    "functions": [holding(plain), holding(other), holding(len), holding(str.upper), holding((plain, other))],
    "defaults": [by_default("de"), by_default("fr"), by_default(plain), named_only("de"), named_only("fr")],
    "wrapped": [plain, *map(wrapping, (plain, other, wrapping(plain), wrapping(other), holding(1), holding(2)))],
    "wrapped by name": [plain, exclaiming(plain), repeating(2)(plain), repeating(3)(plain)],
    "in order": [repeating(2)(exclaiming(repeating(3)(plain))), repeating(3)(exclaiming(repeating(2)(plain)))],
    "remembering": [functools.lru_cache(holding("de")), functools.lru_cache(holding("fr"))],
    "partials": [
        wrapping(one) for one in (functools.partial(plain), functools.partial(other), functools.partial(other, 1))
    ],
    "lambdas": [wrapping(lambda item: item + 1), wrapping(lambda item: item - 1), wrapping(lambda item: item + 2)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_a_name_of_its_own(kind):
    """The same one each time."""
    names = [function_name(function) for function in KINDS[kind]]
    assert names == [function_name(function) for function in KINDS[kind]]
    for (one, name), (another, its) in itertools.combinations(zip(KINDS[kind], names, strict=True), 2):
        assert name != its, (one, another)


def test_no_answer_is_served_of_what_another_holds(cache):
    """By map, and by the decorator: a factory's functions, and what is called by the name of what it wraps."""
    assert [cache.map(holding(one), ["a"]) for one in ("de", "fr", "de")] == [["de: a"], ["fr: a"], ["de: a"]]
    assert [cached(cache=cache)(holding(one))("a") for one in ("de", "fr")] == ["de: a", "fr: a"]
    assert [cache.map(one, ["a"]) for one in (plain, exclaiming(plain))] == [["a"], ["a!"]]
    assert [cached(cache=cache)(repeating(one)(plain))("a") for one in (2, 3)] == ["aa", "aaa"]


def test_what_a_variable_holds_now_counts(cache):
    """As in a loop, whose functions all see the last of it."""

    def languages():
        language = "de"

        @cached(cache=cache)
        def ask(item):
            return f"{language}: {item}"

        yield ask("a")
        language = "fr"
        yield ask("a")

    assert list(languages()) == ["de: a", "fr: a"]


def test_what_changes_with_each_call_does_not_count(cache):
    """A list that calls are noted in, a number that they are counted in: each call would be another's."""
    noted, count = [], 0

    @cached(cache=cache)
    def ask(item):
        nonlocal count
        count += 1
        noted.append(item)
        return item

    assert [ask("a"), ask("a"), ask("b"), ask("a")] == ["a", "a", "b", "a"]
    assert noted == ["a", "b"]


def test_a_variable_that_is_not_there_yet_and_a_function_that_calls_itself_have_a_name():
    """And neither is waited for."""

    def countdown(item):
        return item and countdown(item - 1)

    def early():
        return later

    assert function_name(countdown) == f"{__name__}.{countdown.__qualname__}"
    assert function_name(early) == f"{__name__}.{early.__qualname__}"
    later = 1
    assert "#" in function_name(early)


def test_nothing_of_what_is_held_can_be_read_in_a_name():
    """It may be a credential, and names are listed."""
    assert "sesame" not in function_name(holding("sesame"))


def test_another_process_knows_it_by_the_same_name():
    """However texts are hashed there."""
    code = f"import {__name__} as t; print([t.function_name(one) for kind in t.KINDS.values() for one in kind])"
    path = os.pathsep.join([os.fspath(Path(__file__).parent), *filter(None, sys.path)])
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
