"""Where other caches' keys went wrong, one test each, with requests as the real SDKs send them."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import anthropic
import httpx2
import openai
import pytest

from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins
from genai_cache_magic.providers.registry import recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.providers.base import ModelCall

ID_KEY = bytes(range(32))
ORIGINS = Origins({}, "laptop")
PIXEL = b"\x89PNG\r\n\x1a\n pixel"
HELLO = [{"role": "user", "content": "Say hello"}]
DATA_URL = "data:image/png;base64,"


def as_call(request: httpx2.Request, content: bytes) -> HttpCall:
    url = request.url
    return HttpCall(
        request.method,
        url.scheme,
        url.host,
        url.port,
        url.path,
        url.query.decode(),
        {name.lower(): value for name, value in request.headers.items()},
        content,
    )


class Wire:
    """A transport that keeps what was sent and answers nothing of use."""

    def __init__(self) -> None:
        self.calls: list[HttpCall] = []
        self.transport = httpx2.MockTransport(self.answer)
        self.http = httpx2.Client(transport=self.transport)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(as_call(request, request.read()))
        return httpx2.Response(400, json={"error": {"message": "canned"}})

    def openai(self, **options) -> openai.OpenAI:
        return openai.OpenAI(**{"api_key": "k", "http_client": self.http, "max_retries": 0, **options})

    def azure(self, **options) -> openai.AzureOpenAI:
        given = {"api_key": "k", "api_version": "2024-10-21", "http_client": self.http, "max_retries": 0}
        return openai.AzureOpenAI(**{**given, **options})

    def anthropic(self, **options) -> anthropic.Anthropic:
        return anthropic.Anthropic(**{"api_key": "k", "http_client": self.http, "max_retries": 0, **options})

    def sent(self, send: Callable[[], object]) -> HttpCall:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            send()
        return self.calls.pop()


@pytest.fixture
def wire():
    made = Wire()
    with made.http:
        yield made


def found(call: HttpCall, origins: Origins = ORIGINS) -> ModelCall:
    model_call = recognise(call, origins)
    assert model_call is not None
    return model_call


def key(call: HttpCall, origins: Origins = ORIGINS, space: KeySpace | None = None) -> str:
    return entry_id(canonical_bytes(found(call, origins).request, space or KeySpace()), ID_KEY)


def chat(wire: Wire, *, client: openai.OpenAI | None = None, **arguments) -> str:
    client = client or wire.openai()
    arguments = {"model": "m", "messages": HELLO, **arguments}
    return key(wire.sent(lambda: client.chat.completions.create(**arguments)))


def claude(wire: Wire, **arguments) -> str:
    arguments = {"model": "m", "max_tokens": 5, "messages": HELLO, **arguments}
    return key(wire.sent(lambda: wire.anthropic().messages.create(**arguments)))


# --- typed and whole


def test_values_never_run_into_each_other(wire):
    """`user="a", seed=1` and `user="aseed: 1"` are two requests where the fields count."""
    assert chat(wire, stop="a", seed=1) != chat(wire, stop="aseed: 1")
    one = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert chat(wire, messages=one) != chat(wire, messages=[{"role": "user", "content": "ab"}])
    assert chat(wire, stop="1") != chat(wire, extra_body={"stop": 1})


def test_order_of_arguments_does_not_matter(wire):
    """The key does not depend on the order in which arguments are written."""
    client = wire.openai()
    first = wire.sent(lambda: client.chat.completions.create(model="m", messages=HELLO, seed=1, top_p=0.5))
    second = wire.sent(lambda: client.chat.completions.create(top_p=0.5, seed=1, messages=HELLO, model="m"))
    assert key(first) == key(second)


def test_extra_body_is_in_the_key(wire):
    """What a caller adds beside the SDK's own arguments counts."""
    assert chat(wire, extra_body={"safety_settings": "none"}) != chat(wire)
    assert chat(wire, extra_body={"safety_settings": "none"}) != chat(wire, extra_body={"safety_settings": "high"})


