"""A cell that is estimated sends nothing: it says what is cached, what the rest may cost, and ends where it must."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from decimal import Decimal

import openai
import pytest
from priced_model import body, own_priced_model  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.core.ignoring import NOTHING
from genai_cache_magic.errors import NotSent
from genai_cache_magic.jupyter.arguments import parse_cell
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.call_report import as_json
from genai_cache_magic.jupyter.shown.summary import summarise

pytestmark = pytest.mark.timeout(100)


def ask(text, **more):
    with openai.OpenAI() as client:
        return client.chat.completions.create(**body(text, **more)).choices[0].message.content


def filled(*texts):
    with llm_cache() as cell:
        for text in texts:
            ask(text)
    return cell


def test_it_ends_at_the_first_answer_that_is_needed(unique_server, monkeypatch):
    """Hits are answered before that; nothing is sent, spent or counted, and no key is needed."""
    cost = filled("a", "b").spent_usd
    spent = current_session().cache("default").usage().total
    monkeypatch.delenv("OPENAI_API_KEY")
    reached = []
    with llm_cache(estimate=True) as cell:
        reached += [ask("a"), ask("b")]
        reached.append(ask("c"))
        reached.append("never")
    assert len(reached) == 2
    found = cell.foreseen
    assert (found.hits, found.misses, found.unknown, found.unbounded) == (2, 1, 0, 0)
    assert 0 < found.least_usd <= found.expected_usd <= found.most_usd
    assert found.most_usd > cost / 4
    assert unique_server.count == 2
    assert current_session().cache("default").usage().total == spent


def test_what_stands_under_the_cell(unique_server):
    """One line, which says that it is the least of it; without a miss, that nothing would be asked."""
    filled("a")
    with llm_cache(estimate=True) as cell:
        ask("a")
        ask("b")
    said = as_text(summarise(cell))
    report = as_json(summarise(cell))
    assert report["headline"] == f"! {report['estimate']}"
    assert "estimate, at least: 1 hit, 1 miss, about $0.0" in said
    assert said.endswith("stopped at the first answer that is needed")
    with llm_cache(estimate=True) as cell:
        ask("a")
    assert "estimate: 1 hit, nothing would be asked" in as_text(summarise(cell))
    with llm_cache() as cell:
        ask("a")
    assert cell.foreseen is None
    assert "estimate" not in as_json(summarise(cell))


@pytest.mark.parametrize("how", ["threads", "gather", "map", "async map"])
def test_calls_that_need_no_other_are_all_seen(unique_server, how):
    """Of a pool, of `gather` and of `map`, each call is counted once, and nothing waits for ever."""
    filled("0")
    texts = [f"{number}" for number in range(12)]

    async def ask_async(text):
        async with openai.AsyncOpenAI() as client:
            return (await client.chat.completions.create(**body(text))).choices[0].message.content

    async def gathered():
        return await asyncio.gather(*map(ask_async, texts))

    cache = current_session().cache("default")
    with llm_cache(estimate=True) as cell:
        if how == "threads":
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(ask, text) for text in texts]
            asked[-1].result()
        elif how == "gather":
            asyncio.run(gathered())
        elif how == "map":
            cache.map(ask, texts, name="asked", progress=False)
        else:
            asyncio.run(cache.map(ask_async, texts, name="asked", progress=False))
    found = cell.foreseen
    assert (found.hits, found.misses) == (1, 11)
    assert unique_server.count == 1


def test_equal_calls_count_once(unique_server):
    """As they would be asked; distinct samples are distinct."""
    for samples, misses in (("same", 1), ("distinct", 3)):
        with llm_cache(estimate=True, samples=samples) as cell, ThreadPoolExecutor(1) as pool:
            asked = [pool.submit(ask, "a") for _ in range(3)]
            wait(asked)
        assert cell.foreseen.misses == misses
    assert unique_server.count == 0


def ask_elsewhere(text):
    return ask(text)


def test_calls_of_other_processes(unique_server):
    """They are not sent either, and counted; what they cost is not known here."""
    with llm_cache(estimate=True) as cell, ProcessPoolExecutor(1) as pool:
        list(pool.map(ask_elsewhere, ["a"]))
    assert (cell.foreseen.misses, cell.foreseen.unknown, unique_server.count) == (1, 1, 0)


def test_code_that_catches_every_exception(unique_server):
    """Is passed by, as by a budget; SDKs don't repeat it."""
    swallowed = []
    with llm_cache(estimate=True) as cell:
        try:
            ask("a")
        except Exception as error:  # noqa: BLE001 - that is what is tried
            swallowed.append(error)
    assert swallowed == []
    assert cell.foreseen.misses == 1


