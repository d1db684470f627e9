"""A thousand at once from a team's Redis: values by ``mget``, and calls under one ``gather``.

By the processor's time of this process, with all its threads: what other work the machine has, and how long a server
takes, is in none of it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import redis
from canned import ANSWER, ANSWER_CHARS, Canned, openai_answer, prose
from harness import BenchmarkError, Finding, Row, take_turns
from surroundings import own_directory, team_settings, told

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import Entry, EntryId, Header, KeySpace, Metadata, Response, Stamp
from genai_cache_magic.crypto.envelope import Sealer
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.local_key import LocalKey
from genai_cache_magic.entries.codec import Codec, Compression
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.settings.model import Settings
from genai_cache_magic.testing.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness import Effort

    from genai_cache_magic import Cache

_MANY = 1_000
_TARGET = 1.5
_NAMESPACE = "bench-values"
_MODEL = "gpt-4.1-mini"
_JSON = (("content-type", "application/json"),)
_PATH = "/v1/chat/completions"


def run(effort: Effort) -> Iterator[Finding]:
    """Measure over a redis-server of this run's own; it keeps nothing on disk."""
    with RedisServer() as server:
        yield _values(server, effort)
        yield from _calls(server, effort)


class _Floor:
    """What has to be done a thousand times in any case: one pipelined read, and of each a key and an opening.

    Parameters
    ----------
    names
        What to read, by the server's names: the entries that are measured.
    asked
        What each key is made of.
    answers
        What each entry holds: one of as many bytes, sealed likewise, is opened.
    """

    def __init__(
        self, server: RedisServer, names: Sequence[bytes], asked: Sequence[Callable[[], bytes]], answers: list[bytes]
    ) -> None:
        wrapper = LocalKey(os.urandom(32))
        keyring = open_manifest(create_manifest("bench", wrapper), "bench", wrapper)
        self._client = redis.Redis.from_url(server.url)
        self._names = names
        self._asked = asked
        self._codec = Codec(Sealer(keyring, "bench"), Compression())
        self._id_key = os.urandom(32)
        header = Header(Stamp(os.urandom(16), 1), 1, 3600)
        self._sealed: list[tuple[EntryId, bytes]] = []
        for one, body in zip(asked, answers, strict=True):
            known_by = entry_id(one(), self._id_key)
            entry = Entry(header, Metadata(model=_MODEL), Response(200, _JSON, body))
            self._sealed.append((known_by, self._codec.encode(known_by, entry)))

    def sample(self) -> float:
        start = time.process_time()
        with self._client.pipeline(transaction=False) as batch:
            for name in self._names:
                batch.get(name)
            found = batch.execute()
        for one, (known_by, envelope) in zip(self._asked, self._sealed, strict=True):
            entry_id(one(), self._id_key)
            self._codec.open(known_by, envelope).response()
        seconds = time.process_time() - start
        if None in found:
            raise BenchmarkError("an entry is not there any more")
        return seconds

    def close(self) -> None:
        self._client.close()


# Values


def _values(server: RedisServer, effort: Effort) -> Finding:
    values = {f"key-{n:04}": prose(ANSWER_CHARS, n).encode() for n in range(_MANY)}
    keys, expected = list(values), list(values.values())
    numbers = itertools.count()
    with _machine(server, "values") as filling:
        filling.mset(values)
        told(filling)
    floor = _Floor(server, _names(server, _NAMESPACE), [lambda key=key: key.encode() for key in keys], expected)

    def from_redis() -> float:
        with _machine(server, f"values-{next(numbers)}") as cache:
            start = time.process_time()
            found = cache.mget(keys)
            seconds = time.process_time() - start
        if found != expected:
            raise BenchmarkError("a value came back changed, or not at all")
        return seconds

    samples = take_turns({"mget": from_redis, "base": floor.sample}, rounds=effort.pick(30, 7, 1), warm_up=2)
    floor.close()
    what = f"{_MANY:,} values from Redis by mget / (one pipelined read + {_MANY:,} x (key + open))"
    return Finding(what, samples.ratio("mget", "base"), target=_TARGET, medians=samples.medians)


# Calls


