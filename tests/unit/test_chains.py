"""Calls that go on from an earlier answer: whole chains are met again, and never with another answer's child."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from base64 import b64encode

import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.calls.chains import FORGOTTEN
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages

HIT, MISS, REFUSED, ERROR = Outcome.HIT, Outcome.MISS, Outcome.REFUSED, Outcome.ERROR
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


def events(*told, last="data: [DONE]\n\n"):
    raw = "".join(f"data: {json.dumps(one)}\n\n" for one in told) + last
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw.encode())


class Origin:
    """Answers the Responses API and chats with sounds, and remembers what it said until it forgets."""

    def __init__(self):
        self.count = 0
        self.says = "x"
        self.sounds_live_s = 3600
        self._numbers = itertools.count(1)
        self._known = {}

    def forget(self):
        self._known.clear()

    def __call__(self, request):
        self.count += 1
        body = json.loads(request.content)
        return self._sound(body) if request.url.path.endswith("/chat/completions") else self._response(body)

    def _response(self, body):
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self._known:
            told = {
                "message": f"Previous response with id '{previous}' not found.",
                "code": "previous_response_not_found",
            }
            return httpx2.Response(400, json={"error": told})
        said = f"{self._known.get(previous, '')}{self.says}"
        given = f"resp_{next(self._numbers)}"
        self._known[given] = said
        part = {"type": "output_text", "text": said, "annotations": []}
        item = {"id": f"msg_{given}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        if "call" in str(body["input"]):
            item = {
                "id": f"fc_{given}",
                "type": "function_call",
                "call_id": f"call_{given}",
                "name": "f",
                "arguments": "{}",
            }
        whole = {"id": given, "object": "response", "created_at": time.time(), "status": "completed", "model": "m"}
        whole |= {"output": [item], "usage": USAGE, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        if not body.get("stream"):
            return httpx2.Response(200, json=whole)
        done = {"type": "response.output_item.done", "sequence_number": 0, "output_index": 0, "item": item}
        end = {"type": "response.completed", "sequence_number": 1, "response": whole}
        return events(done, end, last="")

    def _sound(self, body):
        named = [message["audio"]["id"] for message in body["messages"] if message.get("audio")]
        if any(given not in self._known for given in named):
            return httpx2.Response(404, json={"error": {"message": f"audio {named[0]} has expired"}})
        given = f"audio_{next(self._numbers)}"
        self._known[given] = self.says
        audio = {"id": given, "data": b64encode(self.says.encode()).decode(), "transcript": self.says}
        audio["expires_at"] = int(time.time()) + self.sounds_live_s
        if body.get("stream"):
            pieces = [{"id": given, "transcript": "x"}, {"data": audio["data"]}, {"expires_at": audio["expires_at"]}]
            choices = [{"index": 0, "delta": {"audio": piece}, "finish_reason": None} for piece in pieces]
            choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
            return events(*({"id": "c", "choices": [choice]} for choice in choices))
        message = {"role": "assistant", "content": None, "audio": audio}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(200, json={**whole, "choices": [choice]})


@pytest.fixture
def origin():
    return Origin()


@pytest.fixture
def gpt(isolated, origin):
    http = httpx2.Client(transport=httpx2.MockTransport(origin))
    with openai.OpenAI(base_url="https://api.openai.com/v1", api_key="k", max_retries=0, http_client=http) as client:
        yield client


def ask(gpt, text="a", previous=None, **more):
    return gpt.responses.create(model="m", input=text, previous_response_id=previous, **more)


def streamed(gpt):
    """The id that a streamed answer gives out."""
    return next(event.response.id for event in ask(gpt, stream=True) if event.type == "response.completed")


def chain(gpt, *texts):
    answers = []
    for text in texts:
        answers.append(ask(gpt, text, answers[-1].id if answers else None))
    return answers


def outcomes(cell):
    return [call.outcome for call in cell.calls]


def test_a_whole_chain_is_met_again(gpt, origin):
    """Each turn is keyed by the entry that answered the one before, in another process and in replay too."""
    with llm_cache() as cell:
        first = chain(gpt, "a", "b", "c")
    assert outcomes(cell) == [MISS] * 3
    for mode in ("use", "replay"):
        reset_session()
        with llm_cache(mode=mode) as cell:
            assert chain(gpt, "a", "b", "c") == first
        assert outcomes(cell) == [HIT] * 3
    assert origin.count == 3


def test_what_goes_out_is_what_the_caller_wrote(gpt, origin):
    """Only the key knows of entries: a new turn after a hit names the origin's own id."""
    with llm_cache():
        chain(gpt, "a")
        assert ask(gpt, "b", ask(gpt, "a").id).output_text == "xx"
    assert origin.count == 2


