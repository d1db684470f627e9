"""Calls whose prompts hold noise: hits where a rule says that it doesn't matter, and sent as they are."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from unit import work_elsewhere

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.core import ignoring
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.jupyter.arguments import parse_cell
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.providers.noise import DOCUMENTED

ONE, OTHER = "What is <A object at 0x7f3a5c0b1d90>?", "What is <A object at 0x7f3a5c0b1e40>?"
RULE = "memory-address"
FILE = "runs/sweep.jsonl"


@pytest.fixture
def url(isolated, unique_server):
    return unique_server.openai_url


def ask(url, text, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **more)


def outcomes(cell):
    return [call.outcome.value for call in cell.calls]


def test_noise_makes_a_miss_and_a_rule_a_hit(url, unique_server):
    """And what is sent is what was written, byte for byte."""
    with llm_cache() as plain:
        ask(url, ONE), ask(url, OTHER)
    with llm_cache(ignore=[RULE]) as cell:
        assert ask(url, ONE).id == ask(url, OTHER).id
    assert (outcomes(plain), outcomes(cell)) == (["miss", "miss"], ["miss", "hit"])
    sent = [json.loads(request.body)["messages"][0]["content"] for request in unique_server.requests]
    assert sent == [ONE, OTHER, ONE]


def test_other_rules_share_nothing(url):
    """Nor does who has none: nobody gets an answer by somebody else's idea of noise."""
    for rules in (
        (),
        (RULE,),
        (RULE, "uuid"),
        (r"re:at 0x[0-9a-f]+",),
        ("$.metadata.run",),
        (r"re:at 0x[0-9a-f]+", RULE),
    ):
        with llm_cache(ignore=rules) as cell:
            ask(url, ONE)
        assert outcomes(cell) == ["miss"], rules
    with llm_cache(ignore=["uuid", RULE, RULE]) as cell:
        ask(url, ONE)
    assert outcomes(cell) == ["hit"]


def test_another_version_of_a_shipped_rule_shares_nothing(url, monkeypatch):
    """What is found may change with a release: old answers are not served for what it finds."""
    with llm_cache(ignore=[RULE]):
        ask(url, ONE)
    monkeypatch.setitem(ignoring.SHIPPED, RULE, ignoring.SHIPPED[RULE]._replace(version=2))
    for function in (ignoring.rules_of, ignoring._named):
        function.cache_clear()
    try:
        with llm_cache(ignore=[RULE]) as cell:
            ask(url, ONE)
    finally:
        monkeypatch.undo()
        for function in (ignoring.rules_of, ignoring._named):
            function.cache_clear()
    assert outcomes(cell) == ["miss"]


def test_streams_and_coroutines(url):
    """Whatever the form in which an answer is asked for, and whoever waits for it."""

    async def streamed(text):
        async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
            messages = [{"role": "user", "content": text}]
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    with llm_cache(ignore=RULE) as cell:
        said = ask(url, ONE).choices[0].message.content
        assert asyncio.run(streamed(OTHER)) == said
    assert outcomes(cell) == ["miss", "hit"]


def test_another_vendor_and_another_client(isolated, unique_server):
    """The rules are applied to the canonical request, which every wire API comes to."""
    with llm_cache(ignore=RULE) as cell, anthropic.Anthropic(base_url=unique_server.url, api_key="k") as client:
        for text in (ONE, OTHER):
            content = [{"type": "text", "text": text}]
            client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": content}])
    assert outcomes(cell) == ["miss", "hit"]


def test_a_path_takes_a_field_out_of_the_key(isolated, unique_server):
    """Its value, not its presence: a field that is not there is another request."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with llm_cache(ignore="$.trace.run") as cell, httpx.Client() as client:
        for run in (1, "b", [2]):
            client.post(f"{unique_server.openai_url}/chat/completions", json={**body, "trace": {"run": run}})
        client.post(f"{unique_server.openai_url}/chat/completions", json={**body, "trace": {}})
    assert outcomes(cell) == ["miss", "hit", "hit", "miss"]
    assert all("trace" not in row.fields for row in DOCUMENTED)


def test_processes_of_the_cell_have_its_rules(url):
    """They take the options of the cell with them."""
    with llm_cache(ignore=RULE) as cell, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ask(url, ONE, max_tokens=7)
        answers = list(pool.map(work_elsewhere.ask, [url] * 2, [ONE, OTHER]))
    assert answers[0] == answers[1]
    assert sorted(outcomes(cell)) == ["hit", "miss", "miss"]


def test_a_rule_that_takes_too_long_lets_the_call_pass(url, monkeypatch):
    """It is sent as it is, not cached, and its record says why; in mode replay it is not sent."""
    monkeypatch.setattr("genai_cache_magic.calls.keyed.MOST_S", -1.0)
    with llm_cache(ignore=RULE) as cell:
        assert ask(url, ONE).id != ask(url, ONE).id
    assert outcomes(cell) == ["bypass", "bypass"]
    assert "'memory-address/1' of --ignore takes too long" in cell.calls[0].reason
    with llm_cache(ignore=RULE, mode="replay"), pytest.raises(ReplayMiss, match="takes too long"):
        ask(url, ONE)


# --- runs


def test_a_run_file_is_recorded_and_replayed_under_the_same_rules(url, unique_server):
    """Its digests are of the request without noise, so that another session's noise finds it."""
    with llm_cache(mode="record", run_file=FILE, ignore=RULE):
        first = ask(url, ONE).id
    asked = unique_server.count
    with llm_cache(mode="replay", run_file=FILE, ignore=RULE) as cell:
        assert ask(url, OTHER).id == first
    assert (unique_server.count, cell.calls[0].tier.value) == (asked, "file")
    line = json.loads(Path(FILE).read_text().splitlines()[1])
    assert line["request"]["rules"] == ["memory-address/1"]
    assert line["request"]["body"]["messages"][0]["content"] == "What is <A object at ⟨memory-address⟩>?"
    with llm_cache(mode="replay", run_file=FILE), pytest.raises(ReplayMiss, match=r"differs in .*rules"):
        ask(url, OTHER)