@pytest.mark.parametrize(
    "extra",
    [
        {"tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "low"},
        {"store": True},
        {"service_tier": "flex"},
        {"logit_bias": {"1": 2}},
        {"temperature": 1},
        {"modalities": ["text"]},
        {"extra_body": {"a_field_of_next_year": 1}},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_no_field_is_forgotten(wire, extra):
    """Allow-lists rot: every field that is not known to be noise is in the key."""
    assert chat(wire, **extra) != chat(wire)


def test_base_url_is_in_the_key(wire):
    """The same request to another endpoint is another request."""
    other = wire.openai(base_url="https://api.groq.com/openai/v1")
    assert chat(wire, client=other) != chat(wire)


def test_model_is_in_the_key(wire):
    """Two models never share an answer, embeddings and Anthropic included."""
    assert chat(wire, model="m1") != chat(wire, model="m2")
    assert claude(wire, model="m1") != claude(wire, model="m2")
    client = wire.openai()
    small, large = (wire.sent(lambda m=m: client.embeddings.create(model=m, input="x")) for m in ("small", "large"))
    assert key(small) != key(large)


def test_every_message_is_in_the_key(wire):
    """Not only the last message decides, and a long conversation is keyed like a short one."""
    turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"turn {i}"} for i in range(9)]
    changed = [{"role": "user", "content": "another"}, *turns[1:]]
    assert chat(wire, messages=turns) != chat(wire, messages=changed)
    assert chat(wire, messages=turns) == chat(wire, messages=turns)


def test_system_prompt_is_in_the_key(wire):
    """The system prompt decides as much as the question."""
    one, other = ([{"role": "system", "content": text}, *HELLO] for text in ("Be brief.", "Be long."))
    assert chat(wire, messages=one) != chat(wire, messages=other)
    assert claude(wire, system="Be brief.") != claude(wire, system="Be long.")


def test_body_is_in_the_key(wire):
    """The URL alone is no key."""
    assert chat(wire, messages=[{"role": "user", "content": "a"}]) != chat(
        wire, messages=[{"role": "user", "content": "b"}]
    )


def test_key_is_256_bits(wire):
    """Sixty-four hex characters, so that no two requests meet by chance."""
    assert len(bytes.fromhex(chat(wire))) == 32


def test_time_to_live_is_not_in_the_key(wire):
    """How long an answer is kept, or waited for, is no part of what was asked."""
    assert chat(wire, timeout=3) == chat(wire, timeout=60) == chat(wire, extra_headers={"cache-control": "max-age=5"})


# --- media


def with_image(url: str) -> list:
    part = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]


def test_different_images_have_different_keys(wire):
    """A picture is part of the question."""
    one, other = (with_image(DATA_URL + base64.b64encode(data).decode()) for data in (PIXEL, PIXEL + b"2"))
    assert chat(wire, messages=one) != chat(wire, messages=other)


def test_one_image_in_two_encodings_has_one_key(wire):
    """Line breaks and padding of the base64 text are not in the picture; its type is."""
    text = base64.b64encode(PIXEL).decode()
    plain = chat(wire, messages=with_image(DATA_URL + text))
    assert chat(wire, messages=with_image(DATA_URL + text[:8] + "\r\n" + text[8:].rstrip("="))) == plain
    assert chat(wire, messages=with_image("data:image/jpeg;base64," + text)) != plain


def test_image_that_does_not_decode_stays_literal(wire):
    """What is no base64 is compared as it stands."""
    assert chat(wire, messages=with_image(DATA_URL + "???")) != chat(wire, messages=with_image(DATA_URL + "!!!"))


# --- ids


def tool_turn(*, first: str, second: str, crossed: bool = False) -> list:
    calls = [
        {"id": one, "type": "function", "function": {"name": "f", "arguments": args}}
        for one, args in ((first, '{"city":"Oslo"}'), (second, '{"city":"Rome"}'))
    ]
    order = (second, first) if crossed else (first, second)
    results = [{"role": "tool", "tool_call_id": one, "content": text} for one, text in zip(order, "12", strict=True)]
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results]


def test_random_tool_call_ids_do_not_make_a_miss(wire):
    """The next turn is met again although ids are drawn at random."""
    assert chat(wire, messages=tool_turn(first="call_1", second="call_2")) == chat(
        wire, messages=tool_turn(first="call_x", second="call_1")
    )


def test_results_that_change_places_are_another_request(wire):
    """Which result answers which call is kept."""
    straight = tool_turn(first="a", second="b")
    assert chat(wire, messages=straight) != chat(wire, messages=tool_turn(first="a", second="b", crossed=True))
    assert chat(wire, messages=straight) != chat(wire, messages=tool_turn(first="a", second="a"))


