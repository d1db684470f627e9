"""``%llm_cache COMMAND`` and notebook-wide use in a real kernel."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.service


@pytest.fixture
def off(kernel):
    """Leave nothing in force for the next test."""
    yield
    kernel.run("%llm_cache off")


def shown(ran) -> str:
    assert ran.status == "ok", ran.error
    return "\n".join(ran.shown)


def test_status_says_what_is_in_force_and_what_the_last_cell_did(kernel):
    """Alone or by name."""
    kernel.run("%%llm_cache\nask('status')")
    for source in ("%llm_cache", "%llm_cache status", "%time %llm_cache status"):
        said = shown(kernel.run(source))
        assert "cells that begin with %%llm_cache" in said
        assert "0 hits, 1 miss" in said


def test_stats_and_config_are_tables(kernel):
    """What the cache holds, and every setting with its source."""
    kernel.run("%%llm_cache\nask('stats')")
    assert "gpt-4.1-mini" in shown(kernel.run("%llm_cache stats"))
    said = shown(kernel.run("%llm_cache config"))
    assert any(line.split()[0] == "dir" and line.endswith("environment") for line in said.splitlines())


def test_usage_shows_what_calls_came_to(kernel):
    """Under a cell, by the days and columns that are asked for; a wrong one names the fix."""
    kernel.run("%%llm_cache --run usage-run\nask('usage')")
    said = shown(kernel.run("%llm_cache usage --since today --by run,model"))
    assert "usage-run" in said
    assert "UTC" in said
    assert "is no day" in kernel.run("%llm_cache usage --since soon").error


def by_comm(kernel, **asked):
    """Ask the kernel as a page does, and return what it says before it closes the comm."""
    session, channel = kernel.client.session, kernel.client.shell_channel
    content = {"comm_id": "page", "target_name": "genai_cache_magic", "data": asked}
    channel.send(session.msg("comm_open", content))
    said = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "comm_close":
            return said
        if message["msg_type"] == "comm_msg":
            said.append(message["content"]["data"])


def test_a_page_asks_an_idle_kernel_what_differs(kernel):
    """By a comm that holds one question; it runs no code, and refuses by a sentence what it is not asked for."""
    kernel.run("%%llm_cache\nask('Sum up https://ann:secret@example.com/?key=secret for Ann')")
    last = "%%llm_cache\nask('Sum up https://ann:secret@example.com/?key=secret for Bob')"
    (badge,) = kernel.run(last).badges
    entry = badge["kinds"][0]["calls"][0][:16]
    (told,) = by_comm(kernel, path="explain", body={"entry": entry, "store": badge["store"]})
    assert told["answer"]["differs"] == ["body.messages[0]"]
    place, one, other = told["answer"]["diff"]
    assert (place, one[-3:], other[-3:]) == ("body.messages[0].content", "Ann", "Bob")
    assert "secret" not in str(told)
    refusals = {
        "another cache": by_comm(kernel, path="explain", body={"entry": entry, "store": "00000000000000ff"}),
        "nothing to compare": by_comm(kernel, path="explain", body={"entry": "0" * 16}),
        "16 hex digits": by_comm(kernel, path="explain", body={"entry": ["x"]}),
        "nothing else": by_comm(kernel, path="invalidate", body={"entries": [entry], "dry_run": False}),
        "unforeseen": by_comm(kernel, path="explain", body=7),
    }
    assert all(words in said["error"] for words, (said,) in refusals.items()), refusals
    assert kernel.run(last).counts == (1, 0)


def test_explain_names_what_differs(kernel):
    """A miss beside a nearly equal entry says which component differs."""
    kernel.run("%%llm_cache\nask('explain me')")
    kernel.run("%%llm_cache\nask('explain me', temperature=0.5)")
    assert "temperature" in shown(kernel.run("%llm_cache explain"))
    kernel.run("%%llm_cache\nask('explain me')")
    assert "every call of the last cell was a hit" in shown(kernel.run("%llm_cache explain"))


def test_explain_proposes_the_rule_that_a_cell_then_takes(kernel):
    """From the miss to the hit: the very option that stands there, beside an own pattern and a path in quotes."""
    kernel.run("%%llm_cache\nask('see <A object at 0x7f3a5c0b1d90>, please')")
    kernel.run("%%llm_cache\nask('see <A object at 0x7f3a5c0b1e40>, please')")
    said = shown(kernel.run("%llm_cache explain"))
    assert "--ignore memory-address would make this a hit" in said
    assert "please" not in said
    assert "+ see <A object at 0x7f3a5c0b1e40>, please" in shown(kernel.run("%llm_cache explain 1 --text"))
    options = r"--ignore memory-address --ignore 're:build [0-9]{1,3}' --ignore '$.metadata.run'"
    kernel.run(f"%%llm_cache {options}\nask('build 1: see <A object at 0x7f3a5c0b1d90>, please')")
    again = kernel.run(f"%%llm_cache {options}\nask('build 22: see <A object at 0x7f3a5c0b1e40>, please')")
    assert again.counts == (1, 0)
    assert "keys leave out memory-address, 1 own pattern, 1 JSON path" in str(again.outputs)
    assert "no rule: did you mean uuid?" in kernel.run("%%llm_cache --ignore uid\n1").error


@pytest.mark.parametrize("how", ["--tag gone", "--run gone-run", "--model gpt-4.1-mini", "--cell", "'gpt-4.1*'"])
def test_what_is_invalidated_is_asked_again(kernel, server, how):
    """Counted first, then made invalid: the next call reaches the model."""
    source = "%%llm_cache --tag gone --run gone-run\nask('gone')"
    kernel.run(source)
    assert "would be invalid; nothing was changed" in shown(kernel.run(f"%llm_cache invalidate {how} --dry-run"))
    assert kernel.run(source).counts == (1, 0)
    assert "made invalid" in shown(kernel.run(f"%llm_cache invalidate {how}"))
    assert kernel.run(source).counts == (0, 1)


def test_clear_wants_a_yes_where_nobody_can_be_asked(kernel):
    """In a notebook there is no question: it is refused without ``--yes``, with ``--dry-run`` counted."""
    source = "%%llm_cache\nask('cleared')"
    kernel.run(source)
    refused = kernel.run("%llm_cache clear")
    assert refused.reply["ename"] == "ConfigurationError"
    assert "--yes" in refused.error
    assert "nothing was changed" in shown(kernel.run("%llm_cache clear --dry-run"))
    assert kernel.run(source).counts == (1, 0)
    assert "made invalid" in shown(kernel.run("%llm_cache clear --yes"))
    assert kernel.run(source).counts == (0, 1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("%llm_cache statsu", "did you mean stat"),
        ("%%llm_cache --mod use\n1", "did you mean --mode?"),
        ("%%llm_cache --mode replya\n1", "did you mean replay?"),
        ("%%llm_cache --ttl soon\n1", "12h"),
        ("%%llm_cache --store truncate\n1", "did you mean truncated?"),
        ("%%llm_cache --budget two\n1", "above zero"),
        ("%llm_cache on --smaples distinct", "did you mean --samples?"),
        ("%llm_cache invalidate --older-than soon", "12h"),
        ("%llm_cache invalidate --entry 12", "6 hex digits"),
    ],
)
def test_mistakes_are_short_errors_with_the_fix(kernel, source, said):
    """One line, seen by whatever executes the notebook, and the cell goes no further."""
    ran = kernel.run(source)
    assert ran.reply["ename"] == "ConfigurationError"
    assert said in ran.error
    assert len(ran.error.splitlines()) == 1
    assert ran.result is None


@pytest.mark.usefixtures("off")
def test_on_covers_this_cell_and_all_that_follow(kernel, server):
    """Each cell gets a badge of its own if it called a model, until ``off``, which holds from its line on."""
    first = kernel.run("%llm_cache on --tag all\nask('on 1')")
    assert first.counts == (0, 1)
    assert kernel.run("ask('on 1')").counts == (1, 0)
    assert kernel.run("await aask('on 1')").counts == (1, 0)
    assert kernel.run("1 + 1").badges == []
    assert "whole notebook" in shown(kernel.run("%llm_cache status"))
    before = server.count
    ended = kernel.run("ask('on 1')\n%llm_cache off\nask('on 1')")
    assert ended.counts == (1, 0)
    assert server.count == before + 1
    assert kernel.run("ask('on 1')").badges == []


@pytest.mark.usefixtures("off")
def test_a_cell_inherits_what_is_on(kernel):
    """The cell's own options win, the others are the notebook's."""
    kernel.run("%llm_cache on --tag all --run whole --ttl 1d")
    (badge,) = kernel.run("%%llm_cache --tag own\nask('inherit')").badges
    assert (badge["tags"], badge["run"], badge["misses"]) == (["own"], "whole", 1)


@pytest.mark.usefixtures("off")
def test_on_again_replaces_the_options(kernel):
    """The last ``on`` counts, a wrong one changes nothing, and no scope is left over."""
    kernel.run("%llm_cache on --tag one")
    kernel.run("%llm_cache on --tag two")
    assert kernel.run("%llm_cache on --mode nonsense").status == "error"
    (badge,) = kernel.run("ask('replaced')").badges
    assert badge["tags"] == ["two"]


@pytest.mark.usefixtures("off")
def test_on_again_holds_for_the_rest_of_its_cell(kernel, server):
    """What follows in the same cell is cached with the new options."""
    kernel.run("%llm_cache on --tag one")
    first, second = kernel.run("ask('before again')\n%llm_cache on --tag two\nask('after again')").badges
    assert (first["tags"], first["misses"]) == (["one"], 1)
    assert (second["tags"], second["misses"]) == (["two"], 1)


@pytest.mark.usefixtures("off")
def test_off_leaves_the_scope_that_the_cell_asked_for(kernel):
    """``%llm_cache off`` in a cell with the magic ends the notebook's scope, not the cell's own."""
    kernel.run("%llm_cache on")
    ran = kernel.run("%%llm_cache --tag own\nask('own 1')\n%llm_cache off\nask('own 2')")
    assert ran.counts == (0, 2)
    assert kernel.run("ask('own 1')").badges == []


@pytest.mark.usefixtures("off")
def test_nested_cells_are_part_of_a_cell_that_is_on(kernel):
    """A cell run by a cell shows no badge of its own."""
    kernel.run("%llm_cache on")
    assert kernel.run("get_ipython().run_cell('ask(\"nested on\")');").counts == (0, 1)


@pytest.mark.usefixtures("off")
def test_quiet_shows_nothing(kernel):
    """``--quiet`` for a cell, and for the notebook."""
    assert kernel.run("%%llm_cache --quiet\nask('quiet')").badges == []
    kernel.run("%llm_cache on --quiet")
    assert kernel.run("ask('quiet')").badges == []
    assert kernel.run("%%llm_cache --tag x\nask('quiet')").badges == []


def test_replay_of_what_is_missing_stops_the_cell(kernel, server):
    """``ReplayMiss`` reaches the cell as itself, short, and no model is called."""
    before = server.count
    ran = kernel.run("%%llm_cache --mode replay\nask('never asked')\nprint('not reached')")
    assert ran.reply["ename"] == "ReplayMiss"
    assert len(ran.error.splitlines()) <= 2
    assert ran.text == ""
    assert server.count == before


def test_the_hint_about_samples_is_shown(kernel):
    """Two equal calls share one answer, and the badge says how to tell them apart."""
    (badge,) = kernel.run("%%llm_cache\nask('sample'), ask('sample')").badges
    assert "--samples distinct" in badge["hints"][0]
    (apart,) = kernel.run("%%llm_cache --samples distinct\nask('sample'), ask('sample')").badges
    assert (apart["hits"], apart["misses"], apart["hints"]) == (1, 1, [])


def test_the_programmatic_form_raises_what_its_body_raised(kernel):
    """``run_cell_magic`` opens a scope, runs the body as a cell, and passes its error on."""
    ran = kernel.run(
        "try:\n    get_ipython().run_cell_magic('llm_cache', '--tag p', 'ask(\"programmatic\")\\n1/0')\n"
        "except ZeroDivisionError as error:\n    print('caught', error)",
    )
    assert "caught" in ran.text
    assert ran.badges[0]["tags"] == ["p"]


def test_tab_offers_options_values_and_what_was_used(kernel):
    """Completion works through the kernel's own request, on continued lines too."""
    kernel.run("%%llm_cache --tag known-tag\npass")
    assert "--samples" in kernel.complete("%%llm_cache --sa")
    assert "replay" in kernel.complete("%%llm_cache --mode rep")
    assert "known-tag" in kernel.complete("%%llm_cache --mode use \\\n  --tag kn")
    assert "invalidate" in kernel.complete("%llm_cache inv")
    assert "llm_cache" not in " ".join(kernel.complete("imp"))


def test_the_doctor_looks_at_all_parts(kernel):
    """Configuration, key, cache and team tier, each with its finding."""
    said = shown(kernel.run("%llm_cache doctor"))
    assert {"configuration", "key", "L1", "L2"} <= {line.split()[0] for line in said.splitlines()}


def test_a_batch_has_a_bar_under_its_cell(kernel):
    """It is updated in place, and what stays says how many came from where."""
    ran = kernel.run(
        "from genai_cache_magic import create_cache\n"
        "with create_cache('memory') as batch:\n    batch.map(len, ['a'])\n    batch.map(len, ['a', 'bb', 'ccc'])"
    )
    assert ran.status == "ok", ran.error
    drawn = [output["data"]["text/plain"] for output in ran.outputs if output["output_type"] == "update_display_data"]
    assert [text for text in drawn if "from the cache" in text] == [
        "llm_cache map: 1 of 1: 0 from the cache, 1 computed",
        "llm_cache map: 3 of 3: 1 from the cache, 2 computed",
    ]
    assert len(ran.shown) == 2
