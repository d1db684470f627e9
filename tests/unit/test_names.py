"""Names of entries as they are shown, and as they are typed again; and those that no UTF-8 can hold."""

from __future__ import annotations

import getpass
import json

import httpx2
import openai
import pytest

from genai_cache_magic import create_cache, host, llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.entries.listing.names import fits, short_name
from genai_cache_magic.errors import ConfigurationError

ID = "0123456789ab" + "cd" * 26


@pytest.mark.parametrize("name", [ID, f"call:module.f:{ID}", f"{ID} and {ID}"])
def test_what_is_shown_stands_for_the_name(name):
    assert fits(name, short_name(name))
    assert fits(name, "*" + short_name(name))


@pytest.mark.parametrize("name", ["a" * 81, "x [y]" * 1_000, f"{ID} {ID}" * 40, f"{'a' * 60} {ID} {'b' * 60}"])
def test_a_long_name_is_shown_by_its_start_and_found_by_that(name):
    """Whatever it holds: brackets are no pattern there. What fits whole is shown whole."""
    shown = short_name(name)
    assert (len(shown), shown[-1]) == (80, "…")
    assert fits(name, shown)
    assert not fits(f"-{name}", shown)
    assert not fits(name[:70], shown)
    assert short_name("a" * 80) == "a" * 80


@pytest.mark.parametrize("other", ["202601011200 of the team", "202601011200", f"202601011200{'0' * 53}"])
def test_the_mark_stands_for_an_id_alone(other):
    """Who names an entry by a date and such a mark of his own invalidates no other."""
    assert fits("202601011200…", "202601011200…")
    assert not fits(other, "202601011200…")


@pytest.mark.parametrize("option", ["run", "salt"])
def test_an_option_that_is_no_text_is_refused(isolated, option):
    """As a tag is: no answer of such a cell could be stored."""
    with (
        pytest.raises(ConfigurationError, match=f"{option} 'night.*half a surrogate pair"),
        llm_cache(**{option: "night \udcff"}),
    ):
        pass


def test_so_is_the_name_of_a_run_that_is_asked_for_beforehand_or_taken_over(isolated, tmp_path):
    """A command has its arguments as they were typed, whatever the encoding."""
    (tmp_path / "requests.jsonl").write_text("{}\n")
    with create_cache() as cache:
        for call in (
            lambda: cache.warm(tmp_path / "requests.jsonl", run="night \udcff"),
            lambda: cache.warm(tmp_path / "requests.jsonl", salt="night \udcff"),
            lambda: cache.submit_batch(tmp_path / "requests.jsonl", run="night \udcff"),
            lambda: cache.runs.import_("run.jsonl", "night \udcff"),
        ):
            with pytest.raises(ConfigurationError, match="half a surrogate pair"):
                call()


def test_a_model_that_an_answer_names_by_half_a_pair(isolated):
    """Its answer is stored, listed and counted under what can be written of the name."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    answer = json.dumps({"id": "x", "model": "mine-\ud800", "choices": [choice], "usage": usage})
    headers = {"content-type": "application/json"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, text=answer))
    asked = {"model": "mine", "messages": [{"role": "user", "content": "hi"}]}
    with (
        openai.OpenAI(
            base_url="https://m.example/v1", api_key="k", http_client=httpx2.Client(transport=transport)
        ) as c,
        llm_cache() as cell,
    ):
        models = [c.chat.completions.create(**asked).model for _ in range(3)]
    assert models == ["mine-\ud800"] * 3
    assert [(call.outcome, call.model) for call in cell.calls] == [("miss", "mine-?"), *[("hit", "mine-?")] * 2]
    assert cell.troubles == ()
    cache = current_session().cache("default")
    assert cache.usage().total.input_tokens == 3
    assert cache.invalidate_tag("mine-?", kind="model").count == 1


def test_a_user_whom_the_system_names_in_another_encoding(monkeypatch):
    """Two such users are two still."""
    monkeypatch.setattr(getpass, "getuser", lambda: "Andr\udce9")
    assert host.person_name() == "Andr\\udce9"
