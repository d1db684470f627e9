"""A budget: what is reserved before a call goes out, what stops it, and what it has cost afterwards."""

# ruff: noqa: PT012 - what is tested is what happens in and at the end of a block

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import queue
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from decimal import Decimal
from multiprocessing.pool import ThreadPool

import anyio
import openai
import pytest
from unit import work_elsewhere

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import checked_options, current_session
from genai_cache_magic.errors import BudgetExceeded, ConfigurationError
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.ledger import usage
from genai_cache_magic.testing.simulated.call import Fault

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

MODEL = "gpt-4.1-mini"
LIMIT = 1_000_000
"""Tokens that a test's call may answer with: at $1.60 a million it reserves $1.60 and a little for its question."""
EACH = Decimal("1.61")
"""What is enough for one such call."""


@pytest.fixture(autouse=True)
def _own(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own, and a model that costs what OpenAI's does."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({unique_server.openai_url: "openai"}))


@pytest.fixture
def client(unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=3, timeout=60) as client:
        yield client


@pytest.fixture
def ask(client):
    """A way to ask a question of its own."""

    def ask(text="a", **options):
        given = {"model": MODEL, "max_tokens": LIMIT, **options}
        return client.chat.completions.create(messages=[{"role": "user", "content": text}], **given)

    return ask


def held_calls(server, enough, *scopes, stopped=0):
    """Wait until as many calls are at the model as there is money for, and the others stopped; have them answered."""
    assert server.wait_for(enough, 60)
    give_up_at = time.monotonic() + 60
    while sum(scope.budgets.state.stopped for scope in scopes) < stopped:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)  # what other processes count makes no noise
    server.release()


@pytest.mark.parametrize(
    "given", ["two", "", "nan", "inf", "-inf", 0, -1, "0.00", -0.5, True, float("nan"), [1], 10**7]
)
def test_what_is_no_budget(given):
    """It is an error at once, which says what to write, whatever the type."""
    for name in ("budget", "budget_usd"):
        with pytest.raises(ConfigurationError, match="above zero"):
            llm_cache(**{name: given})


@pytest.mark.parametrize(
    ("given", "amount"), [("0.50", "0.50"), ("$2", "2"), (3, "3"), (0.1, "0.1"), (Decimal("1e-3"), "0.001")]
)
def test_what_is_a_budget(given, amount):
    """Texts and numbers are amounts of US dollars, and floats mean what they show."""
    assert checked_options({"budget": given}).budget_usd == Decimal(amount)
    assert checked_options({"budget_unknown": 0}).budget_unknown_usd == 0


def test_where_a_budget_comes_from(monkeypatch):
    """The block's wins over the notebook's, that over the setting, and `none` takes it away."""
    monkeypatch.setenv("GENAI_CACHE_BUDGET", "5")
    session = current_session()
    assert session.options().budget_usd == 5
    session.turn_on(budget="4")
    assert session.options().budget_usd == 4
    assert session.options(budget_usd=3).budget_usd == 3
    assert session.options(budget="none").budget_usd is None


def test_stops_before_the_call_that_could_exceed_it(ask, unique_server):
    """Nothing is sent, nothing retried; the error says what is spent, and what was answered is there the next time."""
    with pytest.raises(BudgetExceeded) as caught, llm_cache(budget="0.0004") as cell:
        for number in range(20):
            ask(f"{number}", max_tokens=100)
    made = unique_server.count
    assert 0 < made < 20
    assert cell.spent_usd == caught.value.spent_usd <= Decimal("0.0004")
    assert caught.value.limit_usd == Decimal("0.0004")
    assert caught.value.reserved_usd == 0
    assert MODEL in str(caught.value)
    assert "--budget" in str(caught.value)
    assert cell.calls[-1].outcome is Outcome.ERROR
    assert cell.calls[-1].spent_usd == 0
    with llm_cache(budget="0.000001") as again:
        for number in range(made):
            ask(f"{number}", max_tokens=100)
    assert (again.hits, unique_server.count) == (made, made)


