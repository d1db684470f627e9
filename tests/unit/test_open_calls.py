"""A call is in the record from the moment it is sent; what it cost is unknown until its answer is at its end."""

from __future__ import annotations

import gc

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.testing.model_server import Fault

ASKED = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


@pytest.fixture
def client(unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield client


def outcomes(cell):
    return [call.outcome for call in cell.calls]


def said(cell):
    return as_text(summarise(cell))


def left_at_its_finish_reason(client):
    """A stream whose reader stops at the reason, as notebooks do."""
    stream = client.chat.completions.create(**ASKED, stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].finish_reason:
            break
    return stream


def test_a_stream_left_open_is_seen(client, unique_server):
    """Its variable lives on in the notebook: the call is open, its price unknown, and closed with the stream."""
    unique_server.hold(after_events=4)
    with llm_cache() as cell:
        stream = client.chat.completions.create(**ASKED, stream=True)
        next(stream)
    assert outcomes(cell) == [Outcome.OPEN]
    assert (cell.open, cell.spent_usd, cell.calls[0].model) == (1, None, "gpt-4.1-mini")
    assert "1 call still open, price unknown" in said(cell)
    assert "no model calls" not in said(cell)
    unique_server.release()
    stream.close()
    assert (cell.open, len(cell.calls)) == (0, 1)


def test_a_stream_left_at_its_reason_is_in_the_record(client):
    """Whatever becomes of it, it was asked and paid for, and the record has it once."""
    with llm_cache() as cell:
        stream = left_at_its_finish_reason(client)
    assert len(cell.calls) == 1
    assert "no model calls" not in said(cell)
    stream.close()
    assert len(cell.calls) == 1
    assert cell.open == 0


def test_a_stream_that_is_forgotten_is_closed(client, unique_server):
    """Once nothing refers to it any more, the record says that it was never read to its end."""
    unique_server.hold(after_events=4)
    with llm_cache() as cell:
        stream = client.chat.completions.create(**ASKED, stream=True)
        next(stream)
        assert cell.open == 1
        unique_server.release()
        del stream
        gc.collect()
    assert (cell.open, len(cell.calls)) == (0, 1)


def test_calls_that_end_leave_nothing_open(client, unique_server):
    """Hits, misses, errors and time-outs: each is one record, and none stays open."""
    with llm_cache() as cell:
        for _ in range(2):
            client.chat.completions.create(**ASKED)
        unique_server.fail_next(Fault.SERVER_ERROR)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**ASKED, temperature=1)
        unique_server.hold()
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(**ASKED, temperature=0.5, timeout=0.2)
        unique_server.release()
    assert outcomes(cell) == [Outcome.MISS, Outcome.HIT, Outcome.ERROR, Outcome.ERROR]
    assert cell.open == 0


def test_other_calls_stand_before_the_open_ones(client, unique_server):
    """In the order in which they ended; the line counts both, what may still cost first."""
    unique_server.hold(after_events=4)
    with llm_cache() as cell:
        stream = client.chat.completions.create(**ASKED, stream=True)
        next(stream)
        unique_server.release()
        client.chat.completions.create(**ASKED, temperature=1)
    assert outcomes(cell) == [Outcome.MISS, Outcome.OPEN]
    assert said(cell).startswith("llm_cache: ! 1 call still open, price unknown · spent ")
    assert "· 0 hits, 1 miss ·" in said(cell)
    stream.close()
