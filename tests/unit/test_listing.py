"""Listings, statistics and explanations of model calls."""

from __future__ import annotations

import httpx
import openai
import pytest

from genai_cache_magic import cached, last_cell, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "key"))
    monkeypatch.setenv("GENAI_CACHE_PERSON", "ada")
    reset_session()
    with (
        SimulatedModelServer() as server,
        openai.OpenAI(base_url=server.openai_url, api_key="simulated", max_retries=0) as client,
    ):

        def ask(*questions, model="gpt-4.1-mini", temperature=0.5, **options):
            with llm_cache(**options) as cell:
                for question in questions:
                    client.chat.completions.create(
                        model=model, temperature=temperature, messages=[{"role": "user", "content": question}]
                    )
            return cell

        ask.server = server
        yield ask
    reset_session()


def cache():
    return current_session().cache("default")


def test_stats_count_entries_by_model(world):
    """Statistics say how many, how large, how old, by model."""
    world("a", "b")
    world("c", model="gpt-4.1")
    stats = cache().stats()
    assert stats.entries == 3
    assert stats.by_model == {"gpt-4.1-mini": 2, "gpt-4.1": 1}
    assert stats.size_bytes > 0
    assert stats.oldest <= stats.newest


def test_explain_names_the_component_that_differs(world):
    """A miss is explained by what differs from the nearest stored call."""
    world("a question")
    cell = world("a question", temperature=0.7)
    (explained,) = cache().explain(cell)
    assert explained.differs == ("body.temperature",)
    cell = world("a question", temperature=0.7)
    assert cache().explain(cell) == ()


def test_explain_names_the_component_that_differs_of_what_a_replay_missed(world):
    """As the error did; of a list it names the item, and not the list as well."""
    world("a question")
    with pytest.raises(ReplayMiss, match=r"differs in body.messages\[0\]\. "):
        world("another", mode="replay")
    (explained,) = cache().explain(last_cell())
    assert explained.differs == ("body.messages[0]",)


def test_explain_says_why_an_answer_was_refused(world):
    """A refused answer is explained by its reason, and by the option that keeps it all the same."""
    world.server.fail_next(Fault.TRUNCATED)
    (explained,) = cache().explain(world("cut short"))
    assert explained.reason == "not stored: truncated; --store truncated keeps it"


def test_explain_says_why_in_mode_read(world):
    """That the mode stores nothing is no reason why nothing was there."""
    (explained,) = cache().explain(world("never asked", mode="read"))
    assert explained.reason == "not in the cache; mode read stores nothing; nothing like it was ever asked"


def test_implicit_tags_can_be_invalidated(world):
    """Model, run and person are tags without being given as such."""
    world("a", run="sweep-1")
    world("b", model="gpt-4.1")
    assert cache().invalidate_tag("sweep-1", kind="run", dry_run=True).count == 1
    assert cache().invalidate_tag("gpt-4.1", kind="model", dry_run=True).count == 1
    assert cache().invalidate_tag("ada", kind="person", dry_run=True).count == 2
    assert cache().invalidate_tag("sweep-1", kind="run").count == 1
    assert world("a", "b", model="gpt-4.1-mini").misses == 2
    assert world("b", model="gpt-4.1").hits == 1


@pytest.fixture
def of_all_kinds(world):
    """A cache with answers of two models and of an agent that names none, and with values of one's own."""
    world("a", "b")
    world("c", model="gpt-4.1")
    told = {"object": "conversation.response", "outputs": [{"type": "message.output", "content": "hello"}]}
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=told))) as agents:
        with llm_cache() as cell:
            agents.post("https://api.mistral.ai/v1/conversations", json={"agent_id": "ag_1", "inputs": "hi"})
        assert [(call.stored, call.model) for call in cell.calls] == [(True, "")]
    cached(str.upper)("text")
    cache().mset({"one": 1, "two": 2})
    return cache()


@pytest.mark.parametrize("is_dry", [True, False])
def test_whatever_statistics_name_as_a_model_can_be_invalidated_as_one(of_all_kinds, is_dry):
    """Values of one's own, and answers of what names no model: each as often as it was counted, and nothing else."""
    counted = dict(of_all_kinds.stats().by_model)
    assert counted == {"value": 3, "gpt-4.1-mini": 2, "gpt-4.1": 1, "mistral.conversations": 1}
    held = {one.name: one.entries for one in of_all_kinds.insight.statistics().holdings if one.kind == "model"}
    assert held == of_all_kinds.catalogue.tags()["model"] == counted
    left = 7
    for name, count in counted.items():
        done = of_all_kinds.invalidate_tag(name, kind="model", dry_run=is_dry)
        assert (done.count, done.known) == (count, left)
        left -= 0 if is_dry else count
        assert of_all_kinds.stats().entries == left
    assert [of_all_kinds.exists(key) for key in ("one", "two")] == [is_dry, is_dry]


def test_an_entry_is_named_by_the_start_of_its_id(world):
    """A short or ambiguous id is refused with what to do."""
    cell = world("a", "b")
    entry_id = cell.calls[0].entry_id
    assert cache().invalidate_entry(entry_id[:12]).count == 1
    for wrong in ("abc", "no-hex-at-all", ""):
        with pytest.raises(ConfigurationError):
            cache().invalidate_entry(wrong)
    assert world("a").misses == 1


def test_a_pattern_meets_models_and_keys(world):
    """`invalidate` takes a shell pattern over names: a model and the start of an id, or a key."""
    world("a")
    world("b", model="gpt-4.1")
    cache().set("notes", 1)
    assert cache().invalidate("gpt-4.1-mini:*").count == 1
    assert cache().invalidate("*", dry_run=True).count == 2


def test_an_answer_on_its_way_is_born_invalid(world):
    """What was asked before an invalidation is not served after it, though it was stored later."""
    with llm_cache(tags=("t",)):
        opened = current_session().cache("default")
        stamp = opened._entries.stamp()
        opened.invalidate_tag("t")
        assert stamp.ver < opened._entries.stamp().ver
    cell = world("fresh", tags=("t",))
    assert cell.calls[0].stored
    assert world("fresh", tags=("t",)).hits == 1
    cache().invalidate_tag("t")
    assert world("fresh", tags=("t",)).misses == 1
