"""Why a call was no hit: any call of a cell or a run, or by its entry id; and the rule that would help."""

from __future__ import annotations

import json
import os

import openai
import pytest
from typer.testing import CliRunner

from genai_cache_magic import last_cell
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.calls.explain import Explanation
from genai_cache_magic.calls.recalling import Recalled, Recollection
from genai_cache_magic.calls.request_diff import diff_of, diff_of_previews, outline_of_previews
from genai_cache_magic.cli.main import app
from genai_cache_magic.core.model import EntryId, KeySpace, Request
from genai_cache_magic.entries.listing.results import Listed
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.jupyter.shown.explaining import explained
from genai_cache_magic.testing.model_server import Fault

ONE, OTHER = "What is <A object at 0x7f3a5c0b1d90>?", "What is <A object at 0x7f3a5c0b1e40>?"


@pytest.fixture
def ask(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def asked(*questions, cell="", temperature=0.5, system="", **options):
            session = current_session()
            opened = open_cell(session, session.options(**options), cell=cell)
            try:
                for question in questions:
                    messages = [{"role": "system", "content": system}] if system else []
                    messages += [{"role": "user", "content": question}]
                    client.chat.completions.create(model="m", temperature=temperature, messages=messages)
            finally:
                opened.close()
            return opened.scope

        asked.server = unique_server
        yield asked


def cache():
    return current_session().cache("default")


def explain(*arguments, **named):
    return cache().explain(*arguments, **named)


def command(*words):
    reset_session()
    result = CliRunner().invoke(app, ["explain", *words])
    return result.exit_code, result.stdout


# --- what differs


def test_noise_alone_is_called_so_and_the_rule_is_proposed(ask):
    """By what this process asked; with that rule the call is a hit."""
    ask(ONE)
    (told,) = explain(ask(OTHER))
    assert told.rules == ("memory-address",)
    assert told.advice.startswith(
        "the two differ only in a memory address: --ignore memory-address would make this a hit"
    )
    assert told.differs == ("body.messages[0]",)
    assert told.diff == (
        "body.messages[0].content",
        "- What is <A object at 0x7f3a5c0b1d90>?",
        "+ What is <A object at 0x7f3a5c0b1e40>?",
    )
    ask(ONE, ignore=told.rules)
    assert ask(OTHER, ignore=told.rules).hits == 1


def test_the_rule_is_proposed_in_another_process_too(ask):
    """Nobody keeps what was asked; what is kept of it is enough."""
    ask("x" * 300 + ONE)
    reset_session()
    (told,) = explain(ask("x" * 300 + OTHER))
    assert told.rules == ("memory-address",)
    ask(ONE, cell="c")
    reset_session()
    (told,) = explain(ask(OTHER, cell="c"))
    assert told.diff == (f"- {ONE}", f"+ {OTHER}")


def test_the_call_that_differs_by_noise_is_nearer_than_others_of_the_cell(ask):
    """A loop asks many things: each is compared with itself in the run before."""
    ask(*(f"{n} {ONE}" for n in range(5)), cell="loop")
    told = explain(ask(*(f"{n} {OTHER}" for n in range(5)), cell="loop"))
    assert [one.rules for one in told] == [("memory-address",)] * 5
    assert len({one.nearest for one in told}) == 5


def test_a_call_is_compared_with_earlier_ones_alone(ask):
    """What was asked after it can't be why it was a miss."""
    first = ask("first question", cell="a")
    ask("first question?", cell="a")
    (told,) = explain(first)
    assert (told.differs, told.nearest) == ((), "")
    assert told.reason == "not in the cache; nothing like it was ever asked"


def test_nothing_like_it_was_ever_asked(ask):
    """Of another cell, about something else: what differs from that would help nobody."""
    ask("Tell me about whales", cell="a")
    (told,) = explain(ask("0123456789 0123456789", cell="b"))
    assert told.reason == "not in the cache; nothing like it was ever asked"
    assert (told.differs, told.diff, told.advice) == ((), (), "")


def test_a_changed_part_is_shown_with_what_stood_there(ask):
    """Its name, and the place in a long text where the two part."""
    ask("q", system="You are a kind and patient teacher of mathematics, who never gives the answer away at once.")
    (told,) = explain(ask("q", system="You are a kind and patient teacher of mathematics, who always gives it."))
    assert told.differs == ("body.messages[0]",)
    assert told.diff[1:] == (
        "- …her of mathematics, who never gives the answer away at once.",
        "+ …her of mathematics, who always gives it.",
    )
    (told,) = explain(
        ask("q", system="You are a kind and patient teacher of mathematics, who always gives it.", temperature=1)
    )
    assert (told.differs, told.diff) == (("body.temperature",), ("body.temperature", "- 0.5", "+ 1"))
    assert told.rules == ()


def test_other_rules_are_named_as_what_differs(ask):
    """A rule in force is part of the key."""
    ask(ONE)
    (told,) = explain(ask(ONE, ignore="uuid"))
    assert told.differs == ("rules",)
    assert told.diff == ("rules", "- []", '+ ["uuid/1"]')


def test_what_a_replay_missed_is_explained(ask):
    """Nobody was asked, and nothing was stored: the request is still known."""
    ask(ONE)
    with pytest.raises(ReplayMiss):
        ask(OTHER, mode="replay")
    (told,) = explain(last_cell())
    assert (told.rules, told.differs) == (("memory-address",), ("body.messages[0]",))
    assert told.diff[2] == f"+ {OTHER}"


def test_what_mode_read_missed_is_explained(ask):
    """Its answer was not stored, and why it was no hit is something else."""
    ask(ONE)
    (told,) = explain(ask(OTHER, mode="read"))
    assert told.reason == "not in the cache; mode read stores nothing"
    assert told.rules == ("memory-address",)


@pytest.mark.parametrize(
    ("near", "own", "said"),
    [
        ("12345678", "12x45678", "1 character of 8 differs, from character 3 on"),
        ("a text of old", "b", "13 characters of 13 differ, from character 1 on"),
        ("ab", "abc", "1 character of 3 differs, from character 3 on"),
    ],
)
def test_no_more_differs_than_there_is(near, own, said):
    """Of two prompts the longer one is what is counted in, and one character differs, while two differ."""
    assert outline_of_previews(near, own) == (f"the beginning of the prompt: {said}",)


# --- what became of an answer


def test_expired_invalidated_refreshed_and_refused_are_named(ask):
    """And nothing is compared: the request itself was there, or would not have been stored."""
    ask("a", tags=("t",))
    cache().invalidate_tag("t")
    assert [one.reason for one in explain(ask("a"))] == ["invalidated by tag t"]
    assert [one.reason for one in explain(ask("a", mode="refresh"))] == ["refresh asked for"]
    ask.server.fail_next(Fault.TRUNCATED)
    (told,) = explain(ask("cut"))
    assert (told.reason, told.differs) == ("not stored: truncated; --store truncated keeps it", ())


def test_an_evicted_answer_is_called_so(ask, monkeypatch):
    """Beside the call, in `explain`, and when a replay misses it."""
    monkeypatch.setenv("GENAI_CACHE_SIZE_LIMIT", "1MiB")
    monkeypatch.setenv("GENAI_CACHE_MEMORY", "0")
    reset_session()
    first = ask("a").calls[0]
    store = cache()._entries.store
    while store.get(first.entry_id) is not None:
        store.put(os.urandom(32).hex(), os.urandom(200_000), ttl_s=3600)
    (told,) = explain(call=first.entry_id[:16])
    assert told.reason == "evicted to make room (size_limit says how much there is)"
    with pytest.raises(ReplayMiss, match="evicted to make room"):
        ask("a", mode="replay")
    again = ask("a")
    assert [(call.outcome.value, call.reason) for call in again.calls] == [("miss", told.reason)]
    assert [one.reason for one in explain(again)] == [told.reason]


# --- which call


def test_any_call_of_the_last_cell_can_be_named(ask):
    """By its number, hits too, or by its entry id."""
    ask(ONE)
    cell = ask(ONE, OTHER, "else")
    assert [one.number for one in explain(cell)] == [2, 3]
    (hit,) = explain(cell, call="1")
    assert (hit.is_hit, hit.reason, hit.number) == (True, "a hit, from L1", 1)
    (noisy,) = explain(cell, call=cell.calls[1].entry_id[:16])
    assert (noisy.number, noisy.rules) == (2, ("memory-address",))
    with pytest.raises(ConfigurationError, match="there is no call 4: the cell has 3"):
        explain(cell, call="4")


def test_an_entry_is_explained_by_its_id(ask):
    """Whether it can be served now, and how it differs from what was there before it."""
    ask(ONE)
    entry = ask(OTHER).calls[0].entry_id
    (told,) = explain(call=entry[:16])
    assert (told.reason, told.rules) == ("in the cache: the next call like it is a hit", ("memory-address",))
    assert (told.entry, told.outcome, told.model) == (entry[:16], None, "m")
    cache().invalidate_entry(entry[:16])
    (told,) = explain(call=entry[:16])
    assert told.reason == "invalidated by itself, or refreshed away"
    assert explain(call="0" * 16) == ()
    for wrong in ("xyz", "12345g", "abc"):
        with pytest.raises(ConfigurationError, match="6 hex digits"):
            explain(call=wrong)
    with pytest.raises(ConfigurationError, match="there is no call 3"):
        explain(call="3")
    with pytest.raises(ConfigurationError, match="nothing says which call"):
        explain()


def test_the_calls_of_a_run_are_explained_as_they_stand(ask):
    """All of them, or one by its number."""
    ask(ONE, run="r")
    ask(ONE, OTHER, "else", run="r")
    cache().invalidate_entry(last_cell().calls[2].entry_id[:16])
    told = explain(run="r")
    assert [one.number for one in told] == list(range(1, len(told) + 1))
    assert ("memory-address",) in [one.rules for one in told]
    assert told[-1].reason == "invalidated by itself, or refreshed away"
    assert explain(run="r", call=str(len(told))) == told[-1:]
    with pytest.raises(ConfigurationError, match="there is no run 'x'"):
        explain(run="x")


# --- the command, and what people read


def test_the_command_explains_an_entry(ask):
    """For people and for scripts; the exit code says whether anything is known."""
    ask(ONE, run="r")
    entry = ask(OTHER, run="r").calls[0].entry_id[:16]
    code, said = command(entry)
    assert code == 0
    assert "body.messages[0]" in said
    assert "--ignore memory-address would make this a hit" in said
    code, said = command(entry, "--json")
    (told,) = json.loads(said)["calls"]
    assert (code, told["entry"], told["rules"]) == (0, entry, ["memory-address"])
    assert told["advice"].startswith("the two differ only in a memory address")
    code, said = command("--run", "r", "--json")
    assert (code, len(json.loads(said)["calls"])) == (0, 2)
    assert command("0" * 16)[0] == 1
    assert json.loads(command("0" * 16, "--json")[1]) == {"calls": []}


def test_what_people_read_says_each_advice_once(ask):
    """Whatever the number of calls that it would help."""
    ask(*(f"{n} {ONE}" for n in range(3)))
    found = explain(ask(*(f"{n} {OTHER}" for n in range(3))))
    report = explained("t", found, shows_text=True)
    (advice,) = [note for note in report.notes if "--ignore" in note]
    assert advice.startswith("call 1, 2, 3: the two differ only in a memory address")
    assert report.table.rows[0][0] == "1"
    assert f"  + 0 {OTHER}" in report.notes


def test_no_word_of_a_prompt_is_shown_unasked(ask):
    """What a notebook saves says where two prompts part, and not what they say."""
    ask(ONE)
    found = explain(ask(OTHER, temperature=1))
    report = explained("t", found)
    assert "  body.messages[0].content: 2 characters of 37 differ, from character 33 on" in report.notes
    assert "  body.temperature: 0.5, now 1" in report.notes
    assert "What" not in str(report.bundle())
    assert "What" not in json.dumps(found[0].as_json())
    assert "What" in json.dumps(found[0].as_json(shows_text=True))
    reset_session()
    found = explain(ask(OTHER, temperature=2))
    assert found[0].outline == ()
    entry = last_cell().calls[0].entry_id[:16]
    assert "What" not in command(entry)[1]
    reset_session()
    ask(ONE, cell="c")
    reset_session()
    (told,) = explain(ask(OTHER, cell="c"))
    assert told.outline == ("the beginning of the prompt: 2 characters of 37 differ, from character 33 on",)
    entry = last_cell().calls[0].entry_id[:16]
    assert "What" not in command(entry)[1]
    assert f"+ {OTHER}" in command(entry, "--text")[1]


# --- its parts


def test_a_diff_is_short_and_shows_no_header(ask):
    """A few places, a line each; of headers and routes the name alone."""
    body = {f"f{n}": "a" * 500 for n in range(20)}
    near = Request("s", "o", "m", body, headers=(("x-secret", "hunter1"),), via=(("proxy", "http://p1"),))
    own = Request(
        "s", "p", "m", dict.fromkeys(body, "a" * 250 + "\x1b[31m" + "b" * 250), headers=(("x-secret", "hunter2"),)
    )
    lines = diff_of(near, own)
    assert len(lines) <= 16
    assert max(map(len, lines)) < 100
    assert "hunter" not in "".join(lines)
    assert "\x1b" not in "".join(lines)
    assert lines[:3] == ("origin", "headers", "via")
    assert diff_of(near, near) == ()
    assert diff_of_previews("same", "same") == diff_of_previews("", "x") == ()


def test_a_diff_of_lists_shows_what_came_and_went():
    """Messages that one of them has and the other has not."""
    near, own = ({"m": [{"c": 1}, *more], **field} for more, field in (([{"c": 2}], {"x": 1}), ([], {"y": None})))
    lines = diff_of(Request("s", "o", "m", near), Request("s", "o", "m", own))
    assert lines == ("body.m[1]", '- {"c":2}', "body.x", "- 1", "body.y", "+ null")


def test_only_so_much_is_remembered():
    """What was asked longest ago is forgotten first; a size of nothing remembers nothing."""
    some = Recollection(most_chars=250)
    for n in range(4):
        some.note(EntryId(f"{n:064x}"), Recalled(Request("s", "o", "m", {"p": "x" * 100}), KeySpace(), "", ""))
    assert [some.get(EntryId(f"{n:064x}")) is not None for n in range(4)] == [False, False, True, True]
    none = Recollection(most_chars=0)
    none.note(EntryId("a" * 64), Recalled(Request("s", "o", "m", {"p": "x"}), KeySpace(), "", ""))
    assert none.get(EntryId("a" * 64)) is None


def test_a_rule_of_an_own_kind_is_written_in_quotes(ask):
    """So that it can be copied into a cell."""
    body = {"p": "x", "metadata": {"run_id": 1}}
    recalled = [
        Recalled(Request("s", "o", "m", {**body, "metadata": {"run_id": n}}), KeySpace(), "", "") for n in (1, 2)
    ]
    explainer = cache().explainer
    near = Listed(EntryId("b" * 64), None, recalled[0].metadata(bytes(32)))
    explainer._recollection.note(near.entry_id, recalled[0])
    found = explainer._difference(Explanation(None, "", "m"), recalled[1].metadata(bytes(32)), recalled[1], near)
    assert found.rules == ("$.metadata.run_id",)
    assert "--ignore '$.metadata.run_id' would make" in found.advice
