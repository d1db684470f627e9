"""Texts that are embedded in batches: each is known by itself, whatever batch it came in, and asked about once."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace

import openai
import pytest
from embeddings import MODEL, asked, embed, texts, vectors

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.calls import pricing
from genai_cache_magic.errors import NotSent, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.jupyter.shown.words import dollars
from genai_cache_magic.providers import batches
from genai_cache_magic.testing.simulated.call import Fault


@pytest.fixture
def client(isolated, server):
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_a_batch_asks_for_what_is_not_known(client, server, encoding):
    """Of a batch that overlaps with another one the rest alone is asked, and the answer is that of the whole."""
    options = {} if encoding is None else {"encoding_format": encoding}
    plain = embed(client, texts(3, 1, 7, 2, 8), **options)
    server.reset()
    with llm_cache() as cell:
        embed(client, texts(1, 2, 3), **options)
        both = embed(client, texts(3, 1, 7, 2, 8), **options)
        again = embed(client, texts(8, 7), **options)
    assert asked(server) == [texts(1, 2, 3), texts(7, 8)]
    assert both.data == plain.data
    assert both.model == plain.model
    assert [one.index for one in both.data] == [0, 1, 2, 3, 4]
    assert vectors(again) == [vectors(plain)[4], vectors(plain)[2]]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]
    assert cell.calls[1].reason == "3 of 5 texts from the cache"


def test_an_answer_to_a_batch_is_priced_once(client, monkeypatch):
    """However many texts it is about: what each of them cost is a share of that."""
    priced = []
    cost_usd = pricing.cost_usd
    monkeypatch.setattr(pricing, "cost_usd", lambda *args, **more: (priced.append(args), cost_usd(*args, **more))[1])
    with llm_cache():
        embed(client, texts(1, 2, 3))
        assert len(priced) == 1
        embed(client, texts(3, 1, 7, 2, 8))
    assert len(priced) == 2


def test_a_batch_by_an_asynchronous_client(isolated, server):
    """The same for asynchronous clients."""

    async def run():
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
            plain = await embed(client, texts(3, 1, 7))
            server.reset()
            with llm_cache():
                await embed(client, texts(1, 2, 3))
                return plain, await embed(client, texts(3, 1, 7))

    plain, both = asyncio.run(run())
    assert asked(server) == [texts(1, 2, 3), texts(7)]
    assert both.data == plain.data


def test_one_text_is_known_from_a_batch_and_a_batch_from_single_texts(client, server):
    """A text is the same entry alone, as a list of one, and within any batch; so are its tokens."""
    plain = embed(client, texts(1, 2)), embed(client, [[1, 2], [3]])
    server.reset()
    with llm_cache() as cell:
        embed(client, texts(1)[0])
        both = embed(client, texts(1, 2))
        alone = [embed(client, texts(2)), embed(client, texts(2)[0])]
        embed(client, [3])
        tokens = embed(client, [[1, 2], [3]])
    assert asked(server) == [texts(1)[0], texts(2), [3], [[1, 2]]]
    assert vectors(both) == vectors(plain[0])
    assert [vectors(one) for one in alone] == [vectors(plain[0])[1:]] * 2
    assert vectors(tokens) == vectors(plain[1])
    assert [call.outcome.value for call in cell.calls] == ["miss", "miss", "hit", "hit", "miss", "miss"]


def test_the_same_batch_again_is_answered_as_it_was(client, server):
    """A batch that is asked a second time gets every field as the first one did, its tokens included."""
    with llm_cache() as cell:
        first = embed(client, texts(*range(20)))
        again = embed(client, texts(*range(20)))
    assert again == first
    assert server.count == 1
    assert [call.input_tokens for call in cell.calls] == [first.usage.prompt_tokens] * 2


def test_a_text_that_is_there_twice_is_asked_once(client, server):
    """Duplicates within a batch are sent once, and each stands at its place in the answer."""
    repeated = texts(1, 2, 1, 1, 3)
    plain = embed(client, repeated)
    server.reset()
    with llm_cache():
        assert embed(client, repeated).data == plain.data
        assert embed(client, repeated).data == plain.data
    assert asked(server) == [texts(1, 2, 3)]


@pytest.mark.parametrize("options", [{"dimensions": 256}, {"encoding_format": "base64"}, {"user": "somebody"}])
def test_what_else_decides_a_vector_parts_texts(client, server, options):
    """Texts asked about with other options are other texts."""
    with llm_cache():
        embed(client, texts(1, 2), encoding_format="float")
        embed(client, texts(1, 2), **{"encoding_format": "float", **options})
    assert asked(server) == [texts(1, 2)] * 2


def test_what_may_relate_texts_to_each_other_divides_no_batch(client, server):
    """A field that is not known may make a text's vector depend on its neighbours: such a batch stays whole."""
    with llm_cache() as cell:
        for numbers in ((1, 2), (2, 3), (2, 3)):
            embed(client, texts(*numbers), extra_body={"late_chunking": True})
    assert asked(server) == [texts(1, 2), texts(2, 3)]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.MISS, Outcome.HIT]