def test_random_ids_of_anthropic_and_responses(wire):
    """The other wire APIs number their ids too."""

    def blocks(one: str) -> list:
        use = {"type": "tool_use", "id": one, "name": "f", "input": {"id": "kept"}}
        result = {"type": "tool_result", "tool_use_id": one, "content": "1"}
        return [*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]

    assert claude(wire, messages=blocks("toolu_1")) == claude(wire, messages=blocks("toolu_2"))

    def items(one: str) -> HttpCall:
        call = {"type": "function_call", "id": f"fc_{one}", "call_id": one, "name": "f", "arguments": "{}"}
        output = {"type": "function_call_output", "call_id": one, "output": "1"}
        return wire.sent(lambda: wire.openai().responses.create(model="m", input=[*HELLO, call, output]))

    assert key(items("a")) == key(items("b"))


def test_handle_on_what_the_server_keeps_is_content(wire):
    """The id of reasoning or of an image that is not sent along stands for what it names."""

    def items(kind: str, one: str, **more) -> str:
        item = {"type": kind, "id": one, **more}
        return key(wire.sent(lambda: wire.openai().responses.create(model="m", input=[*HELLO, item])))

    assert items("reasoning", "rs_1", summary=[]) != items("reasoning", "rs_2", summary=[])
    assert items("image_generation_call", "ig_1") != items("image_generation_call", "ig_2")
    sealed = {"summary": [], "encrypted_content": "x"}
    assert items("reasoning", "rs_1", **sealed) == items("reasoning", "rs_2", **sealed)


# --- sharing


def test_a_team_shares_across_keys_and_organisations(wire):
    """Who pays is not in the key."""
    mine = chat(wire, client=wire.openai(api_key="mine", organization="o1", project="p1"))
    assert mine == chat(wire, client=wire.openai(api_key="yours", organization="o2"))


async def test_sync_and_async_share(wire):
    """The asynchronous client sends the same request, so it has the same key."""
    async with httpx2.AsyncClient(transport=wire.transport) as http:
        client = openai.AsyncOpenAI(api_key="k", http_client=http, max_retries=0)
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(model="m", messages=HELLO)
    assert key(wire.calls.pop()) == await asyncio.to_thread(chat, wire)


def test_key_follows_a_temperature_sweep_on_one_client(wire):
    """Nothing is memoised on the client."""
    client = wire.openai()
    keys = [chat(wire, client=client, temperature=t / 10) for t in range(5)]
    assert len(set(keys)) == 5


def test_guessed_prompt_can_not_be_confirmed(wire):
    """Without the namespace's key, the id of a known request can't be computed."""
    call = wire.sent(lambda: wire.openai().chat.completions.create(model="m", messages=HELLO))
    canonical = canonical_bytes(found(call).request, KeySpace())
    assert entry_id(canonical, ID_KEY) != entry_id(canonical, bytes(32))


def test_localhost_of_two_people_is_two_models(wire):
    """A private origin belongs to its machine unless an alias says otherwise."""
    client = wire.openai(base_url="http://localhost:8000/v1")
    call = wire.sent(lambda: client.chat.completions.create(model="m", messages=HELLO))
    mine, yours = Origins({}, "mine"), Origins({}, "yours")
    assert key(call, mine) != key(call, yours)
    alias = {"http://localhost:8000": OriginRule(alias="team-llama")}
    assert key(call, Origins(alias, "mine")) == key(call, Origins(alias, "yours"))


def test_two_azure_resources_share_by_alias(wire):
    """An alias and its deployment -> model table make two resources one model; without them they are two."""
    calls = []
    for resource, deployment in (("east", "mini-prod"), ("west", "mini-test")):
        client = wire.azure(azure_endpoint=f"https://{resource}.openai.azure.com")
        calls.append(wire.sent(lambda c=client, d=deployment: c.chat.completions.create(model=d, messages=HELLO)))
    assert key(calls[0]) != key(calls[1])
    rules = {
        "https://east.openai.azure.com": OriginRule(alias="azure", models={"mini-prod": "gpt-4.1-mini"}),
        "https://west.openai.azure.com": OriginRule(alias="azure", models={"mini-test": "gpt-4.1-mini"}),
    }
    shared = Origins(rules, "laptop")
    assert key(calls[0], shared) == key(calls[1], shared)


