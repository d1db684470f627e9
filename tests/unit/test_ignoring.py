"""Rules about noise: what they take out of keys, what they leave, and what is said of wrong ones."""

from __future__ import annotations

import re

import pytest

from genai_cache_magic.core.ignoring import (
    MAX_RULES,
    SHIPPED,
    TextRule,
    checked_rules,
    combined,
    ignoring,
    in_words,
    rules_of,
)
from genai_cache_magic.core.model import Request
from genai_cache_magic.core.patterns import MAX_STEPS, read_pattern
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

UUID = "6fa459ea-ee8a-4ca4-894e-db77e160355e"


def masked(text, *rules):
    return rules_of(checked_rules(rules)).masked({"a": text})["a"]


# --- own patterns


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+b", r"(a|a)*b", r"(a|aa)+$", r"(?:\w+\s?)*x", r".*.*.*x", r"(\d+|\w+)*x", r"(.+)+\n", r"([a-z]+)*="],
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern):
    """Before it meets any text, with what to write instead."""
    with pytest.raises(ConfigurationError, match=r"could take too long .* give its repeats ends"):
        checked_rules([f"re:{pattern}"])


@pytest.mark.parametrize(
    "pattern",
    [r"build \d+", r"<.+ at 0x[0-9a-f]+>", r"\[.*?\]", r"(?:\w+ )+x", r"(?:,\d+)*z", r"[\w.-]+@[\w.-]+", r"^\s+$"],
)
def test_what_people_write_is_known_to_end(pattern):
    """Repeats without an end are allowed where each of them can end in one way, or few of them stand together."""
    assert read_pattern(pattern).steps <= MAX_STEPS


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"a[]x]b", "a]b axb", ["a]b", "axb"]),
        (r"[^\W\d]-[a\-z]+", "b-a-z 1-a", ["b-a-z"]),
        (r"x{2}|y{,2}z|q{2,}", "xx yyz z qqq", ["xx", "yyz", "z", "qqq"]),
        (r"a{x}", "a{x}", ["a{x}"]),
        (r"(a(?:b|c)?)+d", "abacad", ["abacad"]),
        (r"\x41\u00e9\t\.", "A\u00e9\t.", ["A\u00e9\t."]),
        (r"\bin\B", "in int", ["in"]),
        (r"(?i)[a-c]+x", "ABCX", ["ABCX"]),
        (r"\w+!", "\u00e9t\u00e9!", ["\u00e9!"][:0]),
        (r"a\ b", "a b", ["a b"]),
        (r"[\d&&--~~||]+;", "1&-~|;", ["1&-~|;"]),
    ],
)
def test_a_pattern_finds_what_it_says(pattern, text, found):
    """As Python's own, but that letters and digits are those of ASCII."""
    assert [match[0] for match in read_pattern(pattern).regex.finditer(text)] == found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"a**", "follows another"),
        (r"*a", "repeats nothing"),
        (r"^*a", "repeats no character"),
        (r"(?=a)b", "is not known here"),
        (r"(?P<n>a)", "is not known here"),
        (r"(a)\1", "is not known here"),
        (r"\pL", "is not known here"),
        (r"\x4", "hexadecimal"),
        ("a\\", "ends in a"),
        (r"[a", "not closed"),
        (r"(a", "not closed"),
        (r"a)", "closes nothing"),
        (r"[z-a]", "ends before it begins"),
        (r"[a-\d]", "ends before it begins"),
        (r"[\b]", "no character of a class"),
        (r"a{3,2}", "ends before it begins"),
        (r"a?", "where nothing stands"),
        (r"a|", "where nothing stands"),
        (r"x{99999}{9}", "follows another"),
        ("(" * 30 + "a" + ")" * 30, "deep"),
        ("\ud800", "half a character"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, said):
    """Each by a sentence that names the rule and says what is wrong."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        checked_rules([f"re:{pattern}"])
    assert str(caught.value).startswith("ignore: the rule 're:")


@pytest.mark.parametrize("rule", [r"re:.+", r"re:\w+", r"re:[a-z]+", r"re:\S+\s?", r"re:[^?]+"])
def test_a_pattern_that_swallows_whole_questions_is_refused(rule):
    """Or different questions would get one answer."""
    with pytest.raises(ConfigurationError, match="leaves out most of an ordinary sentence"):
        checked_rules([rule])


def test_a_search_in_pieces_finds_what_one_search_would():
    """Wherever a piece ends: in a match, before it, or where a boundary is looked for."""
    pattern = read_pattern(r"\bab{1,5}c\b|^x+$")
    text = "abbc abc\nxxxx\nabcd ab " * 7 + "abbbbbc"
    whole = [match.span() for match in pattern.regex.finditer(text)]
    for window in range(1, 40):
        rule = TextRule("r", "re:r", pattern.regex, pattern.width, window)
        assert rule.spans(text, lambda _: None) == whole


def test_rules_that_take_too_long_let_the_call_go_uncached():
    """By a sentence that names the rule; nothing of the request is changed."""
    request = Request("s", "o", "m", {"prompt": "a" * 100_000})
    with pytest.raises(UncacheableRequest, match=r"'.\*.\*x' of --ignore takes too long .* uncached"):
        ignoring(request, checked_rules([r"re:.*.*x"]), is_late=lambda: True)
    assert request.body == {"prompt": "a" * 100_000}


def test_rules_look_at_the_clock_again_and_again():
    """Between two looks at it, no more than a small part of a long text is searched."""
    looks = []
    request = Request("s", "o", "m", {"prompt": "<" * 100_000})
    ignoring(request, checked_rules([r"re:<.+ at 0x[0-9a-f]+>"]), is_late=lambda: bool(looks.append(1)))
    assert len(looks) > 1000


# --- what rules find


def test_no_text_can_pose_as_a_mark():
    """Two requests are one under a rule only where the rule found something."""
    texts = [UUID, "⟨uuid⟩", "⟨⟨uuid⟩", f"⟨{UUID}", f"⟨⟨{UUID}⟩", "⟨", "⟨⟨", "⟨uuid⟩⟩"]
    assert len({masked(text, "uuid") for text in texts}) == len(texts)


def test_rules_that_overlap_leave_one_mark_of_both():
    """And those that touch leave two."""
    assert masked(f"job {UUID}", "uuid", r"re:job [0-9a-f]{8}") == "⟨pattern-1+uuid⟩"
    assert masked(f"job {UUID}", "uuid", r"re:job ") == "⟨pattern-1⟩⟨uuid⟩"


def test_a_shipped_rule_leaves_what_it_is_not_about():
    """Days, constants, file names and plain numbers are data."""
    text = "On 2026-05-31 write 0xDEADBEEF to /tmp/report.csv and /home/jo/tmp/x.csv: item [12], 550e8400, 10:30"
    assert masked(text, *SHIPPED) == text


def test_digests_and_ids_that_origins_gave_out_are_never_noise():
    """Whatever a pattern says: another image is another question."""
    request = Request(
        "s", "o", "m", {"messages": [{"content": ["0123abcd", "x/~y"]}], "p": {"a/b": "0123abcd"}}, media=("/p/a~1b",)
    )
    body = ignoring(request, checked_rules("re:[0-9a-f]{8}"), ["/messages/0/content/1"]).body
    assert body == {"messages": [{"content": ["⟨pattern-1⟩", "x/~y"]}], "p": {"a/b": "0123abcd"}}


def test_a_request_is_left_alone_without_rules_and_under_rules_that_it_has_been_through():
    """The very same object: nobody who sets no rule pays for them, and marks are made once."""
    request = Request("s", "o", "m", {"prompt": f"⟨ {UUID}"})
    assert ignoring(request, ()) is request
    once = ignoring(request, ("uuid",))
    assert ignoring(once, ("uuid",)) is once
    assert once.rules == ("uuid/1",)
    assert request.body == {"prompt": f"⟨ {UUID}"}


def test_unicode_is_found_and_kept():
    """Beyond the basic plane, combining, from right to left: places are counted in characters."""
    text = f"\U0001f600 e\u0301 {UUID} שלום \U0001f600 {UUID}"
    assert masked(text, "uuid") == "\U0001f600 e\u0301 ⟨uuid⟩ שלום \U0001f600 ⟨uuid⟩"


# --- lists of rules


def test_rules_add_up_until_one_says_none():
    """From the outermost to the innermost; `none` takes back what was set further out, and not what stands beside."""
    assert combined(["uuid"], ["iso-time"], []) == ("iso-time", "uuid")
    assert combined(["uuid"], ["none"], ["iso-time"]) == ("iso-time",)
    assert combined(["uuid"], ["none", "iso-time"]) == ("iso-time",)
    assert combined(["uuid"], ["none"]) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["uid"], "'uid' is no rule: did you mean uuid?"),
        (["Uuid"], "did you mean uuid?"),
        (["build [0-9]+"], "own ones are written re:PATTERN"),
        (3, "ignore=3 is no list of rules"),
        ({"names": []}, "is no list of rules"),
        ([3], "the rule 3 is no text"),
        ([f"re:a{n}" for n in range(MAX_RULES + 1)], "at most 32"),
        (["$.messages"], "leaves out what is asked"),
        (["$.messages[*].content"], "leaves out what is asked"),
        (["$[*]"], "leaves out what is asked"),
        (["$..run"], "is no JSON path at character 2"),
        (["$.a[?@.b]"], "is no JSON path at character 4"),
        (["$.a["], "is no JSON path at character 4"),
        ([r'$["\q"]'], "write it as JSON has it"),
    ],
)
def test_a_wrong_rule_is_named_with_what_to_write(given, said):
    """Whoever reads the message knows which rule it is and what to do."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        checked_rules(given)


def test_names_may_stand_in_one_text_with_commas():
    """As people write them in a variable; a pattern with a comma is one pattern."""
    assert checked_rules("uuid,iso-time") == ("iso-time", "uuid")
    assert checked_rules(r"re:a{1,2}, x") == (r"re:a{1,2}, x",)


def test_what_is_saved_names_shipped_rules_alone():
    """Own ones may hold what belongs in no file."""
    assert in_words(["uuid", "re:secret", "re:b", "$.x"]) == "uuid, 2 own patterns, 1 JSON path"
