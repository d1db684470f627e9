"""Gemini's answers in every form, against the chunks of the real API."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.gemini.generate import Gemini

JSON, STREAM = Wants(Form.JSON), Wants(Form.STREAM)
USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 3,
    "totalTokenCount": 16,
    "thoughtsTokenCount": 4,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
    "trafficType": "ON_DEMAND",
}
HEAD = {"modelVersion": "gemini-3-flash", "createTime": "2026-03-10T14:54:45.066123Z", "responseId": "r"}
THOUGHT = {"text": "Hm", "thought": True}
SIGNED = {"text": "Hello", "thoughtSignature": "c2ln"}
CALL = {"functionCall": {"id": "c", "name": "f", "args": {"z": 1, "a": "Grüße"}}, "thoughtSignature": "c2ln"}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
SOUND = {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AAAA"}}
CITED = {"citationSources": [{"startIndex": 0, "endIndex": 5, "uri": "u"}]}


def text(said):
    return {"text": said}


def candidate(*parts, reason=None, index=0, **more):
    said = {"content": {"parts": list(parts), "role": "model"}, **({} if index is None else {"index": index})}
    return {**said, **({"finishReason": reason} if reason else {}), **more}


def answered(*parts, reason="STOP", **more):
    return {"candidates": [candidate(*parts, reason=reason, **more)], "usageMetadata": USAGE, **HEAD}


def whole(answer):
    return Response(200, (), json.dumps(answer).encode())


def stream(*chunks):
    return Response(200, (), b"".join(b"data: %b\r\n\r\n" % json.dumps(c).encode() for c in chunks), Form.STREAM)


def pieces(*groups, **last):
    """A stream of one candidate, each chunk with these parts; the last one ends it."""
    *early, end = groups
    chunks = [{"candidates": [candidate(*parts)]} for parts in early]
    return stream(*chunks, {"candidates": [candidate(*end, reason="STOP", **last)], "usageMetadata": USAGE})


def chunks_of(answer):
    rendered = Gemini().render(whole(answer), STREAM)
    return rendered and [json.loads(event.data) for event in sse.events(rendered.body)]


def as_json(response):
    rendered = Gemini().render(response, JSON)
    return rendered and json.loads(rendered.body)


def parts_of(answer):
    return answer and [one["content"]["parts"] for one in answer["candidates"]]


def groups_of(*parts):
    """The parts of each chunk in which these come."""
    return [chunk["candidates"][0]["content"]["parts"] for chunk in chunks_of(answered(*parts))]


# --- whole -> stream


def test_stream_has_the_shape_of_the_real_one():
    """Every chunk says which answer it is of and what was asked; the last one why it ended, and all that was used."""
    first, last = chunks_of(answered(text("Hello, how are you?"), avgLogprobs=-0.5))
    asked = {"promptTokenCount": 9, "promptTokensDetails": USAGE["promptTokensDetails"], "trafficType": "ON_DEMAND"}
    assert first == {"candidates": [candidate(text("Hello, how are y"))], "usageMetadata": asked, **HEAD}
    end = candidate(text("ou?"), reason="STOP", avgLogprobs=-0.5)
    assert last == {"candidates": [end], "usageMetadata": USAGE, **HEAD}


def test_what_is_said_of_the_prompt_comes_first():
    """Ratings of the prompt stand in the first chunk alone."""
    feedback = {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]}
    first, last = chunks_of({**answered(text("Hello, how are you?")), "promptFeedback": feedback})
    assert first["promptFeedback"] == feedback
    assert "promptFeedback" not in last


def test_parts_come_one_by_one():
    """Texts come in pieces, everything else in one; a signed text is never taken apart."""
    long = {"text": "x" * 40, "thoughtSignature": "c2ln"}
    assert groups_of(THOUGHT, text("Hi"), CALL, CALL, PICTURE, PICTURE, long) == [
        [THOUGHT],
        [text("Hi")],
        [CALL],
        [CALL],
        [PICTURE],
        [PICTURE],
        [long],
    ]


def test_parts_that_could_be_taken_for_one_come_together():
    """Two texts, or two sounds, stay two: the second begins in the chunk in which the first ends."""
    assert groups_of(text("x" * 17), text("y" * 17), text("")) == [
        [text("x" * 16)],
        [text("x"), text("y" * 16)],
        [text("y"), text("")],
    ]
    assert groups_of(SOUND, SOUND, text("")) == [[SOUND, SOUND, text("")]]


def test_candidates_take_turns():
    """Chunks bring the next piece of every candidate; one that has ended is silent."""
    short, long = candidate(text("a"), reason="STOP"), candidate(text("b" * 17), reason="STOP", index=1)
    first, last = chunks_of({"candidates": [short, long], "usageMetadata": USAGE})
    assert first["candidates"] == [short, candidate(text("b" * 16), index=1)]
    assert last["candidates"] == [candidate(text("b"), reason="STOP", index=1)]


@pytest.mark.parametrize(
    "answer",
    [
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE, **HEAD},
        {"candidates": [], "promptFeedback": {"blockReason": "OTHER"}},
        {"candidates": [{"finishReason": "SAFETY", "index": 0}], **HEAD},
        {"candidates": [{"content": {}, "finishReason": "SAFETY"}], **HEAD},
        {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]},
        {"candidates": [candidate(reason="STOP", index=None)]},
    ],
    ids=range(6),
)
def test_answers_without_words_are_one_chunk(answer):
    """What was blocked, or has nothing to say, is its own stream."""
    assert chunks_of(answer) == [answer]
    assert as_json(stream(answer)) == answer


# --- stream -> whole


def test_the_stream_of_vertex_is_one_answer():
    """As recorded of Vertex AI: totals and a signature behind the text come last, candidates have no index."""
    early = {**HEAD, "usageMetadata": {"trafficType": "ON_DEMAND"}}
    said = [{**early, "candidates": [candidate(text(t), index=None)]} for t in ("Hello!", " How can", " I help?")]
    signature = {"text": "", "thoughtSignature": "c2ln"}
    last = {"candidates": [candidate(signature, reason="STOP", index=None)], "usageMetadata": USAGE, **HEAD}
    expected = candidate(text("Hello! How can I help?"), signature, reason="STOP", index=None)
    assert as_json(stream(*said, last)) == {"candidates": [expected], "usageMetadata": USAGE, **HEAD}


def test_the_stream_of_early_models_is_one_answer():
    """Gemini 1.5 gave a reason and ratings with every piece: the last ones count."""
    rated = [[{"category": "HARM_CATEGORY_HARASSMENT", "probability": p}] for p in ("LOW", "NEGLIGIBLE")]
    said = [{"candidates": [candidate(text("ab"), reason="STOP", safetyRatings=one)]} for one in rated]
    assert as_json(stream(*said)) == {"candidates": [candidate(text("abab"), reason="STOP", safetyRatings=rated[1])]}


@pytest.mark.parametrize(
    ("groups", "parts"),
    [
        ([[text("a")], [text("b")]], [text("ab")]),
        ([[text("a"), text("b")], [text("c"), text("d")]], [text("a"), text("bc"), text("d")]),
        (
            [[THOUGHT], [{"text": "m", "thought": True}, text("a")], [text("b")]],
            [{**THOUGHT, "text": "Hmm"}, text("ab")],
        ),
        ([[THOUGHT], [text("a")]], [THOUGHT, text("a")]),
        ([[CALL], [text("")]], [CALL]),
        ([[text("a")], [{"text": "", "thought": True}]], [text("a")]),
        ([[text("")], [text("a")]], [text("a")]),
        ([[text("")]], [text("")]),
        ([[CALL], [CALL]], [CALL, CALL]),
        ([[PICTURE], [PICTURE]], [PICTURE, PICTURE]),
        ([[text("a")], [SIGNED], [text("b")]], [text("a"), SIGNED, text("b")]),
        ([[text("\ud83d")], [text("\ude00")]], [text("\U0001f600")]),
        ([[text("a")], []], [text("a")]),
    ],
    ids=range(13),
)
def test_texts_go_on_from_chunk_to_chunk(groups, parts):
    """Plain texts of one kind are one, across chunks and not within one; an empty end adds nothing."""
    assert parts_of(as_json(pieces(*groups))) == [parts]


def test_metadata_may_grow():
    """What is said again says the same or more: the last word holds it all."""
    more = {"citationSources": [*CITED["citationSources"], {"startIndex": 6, "endIndex": 9}]}
    first = {"candidates": [candidate(text("a"), citationMetadata=CITED)], "promptFeedback": {}, **HEAD}
    last = {"candidates": [candidate(text("b"), reason="STOP", citationMetadata=more)], "usageMetadata": USAGE, **HEAD}
    assert as_json(stream(first, last)) == {**answered(text("ab"), citationMetadata=more), "promptFeedback": {}}


@pytest.mark.parametrize(
    "response",
    [
        stream(),
        stream({"candidates": [candidate(text("a"))]}),
        stream({"candidates": [candidate(text("a"), reason="STOP")]}, {"candidates": [candidate(text("b"))]}),
        stream({"candidates": [candidate(reason="STOP"), candidate(reason="STOP")]}),
        stream({"candidates": [candidate(reason="STOP", index=1)]}),
        stream({"candidates": [candidate(reason="STOP", index=-1)]}),
        stream({"candidates": [candidate(reason="STOP")], "error": {"code": 500}}),
        stream({**answered(text("a")), "somethingNew": 1}),
        stream(answered(text("a"), somethingNew=1)),
        stream(answered({"text": "a", "somethingNew": 1})),
        stream(answered({"toolCall": {}})),
        stream(answered({"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}})),
        stream(answered({"functionCall": {"name": "f", "willContinue": True}})),
        stream({"responseId": "a"}, {"responseId": "b", "candidates": [candidate(reason="STOP")]}),
        pieces([SOUND], [SOUND]),
        pieces([{"executableCode": {"code": "1"}}], [{"executableCode": {"code": "+1"}}]),
        stream(answered(text("a"), citationMetadata=CITED), answered(text("b"), citationMetadata={"citations": []})),
        stream(answered(text("a"), avgLogprobs=-0.5), answered(text("b"), avgLogprobs=-0.25)),
        stream(answered(text("\ud83d"))),
        stream({"candidates": {}}),
        stream({"candidates": [candidate("text", reason="STOP")]}),
        stream(answered({"text": None})),
        Response(200, (), b"event: x\n" + stream(answered(text("a"))).body, Form.STREAM),
        Response(200, (), b"data: [DONE]\n\n", Form.STREAM),
        Response(500, (), stream(answered(text("a"))).body, Form.STREAM),
    ],
    ids=range(25),
)
def test_what_is_not_whole_or_not_known_is_not_converted(response):
    """Cut streams, unknown fields, and pieces that could be taken in two ways are misses, never guesses."""
    assert Gemini().render(response, JSON) is None
    assert Gemini().render(response, STREAM) is response


@pytest.mark.parametrize(
    "answer",
    [
        {**answered(text("a")), "somethingNew": 1},
        answered(text("a"), somethingNew=1),
        answered({"text": "a", "somethingNew": 1}),
        answered({"functionCall": {"name": "f", "willContinue": True}}),
        answered(text("a"), reason=None),
        {"candidates": [candidate(reason="STOP", index=1), candidate(reason="STOP", index=0)]},
        {"candidates": [candidate(reason="STOP"), candidate(reason="STOP")]},
        {"error": {"code": 500}},
        {},
        {"candidates": [{"content": None, "finishReason": "STOP"}]},
        {"candidates": [], "usageMetadata": None},
    ],
    ids=range(11),
)
def test_what_could_not_be_read_back_is_not_streamed(answer):
    """An answer that its stream would not say exactly is a miss to a caller that streams."""
    assert Gemini().render(whole(answer), STREAM) is None
    assert Gemini(is_array=True).render(whole(answer), JSON) is None


def test_depth_is_no_way_out():
    """Nesting that no walk would survive makes a miss."""
    deep = b'{"candidates":[{"finishReason":"STOP","groundingMetadata":%b}]}' % (b'{"a":' * 900 + b"1" + b"}" * 900)
    assert Gemini().render(Response(200, (), b"data: %b\n\n" % deep * 2, Form.STREAM), JSON) is None
    assert Gemini().render(Response(200, (), deep), STREAM) is None


# --- arrays


def test_an_array_is_told_by_its_first_character():
    """White space before it does not matter; what is no array of chunks is not converted."""
    array = Response(
        200, (("content-type", "application/json; charset=UTF-8"),), b"\n [%b]" % whole(answered(SIGNED)).body
    )
    assert as_json(array) == answered(SIGNED)
    assert Gemini(is_array=True).render(array, JSON) is array
    for body in (b"[1]", b"[", b'[{}],"x":[1]', b'[{}],"chunks":[{}]'):
        assert Gemini().render(Response(200, (), body), STREAM) is None
    for body in (b"[]", b"[{}]"):
        assert Gemini().render(Response(200, (), body), JSON) is None
    assert Gemini().render(Response(500, (), b"[%b]" % whole(answered(SIGNED)).body), STREAM) is None


def test_an_array_keeps_every_chunk():
    """The chunks of a stored stream go into the array as they came, and come out of it so."""
    chunks = [{"candidates": [candidate(text("a"))], "unheardOf": 1}, answered(text("\u2028"))]
    array = Gemini(is_array=True).render(stream(*chunks), JSON)
    assert json.loads(array.body) == chunks
    assert [json.loads(event.data) for event in sse.events(Gemini().render(array, STREAM).body)] == chunks
    assert Gemini(is_array=True).render(Response(200, (), b"data: 1\n\n", Form.STREAM), JSON) is None


# --- the real SDK, and plain HTTP


ASK = {"model": "gemini-2.5-flash", "contents": "Get weather of Oslo, please"}
CONFIGS = {
    "text": {},
    "candidates": {"candidate_count": 2},
    "tools": {"tools": [{"function_declarations": [{"name": "get_weather", "parameters": {"type": "OBJECT"}}]}]},
    "schema": {"response_mime_type": "application/json", "response_schema": {"type": "STRING"}},
}
SILENT = {"sdk_http_response", "parsed", "usage_metadata", "candidates"}


@pytest.fixture(params=["gemini", "vertex"])
def client(request, isolated, unique_server):
    genai = pytest.importorskip("google.genai", reason="pip install google-genai", exc_type=ImportError)
    where = {"http_options": {"base_url": unique_server.url}}
    if request.param == "gemini":
        made = genai.Client(api_key="none", **where)
    else:
        credentials = pytest.importorskip("google.oauth2.credentials").Credentials(token="none")
        made = genai.Client(enterprise=True, project="p", location="l", credentials=credentials, **where)
    with made:
        yield made


def options(config):
    return {**ASK, "config": {**CONFIGS[config], "automatic_function_calling": {"disable": True}}}


def asked(client, config):
    return client.models.generate_content(**options(config))


def streamed(client, config):
    return list(client.models.generate_content_stream(**options(config)))


def heading(answer):
    return answer.model_dump(exclude=SILENT, exclude_none=True)


def spoken(chunks):
    """The candidates that `chunks`, or the one answer in a list, say: their texts, their other parts, their ends."""
    said = {}
    for chunk in chunks:
        for one in chunk.candidates:
            texts, others, _ = said.setdefault(one.index or 0, ([], [], None))
            parts = one.content.parts or []
            texts += [part.text for part in parts if part.text]
            others += [part.model_dump(exclude_none=True) for part in parts if part.text is None]
            said[one.index or 0] = (texts, others, one.finish_reason)
    return {index: ("".join(texts), *rest) for index, (texts, *rest) in said.items()}


def same(whole, chunks):
    assert spoken(chunks) == spoken([whole])
    assert {json.dumps(heading(chunk), default=str) for chunk in chunks} == {json.dumps(heading(whole), default=str)}
    assert chunks[-1].usage_metadata == whole.usage_metadata


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("is_streamed_first", [True, False])
def test_one_entry_serves_both_ways_to_ask(client, unique_server, config, is_streamed_first):
    """A stream first, then plain hits; plain first, then stream hits: one call, one answer, field by field."""
    with llm_cache() as cell:
        if is_streamed_first:
            chunks, answer = streamed(client, config), asked(client, config)
        else:
            answer, chunks = asked(client, config), streamed(client, config)
        assert streamed(client, config)[-1].usage_metadata == answer.usage_metadata
    same(answer, chunks)
    assert unique_server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit", "hit"]
    assert len({record.entry_id for record in cell.calls}) == 1


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # of the SDK
@pytest.mark.parametrize("is_streamed_first", [True, False])
async def test_the_asynchronous_client_shares_the_entry(client, unique_server, is_streamed_first):
    """The asynchronous client gets what the synchronous one got, in the other form too."""
    ask = options("text")
    with llm_cache() as cell:
        async with client.aio as aio:
            if is_streamed_first:
                chunks = [chunk async for chunk in await aio.models.generate_content_stream(**ask)]
                answer = await aio.models.generate_content(**ask)
            else:
                answer = await aio.models.generate_content(**ask)
                chunks = [chunk async for chunk in await aio.models.generate_content_stream(**ask)]
        same(answer, streamed(client, "text"))
    same(answer, chunks)
    assert unique_server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit", "hit"]


@pytest.mark.parametrize("first", ["generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse"])
def test_plain_http_shares_the_entry(isolated, unique_server, first):
    """Object, array and events: whichever was asked for first, each caller gets its own form of that answer."""
    requests = pytest.importorskip("requests", reason="pip install requests")
    base = f"{unique_server.url}/v1beta/models/gemini-2.5-flash"
    body = {"contents": [{"role": "user", "parts": [text("Say hello")]}]}
    with llm_cache() as cell:
        requests.post(f"{base}:{first}", json=body, timeout=60).raise_for_status()
        answer = requests.post(f"{base}:generateContent", json=body, timeout=60).json()
        array = requests.post(f"{base}:streamGenerateContent", json=body, timeout=60).json()
        events = requests.post(f"{base}:streamGenerateContent?alt=sse", json=body, timeout=60).content
    assert [json.loads(event.data) for event in sse.events(events)] == array
    assert as_json(stream(*array)) == answer
    assert unique_server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit", "hit", "hit"]
