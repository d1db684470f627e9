"""What sealing costs: an envelope beside plain bytes and bare AES-GCM, and a sealed hit beside a plain one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from canned import ANSWER_CHARS, Canned, messages, openai_answer, prose
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from harness import BenchmarkError, Finding, Row, take_turns, timed
from surroundings import scope_of

from genai_cache_magic import create_cache
from genai_cache_magic.crypto.envelope import Sealer
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.local_key import LocalKey
from genai_cache_magic.entries.codec import Unsealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Effort

    from genai_cache_magic.entries.codec import Seal

_HIT_TARGET = 2.5
_SDK_TARGET = 1.05
_SIZES = {"2 KB": 2 * 1024, "20 KB": 20 * 1024, "1 MB": 1024**2}
_ENTRY_ID = "0f" * 32
_HEADER, _METADATA = bytes(100), bytes(300)


def run(effort: Effort) -> Iterator[Finding]:
    """Compare sealing and opening with what is below them, and hits from disk with those of a cache in plain text."""
    wrapper = LocalKey(os.urandom(32))
    keyring = open_manifest(create_manifest("bench", wrapper), "bench", wrapper)
    for name, size in _SIZES.items():
        yield from _envelope(name, size, Sealer(keyring, "bench"), effort.pick(400, 100))
    yield _hit(effort.pick(400, 100))
    yield _sdk_hit(effort.pick(1000, 200))


def _envelope(name: str, size: int, sealer: Sealer, rounds: int) -> Iterator[Finding]:
    body, plain, bare, nonce = os.urandom(size), Unsealed(), AESGCM(os.urandom(32)), bytes(12)
    calls = 1 if size > 100_000 else 50

    def sealing(seal: Seal) -> Callable[[], Any]:
        return lambda: seal.seal(_ENTRY_ID, _HEADER, _METADATA, body)

    def opening(seal: Seal) -> Callable[[], Any]:
        blob = seal.seal(_ENTRY_ID, _HEADER, _METADATA, body)
        if bytes(seal.open(_ENTRY_ID, blob).body) != body:
            raise BenchmarkError("an envelope came back changed")
        return lambda: seal.open(_ENTRY_ID, blob)

    encrypted = bare.encrypt(nonce, body, None)
    for what, ours, unsealed, raw in (
        ("seal", sealing(sealer), sealing(plain), lambda: bare.encrypt(nonce, body, None)),
        ("open", opening(sealer), opening(plain), lambda: bare.decrypt(nonce, encrypted, None)),
    ):
        cases = {
            "ours": timed(ours, calls=calls),
            "unsealed": timed(unsealed, calls=calls),
            "AES-GCM alone": timed(raw, calls=calls),
        }
        samples = take_turns(cases, rounds=rounds)
        yield Finding(f"{what} {name} / AES-GCM alone", samples.ratio("ours", "AES-GCM alone"), medians=samples.medians)
        yield Finding(f"{what} {name} / unsealed", samples.ratio("ours", "unsealed"))


def _hit(rounds: int) -> Finding:
    """Compare `Cache.get` of 2 KB, with nothing of it in memory."""
    value = prose(ANSWER_CHARS, 1).encode()
    with (
        create_cache("disk", dir="sealed", memory=0) as sealed,
        create_cache("disk", dir="plain", memory=0, encryption="off") as plain,
    ):
        for cache in (sealed, plain):
            cache.set("key", value)
            if cache.get("key") != value:
                raise BenchmarkError("a value came back changed")
        cases = {
            "unsealed": timed(lambda: plain.get("key"), calls=50),
            "sealed": timed(lambda: sealed.get("key"), calls=50),
        }
        samples = take_turns(cases, rounds=rounds)
    ratio = samples.ratio("sealed", "unsealed")
    return Finding("Cache.get, sealed / unsealed", ratio, target=_HIT_TARGET, medians=samples.medians)


def _sdk_hit(rounds: int) -> Finding:
    """Compare a hit through `openai`."""
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))

    def ask() -> None:
        client.chat.completions.create(model="gpt-4.1-mini", messages=messages(1))  # type: ignore[arg-type]  # plain dictionaries

    with (
        scope_of(encryption="local", memory=0) as (sealed, of_sealed),
        scope_of(encryption="off", memory=0) as (plain, of_plain),
    ):
        cases = {"unsealed": timed(lambda: plain.run(ask)), "sealed": timed(lambda: sealed.run(ask))}
        for context in (sealed, plain):
            context.run(ask)
        samples = take_turns(cases, rounds=rounds)
        if transport.requests != len(cases) or of_sealed.misses != 1 or of_plain.misses != 1:
            raise BenchmarkError("a hit was none")
    ratio = samples.ratio("sealed", "unsealed")
    return Finding("openai, a hit, sealed / unsealed", ratio, target=_SDK_TARGET, medians=samples.medians)


ROW = Row("seal", "sealing and opening / the same bytes unsealed, and bare AES-GCM", run)
