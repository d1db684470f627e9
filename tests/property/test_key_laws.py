"""Laws of keys: what may not change one, what must, for any request."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest
from drawn_calls import CALLS, CHAT, CLAUDE, JSON_HEADER, ORIGINS, apis, normal, scalars, texts, values
from hypothesis import assume, example, given
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import canonical_bytes, dumps
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.providers import toolcalls
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.fields import OPENAI_HINTS
from genai_cache_magic.providers.registry import recognise

if TYPE_CHECKING:
    import random


def _chat_calls(first: str, second: str, said: str) -> dict[str, object]:
    tool_calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in (first, second)]
    results = [{"role": "tool", "tool_call_id": i, "content": n} for i, n in ((first, "1"), (second, "2"))]
    asked = {"role": "user", "content": said}
    return {"model": "m", "messages": [{"role": "assistant", "tool_calls": tool_calls}, *results, asked]}


def _claude_calls(first: str, second: str, said: str) -> dict[str, object]:
    calls = [{"type": "tool_use", "id": i, "name": "f", "input": {}} for i in (first, second)]
    results = [{"type": "tool_result", "tool_use_id": i, "content": n} for i, n in ((first, "1"), (second, "2"))]
    messages = [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    return {"model": "m", "max_tokens": 9, "system": said, "messages": messages}


def _responses_calls(first: str, second: str, said: str) -> dict[str, object]:
    calls = [{"type": "function_call", "call_id": i, "name": "f", "arguments": "{}"} for i in (first, second)]
    results = [{"type": "function_call_output", "call_id": i, "output": n} for i, n in ((first, "1"), (second, "2"))]
    return {"model": "m", "instructions": said, "input": [*calls, *results]}


TWO_CALLS = {"chat": _chat_calls, "claude": _claude_calls, "responses": _responses_calls}
"""Two calls of tools with these ids, and their results; and a text beside them."""

OPENAI_NOISE = (*OPENAI_HINTS, "metadata", "safety_identifier", "user")
OUT = {
    "chat": OPENAI_NOISE,
    "responses": OPENAI_NOISE,
    "embeddings": OPENAI_NOISE,
    "completions": OPENAI_NOISE,
    "claude": ("metadata", "cache_control"),
}


def ask(api: str, body: object, headers: dict[str, str] | None = None) -> HttpCall:
    path, host, _ = CALLS[api]
    text = json.dumps(body, ensure_ascii=False).encode()
    return HttpCall("POST", "https", host, None, path, "", {**JSON_HEADER, **(headers or {})}, text)


def key(api: str, body: object, headers: dict[str, str] | None = None, space: KeySpace | None = None) -> bytes:
    found = recognise(ask(api, body, headers), ORIGINS)
    assert found is not None
    return canonical_bytes(found.request, space or KeySpace())


def shuffled(value: object, chance: random.Random) -> object:
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {name: shuffled(item, chance) for name, item in items}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


# --- what may not change a key


@given(apis, st.randoms())
def test_order_of_keys_does_not_matter(api, chance):
    """Objects have no order, at any depth."""
    body = CALLS[api][2]
    assert key(api, shuffled(body, chance)) == key(api, body)


@given(apis, st.data())
def test_noise_does_not_matter(api, data):
    """Who asks, and hints to a prompt cache, are not in the key."""
    name = data.draw(st.sampled_from(OUT[api]))
    body = CALLS[api][2]
    assert key(api, {**body, name: data.draw(values)}) == key(api, body)


@given(
    apis, st.sampled_from(["authorization", "api-key", "x-api-key", "idempotency-key", "x-request-id", "x-any"]), texts
)
def test_credentials_and_unknown_headers_do_not_matter(api, name, value):
    """A team shares: credentials, request ids and headers that nobody documented as deciding are out."""
    body = CALLS[api][2]
    assert key(api, body, {name: value}) == key(api, body)


IDS = ("call-a1", "item-f1")
IDENTIFIED = {"id", "call_id", "tool_call_id", "tool_use_id"}


def renamed(value: object, names: dict[str, str], field: str = "") -> object:
    """Return `value` with its ids called otherwise."""
    if isinstance(value, dict):
        return {name: renamed(item, names, name) for name, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if field in IDENTIFIED else value


@given(st.sampled_from(["chat", "claude", "responses"]), st.lists(texts, min_size=2, max_size=2, unique=True))
def test_random_ids_do_not_matter(api, names):
    """Consistently renamed ids are the same conversation, as long as nothing else in it names them."""
    new = dict(zip(IDS, names, strict=True))
    said = dumps(renamed(CALLS[api][2], dict.fromkeys(IDS, ""))).decode()
    assume(not any(dumps(name).decode()[1:-1] in said for name in names))
    assert key(api, renamed(CALLS[api][2], new)) == key(api, CALLS[api][2])


@given(st.sampled_from(["chat", "claude"]))
def test_prompt_cache_hints_do_not_matter(api):
    """Marks for the vendor's prompt cache may come and go."""
    body = copy.deepcopy(CALLS[api][2])
    hint = {"type": "ephemeral"}
    for holder in [
        *body["tools"],
        *(part for m in body["messages"] if type(m["content"]) is list for part in m["content"]),
    ]:
        holder["cache_control"] = hint
    assert key(api, body) == key(api, CALLS[api][2])


# --- what must change a key


@given(apis, texts, values, values)
def test_unknown_fields_matter(api, name, one, other):
    """A field that this version never heard of is in the key: present, absent, and by its typed value."""
    assume(name not in {*OUT[api], *CALLS[api][2], "stream", "stream_options", "prompt_cache_options", "prompt"})
    assume(repr(normal(one)) != repr(normal(other)))
    body = CALLS[api][2]
    assert len({key(api, body), key(api, {**body, name: one}), key(api, {**body, name: other})}) == 3


