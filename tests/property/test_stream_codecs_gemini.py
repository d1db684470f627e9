"""Gemini's answers, whatever they hold, say the same in each of their forms, to Google's SDK too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.gemini.generate import Gemini

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

JSON, STREAM = Wants(Form.JSON), Wants(Form.STREAM)

# --- answers as the service gives them

any_text = st.text(st.characters(exclude_categories=["Cs"]))
texts = any_text | st.sampled_from(
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 e\u0301 \u2028\x85\u2029 \x00\x7f",
        'data: [DONE]\n\nevent: x\r\n\r\n{"candidates":null}',
        "word " * 700,
        "\U0001f600" * 60,
    ]
)
names = st.text("abcdef_0123456789", min_size=1, max_size=12)
counts = st.integers(0, 2**53)
scalars = st.none() | st.booleans() | counts | st.floats(allow_nan=False, allow_infinity=False) | any_text
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(any_text, v, max_size=3), max_leaves=8
)
base64s = st.sampled_from(["AAAA", "c2ln", "/+8="])


def record(optional=None, **fields):
    """An object with these fields, those of `optional` there or not."""
    return st.fixed_dictionaries(fields, optional=optional or {})


thought = st.sampled_from([True])
signed = {"thoughtSignature": base64s}
parts = st.one_of(
    record(text=texts),
    record(text=texts, thought=thought),
    record(text=texts, thoughtSignature=base64s, optional={"thought": thought}),
    record(
        functionCall=record(name=names, optional={"id": names, "args": st.dictionaries(names, values, max_size=3)}),
        optional=signed,
    ),
    record(executableCode=record(language=st.just("PYTHON"), code=texts), optional=signed),
    record(codeExecutionResult=record(outcome=st.just("OUTCOME_OK"), output=texts)),
    record(
        inlineData=record(mimeType=st.sampled_from(["image/png", "audio/L16;codec=pcm;rate=24000"]), data=base64s),
        optional=signed,
    ),
    record(fileData=record(mimeType=st.just("image/png"), fileUri=any_text)),
)
contents = record(role=st.just("model"), optional={"parts": st.lists(parts, max_size=6)})
tokens = record(token=any_text, tokenId=counts, logProbability=st.floats(-9, 0))
ratings = st.lists(
    record(category=st.just("HARM_CATEGORY_HARASSMENT"), probability=st.sampled_from(["NEGLIGIBLE", "LOW"])), max_size=1
)
candidates = record(
    finishReason=st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
    optional={
        "content": contents,
        "finishMessage": any_text,
        "safetyRatings": ratings,
        "citationMetadata": record(
            citationSources=st.lists(record(startIndex=counts, endIndex=counts, uri=any_text), max_size=2)
        ),
        "groundingMetadata": record(
            webSearchQueries=st.lists(any_text, max_size=2),
            groundingChunks=st.lists(record(web=record(uri=any_text, title=any_text)), max_size=2),
            groundingSupports=st.lists(
                record(segment=record(startIndex=counts, endIndex=counts, text=any_text)), max_size=2
            ),
        ),
        "tokenCount": counts,
        "avgLogprobs": st.floats(-9, 0),
        "logprobsResult": record(
            chosenCandidates=st.lists(tokens, max_size=3),
            topCandidates=st.lists(record(candidates=st.lists(tokens, max_size=2)), max_size=3),
            optional={"logProbabilitySum": st.floats(-9, 0)},
        ),
    },
)
by_modality = st.lists(record(modality=st.sampled_from(["TEXT", "IMAGE"]), tokenCount=counts), max_size=2)
usages = record(
    promptTokenCount=counts,
    totalTokenCount=counts,
    optional={
        "candidatesTokenCount": counts,
        "thoughtsTokenCount": counts,
        "cachedContentTokenCount": counts,
        "toolUsePromptTokenCount": counts,
        "promptTokensDetails": by_modality,
        "candidatesTokensDetails": by_modality,
        "trafficType": st.just("ON_DEMAND"),
    },
)
head = {
    "usageMetadata": usages,
    "modelVersion": names,
    "responseId": names,
    "createTime": st.just("2026-03-10T14:54:45.066123Z"),
}


def numbered(answer):
    """`answer` with its candidates numbered, the only one perhaps not, as at Vertex AI."""
    listed = answer["candidates"]
    if len(listed) > 1 or "responseId" in answer:
        listed = [{**candidate, "index": place} for place, candidate in enumerate(listed)]
    return {**answer, "candidates": listed}


answers = record(candidates=st.lists(candidates, min_size=1, max_size=3), optional=head).map(numbered)
blocked = record(
    promptFeedback=record(
        blockReason=st.just("SAFETY"), optional={"safetyRatings": ratings, "blockReasonMessage": any_text}
    ),
    optional=head,
)


def whole(answer) -> Response:
    headers = (("content-type", "application/json"), ("server-timing", "t"))
    return Response(200, headers, json.dumps(answer, ensure_ascii=False).encode())


def fields_of(response: Response) -> list[dict]:
    return [json.loads(event.data) for event in sse.events(response.body)]


# --- laws


@given(answers | blocked)
def test_there_and_back_is_the_identity(answer):
    """JSON -> stream -> JSON gives the same answer, to the type of every number; other headers stay."""
    stream = Gemini().render(whole(answer), STREAM)
    assert stream is not None
    assert stream.form is Form.STREAM
    assert stream.headers == (("content-type", "text/event-stream; charset=utf-8"), ("server-timing", "t"))
    back = Gemini().render(stream, JSON)
    assert back is not None
    assert back.form is Form.JSON
    assert back.headers == whole(answer).headers
    assert dumps(json.loads(back.body)) == dumps(answer)


@given(answers | blocked)
def test_an_array_is_the_stream(answer):
    """Whichever form was stored, a caller of the array gets the chunks of the stream, and the other way round."""
    reader = Gemini(is_array=True)
    stream = Gemini().render(whole(answer), STREAM)
    array = reader.render(stream, JSON)
    assert json.loads(array.body) == fields_of(stream)
    assert array.form is Form.JSON
    assert reader.render(whole(answer), JSON) == array
    assert reader.render(array, JSON) is array
    assert Gemini().render(array, STREAM) == stream
    assert dumps(json.loads(Gemini().render(array, JSON).body)) == dumps(answer)


@given(answers | blocked)
def test_all_forms_are_read_alike(answer):
    """How an answer ended and what it cost does not depend on the form in which it is read."""
    read = Gemini().read(whole(answer))
    assert Gemini().read(Gemini().render(whole(answer), STREAM)) == read
    assert Gemini().read(Gemini(is_array=True).render(whole(answer), JSON)) == read


@given(answers | blocked)
def test_every_event_is_one_block_of_one_line(answer):
    """Whatever a text holds, no reader of event streams sees another event, or another line, in it."""
    stream = Gemini().render(whole(answer), STREAM)
    for block in stream.body.decode().split("\n\n")[:-1]:
        (line,) = block.splitlines()
        assert line.startswith("data: ")


# --- streams that the service cut


def cut(text: str, chance: random.Random) -> list[str]:
    """`text` in pieces that may end at any of its UTF-16 units."""
    units = text.encode("utf-16-le")
    ends = sorted({2 * place for place in chance.choices(range(len(units) // 2 + 1), k=5)} | {len(units)})
    pieces = [units[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces if piece]


def kind_of(part):
    return frozenset(part) - {"thoughtSignature"}, part.get("thought")


def apart(given):
    """`given` without neighbours that a stream could not tell from one."""
    kept = []
    for part in given:
        if part.get("text") != "" and (not kept or kind_of(part) != kind_of(kept[-1])):
            kept.append(part)
    return kept


def chunks(answer: dict, chance: random.Random) -> Iterator[dict]:
    """Chunks of `answer`: running totals, several parts in one, ratings and reasons that come early, a last nothing."""
    told = {name: answer[name] for name in ("modelVersion", "responseId") if name in answer}
    for candidate in answer["candidates"]:
        at = {"index": candidate["index"]} if "index" in candidate else {}
        waiting = []
        for part in candidate["content"]["parts"]:
            is_plain = part.keys() <= {"text", "thought"}
            for piece in cut(part["text"], chance) if is_plain else [None]:
                if waiting and (piece is None or waiting[-1].keys() != part.keys()) and chance.random() < 0.5:
                    waiting.append(part if piece is None else {**part, "text": piece})
                    continue
                if waiting:
                    yield {"candidates": [{"content": {"parts": waiting, "role": "model"}, **at}], **told}
                waiting = [part if piece is None else {**part, "text": piece}]
        early = {"finishReason": "STOP", "safetyRatings": []} if chance.random() < 0.5 else {}
        totals = {"promptTokenCount": 1, "totalTokenCount": chance.randrange(9)}
        body = {"parts": waiting, "role": "model"}
        yield {"candidates": [{"content": body, **early, **at}], "usageMetadata": totals, **told}
        last = {**candidate, "content": {"parts": [{"text": ""}] if waiting else [], "role": "model"}}
        yield {"candidates": [last], "usageMetadata": answer["usageMetadata"], **told}


spoken = st.lists(parts, max_size=6).map(lambda given: {"role": "model", "parts": apart(given)})
spoken_candidates = record(content=spoken, finishReason=st.just("STOP"), safetyRatings=ratings)
spoken_answers = record(
    candidates=st.lists(spoken_candidates, min_size=1, max_size=3),
    usageMetadata=usages,
    optional={"modelVersion": names, "responseId": names},
).map(numbered)


@given(spoken_answers, st.randoms(use_true_random=False))
def test_answer_that_the_service_cut(answer, chance):
    """Pieces that end within a character, early reasons, several parts in a chunk, an empty end: one answer."""
    raw = b"".join(b"data: %b\r\n\r\n" % json.dumps(chunk).encode() for chunk in chunks(answer, chance))
    rendered = Gemini().render(Response(200, (), raw, Form.STREAM), JSON)
    assert rendered is not None
    assert dumps(json.loads(rendered.body)) == dumps(answer)


# --- what Google's SDK makes of it


class Wire:
    """A client whose server answers with the response that was put here."""

    def __init__(self, genai, http) -> None:
        self.response = whole({})
        self.http = http.Client(transport=http.MockTransport(self._answer))
        self._http = http
        options = genai.types.HttpOptions(httpx_client=self.http)
        self.models = genai.Client(api_key="k", http_options=options).models

    def _answer(self, _):
        return self._http.Response(200, headers=list(self.response.headers), content=self.response.body)

    def ask(self, response, *, is_streamed=False):
        self.response = response
        if is_streamed:
            return list(self.models.generate_content_stream(model="m", contents="x"))
        return self.models.generate_content(model="m", contents="x")


@pytest.fixture(scope="module")
def wire():
    genai = pytest.importorskip("google.genai", reason="pip install google-genai", exc_type=ImportError)
    made = Wire(genai, pytest.importorskip("httpx", reason="pip install httpx"))
    with made.http:
        yield made


def told(answer):
    """What the SDK says of an answer or of a chunk, without the HTTP response that carried it."""
    return answer.model_dump(mode="json", exclude_none=True, exclude={"sdk_http_response", "parsed"})


def is_plain(part):
    return part.keys() <= {"text", "thought"}


def one_of(given):
    """One candidate of the pieces `given`, put together as programs do: texts of one kind are one text."""
    joined = {}
    for piece in given:
        parts = [*joined.get("content", {}).get("parts", []), *piece.get("content", {}).get("parts", [])]
        joined |= piece
        if "content" in joined:
            joined["content"] = {"role": "model", "parts": parts}
    if "content" in joined:
        joined["content"]["parts"] = merged(joined["content"]["parts"])
    return joined


def merged(parts):
    kept = []
    for part in parts:
        if kept and is_plain(part) and is_plain(kept[-1]) and kept[-1].get("thought") == part.get("thought"):
            kept[-1] = {**part, "text": kept[-1]["text"] + part["text"]}
        else:
            kept.append(part)
    return kept


@settings(max_examples=60, deadline=None)
@given(answer=answers)
def test_googles_sdk_reads_the_same_answer_from_either_form(wire, answer):
    """Put together, the chunks of the converted stream are the answer, field by field."""
    expected = told(wire.ask(whole(answer)))
    stream = Gemini().render(whole(answer), STREAM)
    got = [told(chunk) for chunk in wire.ask(stream, is_streamed=True)]
    assert {(c.get("response_id"), c.get("model_version")) for c in got} == {
        (answer.get("responseId"), answer.get("modelVersion"))
    }
    assert got[-1].get("usage_metadata") == expected.get("usage_metadata")
    pieces = [candidate for chunk in got for candidate in chunk["candidates"]]
    places = range(len(answer["candidates"]))
    assert [one_of(c for c in pieces if c.get("index", 0) == i) for i in places] == [
        one_of([candidate]) for candidate in expected["candidates"]
    ]
    assert told(wire.ask(Gemini().render(stream, JSON))) == expected