def test_streams_and_whole_answers_share_a_chain(gpt):
    """The id stands for the same entry, in whichever form it was given out."""
    with llm_cache() as cell:
        given = streamed(gpt)
        ask(gpt, "b", given)
        assert ask(gpt).id == given
        assert streamed(gpt) == given
        ask(gpt, "b", given)
    assert outcomes(cell)[:2] == [MISS, MISS]
    assert outcomes(cell)[-1] is HIT


def test_the_same_question_after_another_answer_is_another(gpt, origin):
    """Once the first answer is refreshed and says something else, its children are asked for anew."""
    with llm_cache():
        chain(gpt, "a", "b")
    origin.says = "y"
    with llm_cache(mode="refresh"):
        first = ask(gpt, "a")
    with llm_cache() as cell:
        assert ask(gpt, "b", first.id).output_text == "yy"
    assert outcomes(cell) == [MISS]


def test_the_same_answer_under_another_id_is_the_same(gpt, origin):
    """What was said counts, and not its id: fetched anew and saying the same, the first answer has its old children."""
    with llm_cache():
        chain(gpt, "a", "b")
    with llm_cache(mode="refresh"):
        first = ask(gpt, "a")
    with llm_cache() as cell:
        ask(gpt, "b", first.id)
    assert outcomes(cell) == [HIT]
    assert origin.count == 3


def test_other_parents_have_other_children(gpt):
    """Two answers that say the same to two questions are two contexts."""
    with llm_cache() as cell:
        for text in ("a", "b"):
            ask(gpt, "c", ask(gpt, text).id)
    assert outcomes(cell) == [MISS] * 4


def test_an_unknown_id_is_stateful(gpt, origin):
    """What the cache has never seen, or would not store, may change behind its id: nothing is stored."""
    given = ask(gpt, "outside").id
    with llm_cache() as cell:
        for _ in range(2):
            ask(gpt, "b", given)
        unstored = ask(gpt, "c", given)
        ask(gpt, "d", unstored.id)
    assert [(call.outcome, call.reason) for call in cell.calls] == [(REFUSED, "stateful")] * 4
    with llm_cache(mode="replay"), pytest.raises(ReplayMiss, match="goes on from"):
        ask(gpt, "b", given)
    assert origin.count == 5


@pytest.mark.parametrize("more", [{"background": True}, {"conversation": "conv_1"}])
def test_what_else_is_stateful_stays_so(gpt, more):
    """A known id takes nothing back of what else the server must remember."""
    with llm_cache() as cell:
        first = ask(gpt)
        ask(gpt, "b", first.id, **more)
    assert cell.calls[1].reason == "stateful"


def test_results_of_calls_that_were_asked_for_keep_their_ids(gpt):
    """Results that change places are another request, since the calls that they answer stand in the earlier answer."""

    def results(*ids):
        return [{"type": "function_call_output", "call_id": one, "output": str(n)} for n, one in enumerate(ids)]

    with llm_cache() as cell:
        first = ask(gpt, "call")
        ask(gpt, results("call_1", "call_2"), first.id)
        ask(gpt, results("call_2", "call_1"), first.id)
        ask(gpt, results("call_1", "call_2"), first.id)
    assert outcomes(cell) == [MISS, MISS, MISS, HIT]