def test_the_sentence_under_the_cell(ask):
    """It says the budget, what is spent of it, and how many calls were stopped; twice from the cache the same."""
    with pytest.raises(BudgetExceeded), llm_cache(budget="1.70") as cell:
        ask()
        ask("b", max_tokens=10 * LIMIT)
    assert "budget $1.70: $0." in as_text(summarise(cell))
    assert as_text(summarise(cell)).endswith("spent, stopped 1 call")
    with llm_cache(budget="0.50") as again:
        ask()
    assert "budget $0.50: $0 spent" in as_text(summarise(again))


def test_a_stopped_call_takes_no_sample(ask):
    """The number that it had taken is free for the call that is made."""
    with llm_cache(budget=EACH, samples="distinct") as cell:
        with pytest.raises(BudgetExceeded):
            ask(max_tokens=2 * LIMIT)
        ask(max_tokens=2 * LIMIT - 1_900_000)
        ask(max_tokens=2 * LIMIT - 1_900_000)
    assert sorted(call.sample for call in cell.calls if call.outcome is Outcome.MISS) == [0, 1]


def test_equal_calls_at_one_time_are_paid_for_once(ask, unique_server):
    """Who waits for another's answer reserves nothing."""
    unique_server.hold()
    with llm_cache(budget=EACH) as cell, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, "the same") for _ in range(4)]
        held_calls(unique_server, 1)
        assert len({answer.result().id for answer in answers}) == 1
    assert (cell.hits, cell.misses, unique_server.count) == (3, 1, 1)


def test_threads_reserve_no_money_twice(ask, unique_server):
    """With all calls on their way at one time, as many are as there is money for, and not one more."""
    unique_server.hold()
    with pytest.raises(BudgetExceeded), llm_cache(budget=3 * EACH) as cell, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask, f"{number}") for number in range(8)]
        held_calls(unique_server, 3, cell, stopped=5)
        stopped = sum(isinstance(future.exception(), BudgetExceeded) for future in futures)
        futures[-1].result()
        for future in futures:
            future.result()
    assert (unique_server.count, stopped, cell.misses) == (3, 5, 3)
    assert cell.budgets.state.reserved_usd == 0
    assert cell.budgets.state.spent_usd == cell.spent_usd


def in_a_pool(ask):
    with ThreadPool(2) as pool:
        pool.map(ask, ["a", "b", "c"])


def in_a_thread(ask):
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()


def behind_a_queue(ask):
    work = queue.Queue()
    threading.Thread(target=lambda: [(ask(work.get()), work.task_done()) for _ in range(2)], daemon=True).start()
    work.put("a")
    work.put("b")
    work.join()


@pytest.mark.parametrize("work", [in_a_pool, in_a_thread, behind_a_queue])
def test_no_pool_hangs(ask, unique_server, work):
    """Whatever runs the work, the cell ends with the error."""
    with pytest.raises(BudgetExceeded), llm_cache(budget="0.01"):
        work(ask)
    assert unique_server.count == 0


async def test_tasks(unique_server):
    """Of tasks that are gathered the error comes out, of a group too, and no SDK repeats the call."""
    async with openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=3) as client:

        async def ask(text):
            messages = [{"role": "user", "content": text}]
            return await client.chat.completions.create(model=MODEL, max_tokens=LIMIT, messages=messages)

        with pytest.raises(BudgetExceeded), llm_cache(budget="0.01"):
            await asyncio.gather(ask("a"), ask("b"))
        with pytest.raises(BudgetExceeded), llm_cache(budget="0.01"):
            await asyncio.create_task(ask("a"))
        with pytest.raises(BaseExceptionGroup) as caught, llm_cache(budget="0.01"):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, "a")
        assert caught.group_contains(BudgetExceeded)
        unique_server.hold()
        with pytest.raises(BudgetExceeded), llm_cache(budget=2 * EACH, run="counted elsewhere, too") as cell:
            asked = [asyncio.ensure_future(ask(f"{number}")) for number in range(5)]
            await asyncio.to_thread(held_calls, unique_server, 2, cell, stopped=3)
            ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, BudgetExceeded) for one in ended) == 3
    assert (unique_server.count, cell.misses) == (2, 2)