# --- never by bare name


def test_schema_may_have_properties_with_any_name(wire):
    """What is noise at the top is content in a tool's schema and in a tool's input."""

    def tools(name: str) -> list:
        return [
            {"type": "function", "function": {"name": "f", "parameters": {"properties": {name: {"type": "string"}}}}}
        ]

    noise = ("user", "stream", "metadata", "cache_control")
    assert len({chat(wire, tools=tools(name)) for name in noise}) == len(noise)

    def used(arguments: dict) -> str:
        use = {"type": "tool_use", "id": "t", "name": "f", "input": arguments}
        return claude(wire, messages=[*HELLO, {"role": "assistant", "content": [use]}])

    assert used({"cache_control": "a", "id": "1"}) != used({"cache_control": "b", "id": "1"})
    assert used({"id": "1"}) != used({"id": "2"})


def test_hints_and_names_of_askers_do_not_matter(wire):
    """Prompt-cache hints, user and metadata may differ between teammates."""
    hinted = [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]
    bare = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert claude(wire, messages=hinted, metadata={"user_id": "ann"}) == claude(wire, messages=bare)
    noisy = {"user": "ann", "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k"}
    assert chat(wire, **noisy) == chat(wire)


def test_prewarming_is_no_answer(wire):
    """Hints on the prompt cache are noise, but a call that only warms it must not stand for a question."""
    ttl, prewarm = {"ttl": "30m"}, {"prewarm": True}
    plain, hinted, warming = (
        wire.sent(lambda e=e: wire.openai().responses.create(model="m", input="x", extra_body=e))
        for e in ({}, {"prompt_cache_options": ttl}, {"prompt_cache_options": prewarm})
    )
    assert key(plain) == key(hinted) != key(warming)


def test_omitted_differs_from_explicit_default(wire):
    """A server's default may change; an explicit value does not."""
    assert chat(wire, temperature=1.0) != chat(wire)
    assert chat(wire, extra_body={"temperature": None}) != chat(wire)


def test_beta_flags_decide(wire):
    """Beta features change answers, in whatever order the SDK joins them."""

    def beta(*flags: str) -> str:
        client = wire.anthropic()
        send = {"model": "m", "max_tokens": 5, "messages": HELLO, "betas": list(flags)}
        return key(wire.sent(lambda: client.beta.messages.create(**send)))

    assert beta("a", "b") == beta("b", "a")
    assert beta("a", "b") != beta("a")


def test_form_is_not_in_the_key(wire):
    """A stream and a plain answer are two forms of one entry; asking for usage is a matter of rendering."""
    assert chat(wire) == chat(wire, stream=False) == chat(wire, stream=True)
    assert chat(wire) == chat(wire, stream=True, stream_options={"include_usage": True})
    assert claude(wire) == claude(wire, stream=True)
    plain, streamed = (
        wire.sent(lambda s=s: wire.openai().responses.create(model="m", input="x", stream=s)) for s in (False, True)
    )
    assert key(plain) == key(streamed)


def test_form_is_in_the_key_where_nothing_converts_it(wire):
    """Without a codec between them, a stream and a plain answer are two entries."""
    client = wire.openai()
    plain, streamed = (
        wire.sent(lambda s=s: client.completions.create(model="m", prompt="x", stream=s)) for s in (False, True)
    )
    assert key(plain) != key(streamed)


def test_folded_integers_do_not_collide(wire):
    """Integers beyond 64 bits are exact, though fast parsers fold them into one float."""
    keys = {chat(wire, seed=2**64 + offset) for offset in range(3)}
    assert len(keys) == 3
    assert chat(wire, extra_body={"seed": float(2**64)}) not in keys


@pytest.mark.parametrize("text", [b'"seed":1,"seed":2', b'"seed":NaN', b'"seed":1e999'])
def test_ambiguous_body_is_a_visible_bypass(wire, text):
    """What two servers could read differently has no key."""
    call = HttpCall(
        "POST",
        "https",
        "api.openai.com",
        None,
        "/v1/chat/completions",
        "",
        {"content-type": "application/json"},
        b'{"messages":[{"role":"user","content":"x"}],' + text + b"}",
    )
    with pytest.raises(UncacheableRequest):
        recognise(call, ORIGINS)