def test_what_is_paid_is_the_part_that_was_asked(client, server, monkeypatch):
    """The usage and the price of a batch are those of what was asked; what was known is what was saved."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
    with llm_cache() as cell:
        first = embed(client, texts(1, 2, 3, 4))
        part = embed(client, texts(3, 4, 5))
        embed(client, texts(1, 2, 3, 4, 5))
    miss, partly, hit = cell.calls
    assert partly.input_tokens == part.usage.prompt_tokens < first.usage.prompt_tokens
    assert partly.spent_usd > 0 < partly.saved_usd < miss.spent_usd
    assert hit.spent_usd == 0
    assert hit.saved_usd == miss.spent_usd + partly.spent_usd
    assert f"saved {dollars(partly.saved_usd + hit.saved_usd)}" in as_text(summarise(cell))
    assert current_session().cache("default").usage().total.saved_usd == partly.saved_usd + hit.saved_usd
    assert hit.input_tokens == first.usage.prompt_tokens + part.usage.prompt_tokens


def test_replay_says_which_texts_are_missing(client, server):
    """In replay a batch that is known is answered, and one that is partly known is a miss that names the places."""
    with llm_cache():
        embed(client, texts(1, 2, 3))
    server.reset()
    with llm_cache(mode="replay"):
        embed(client, texts(3, 2))
        with pytest.raises(ReplayMiss, match=r"2 of 4 texts from the cache, without number 2, 4"):
            embed(client, texts(1, 8, 2, 9))
    assert server.count == 0


def test_explain_says_of_a_replayed_batch_which_texts_are_missing(client):
    """In the words of the error, whatever cell it is; what the nearest batch differs in says less, and is not said."""
    session = current_session()
    asked_for = [texts(1, 2, 3), texts(1, 8, 2, 9), ["Wholly", "otherwise"]]
    scopes = []
    for cell, inputs in zip(("one", "another", "third"), asked_for, strict=True):
        opened = open_cell(session, session.options(mode="replay" if scopes else "use"), cell=cell)
        with suppress(ReplayMiss):
            embed(client, inputs)
        opened.close()
        scopes.append(opened.scope)
    partly, unknown = (session.cache("default").explain(scope)[0] for scope in scopes[1:])
    assert partly.reason == "replay: not in the cache; 2 of 4 texts from the cache, without number 2, 4"
    assert (partly.differs, partly.diff) == ((), ())
    assert unknown.reason == "replay: not in the cache; nothing like it was ever asked"


def test_refresh_asks_about_all(isolated, unique_server):
    """A refresh asks about every text of its batch, and others then get the new vectors."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        with llm_cache():
            old = embed(client, texts(1, 2, 3))
        with llm_cache(mode="refresh"):
            new = embed(client, texts(1, 2))
        with llm_cache() as cell:
            both = embed(client, texts(1, 2, 3))
    assert vectors(both) == [*vectors(new), vectors(old)[2]]
    assert asked(unique_server) == [texts(1, 2, 3), texts(1, 2)]
    assert [call.outcome for call in cell.calls] == [Outcome.HIT]


def test_read_keeps_nothing(client, server):
    """Mode read asks for what is missing, and stores none of it."""
    with llm_cache():
        embed(client, texts(1, 2))
    with llm_cache(mode="read"):
        embed(client, texts(2, 3))
        embed(client, texts(2, 3))
    assert asked(server)[1:] == [texts(3)] * 2


def test_distinct_samples_are_never_divided(client, server):
    """Who wants an answer of its own for each call gets one, whole."""
    with llm_cache(samples="distinct"):
        embed(client, texts(1, 2))
        embed(client, texts(1, 2))
    assert asked(server) == [texts(1, 2)] * 2


def test_tags_and_invalidation_reach_each_text(client, server):
    """A tag that is invalidated takes the texts with it that were asked about under it, wherever they stand."""
    with llm_cache(tags=["draft"]):
        embed(client, texts(1, 2))
    with llm_cache():
        embed(client, texts(3, 4))
        current_session().cache("default").invalidate_tag("draft")
        embed(client, texts(1, 2, 3, 4))
    assert asked(server) == [texts(1, 2), texts(3, 4), texts(1, 2)]


def test_the_origins_refusal_is_the_callers(client, server):
    """An error of the part that is asked is the error that the caller gets, and nothing of it is kept."""
    with llm_cache() as cell:
        embed(client, texts(1))
        server.fail_next(Fault.TOO_MANY_REQUESTS)
        with pytest.raises(openai.RateLimitError):
            embed(client, texts(1, 2))
        embed(client, texts(1, 2))
    assert asked(server) == [texts(1), texts(2), texts(2)]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.ERROR, Outcome.MISS]