def test_trio(unique_server):
    """Under trio as under asyncio."""
    trio = pytest.importorskip("trio", reason="pip install trio")
    httpx2 = pytest.importorskip("httpx2", reason="pip install httpx2")
    body = {"model": MODEL, "max_tokens": LIMIT, "messages": [{"role": "user", "content": "a"}]}

    async def ask():
        async with httpx2.AsyncClient() as client:
            await client.post(f"{unique_server.openai_url}/chat/completions", json=body)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)

    with pytest.raises(BaseExceptionGroup) as caught, llm_cache(budget="0.01", run="r"):
        trio.run(main)
    assert caught.group_contains(BudgetExceeded)
    assert unique_server.count == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_reserve_no_money_twice(unique_server, method):
    """Workers share the budget of the cell that gives them work, and its end says what they have spent."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    url = unique_server.openai_url
    unique_server.hold()
    context = multiprocessing.get_context(method)
    workers = 2 if method == "fork" else 1  # which takes seconds to start
    with (
        ProcessPoolExecutor(workers, mp_context=context) as pool,
        pytest.raises(BudgetExceeded),
        llm_cache(budget=3 * EACH) as cell,
    ):
        futures = [
            pool.submit(work_elsewhere.ask_at_once, url, MODEL, LIMIT, f"{i}", 8 // workers) for i in range(workers)
        ]
        held_calls(unique_server, 3, cell, stopped=5)
        wait(futures)
    assert unique_server.count == 3
    assert cell.budgets.state.spent_usd == cell.spent_usd
    assert cell.budgets.state.stopped == 5


def test_a_killed_worker_leaves_what_it_reserved(ask, unique_server):
    """Nobody knows whether its call was paid for, so it counts as if it was."""
    unique_server.hold()
    with llm_cache(budget=3 * EACH) as cell:
        worker = multiprocessing.Process(target=work_elsewhere.ask_model, args=(unique_server.openai_url, MODEL, "a"))
        worker.start()
        assert unique_server.wait_for(1, 60)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        unique_server.release()
        assert cell.budgets.state.reserved_usd > 0
        ask()
    assert "reserved for calls on their way" in as_text(summarise(cell))


def test_a_stream_that_is_left_half_way(client):
    """It may be billed in full, so it counts as what was reserved; one that is read to its end as what it cost."""
    streamed = {"model": MODEL, "max_tokens": LIMIT, "stream": True, "stream_options": {"include_usage": True}}
    with llm_cache(budget=2 * EACH) as cell:
        with client.chat.completions.create(messages=[{"role": "user", "content": "a"}], **streamed) as stream:
            next(iter(stream))
            assert cell.budgets.state.reserved_usd > Decimal("1.6")
        half = cell.budgets.state
        assert half.reserved_usd == 0
        assert half.spent_usd > Decimal("1.6")
        assert half.unknown == 1
        list(client.chat.completions.create(messages=[{"role": "user", "content": "b"}], **streamed))
        assert half.spent_usd < cell.budgets.state.spent_usd < half.spent_usd + Decimal("0.001")
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(
                messages=[{"role": "user", "content": "c"}], **{**streamed, "max_tokens": 2 * LIMIT}
            )


def test_what_is_refused_or_never_arrives_costs_nothing(client, ask, unique_server):
    """A call that the origin refuses, or that nobody took, gives back what it had reserved."""
    with llm_cache(budget=EACH) as cell:
        unique_server.fail_next(Fault.SERVER_ERROR)
        with pytest.raises(openai.InternalServerError):
            client.with_options(max_retries=0).chat.completions.create(
                model=MODEL, max_tokens=LIMIT, messages=[{"role": "user", "content": "a"}]
            )
        assert cell.budgets.state.spent_usd == cell.budgets.state.reserved_usd == 0
        unreachable = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=1)
        with unreachable, pytest.raises(openai.APIConnectionError):
            unreachable.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}])
        assert cell.budgets.state.spent_usd == cell.budgets.state.reserved_usd == 0
        ask("b")


def test_a_price_that_nobody_knows(ask, unique_server):
    """Such a call is not made, unless it was said what it counts as."""
    with pytest.raises(BudgetExceeded, match="--budget-unknown"), llm_cache(budget=1):
        ask(model="nobody-knows")
    assert unique_server.count == 0
    with pytest.raises(BudgetExceeded), llm_cache(budget="0.25", budget_unknown="0.10") as cell:
        for number in range(5):
            ask(f"{number}", model="nobody-knows")
    assert unique_server.count == 2
    assert "(2 calls of unknown price in it as reserved)" in as_text(summarise(cell))
    with llm_cache(budget="0.25", budget_unknown=0):
        for number in range(5):
            ask(f"{number}", model="nobody-knows-either")
    assert unique_server.count == 7


def test_what_goes_past_the_cache_counts_too(ask, unique_server):
    """In mode off each call counts as what it may cost at most."""
    with pytest.raises(BudgetExceeded), llm_cache(budget=2 * EACH, mode="off"):
        for _ in range(5):
            ask()
    assert unique_server.count == 2


def test_what_may_be_a_model_call(unique_server):
    """A request that is not recognised at a host of models counts as one of unknown price."""
    import httpx2

    with pytest.raises(BudgetExceeded, match="may ask a model"), llm_cache(budget=1) as cell:
        httpx2.post(f"{unique_server.openai_url}/responses/compact", json={"model": MODEL, "input": "a"})
    assert (unique_server.count, cell.errors) == (0, 1)


def test_a_scope_within_is_held_to_the_budget_around_it(ask, unique_server):
    """What a function with a scope of its own asks is paid from the budget of the cell that calls it."""
    with pytest.raises(BudgetExceeded), llm_cache(budget=2 * EACH) as cell:
        unique_server.hold()
        with ThreadPoolExecutor(3) as pool:
            within = [pool.submit(llm_cache(budget=2 * EACH)(ask), f"{number}") for number in range(3)]
            held_calls(unique_server, 2, cell, stopped=1)
        for future in within:
            future.result()
    assert unique_server.count == 2
    assert cell.budgets.state.spent_usd > 0


def test_a_run_is_held_to_its_budget(ask, unique_server):
    """All cells of a run have one budget, also one after the other; another run has its own."""
    with llm_cache(budget="2.00", run="r") as first:
        ask("a")
    spent = first.spent_usd
    with pytest.raises(BudgetExceeded, match="run r") as caught, llm_cache(budget="1.60005", run="r") as second:
        ask("b", max_tokens=LIMIT - 1)
    assert caught.value.spent_usd == spent
    assert second.budgets.state.spent_usd == second.budgets.state.reserved_usd == 0
    with llm_cache(budget="1.60005", run="another"):
        ask("c", max_tokens=LIMIT - 1)
    with llm_cache(budget="2.00", run="r"):
        ask("d")
    assert unique_server.count == 3


def test_a_history_tells_how_long_answers_are(ask, monkeypatch):
    """What calls of a model came to before is read from the ledger, its dated versions included."""
    monkeypatch.setattr(usage, "_PAST_GOOD_S", -1.0)
    with llm_cache(budget=1) as cell:
        ask("a", max_tokens=100)
    past = cell.past(MODEL)
    assert (past.answers, past.priced, past.spent_usd) == (1, 1, cell.spent_usd)
    assert cell.past("gpt-4.1").answers == 0  # another model
    with llm_cache(mode="off"):
        ask("a")
        ask("b")
    assert cell.past(MODEL) == past  # of what went past the cache nobody knows the price