@given(
    st.sampled_from(sorted(TWO_CALLS)),
    st.lists(texts, min_size=2, max_size=2, unique=True),
    st.sampled_from(["{}", "see {}", "{}{}", "x{}x", '{{"ref":"{}"}}', "{}\n", "#0 {}", "={}"]),
)
@example("chat", ["#0", "#1"], "{}")
@example("chat", ["=#0", "#0"], "{}")
@example("chat", ["call_1", "call_10"], "see {}")
def test_ids_that_a_text_names_can_not_change_places(api, ids, said):
    """Who exchanges two ids of which a text names one asks something else."""
    one, other = ids
    assume(one not in other)  # a text that names the other then names it as well
    assume(said not in {"{}{}", "x{}x", "{}\n"} or len(one) > 3)  # no word by itself
    asked = [TWO_CALLS[api](first, second, said.format(one, one)) for first, second in ((one, other), (other, one))]
    assert key(api, asked[0]) != key(api, asked[1])


@given(st.sampled_from(sorted(TWO_CALLS)), st.lists(texts, min_size=2, max_size=2, unique=True), texts)
def test_bodies_collide_only_if_their_ids_are_renamed(api, ids, said):
    """Two requests with one key have the same texts, and whatever names an id in one names it in the other."""
    first = TWO_CALLS[api]("call-a1", "call-b1", said)
    second = TWO_CALLS[api](*ids, said)
    if key(api, first) == key(api, second):
        changed = {*ids} ^ {"call-a1", "call-b1"}
        assert not any(value in said for value in changed if len(value) > 3)


@pytest.mark.parametrize("said", ["a", "see a", "result_a", 'say "a"', "x\na", "a\tb", "(a)"])
def test_short_id_is_named_by_a_word_of_its_own(said):
    """One letter is a part of many words by chance, and is named where it stands for itself."""
    assert key("chat", _chat_calls("a", "Q", said)) != key("chat", _chat_calls("Q", "a", said))
    assert key("chat", _chat_calls("a", "Q", "a, b".replace("a", "A"))) == key("chat", _chat_calls("Z", "Q", "A, b"))


def test_looking_for_many_ids_is_linear(monkeypatch):
    """However many ids a long conversation has, its texts are gone through a bounded number of times."""
    ids = [f"call-{number:05}" for number in range(300)]
    text = "x" * 50_000 + ids[7] + "y" * 50_000
    monkeypatch.setattr(toolcalls, "_LOOKED_THROUGH", 0)
    assert toolcalls._named(set(ids), text) == {ids[7]}
    monkeypatch.setattr(toolcalls, "_MOST_WINDOWS", len(text) - 1)
    assert toolcalls._named(set(ids), text) == set(ids)


@given(apis, st.data())
def test_every_leaf_matters(api, data):
    """Whatever value of the body is replaced by another, the key is another, unless it was an id or a hint."""
    body = copy.deepcopy(CALLS[api][2])
    holder, name = data.draw(st.sampled_from(leaves(body)))
    before = holder[name]
    holder[name] = data.draw(scalars)
    assume(repr(holder[name]) != repr(before))
    found = outcome(api, body)
    assert found is None or found != key(api, CALLS[api][2])


def leaves(value: object) -> list[tuple[object, object]]:
    """Return holder and name of each leaf whose change must show."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[object, object]] = []
    for name, item in pairs:
        if name in IDENTIFIED or (name == "cache_control" and item != 1):
            continue
        found += leaves(item) if isinstance(item, dict | list) else [(value, name)]
    return found


def outcome(api: str, body: object) -> bytes | None:
    """Return the key, None where the change made it another kind of call or no call."""
    found = recognise(ask(api, body), ORIGINS)
    return None if found is None else canonical_bytes(found.request, KeySpace())


@given(st.permutations(range(4)))
def test_order_of_lists_matters(order):
    """Messages have an order."""
    messages = [CHAT["messages"][i] for i in order]
    assert (key("chat", {**CHAT, "messages": messages}) == key("chat", CHAT)) == (list(order) == [0, 1, 2, 3])


@given(st.integers(0, 2**40), texts, texts)
def test_key_space_matters(sample, namespace, salt):
    """Sample, namespace and salt separate keys, and can't be mistaken for each other."""
    space = KeySpace(namespace, salt, sample)
    assert (key("chat", CHAT, space=space) == key("chat", CHAT)) == (space == KeySpace())
    swapped = KeySpace(salt, namespace, sample)
    assert (key("chat", CHAT, space=space) == key("chat", CHAT, space=swapped)) == (salt == namespace)


@given(st.sampled_from(["anthropic-beta", "anthropic-version", "openai-beta", "x-portkey-provider"]), st.data())
def test_semantic_headers_matter(name, data):
    """A header that is documented to decide the answer is in the key."""
    word = st.text("abcdefgh-0123456789", min_size=1)
    one, other = data.draw(word), data.draw(word)
    keys = [key("chat", CHAT), key("chat", CHAT, {name: one}), key("chat", CHAT, {name: other})]
    assert len(set(keys)) == (3 if one != other else 2)


@given(st.permutations(["b1", "b2", "b3"]), st.sampled_from([",", ", ", " ,"]))
def test_flags_are_a_set(flags, comma):
    """The order, spacing and repetition of beta flags change nothing; a missing one does."""
    wanted = key("claude", CLAUDE, {"anthropic-beta": "b1,b2,b3"})
    assert key("claude", CLAUDE, {"anthropic-beta": comma.join([*flags, flags[0]])}) == wanted
    assert key("claude", CLAUDE, {"anthropic-beta": comma.join(flags[1:])}) != wanted