def test_a_miss_in_a_run_file_proposes_the_rule(url):
    """Where noise is all that differs from the nearest recorded call."""
    with llm_cache(mode="record", run_file=FILE):
        ask(url, ONE)
    proposed = "--ignore memory-address would make this a hit, once it is recorded under it"
    with llm_cache(mode="replay", run_file=FILE), pytest.raises(ReplayMiss, match=proposed):
        ask(url, OTHER)
    with llm_cache(mode="replay", run_file=FILE), pytest.raises(ReplayMiss) as caught:
        ask(url, "something else")
    assert "--ignore" not in str(caught.value)


def test_recording_anew_with_other_noise_changes_no_byte(url):
    """What doesn't matter makes no difference for git either."""
    with llm_cache(mode="record", run_file=FILE, ignore=RULE):
        ask(url, ONE)
    before = Path(FILE).read_bytes()
    with llm_cache(mode="record", run_file=FILE, ignore=RULE):
        ask(url, OTHER)
    assert Path(FILE).read_bytes() == before


def test_two_runs_agree_where_only_noise_differs(url):
    """The record of a run is of the request without noise, as its file is."""
    for run, text in (("one", ONE), ("two", OTHER)):
        with llm_cache(run=run, ignore=RULE):
            ask(url, text)
    runs = current_session().cache("default").runs
    assert runs.diff("one", "two").is_empty
    assert runs.show("one").calls[0].digest == runs.show("two").calls[0].digest


# --- where rules come from


def test_rules_of_settings_notebook_and_cell_add_up(isolated, monkeypatch):
    """And `none` takes back what was set further out."""
    monkeypatch.setenv("GENAI_CACHE_IGNORE", '{"names": ["uuid"], "patterns": ["build [0-9]+"], "paths": ["$.a.b"]}')
    reset_session()
    session = current_session()
    assert session.options().ignore == ("$.a.b", "re:build [0-9]+", "uuid")
    session.turn_on(ignore="iso-time")
    assert session.options(ignore=("temp-path",)).ignore == (
        "$.a.b",
        "iso-time",
        "re:build [0-9]+",
        "temp-path",
        "uuid",
    )
    assert session.options(ignore=("none", "temp-path")).ignore == ("temp-path",)
    session.turn_off()
    assert session.options(ignore="none").ignore == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('["uid"]', r"\(environment, GENAI_CACHE_IGNORE\): ignore: 'uid' is no rule: did you mean uuid\?"),
        ('{"patterns": ["(a+)+b"]}', r"ignore.patterns=.*GENAI_CACHE_IGNORE\).*'re:\(a\+\)\+b' can't be used"),
        ('{"paths": ["$.messages"]}', r"ignore.paths=.*leaves out what is asked"),
        ('{"name": ["uuid"]}', r"did you mean names\?"),
    ],
)
def test_a_wrong_rule_in_settings_names_its_place(isolated, monkeypatch, value, said):
    """The setting, the variable, the rule and what to write."""
    monkeypatch.setenv("GENAI_CACHE_IGNORE", value)
    reset_session()
    with pytest.raises(ConfigurationError, match=said):
        _ = current_session().settings


def test_a_table_of_configuration_is_read_and_shown(isolated, tmp_path, monkeypatch):
    """As the user's own file has it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "config" / "genai-cache" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "[ignore]\nnames = ['memory-address']\npatterns = ['build \\d+']\npaths = ['$.metadata[\"run\"]']\n"
    )
    reset_session()
    assert current_session().options().ignore == ("$.metadata.run", RULE, r"re:build \d+")
    shown = {line.name: line.value for line in current_session().describe().lines}
    assert shown["ignore"] == rf"$.metadata.run, {RULE}, re:build \d+"


def test_a_project_that_is_not_trusted_sets_no_rule(url, monkeypatch):
    """Whoever wrote it would decide which of your questions get one answer; that is said."""
    Path("genai-cache.toml").write_text("[ignore]\nnames = ['memory-address']\n")
    reset_session()
    with llm_cache() as cell:
        ask(url, ONE), ask(url, OTHER)
    assert outcomes(cell) == ["miss", "miss"]
    assert any("sets ignore: ignored" in trouble.message for trouble in cell.troubles)


def test_a_wrong_rule_is_refused_where_it_is_written():
    """At once, not in the middle of a cell."""
    with pytest.raises(ConfigurationError, match=r"ignore: 'uid' is no rule: did you mean uuid\?"):
        llm_cache(ignore=["uid"])


def test_the_magic_takes_rules():
    """Repeatable, in quotes where they hold signs."""
    read = parse_cell(r"--ignore uuid --ignore 're:build [0-9]{1,3} \(x\)' --ignore '$.a[*].b'")
    assert read.given == {"ignore": ("uuid", r"re:build [0-9]{1,3} \(x\)", "$.a[*].b")}


def test_what_stands_under_the_cell_says_that_rules_are_in_force(url):
    """Shipped ones by name, own ones by number: it is saved with the notebook."""
    with llm_cache(ignore=[RULE, "re:secret [0-9]+"]) as cell:
        ask(url, ONE)
    text = as_text(summarise(cell))
    assert "keys leave out memory-address, 1 own pattern" in text
    assert "secret" not in text
    with llm_cache() as cell:
        ask(url, ONE)
    assert "keys leave out" not in as_text(summarise(cell))