def test_items_are_referred_to(gpt):
    """A reference to an item of an answer counts as that item; with one that is unknown the call is stateful."""

    def refer(*ids):
        return ask(gpt, [*({"type": "item_reference", "id": one} for one in ids), {"role": "user", "content": "b"}])

    with llm_cache():
        first, other = ask(gpt).output[0].id, ask(gpt, "z").output[0].id
        refer(first)
    reset_session()
    with llm_cache() as cell:
        refer(ask(gpt).output[0].id)
        refer(other)
        refer(first, "msg_unknown")
        refer(first, None)
    assert [(call.outcome, call.reason) for call in cell.calls][1:] == [
        (HIT, ""),
        (MISS, ""),
        (REFUSED, "stateful"),
        (REFUSED, "stateful"),
    ]


def test_an_id_of_another_origin_is_unknown(gpt, isolated):
    """Two origins may give out the same id for two things."""
    other = Origin()
    http = httpx2.Client(transport=httpx2.MockTransport(other))
    with openai.OpenAI(base_url="https://api.x.ai/v1", api_key="k", http_client=http) as xai, llm_cache() as cell:
        given = ask(gpt).id
        assert ask(xai, "z").id == given
        other.says = "y"
        assert ask(xai, "b", given).output_text == "xy"
        assert ask(gpt, "b", given).output_text == "xx"
    assert outcomes(cell) == [MISS] * 4


@pytest.mark.parametrize("how", ["tag", "clear"])
def test_invalidated_together(gpt, how):
    """With the answer goes what its id stood for."""
    with llm_cache(tags=("t",)):
        first = ask(gpt)
    cache = current_session().cache("default")
    if how == "tag":
        cache.invalidate_tag("t")
    else:
        cache.clear()
    with llm_cache() as cell:
        ask(gpt, "b", first.id)
    assert cell.calls[0].reason == "stateful"


def test_rows_of_ids_are_in_no_listing(gpt):
    """Whoever lists or counts the cache sees answers alone, and collecting keeps what ids stand for."""
    with llm_cache():
        first = chain(gpt, "a", "b")[0]
    cache = current_session().cache("default")
    assert cache.stats().entries == 2
    assert cache.collect().entries == 0
    with llm_cache() as cell:
        ask(gpt, "b", first.id)
    assert outcomes(cell) == [HIT]


def test_an_origin_that_has_forgotten(gpt, origin):
    """A new turn on a chain that the origin forgot fails as ever, and the cell names the fix, which helps."""
    with llm_cache():
        chain(gpt, "a", "b")
    origin.forget()
    with llm_cache() as cell:
        answers = chain(gpt, "a", "b")
        with pytest.raises(openai.BadRequestError):
            ask(gpt, "new", answers[-1].id)
    assert outcomes(cell) == [HIT, HIT, ERROR]
    assert cell.calls[-1].reason == f"status 400: {FORGOTTEN}"
    assert "--mode refresh" in FORGOTTEN
    with llm_cache(mode="refresh") as cell:
        chain(gpt, "a", "b", "new")
    assert outcomes(cell) == [MISS] * 3
    with llm_cache() as cell:
        chain(gpt, "a", "b", "new")
    assert outcomes(cell) == [HIT] * 3


@pytest.mark.parametrize(
    ("status", "message", "is_forgotten"),
    [
        (400, "temperature is too high", False),
        (404, "The API deployment for this resource does not exist", False),
        (404, "The model `m` does not exist", False),
        (401, "previous_response", False),
        (404, "Not found", True),
        (400, "Unsupported parameter: previous_response_id", True),
    ],
)
def test_other_errors_are_only_that(gpt, status, message, is_forgotten):
    """An error that has nothing to do with the chain is told as ever."""
    with llm_cache():
        first = ask(gpt)
    other = {"error": {"message": message}}
    bad = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(status, json=other)))
    asker = gpt.with_options(http_client=bad)
    with llm_cache() as cell, pytest.raises(openai.APIStatusError):
        ask(asker, "b", first.id)
    assert cell.calls[0].reason == f"status {status}" + (f": {FORGOTTEN}" if is_forgotten else "")


# --- sounds

