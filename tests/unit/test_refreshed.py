"""What was refreshed away, overwritten or invalidated while it was asked for does not come back."""

from __future__ import annotations

import contextlib
import threading

import openai
import pytest

from genai_cache_magic import cached, create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.entries import permits
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault

DAY_S = 86_400


@pytest.fixture
def ask(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def ask(text="hello", **more):
            return client.chat.completions.create(
                model="gpt-4.1-mini", messages=[{"role": "user", "content": text}], **more
            )

        ask.server = unique_server
        yield ask


@pytest.fixture
def later(monkeypatch):
    """Let a day pass for what judges entries, and an unrelated publication drop the records that lived their time."""

    def pass_time(seconds=DAY_S + 1):
        cache = current_session().cache("default")
        clock = cache._entries.judge.clock
        monkeypatch.setattr(cache._entries.judge, "clock", lambda: clock() + seconds)
        cache.delete("unrelated")

    return pass_time


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.SERVER_ERROR])
def test_a_failed_refresh_does_not_bring_the_old_answer_back(ask, later, fault):
    """What was refreshed away stays away, however the refresh ended and however much time passes."""
    with llm_cache():
        old = ask()
    ask.server.fail_next(fault)
    with llm_cache(mode="refresh"), contextlib.suppress(openai.APIError):
        ask()
    later()
    with llm_cache() as cell:
        assert ask().id != old.id
    assert cell.misses == 1


def test_a_slow_older_call_does_not_replace_a_refreshed_answer(ask, later):
    """An answer that was on its way when the entry was refreshed is its caller's alone."""
    with llm_cache() as slow_cell:
        slow = ask(stream=True)
        with llm_cache(mode="refresh"):
            refreshed = ask()
        (old_id,) = {chunk.id for chunk in slow}
    assert old_id != refreshed.id
    assert [(call.stored, call.reason) for call in slow_cell.calls] == [(False, "invalidated while it was asked for")]
    with llm_cache():
        assert ask().id == refreshed.id
    later()
    with llm_cache():
        assert ask().id == refreshed.id


def test_of_two_processes_that_ask_at_once_the_first_answer_stays(isolated, ask, monkeypatch):
    """A fill never replaces a valid answer, so that both processes serve the same one from then on."""
    monkeypatch.setattr(permits, "LONGEST_WAIT_S", 0.0)  # as if the second had waited for the first long enough
    with llm_cache() as slow_cell:
        slow = ask(stream=True)
        # What follows knows nothing of the call that is on its way, as another process would not.
        its_own = current_session()._caches.pop("default")
        with llm_cache():
            first = ask()
        list(slow)
    its_own.close()
    assert [(call.stored, call.reason) for call in slow_cell.calls] == [(False, "a valid answer was already stored")]
    with llm_cache():
        assert ask().id == first.id


def test_an_answer_that_slept_for_a_day_is_not_stored(ask, later):
    """What invalidated it meanwhile may be forgotten, so an answer that took a day is its caller's alone."""
    with llm_cache() as cell:
        slow = ask(stream=True)
        later()
        list(slow)
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, "asked for more than a day ago")]


def test_who_waits_does_not_get_an_answer_from_before_the_invalidation(ask):
    """A follower of a call that an invalidation made out of date asks for itself."""
    ask.server.hold()
    answers = {}

    def work(name):
        with llm_cache(tags=("t",)):
            answers[name] = ask().id

    leader = threading.Thread(target=work, args=("leader",))
    leader.start()
    assert ask.server.wait_for(1)
    cache = current_session().cache("default")
    cache.invalidate_tag("t")
    follower = threading.Thread(target=work, args=("follower",))
    follower.start()
    (flight,) = cache.calls._flights._flights.values()
    while not flight.waiting:
        follower.join(0.01)
    del flight
    ask.server.release()
    leader.join()
    follower.join()
    assert answers["leader"] != answers["follower"]
    with llm_cache(tags=("t",)):
        assert ask().id == answers["follower"]


def test_a_caller_with_a_shorter_life_replaces_what_is_too_old_for_it(ask, monkeypatch):
    """What is valid for others, but expired for this caller, gives way to what this caller fetched."""
    with llm_cache():
        old = ask()
    cache = current_session().cache("default")
    clock = cache._entries.judge.clock
    monkeypatch.setattr(cache._entries.judge, "clock", lambda: clock() + 100)
    with llm_cache(ttl="60s") as cell:
        new = ask()
    assert [call.outcome for call in cell.calls] == [Outcome.STALE]
    with llm_cache(ttl="60s") as cell:
        assert ask().id == new.id != old.id


def test_a_computed_value_is_born_before_it_is_computed(isolated):
    """An invalidation while `cached` or `map` compute makes their result their caller's alone."""
    cache = create_cache()
    runs = []

    def compute(number):
        runs.append(number)
        if len(runs) < 3:
            cache.invalidate_tag("t")
        return number

    memo = cached(tags=("t",), cache=cache)(compute)
    assert [memo(1), memo(1), memo(1), memo(1)] == [1, 1, 1, 1]
    assert len(runs) == 3
    runs.clear()
    assert [cache.map(compute, [7], tags=("t",)) for _ in range(4)] == [[7]] * 4
    assert len(runs) == 3
    cache.close()


def test_set_over_a_value_is_seen_by_every_process(isolated):
    """`set`, `mset` and `expire` replace what is there, and publish that they did, once for all."""
    one, two = create_cache(), create_cache()
    before = one._entries.stamp().ver
    one.mset({"a": 1, "b": 2})
    assert one._entries.stamp().ver == before  # nothing was replaced
    two.mset({"a": 10, "b": 20, "c": 30})
    assert one._entries.stamp().ver == before + 1
    assert one.mget(list("abc")) == [10, 20, 30]
    two.expire("a", "1h")
    one.set("a", 11)
    assert two.get("a") == 11
    one.close()
    two.close()


def test_two_that_set_one_value_at_once_leave_one_of_theirs(isolated):
    """Concurrent `set` of one key ends with a value that one of them set, and none of them fails."""
    cache = create_cache("memory")
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        for turn in range(20):
            cache.set("k", [number, turn])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("k")[1] == 19