@pytest.mark.parametrize("inner", [{}, {"mode": "off"}, {"mode": "refresh"}, {"estimate": False}])
def test_nothing_within_it_sends(unique_server, inner):
    """Whatever is opened in the cell; refresh invalidates nothing, and what is inside counts for the whole."""
    filled("a")
    with llm_cache(estimate=True) as cell:
        with llm_cache(**inner):
            ask("b")
        ask("never")
    assert cell.foreseen.misses == 1
    with llm_cache(estimate=True, mode="refresh") as cell:
        ask("a")
    assert (cell.foreseen.hits, cell.foreseen.misses) == (0, 1)
    with llm_cache() as cell:
        ask("a")
    assert (cell.hits, unique_server.count) == (1, 1)


def test_what_can_not_be_judged_is_not_sent(unique_server):
    """A call without a key, and a request that may be one, end the cell too; their price is unknown."""
    with llm_cache(estimate=True) as cell:
        ask("a", stream="perhaps")
    assert (cell.foreseen.misses, cell.foreseen.unknown) == (1, 1)
    with llm_cache(estimate=True) as cell:
        request = urllib.request.Request(
            f"{unique_server.url}/v1/chat/completions",
            json.dumps(body("a")).encode(),
            {"content-type": "application/json", "user-agent": "OpenAI/Python"},
        )
        urllib.request.urlopen(request)
    assert cell.foreseen.misses == 1
    assert unique_server.count == 0


def test_a_run_and_a_run_file_stay_as_they_are(tmp_path, unique_server):
    """The file answers; neither records what was only looked up."""
    path = tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path), run="r"):
        ask("a")
    before = path.read_bytes()
    cache = current_session().cache("default")
    cache.clear()
    with llm_cache(estimate=True, mode="record", run_file=str(path), run="r") as cell:
        ask("a")
        ask("b")
    assert (cell.foreseen.hits, cell.foreseen.misses) == (1, 1)
    assert path.read_bytes() == before
    assert cache.runs.show("r").summary.calls == 1


def test_a_function_and_a_coroutine(unique_server):
    """What was decorated can't return, so it raises; an asynchronous block ends as any."""

    @llm_cache(estimate=True)
    def work():
        return ask("a")

    with pytest.raises(NotSent):
        work()

    async def block():
        async with llm_cache(estimate=True) as cell, openai.AsyncOpenAI() as client:
            await client.chat.completions.create(**body("a"))
        return cell

    assert asyncio.run(block()).foreseen.misses == 1
    assert unique_server.count == 0


def test_errors_of_the_cells_own_are_raised(unique_server):
    """An estimate hides no mistake."""
    with pytest.raises(ZeroDivisionError), llm_cache(estimate=True):
        1 / 0  # noqa: B018 - that is what is tried


def test_a_cache_that_can_not_be_opened(unique_server, monkeypatch, tmp_path):
    """Lets no call pass."""
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path))
    reset_session()
    with llm_cache(estimate=True) as cell:
        ask("a")
    assert (cell.foreseen.misses, unique_server.count) == (1, 0)


def test_a_price_that_nobody_knows():
    """Is said in the line."""
    with llm_cache(estimate=True) as cell:
        ask("a", model="nobody-knows")
    assert "1 miss, price of 1 call unknown, stopped" in as_text(summarise(cell))
    assert cell.foreseen.most_usd == Decimal(0)


def test_the_option_of_a_cell():
    """It is one of the magic's, and of `%llm_cache on`."""
    assert parse_cell("--estimate").given == {"estimate": True}
    assert parse_cell("").given == {}
    session = current_session()
    assert session.options(**parse_cell("--estimate --ignore none").given).estimate
    assert NOTHING not in session.options(ignore=(NOTHING,)).ignore
    session.turn_on(estimate=True)
    assert session.options().estimate
    session.turn_off()


def test_no_file_is_uploaded(unique_server):
    """Neither does an upload leave this machine, nor a batch."""
    with llm_cache(estimate=True), openai.OpenAI() as client:
        client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    with llm_cache(estimate=True), openai.OpenAI() as client:
        client.batches.create(input_file_id="a", endpoint="/v1/responses", completion_window="24h")
    assert unique_server.batches.created == unique_server.count == 0
