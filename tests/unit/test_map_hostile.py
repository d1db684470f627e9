"""``Cache.map`` where something goes wrong: interrupts anywhere, any error, bars that raise, wrong options."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from genai_cache_magic import cached, create_cache, llm_cache
from genai_cache_magic.api import batches
from genai_cache_magic.errors import ConfigurationError


@pytest.fixture
def cache(isolated):
    with create_cache("disk", namespace="tests") as cache:
        yield cache


def kept(cache, name):
    """Return what is kept under a name, once all that was under way is at its end."""
    for thread in threading.enumerate():
        if thread.name.startswith("genai-cache-map"):
            thread.join(30)
            assert not thread.is_alive()
    return sorted(cache.mget(cache.keys(f"map:{name}:*")))


def interrupted(work, nth):
    """Do `work` with an interrupt at the `nth` line of `batches` that this thread runs; return whether there is one."""
    remaining = [nth]

    def trace(frame, event, _):
        if frame.f_code.co_filename != batches.__file__:
            return None
        if event == "line":
            remaining[0] -= 1
            if not remaining[0]:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_loses_nothing_wherever_it_comes(isolated):
    """What the function has returned is kept: before it is taken, while it is being kept, and when all are done."""
    nth, is_interrupted = 0, True
    with create_cache("memory", namespace="tests") as cache:
        while is_interrupted:
            nth += 1
            done = []

            def ask(item, done=done):
                done.append(item)
                return item

            options = {"name": f"at {nth}", "max_workers": 2, "progress": False}
            is_interrupted = interrupted(lambda: cache.map(ask, range(4), **options), nth)  # noqa: B023 - run at once
            assert kept(cache, f"at {nth}") == sorted(done), f"line {nth}"
    assert nth > 100


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_in_the_middle_of_keeping_loses_nothing(cache, monkeypatch, times):
    """What was being kept is kept by the next try, behind the user's back if one more interrupt ends that too."""
    fill_many, left = type(cache).fill_many, [times]

    def fill(*arguments, **options):
        if left[0] and threading.current_thread() is threading.main_thread():
            left[0] -= 1
            raise KeyboardInterrupt
        return fill_many(*arguments, **options)

    monkeypatch.setattr(type(cache), "fill_many", fill)
    with pytest.raises(KeyboardInterrupt):
        cache.map(lambda item: item, [1], name="kept")
    assert kept(cache, "kept") == [1]


ERRORS = [SystemExit(3), GeneratorExit(), KeyboardInterrupt(), BaseException("any"), asyncio.CancelledError()]


class FalseError(Exception):
    """An error that counts as false, as one with an empty list of reasons may."""

    def __bool__(self):
        return False


@pytest.mark.parametrize("error", [*ERRORS, StopIteration(1), FalseError()], ids=lambda error: type(error).__name__)
def test_whatever_the_function_raises_is_raised(cache, error):
    """As it is; what was done is kept."""

    def ask(item):
        if item == 2:
            raise error
        return item

    with pytest.raises(type(error)):
        cache.map(ask, [0, 1, 2], name="raises", max_workers=1)
    assert kept(cache, "raises") == [0, 1]


@pytest.mark.parametrize("error", [*ERRORS, FalseError()], ids=lambda error: type(error).__name__)
def test_whatever_a_coroutine_raises_is_raised(cache, error):
    """As it is; what was done is kept."""

    async def ask(item):
        await asyncio.sleep(0)
        if item == 2:
            raise error
        return item

    async def main():
        return await cache.map(ask, [0, 1, 2], name="raises", max_workers=1)

    with pytest.raises(type(error)):
        asyncio.run(main())
    assert kept(cache, "raises") == [0, 1]


async def test_a_bar_that_raises_again_and_again_loses_nothing(cache):
    """What the user's function of progress raises ends the batch; all that was done by then is kept."""

    async def ask(item):
        return item

    def tell(done, _total):
        if done:
            raise ValueError(done)

    with pytest.raises(ValueError, match="1"):
        await cache.map(ask, range(8), name="told", progress=tell)
    assert kept(cache, "told") == [*range(8)]


async def test_a_batch_that_is_closed_keeps_what_was_done(cache):
    """As by the end of its loop: it waits for nothing more."""
    under_way = asyncio.Event()

    async def ask(item):
        if item:
            under_way.set()
            await asyncio.Event().wait()
        return item

    batch = cache.map(ask, [0, 1], name="closed")
    batch.send(None)
    await under_way.wait()
    batch.close()
    assert kept(cache, "closed") == [0]


@pytest.mark.parametrize("mode", ["off", "read"])
def test_what_is_not_to_be_kept_is_not_held(cache, mode):
    """However many items there are."""
    with llm_cache(mode=mode):
        batch = batches._Batch(cache, len, ["a", "bb"], {})
        assert batch.run() == [1, 2]
    assert batch._unkept == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_worker": 3}, "did you mean max_workers"),
        ({"timeout": 3}, "known are"),
        ({"name": ""}, "write a text"),
        ({"name": 7}, "write a text"),
        ({"progress": 5}, "True, False or a function"),
    ],
)
def test_a_wrong_option_is_named(cache, wrong, said):
    """None is passed over in silence."""
    with pytest.raises(ConfigurationError, match=said):
        cache.map(len, ["a"], **wrong)


def test_a_coroutine_that_nobody_awaits_is_no_result(cache):
    """A lambda around a coroutine function is no coroutine function: the fix is named, and nothing warns."""

    async def ask(item):
        return item

    with pytest.raises(ConfigurationError, match="async def"):
        cache.map(lambda item: ask(f"{item}"), [1, 2], name="lambda")


class Translator:
    """Something whose methods answer by what it holds."""

    def __init__(self, language):
        self.language = language

    def translate(self, text):
        return f"{self.language}: {text}"

    @classmethod
    def name(cls, text):
        return f"{cls.__name__} {text}"


class Other(Translator):
    """Another class with the same methods."""


@pytest.mark.parametrize("method", [Translator("de").translate, ",".join], ids=["method", "built in"])
def test_the_method_of_an_object_is_refused(cache, method):
    """Two objects would get each other's results: a name of the user's own tells them apart."""
    with pytest.raises(ConfigurationError, match=r"method of an object.*name="):
        cache.map(method, ["a"])
    with pytest.raises(ConfigurationError, match="method of an object"):
        cached(cache=cache)(method)
    assert cache.map(Translator("de").translate, ["a"], name="de") == ["de: a"]
    assert cache.map(Translator("fr").translate, ["a"], name="fr") == ["fr: a"]


def test_methods_of_classes_are_known_by_the_class(cache):
    """That which they are called of."""
    assert cache.map(Translator.name, ["a"]) == ["Translator a"]
    assert cache.map(Other.name, ["a"]) == ["Other a"]
    assert cache.map(str.upper, ["a"]) == ["A"]
    assert cache.map(len, ["a"]) == [1]


async def test_maps_within_maps_and_within_loops(cache):
    """A function may map itself, a plain function may be mapped where a loop runs, and run one of its own."""

    async def later(item):
        return item + 1

    def within(item):
        return [*cache.map(abs, [-item, item], name="inner"), asyncio.run(later(item))]

    async def within_async(item):
        return await cache.map(later, [item, item], name="inner async")

    assert cache.map(within, range(10), name="outer") == [[n, n, n + 1] for n in range(10)]
    assert await cache.map(within_async, (n for n in range(10)), name="outer async") == [[n + 1] * 2 for n in range(10)]
    assert await cache.map(later, []) == []