SOUND = {"model": "gpt-audio", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


def say(gpt, *messages, **more):
    return gpt.chat.completions.create(**SOUND, messages=[{"role": "user", "content": "a"}, *messages], **more)


def after(given):
    return {"role": "assistant", "audio": {"id": given}}, {"role": "user", "content": "b"}


def test_sounds_are_gone_on_from(gpt, origin):
    """A turn that names the sound before by its id hits, whole or streamed, and in replay."""
    with llm_cache():
        given = say(gpt).choices[0].message.audio.id
        say(gpt, *after(given))
    reset_session()
    with llm_cache(mode="replay") as cell:
        assert say(gpt).choices[0].message.audio.id == given
        say(gpt, *after(given))
    assert outcomes(cell) == [HIT, HIT]
    assert origin.count == 2


def test_streamed_sounds_are_gone_on_from(gpt):
    """The same where it came in pieces."""

    def given():
        chunks = [chunk.model_dump() for chunk in say(gpt, stream=True)]
        return next(chunk["choices"][0]["delta"]["audio"]["id"] for chunk in chunks)

    with llm_cache() as cell:
        for _ in range(2):
            say(gpt, *after(given()))
    assert outcomes(cell) == [MISS, MISS, HIT, HIT]


def test_an_unknown_sound_is_stateful(gpt):
    """An id from elsewhere is not known to mean the same tomorrow."""
    given = say(gpt).choices[0].message.audio.id
    with llm_cache() as cell:
        say(gpt, *after(given))
    assert [(call.outcome, call.reason) for call in cell.calls] == [(REFUSED, "stateful")]


def test_no_answer_outlives_what_it_states(gpt, origin):
    """A sound is kept no longer than its origin knows it, whatever the time to live; one that dies at once never."""
    for live_s, is_kept in ((600, True), (0, False)):
        origin.sounds_live_s = live_s
        for is_streamed in (False, True):
            with llm_cache(ttl="30d", mode="refresh") as cell:
                list(say(gpt, stream=is_streamed))
            assert [call.stored for call in cell.calls] == [is_kept]
            times = [item.header.ttl_s for item in current_session().cache("default").catalogue.items()]
            assert all(live_s - 5 < ttl_s <= live_s for ttl_s in times)
            assert len(times) == is_kept


def test_a_sound_that_the_origin_forgot(gpt, origin):
    """The cell says so, with the fix."""
    with llm_cache():
        given = say(gpt).choices[0].message.audio.id
    origin.forget()
    with llm_cache() as cell, pytest.raises(openai.NotFoundError):
        say(gpt, *after(given))
    assert cell.calls[0].reason == f"status 404: {FORGOTTEN}"


SECOND_PROCESS = """
import httpx2, openai
from genai_cache_magic import llm_cache

def gone(request):
    raise AssertionError("asked")

http = httpx2.Client(transport=httpx2.MockTransport(gone))
gpt = openai.OpenAI(base_url="https://api.openai.com/v1", api_key="k", max_retries=0, http_client=http)
with llm_cache(mode="replay") as cell:
    first = gpt.responses.create(model="m", input="a", previous_response_id=None)
    gpt.responses.create(model="m", input="b", previous_response_id=first.id)
print(*[call.outcome.value for call in cell.calls])
"""


def test_another_process_goes_on_too(gpt):
    """What ids stand for is on disk, sealed like the answers."""
    with llm_cache():
        chain(gpt, "a", "b")
    done = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("hit hit", 0), done.stderr


@pytest.mark.parametrize(("told", "dies_s"), [("2026-11-28T12:00:00Z", 1795867200.0), (None, None), ("soon", None)])
def test_a_container_states_when_it_is_gone(told, dies_s):
    """So it is with Anthropic's containers, by which a later call goes on, whole and streamed."""
    container = {"id": "c", "expires_at": told}
    said = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}
    whole = Response(200, (), json.dumps({**said, "container": container}).encode())
    told_last = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": container}}
    raw = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in (told_last, {"type": "message_stop"}))
    for response in (whole, Response(200, (), raw, Form.STREAM)):
        assert AnthropicMessages().read(response).dies_s == dies_s