def test_two_batches_at_once_share_what_they_have_in_common(client, server):
    """Of two batches that overlap and are asked at once, the second waits for what the first one asks about."""
    answers = {}

    def ask(*numbers):
        answers[numbers] = embed(client, texts(*numbers))

    server.hold()
    with llm_cache():
        first = threading.Thread(target=ask, args=(1, 2, 3))
        first.start()
        assert server.wait_for(1, 30)
        second = threading.Thread(target=ask, args=(3, 4))
        second.start()
        second.join(0.2)
        server.release()
        first.join(30)
        second.join(30)
    assert asked(server) == [texts(1, 2, 3), texts(4)]
    assert vectors(answers[3, 4])[0] == vectors(answers[1, 2, 3])[2]


def test_who_invalidates_a_batch_means_its_texts(client, server):
    """The entry that a report names stands for all of its texts: once it is invalid, each is asked about again."""
    with llm_cache() as cell:
        embed(client, texts(1, 2))
        embed(client, texts(2, 3))
    cache = current_session().cache("default")
    with llm_cache():
        assert cache.invalidate_entry(cell.calls[1].entry_id[:16]).count == 1
        embed(client, texts(1, 2))
        embed(client, texts(2, 3))
        embed(client, texts(1, 2))
    assert asked(server) == [texts(1, 2), texts(3), texts(2, 3)]


@pytest.mark.parametrize("options", [{"mode": "read"}, {"estimate": True}])
def test_who_may_not_write_invalidates_nothing(client, server, options):
    """Mode read, and an estimate, see that a text is out of date by its batch, and publish nothing of that."""
    with llm_cache() as cell:
        embed(client, texts(1, 2))
        embed(client, texts(2, 3))
    cache = current_session().cache("default")
    cache.invalidate_entry(cell.calls[1].entry_id[:16])
    before = cache.parts.entries.generations.current()
    with suppress(NotSent), llm_cache(**options):
        embed(client, texts(2, 3))
    assert cache.parts.entries.generations.current() == before
    assert asked(server)[2:] == ([] if "estimate" in options else [texts(2, 3)])


def test_parts_that_do_not_go_together_are_asked_whole(client, server, monkeypatch):
    """If another model answers now under the same name, vectors of both are never mixed: the call is made whole."""
    with llm_cache() as cell:
        embed(client, texts(1, 2))
        answer = server.respond

        def respond(request):
            reply = answer(request)
            return replace(reply, body=reply.body.replace(MODEL.encode(), b"text-embedding-9"))

        monkeypatch.setattr(server, "respond", respond)
        both = embed(client, texts(1, 2, 3))
        embed(client, texts(1, 2, 3))
        embed(client, texts(2, 3))
    assert both.model == "text-embedding-9"
    assert asked(server) == [texts(1, 2), texts(3), texts(1, 2, 3), texts(1, 2, 3)]
    assert [call.outcome.value for call in cell.calls] == ["miss", "refused", "bypass", "miss", "hit"]


def test_a_batch_kept_whole_by_an_earlier_release_answers(client, server, monkeypatch):
    """What was stored as one entry before texts had their own is found first."""
    with llm_cache():
        with monkeypatch.context() as earlier:
            earlier.setattr(batches, "divided", lambda call, sent, raw: call)
            first = embed(client, texts(1, 2))
        current_session().cache("default").origins.remembered.clear()
        assert embed(client, texts(1, 2)) == first
        assert embed(client, texts(2, 1)).data
    assert asked(server) == [texts(1, 2), texts(2, 1)]


def test_what_invalidates_a_text_invalidates_every_batch_that_holds_it(client, server):
    """A batch that was put together is served no longer than each of its texts would be: by tag, and by entry."""
    cache = current_session().cache("default")
    with llm_cache(tags=["draft"]):
        embed(client, texts(1))
    with llm_cache() as cell:
        alone = embed(client, texts(2)), cell.calls[-1].entry_id
        for _ in range(2):
            embed(client, texts(1, 2, 3))
        assert cache.invalidate_tag("draft").count == 2
        embed(client, texts(1, 2, 3))
        assert cache.invalidate_entry(alone[1][:16]).count == 1
        embed(client, texts(1, 2, 3))
        embed(client, texts(1, 2, 3))
    assert asked(server) == [texts(1), texts(2), texts(3), texts(1), texts(2)]


def test_a_batch_lives_no_longer_than_its_oldest_text(client, server):
    """What was put together does not begin a new life."""
    cache = current_session().cache("default")
    with llm_cache(ttl="1h"):
        embed(client, texts(1))
    with llm_cache(ttl="30d") as cell:
        embed(client, texts(1, 2))
    whole = cache.catalogue.listed(cell.calls[0].entry_id)
    assert whole.header.ttl_s <= 3_600
