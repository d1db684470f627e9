"""No two texts share an answer if one thing was changed in them that turns it."""

from __future__ import annotations

import itertools

import pytest
from guard_pairs import AROUND, SAME, changed
from guard_turned import turned
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.vectors.guard import MAX_CHARACTERS, differs

PAIRS = changed()


def test_there_are_enough_pairs():
    """Fourteen kinds of things are changed, each in many places."""
    assert len(PAIRS) >= 600
    assert len({kind for kind, _, _ in PAIRS}) == 14


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in PAIRS}))
def test_what_was_changed_is_noticed(kind):
    """Of none of these pairs may one text be answered as the other, whichever came first."""
    let_through = [
        (one, other)
        for what, one, other in PAIRS
        if what == kind and (differs(one, other) is None or differs(other, one) is None)
    ]
    assert let_through == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Does rock beat paper?", "Does paper beat rock? Explain your reasoning step by step."),
        (
            "Please answer briefly. Does smoking cause stress or cancer?",
            "Does smoking cause cancer or stress? Explain it.",
        ),
        (
            "Is the number 91 non-prime? Explain your reasoning step by step.",
            "Please answer briefly. Is the number 91 prime?",
        ),
        (
            "Is Python newer than Java? Explain your reasoning step by step.",
            "Please answer briefly. Is Python faster than Java?",
        ),
        (
            "Which is heavier, a meter or a yard? Explain it step by step.",
            "Please answer briefly. Which is longer, a meter or a yard?",
        ),
        ("Please answer briefly. Tell me everything but the ending", "Tell me everything about the ending"),
        (
            "Was the treaty never ratified in the end?",
            "Was the treaty not ratified in the end? Explain it step by step.",
        ),
    ],
)
def test_what_is_said_around_a_change_hides_none(one, other):
    """A word that turns the answer is noticed where the rest differs too, by what was asked for beside it."""
    assert differs(one, other) is not None
    assert differs(other, one) is not None


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in turned()}))
def test_what_a_model_hardly_sees_is_noticed(kind):
    """Signs, persons, helping verbs, parts of words, letters: with the same said around both, or something else."""
    let_through = [
        (one, other)
        for what, *two in turned()
        for around in itertools.product(AROUND, repeat=2)
        for one, other in [[frame.format(text) for frame, text in zip(around, two, strict=True)]]
        if what == kind and (differs(one, other) is None or differs(other, one) is None)
    ]
    assert let_through == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will it rain?", "will it rain?"),
        ("How do I pay?", "How can I pay?"),
        ("How do I pay?", "Can you tell me how I can pay? Thank you!"),
        ("What's the boiling point of water?", "whats the boiling point of water"),
        ("What is H\u2082O?", "What is H2O?"),
        ("is 2\u00b2 even", "is 2^2 even"),
        ("Who do I contact?", "Who should I contact?"),
    ],
)
def test_what_says_the_same_is_no_change(one, other):
    """Manners, another spelling of the same sign, a helping verb after how, who and where."""
    assert differs(one, other) is None


@pytest.mark.parametrize("piece", ["a", "a@", ".", "f(", "\n", "x+", "\u201c", "A ", "\uc54a", "1", "a.b@", "\ufdfa"])
def test_a_text_of_one_piece_is_compared(piece):
    """However often it is repeated: by a search that tries again from each letter, the ten take some minutes."""
    text = (piece * MAX_CHARACTERS)[: MAX_CHARACTERS - 10]
    for number in range(10):
        assert differs(text, f"{text[1:]} A B {number}") is not None


def test_some_that_ask_the_same_may_share():
    """The guard is no wall: of two ways to ask the same, it lets the greater part through."""
    assert sum(differs(one, other) is None for one, other in SAME) >= len(SAME) // 2


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_can_be_compared(one, other):
    """Whatever is written: an answer, the same for both orders, and none against a text itself."""
    assert differs(one, one) is None
    assert (differs(one, other) is None) == (differs(other, one) is None)


def test_long_texts_never_share():
    """One word among thousands can decide."""
    text = "word " * (MAX_CHARACTERS // 5 + 1)
    assert "longer than" in differs(text, text + "more")