def _calls(server: RedisServer, effort: Effort) -> Iterator[Finding]:
    """A thousand calls under one `gather`; what is promised of them is promised beside the SDK's own work."""
    transport = Canned([openai_answer()])
    client, answered = (
        openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport), max_retries=0)
        for _ in range(2)
    )
    _answer_where_asked(answered)
    numbers = itertools.count()
    rounds = effort.pick(15, 5, 1)
    with team_settings(server), asyncio.Runner() as runner:

        def ask_all(client: openai.AsyncOpenAI = client) -> float:
            start = time.process_time()
            texts = runner.run(_gather(client), context=copy_context())
            seconds = time.process_time() - start
            if set(texts) != {ANSWER}:
                raise BenchmarkError("another answer came")
            return seconds

        def from_redis() -> float:
            return asked_in(f"calls-{next(numbers)}", {"L2"})

        def asked_in(place: str, tiers: set[str]) -> float:
            with own_directory(place), llm_cache() as cell:
                current_session().cache("default").get("nothing")  # it knows its team
                seconds = ask_all()
            if cell.hits != _MANY or {call.tier for call in cell.calls} != tiers:
                raise BenchmarkError("a hit was none, or from elsewhere")
            return seconds

        with own_directory("calls"), llm_cache():
            ask_all()
            told(current_session().cache("default"))
        floor = _Floor(server, _names(server, "default"), _canonical(), [openai_answer()] * _MANY)
        cases = {
            "gather from Redis": from_redis,
            "gather from disk": lambda: asked_in("calls", {"L1"}),
            "the client alone": ask_all,
            "the SDK's own work": lambda: ask_all(answered),
            "base": floor.sample,
        }
        asked = transport.requests
        samples = take_turns(cases, rounds=rounds, warm_up=1)
        if transport.requests - asked != _MANY * (rounds + 1):
            raise BenchmarkError("a hit reached the model")
        for one in (client, answered):
            runner.run(one.close())
        floor.close()
    what = f"{_MANY:,} hits from Redis under one gather"
    yield Finding(
        f"({what} - the SDK's own work) / (one pipelined read + {_MANY:,} x (key + open))",
        samples.ratio("gather from Redis", "base", less="the SDK's own work"),
        target=_TARGET,
        medians=samples.medians,
    )
    yield Finding(f"{what} / the client alone", samples.ratio("gather from Redis", "the client alone"))
    yield Finding(f"{what} / from disk", samples.ratio("gather from Redis", "gather from disk"))


def _answer_where_asked(client: Any) -> None:
    """Let `client` do what the SDK does itself around an answer that is there: prepare the call, and parse."""
    body = openai_answer()

    async def request(cast_to: Any, options: Any, **_: Any) -> Any:
        del options
        return client._process_response_data(data=json.loads(body), cast_to=cast_to, response=None)

    client.request = request


async def _gather(client: openai.AsyncOpenAI) -> list[str]:
    return await asyncio.gather(*(_asked(client, number) for number in range(_MANY)))


async def _asked(client: openai.AsyncOpenAI, number: int) -> str:
    answer = await client.chat.completions.create(model=_MODEL, messages=_messages(number))
    return answer.choices[0].message.content or ""


def _messages(number: int) -> Any:
    return [{"role": "user", "content": f"Question {number} of a thousand."}]


def _canonical() -> list[Callable[[], bytes]]:
    """Return what makes, of the request that each call sends, what its key is made of."""
    origins, space = origins_of(Settings()), KeySpace("default", "", 0)

    def made(sent: HttpCall) -> bytes:
        call = recognise(sent, origins)
        if call is None:
            raise BenchmarkError("a call is not recognised")
        return canonical_bytes(call.as_keyed, space)

    bodies = [json.dumps({"messages": _messages(n), "model": _MODEL}).encode() for n in range(_MANY)]
    calls = [HttpCall("POST", "https", "api.openai.com", None, _PATH, "", dict(_JSON), body) for body in bodies]
    return [lambda sent=sent: made(sent) for sent in calls]


# Machines of a team


def _machine(server: RedisServer, name: str) -> Cache:
    """Return a cache of a machine with a disk of its own that has seen its team."""
    cache = create_cache("redis", l2=server.url, dir=name, key_file="team.key", namespace=_NAMESPACE)
    cache.get("nothing")
    return cache


def _names(server: RedisServer, namespace: str) -> list[bytes]:
    with redis.Redis.from_url(server.url) as client:
        names = list(client.scan_iter(match=f"genai-cache:1:{namespace}:e:*", count=_MANY))
    if len(names) != _MANY:
        raise BenchmarkError(f"the team has {len(names)} entries under {namespace}")
    return names


ROW = Row("batch", "a thousand at once from a team's Redis, by this process's processor time", run)
